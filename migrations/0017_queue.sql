-- The queue: what runs took the place of, what is paused, how vendors' budgets stand, what became of dead letters; and
-- views that say why something waits.

SET lock_timeout = '5s';

ALTER TABLE operations
    ADD COLUMN replaced_from bigint,
    ADD COLUMN replaced_to bigint;
COMMENT ON COLUMN operations.replaced_from IS 'The first generation of the target that its runs took the place of: nobody ever brought it to the vendor. Null when there is none.';
COMMENT ON COLUMN operations.replaced_to IS 'The last generation of the target that its runs took the place of.';

ALTER TABLE dead_letters
    ADD COLUMN order_row text,
    ADD COLUMN order_id uuid,
    ADD COLUMN settled text CHECK (settled IN ('requeued','dropped')),
    ADD COLUMN settled_by text,
    ADD COLUMN settled_reason text,
    ADD COLUMN settled_at timestamptz;
COMMENT ON COLUMN dead_letters.order_row IS 'The row of the table of orders that an order or a report is about.';
COMMENT ON COLUMN dead_letters.order_id IS 'The order that an order or a report is about, where it could be read.';
COMMENT ON COLUMN dead_letters.settled IS 'requeued or dropped; null while nobody has done anything about the letter.';
COMMENT ON COLUMN dead_letters.settled_by IS 'Who did that.';
COMMENT ON COLUMN dead_letters.settled_reason IS 'Why, if it was said.';
COMMENT ON COLUMN dead_letters.settled_at IS 'When.';
CREATE INDEX dead_letters_open ON dead_letters (sequence DESC) WHERE settled IS NULL;

CREATE TABLE controls (
    scope text NOT NULL CHECK (scope IN ('vendor','customer')),
    name text NOT NULL,
    paused boolean NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    until timestamptz,
    time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (scope, name)
);
COMMENT ON TABLE controls IS 'What operators have paused and resumed: the last word about each vendor and customer, folded from the bucket controls.';
COMMENT ON COLUMN controls.scope IS 'vendor or customer.';
COMMENT ON COLUMN controls.name IS 'Which one.';
COMMENT ON COLUMN controls.paused IS 'Whether its orders wait. A pause with an end is over when the end has passed, though this stays true.';
COMMENT ON COLUMN controls.actor IS 'Who said so.';
COMMENT ON COLUMN controls.reason IS 'Why; empty when a resumption did not say.';
COMMENT ON COLUMN controls.until IS 'When the pause ends by itself; null when somebody has to end it.';
COMMENT ON COLUMN controls.time IS 'When it was said.';
COMMENT ON COLUMN controls.sequence IS 'The sequence in KV_controls.';

CREATE TABLE budget_records (
    vendor text NOT NULL,
    account text NOT NULL,
    limits jsonb NOT NULL,
    blocked_until timestamptz,
    breaker_since timestamptz,
    breaker_until timestamptz,
    breaker_reason text,
    processes bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (vendor, account)
);
COMMENT ON TABLE budget_records IS 'The record that all executors share about each vendor account, folded from the bucket budgets: the newest of each.';
COMMENT ON COLUMN budget_records.vendor IS 'The vendor.';
COMMENT ON COLUMN budget_records.account IS 'The account at the vendor; default for the one of the vendor''s folder.';
COMMENT ON COLUMN budget_records.limits IS 'The limits as far as anybody has called within them: [{name, per_second, burst, free_at, blocked_until}]; free_at is when the next call has room.';
COMMENT ON COLUMN budget_records.blocked_until IS 'Until when the vendor wants to be left alone, over all limits; null when it does not.';
COMMENT ON COLUMN budget_records.breaker_since IS 'Since when calls are held back because they only fail; null when they are made.';
COMMENT ON COLUMN budget_records.breaker_until IS 'When a call is tried again; null when calls are made.';
COMMENT ON COLUMN budget_records.breaker_reason IS 'What failed last.';
COMMENT ON COLUMN budget_records.processes IS 'How many executors took calls out of the budget when this was written.';
COMMENT ON COLUMN budget_records.updated_at IS 'When it was written, by the NATS server''s clock.';
COMMENT ON COLUMN budget_records.sequence IS 'The sequence in KV_budgets.';
-- An executor writes its vendor's record all the time: leave room for updates in place.
ALTER TABLE budget_records SET (fillfactor = 50);

CREATE VIEW pauses AS
    SELECT scope, name, actor, reason, until, time FROM controls
    WHERE paused AND (until IS NULL OR until > now());
COMMENT ON VIEW pauses IS 'What is paused now, by whom and why.';

CREATE VIEW operations_now AS
    SELECT o.customer, o.order_id, o.vendor, o.kind, o.id, o.state, o.intent, o.generation, o.attempts,
           CASE WHEN o.state NOT IN ('waiting','retrying') THEN o.waiting_for
                WHEN p.scope IS NOT NULL THEN 'paused'
                WHEN b.breaker_until > now() THEN 'breaker'
                ELSE o.waiting_for END AS waiting_for,
           CASE WHEN o.state NOT IN ('waiting','retrying') THEN o.next_at
                WHEN p.scope IS NOT NULL THEN p.until
                WHEN b.breaker_until > now() THEN greatest(o.next_at, b.breaker_until)
                ELSE o.next_at END AS next_at,
           o.calls, o.budget_wait_millis, o.error_code, o.error_message, o.executor, o.superseded_by,
           o.replaced_from, o.replaced_to, o.queued_at, o.started_at, o.finished_at, o.updated_at, o.sequence,
           CASE WHEN o.state IN ('waiting','retrying') THEN
               CASE WHEN p.scope IS NOT NULL THEN p.scope || ' ' || p.name || ' paused by ' || p.actor || ': ' || p.reason
                    WHEN b.breaker_until > now() THEN b.breaker_reason END END AS waiting_because
    FROM operations o
    LEFT JOIN budget_records b ON b.vendor = o.vendor AND b.account = 'default'
    LEFT JOIN LATERAL (
        SELECT * FROM pauses WHERE (scope, name) IN (('vendor', o.vendor), ('customer', o.customer))
        ORDER BY until DESC NULLS FIRST LIMIT 1
    ) p ON o.state IN ('waiting','retrying');
COMMENT ON VIEW operations_now IS 'operations, where an order that waits also says so when it is paused or its vendor held back: waiting_for may be paused besides, next_at is when that ends, waiting_because who or what it was.';

CREATE VIEW superseded_generations AS
    SELECT o.customer, o.kind, o.id, g AS generation, o.generation AS replaced_by, o.order_id, o.started_at AS replaced_at
    FROM operations o CROSS JOIN LATERAL generate_series(o.replaced_from, o.replaced_to) AS g
    WHERE o.replaced_from IS NOT NULL;
COMMENT ON VIEW superseded_generations IS 'Generations of targets that nobody brought to the vendor because the run of a newer one took their place: one row each.';

-- Columns that a release beside this one may or may not have are read by name, out of the whole row.
CREATE VIEW held_changes AS
    SELECT w.kind, w.customer, w.id, w.vendor, w.generation, w.waiting_for, w.next_at,
           CASE w.waiting_for
               WHEN 'suspended' THEN coalesce(w.suspended_because, 'suspended')
               WHEN 'approval' THEN w.approval
               WHEN 'window' THEN 'its change window is closed'
               ELSE CASE WHEN w.decommissioning THEN 'what uses it has to be gone first' ELSE 'its site has to be at the vendor first' END
           END AS waiting_because
    FROM (
        SELECT o.*, (o.postponed->>'until')::timestamptz AS next_at,
               coalesce(c.suspend_reason, s.suspend_reason, o.suspend_reason) AS suspended_because,
               CASE WHEN c.suspended OR s.suspended OR o.suspended THEN 'suspended'
                    WHEN o.approval IN ('waiting','rejected') THEN 'approval'
                    WHEN o.postponed IS NOT NULL AND o.postponed <> 'null' THEN 'window'
                    WHEN o.kind = 'site' AND o.decommissioning
                        AND EXISTS (SELECT FROM devices d WHERE d.customer = o.customer AND d.site = o.id) THEN 'dependency'
                    WHEN o.kind = 'device' AND NOT o.decommissioning AND s.observed_generation IS NULL THEN 'dependency'
               END AS waiting_for
        FROM (
            SELECT 'site' AS kind, customer, id, id AS site, vendor, generation, observed_generation, decommissioning,
                   retry_pending, failure_code, suspended, suspend_reason, approval->>'state' AS approval,
                   to_jsonb(sites)->'postponement' AS postponed
            FROM sites
            UNION ALL
            SELECT 'tunnel', customer, id, site, vendor, generation, observed_generation, decommissioning,
                   retry_pending, failure_code, suspended, suspend_reason, approval->>'state', to_jsonb(tunnels)->'postponement'
            FROM tunnels
            UNION ALL
            SELECT 'device', customer, id, site, vendor, generation, observed_generation, decommissioning,
                   retry_pending, failure_code, suspended, suspend_reason, approval->>'state', to_jsonb(devices)->'postponement'
            FROM devices
        ) AS o
        LEFT JOIN customers AS c ON c.customer = o.customer
        LEFT JOIN sites AS s ON s.customer = o.customer AND s.id = o.site
        WHERE o.failure_code IS NULL
          AND (o.generation IS DISTINCT FROM o.observed_generation OR o.decommissioning OR o.retry_pending)
    ) AS w
    WHERE w.waiting_for IS NOT NULL;
COMMENT ON VIEW held_changes IS 'Changes that there is no order for yet, because something has to happen first: waiting_for says suspended (somebody has to resume it), approval, window or dependency (another object has to come or go); next_at when it goes on by itself, where that is known.';

CREATE VIEW vendor_budgets AS
    SELECT v.vendor, coalesce(b.account, 'default') AS account, coalesce(b.limits, '[]') AS limits,
           (SELECT count(*) FROM run_log l JOIN operations o USING (customer, order_id)
            WHERE l.what = 'call' AND l.time > now() - interval '1 minute' AND o.vendor = v.vendor) AS used_last_minute,
           q.waiting, q.running, q.retrying,
           CASE WHEN b.blocked_until > now() THEN b.blocked_until END AS blocked_until,
           CASE WHEN b.breaker_since IS NULL THEN 'closed' WHEN b.breaker_until > now() THEN 'open' ELSE 'trying' END AS breaker,
           b.breaker_since, b.breaker_until, b.breaker_reason,
           p.name IS NOT NULL AS paused, p.actor AS paused_by, p.reason AS pause_reason, p.until AS paused_until,
           b.processes, b.updated_at
    FROM (SELECT vendor FROM budget_records UNION SELECT vendor FROM operations
          WHERE state IN ('waiting','running','retrying','unknown')
          UNION SELECT name FROM pauses WHERE scope = 'vendor') v
    LEFT JOIN budget_records b ON b.vendor = v.vendor
    LEFT JOIN pauses p ON p.scope = 'vendor' AND p.name = v.vendor
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
               count(*) FILTER (WHERE state IN ('running','unknown')) AS running,
               count(*) FILTER (WHERE state = 'retrying') AS retrying
        FROM operations WHERE state IN ('waiting','running','retrying','unknown') AND vendor = v.vendor
    ) q;
COMMENT ON VIEW vendor_budgets IS 'Each vendor account: its limits, breaker and pause from budget_records and controls, the calls of the last minute from run_log, what waits and runs from operations.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        GRANT SELECT ON controls, budget_records, pauses, operations_now, superseded_generations, held_changes,
            vendor_budgets TO wanwright_reader;
    END IF;
END
$$;
