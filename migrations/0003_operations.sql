-- How orders are carried out. Folded from RUNS, which is kept for 30 days.

CREATE TABLE operations (
    customer text NOT NULL,
    order_id uuid NOT NULL,
    vendor text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('site','device')),
    id text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting','running','retrying','succeeded','failed','superseded','withdrawn','unknown')),
    intent text CHECK (intent IN ('apply','remove','observe')),
    generation bigint,
    attempts bigint NOT NULL DEFAULT 0,
    waiting_for text CHECK (waiting_for IN ('budget','approval','window','dependency','retry','breaker','lane')),
    next_at timestamptz,
    calls bigint NOT NULL DEFAULT 0,
    budget_wait_millis bigint NOT NULL DEFAULT 0,
    error_code text,
    error_message text,
    executor text,
    superseded_by uuid,
    queued_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, order_id)
);
COMMENT ON TABLE operations IS 'Orders and what became of them: one row per order, folded from RUNS.';
COMMENT ON COLUMN operations.customer IS 'The customer.';
COMMENT ON COLUMN operations.order_id IS 'The order.';
COMMENT ON COLUMN operations.vendor IS 'The vendor.';
COMMENT ON COLUMN operations.kind IS 'The kind of the target: a site with its tunnels, or a device.';
COMMENT ON COLUMN operations.id IS 'The target.';
COMMENT ON COLUMN operations.state IS 'waiting, running, retrying, succeeded, failed, superseded (a newer order took its place), withdrawn (not wanted any more) or unknown (its executor died; being observed).';
COMMENT ON COLUMN operations.intent IS 'apply, remove or observe; null while its first record has not been seen.';
COMMENT ON COLUMN operations.generation IS 'The generation of the target it brings.';
COMMENT ON COLUMN operations.attempts IS 'How many tries began.';
COMMENT ON COLUMN operations.waiting_for IS 'Why it waits: budget, approval, window, dependency, retry, breaker or lane (its turn); null when it does not wait.';
COMMENT ON COLUMN operations.next_at IS 'When the next try begins at the earliest.';
COMMENT ON COLUMN operations.calls IS 'How many calls the vendor got, over all tries.';
COMMENT ON COLUMN operations.budget_wait_millis IS 'How long its calls waited for the vendor''s budget, in milliseconds.';
COMMENT ON COLUMN operations.error_code IS 'The reason''s code of the last failure.';
COMMENT ON COLUMN operations.error_message IS 'The last failure in a sentence.';
COMMENT ON COLUMN operations.executor IS 'The executor that has or had it last.';
COMMENT ON COLUMN operations.superseded_by IS 'The order that took its place.';
COMMENT ON COLUMN operations.queued_at IS 'When its first record was written.';
COMMENT ON COLUMN operations.started_at IS 'When the last try began.';
COMMENT ON COLUMN operations.finished_at IS 'When it ended: succeeded, failed, superseded or withdrawn.';
COMMENT ON COLUMN operations.updated_at IS 'When its last record was written.';
COMMENT ON COLUMN operations.sequence IS 'The sequence of its last record in RUNS.';
CREATE INDEX operations_recent ON operations (customer, queued_at DESC, order_id DESC);
CREATE INDEX operations_target ON operations (customer, kind, id, queued_at DESC);
CREATE INDEX operations_live ON operations (state, vendor, queued_at) WHERE state IN ('waiting','running','retrying','unknown');
CREATE INDEX operations_age ON operations (updated_at);

CREATE TABLE run_log (
    customer text NOT NULL,
    order_id uuid NOT NULL,
    sequence bigint NOT NULL,
    time timestamptz NOT NULL,
    what text NOT NULL,
    level text NOT NULL CHECK (level IN ('info','warn','error')),
    message text NOT NULL,
    method text,
    path text,
    status integer,
    millis bigint,
    waited_millis bigint,
    PRIMARY KEY (customer, order_id, sequence)
);
COMMENT ON TABLE run_log IS 'The vendor calls and log lines of orders, folded from RUNS.';
COMMENT ON COLUMN run_log.customer IS 'The customer.';
COMMENT ON COLUMN run_log.order_id IS 'The order.';
COMMENT ON COLUMN run_log.sequence IS 'The sequence in RUNS.';
COMMENT ON COLUMN run_log.time IS 'When it happened.';
COMMENT ON COLUMN run_log.what IS 'What happened, in one word: call, log, started, retrying, and so on.';
COMMENT ON COLUMN run_log.level IS 'info, warn or error.';
COMMENT ON COLUMN run_log.message IS 'The line.';
COMMENT ON COLUMN run_log.method IS 'The call''s HTTP method.';
COMMENT ON COLUMN run_log.path IS 'The call''s path, without query.';
COMMENT ON COLUMN run_log.status IS 'The vendor''s status; 0 when there was no answer.';
COMMENT ON COLUMN run_log.millis IS 'How long the vendor took, in milliseconds.';
COMMENT ON COLUMN run_log.waited_millis IS 'How long the call waited for the budget, in milliseconds.';
CREATE INDEX run_log_age ON run_log (time);
