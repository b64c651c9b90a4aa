-- Change windows and what waits for them, acknowledgements, groups of approvers, and settings that wait for approval.
-- Windows, acknowledgements and what waits for windows are new, so what is there needs no rebuild for them. Groups and
-- settings that wait were in histories before: `wanwright rebuild --all` fills their columns for customers that have some.

SET lock_timeout = '5s';

ALTER TABLE customers
    ADD COLUMN groups jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN windows jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN waiting jsonb;
COMMENT ON COLUMN customers.groups IS 'Who belongs to which group of approvers: {group: [actor]}.';
COMMENT ON COLUMN customers.windows IS 'When the customer''s vendors may be changed: {name: {zone, days, from, to, kinds}}; local times in an IANA zone; without days every day, without kinds sites and devices. What no window is about is changed at any time.';
COMMENT ON COLUMN customers.waiting IS 'Other settings that wait for approval, because they make a rule weaker: {generation, requested_by, approvals, approved_by, spec}; null when none do.';

ALTER TABLE sites
    ADD COLUMN postponement jsonb,
    ADD COLUMN release jsonb,
    ADD COLUMN acknowledgement jsonb;
COMMENT ON COLUMN sites.postponement IS 'That what is to be done waits for a change window: {generation, until, window}; until is when one opens, as it was judged last. Null when it waits for none, and when it is done.';
COMMENT ON COLUMN sites.release IS 'That what is to be done need not wait for a change window: {generation, by, at, reason}; null when nobody said so, and when it is done.';
COMMENT ON COLUMN sites.acknowledgement IS 'Who knows of the failure or drift: {of: failure or drift, by, at, reason, until}; null again when that is another one or gone. It counts no more once until is over.';

ALTER TABLE tunnels
    ADD COLUMN postponement jsonb,
    ADD COLUMN release jsonb,
    ADD COLUMN acknowledgement jsonb;
COMMENT ON COLUMN tunnels.postponement IS 'That what is to be done waits for a change window of the site: {generation, until, window}; until is when one opens, as it was judged last. Null when it waits for none, and when it is done.';
COMMENT ON COLUMN tunnels.release IS 'That what is to be done need not wait for a change window, said of its site: {generation, by, at, reason}; null when nobody said so, and when it is done.';
COMMENT ON COLUMN tunnels.acknowledgement IS 'Who knows of the failure or drift: {of: failure or drift, by, at, reason, until}; null again when that is another one or gone. It counts no more once until is over.';

ALTER TABLE devices
    ADD COLUMN postponement jsonb,
    ADD COLUMN release jsonb,
    ADD COLUMN acknowledgement jsonb;
COMMENT ON COLUMN devices.postponement IS 'That what is to be done waits for a change window: {generation, until, window}; until is when one opens, as it was judged last. Null when it waits for none, and when it is done.';
COMMENT ON COLUMN devices.release IS 'That what is to be done need not wait for a change window: {generation, by, at, reason}; null when nobody said so, and when it is done.';
COMMENT ON COLUMN devices.acknowledgement IS 'Who knows of the failure or drift: {of: failure or drift, by, at, reason, until}; null again when that is another one or gone. It counts no more once until is over.';

-- The same columns as before, and behind them when a window opens for an object, and who knows of its trouble.
CREATE OR REPLACE VIEW status AS
    SELECT o.customer, o.kind, o.id, o.health, o.sync, o.generation, o.observed_generation,
           coalesce(o.failure_code, CASE WHEN o.drift IS NOT NULL THEN 'Drifted' END) AS reason,
           coalesce(o.failure_message, o.conditions->2->>'message') AS message,
           (SELECT max((c->>'lastTransitionTime')::timestamptz) FROM jsonb_array_elements(o.conditions) AS c) AS since,
           o.vendor, o.site, o.uid,
           CASE WHEN c.suspended THEN 'customer' WHEN s.suspended THEN 'site' WHEN o.suspended THEN o.kind END
               AS suspended_with,
           CASE WHEN c.suspended THEN c.suspend_reason WHEN s.suspended THEN s.suspend_reason ELSE o.suspend_reason END
               AS suspend_reason,
           o.protected, o.approval->>'state' AS approval,
           (o.postponement->>'until')::timestamptz AS postponed_until,
           o.acknowledgement->>'by' AS acknowledged_by,
           (o.acknowledgement->>'until')::timestamptz AS acknowledged_until
    FROM (
        SELECT customer, 'site' AS kind, id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, id AS site, uid, suspended, suspend_reason, protected, approval,
               postponement, acknowledgement
        FROM sites
        UNION ALL
        SELECT customer, 'tunnel', id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, site, uid, suspended, suspend_reason, protected, approval,
               postponement, acknowledgement
        FROM tunnels
        UNION ALL
        SELECT customer, 'device', id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, site, uid, suspended, suspend_reason, protected, approval,
               postponement, acknowledgement
        FROM devices
    ) AS o
    LEFT JOIN customers AS c ON c.customer = o.customer
    LEFT JOIN sites AS s ON s.customer = o.customer AND s.id = o.site;
COMMENT ON VIEW status IS 'How every object is: one row per site, tunnel and device. suspended_with says whose suspension rests it: its own, its site''s or its customer''s. postponed_until is when a change window opens for it, acknowledged_by who knows of its failure or drift.';
