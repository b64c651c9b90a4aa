-- What runs take, and how far the resources of a stack are.

SET lock_timeout = '5s';

ALTER TABLE operations
    ADD COLUMN resources jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN resources_done bigint,
    ADD COLUMN resources_total bigint,
    ADD COLUMN preparing_millis bigint,
    ADD COLUMN waiting_millis bigint,
    ADD COLUMN running_millis bigint,
    ADD COLUMN finishing_millis bigint,
    ADD COLUMN cpu_millis bigint,
    ADD COLUMN peak_kib bigint;
COMMENT ON COLUMN operations.resources IS 'The resources that the last try does something to, the first 200, in the order of the plan: [{address, action, state, since}]; state is planned, applying, done or failed.';
COMMENT ON COLUMN operations.resources_done IS 'How many of all resources of the last try''s plan are done; null before there is a plan.';
COMMENT ON COLUMN operations.resources_total IS 'How many resources the last try''s plan does something to; while it is planned, those that are known.';
COMMENT ON COLUMN operations.preparing_millis IS 'How long the last try that ended was prepared (reading the order, noting the try, its folder), in milliseconds.';
COMMENT ON COLUMN operations.waiting_millis IS 'How long that try waited for room in the vendor''s limits and for a core, in milliseconds.';
COMMENT ON COLUMN operations.running_millis IS 'How long its Terraform, or the API engine, ran, in milliseconds.';
COMMENT ON COLUMN operations.finishing_millis IS 'How long it then took to take the state in and to report, in milliseconds.';
COMMENT ON COLUMN operations.cpu_millis IS 'Processor time of the processes of all tries that ended, those they started and waited for among them, in milliseconds; null where none was started.';
COMMENT ON COLUMN operations.peak_kib IS 'The most memory that one of those processes had resident, in KiB.';

ALTER TABLE run_log
    ADD COLUMN resource text,
    ADD COLUMN cpu_millis bigint,
    ADD COLUMN peak_kib bigint;
COMMENT ON COLUMN run_log.resource IS 'The resource that a log line tells of, as Terraform names it.';
COMMENT ON COLUMN run_log.cpu_millis IS 'Processor time of the processes of the try that ended with this line, in milliseconds.';
COMMENT ON COLUMN run_log.peak_kib IS 'The most memory that one of them had resident, in KiB.';

CREATE OR REPLACE VIEW operations_now AS
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
                    WHEN b.breaker_until > now() THEN b.breaker_reason END END AS waiting_because,
           o.resources, o.resources_done, o.resources_total, o.preparing_millis, o.waiting_millis, o.running_millis,
           o.finishing_millis, o.cpu_millis, o.peak_kib
    FROM operations o
    LEFT JOIN budget_records b ON b.vendor = o.vendor AND b.account = 'default'
    LEFT JOIN LATERAL (
        SELECT * FROM pauses WHERE (scope, name) IN (('vendor', o.vendor), ('customer', o.customer))
        ORDER BY until DESC NULLS FIRST LIMIT 1
    ) p ON o.state IN ('waiting','retrying');
