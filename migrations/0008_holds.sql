-- What holds things as they are: suspension, protection, approvals, freezes; and a customer's accounts and policy.
-- Every new column has the value that events from before make of it, so what is there needs no rebuild.

SET lock_timeout = '5s';

ALTER TABLE customers
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN accounts jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN policy jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN freezes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN suspend_reason text,
    ADD COLUMN decommissioning boolean NOT NULL DEFAULT false,
    ADD COLUMN removed_at timestamptz;
COMMENT ON COLUMN customers.generation IS 'The generation of accounts and policy; 0 before they were first changed.';
COMMENT ON COLUMN customers.accounts IS 'The accounts by vendor: {vendor: {credential, budget}}; both are names, never secrets.';
COMMENT ON COLUMN customers.policy IS 'How changes come about, by kind of object: apply or approve; a kind that is not named applies at once.';
COMMENT ON COLUMN customers.freezes IS 'The change freezes that were not taken back, by when they begin: [{name, from, to, zone, reason}]; some may be over.';
COMMENT ON COLUMN customers.suspended IS 'Whether nothing is done at the customer''s vendors until it is resumed; its objects keep their own health.';
COMMENT ON COLUMN customers.suspend_reason IS 'Why the customer is suspended.';
COMMENT ON COLUMN customers.decommissioning IS 'Whether everything the customer has is being taken down.';
COMMENT ON COLUMN customers.removed_at IS 'When everything was gone; null again as soon as the customer is heard of again.';

ALTER TABLE sites
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN suspend_reason text,
    ADD COLUMN protected boolean NOT NULL DEFAULT false,
    ADD COLUMN approval jsonb;
COMMENT ON COLUMN sites.suspended IS 'Whether nothing is done about the site, its tunnels and its devices until it is resumed.';
COMMENT ON COLUMN sites.suspend_reason IS 'Why the site is suspended.';
COMMENT ON COLUMN sites.protected IS 'Whether a decommissioning is refused.';
COMMENT ON COLUMN sites.approval IS 'The approval that the generation needs or had: {state: waiting or approved, generation, requested_by, approved_by}; null when it needs none.';

ALTER TABLE tunnels
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN suspend_reason text,
    ADD COLUMN protected boolean NOT NULL DEFAULT false,
    ADD COLUMN approval jsonb;
COMMENT ON COLUMN tunnels.suspended IS 'Always false: a tunnel is suspended with its site, for they are one stack.';
COMMENT ON COLUMN tunnels.suspend_reason IS 'Always null.';
COMMENT ON COLUMN tunnels.protected IS 'Whether a decommissioning is refused.';
COMMENT ON COLUMN tunnels.approval IS 'The approval that the generation needs or had: {state: waiting or approved, generation, requested_by, approved_by}; null when it needs none.';

ALTER TABLE devices
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN suspend_reason text,
    ADD COLUMN protected boolean NOT NULL DEFAULT false,
    ADD COLUMN approval jsonb;
COMMENT ON COLUMN devices.suspended IS 'Whether nothing is done about the device until it is resumed.';
COMMENT ON COLUMN devices.suspend_reason IS 'Why the device is suspended.';
COMMENT ON COLUMN devices.protected IS 'Whether a decommissioning is refused.';
COMMENT ON COLUMN devices.approval IS 'The approval that the generation needs or had: {state: waiting or approved, generation, requested_by, approved_by}; null when it needs none.';

-- The same columns as before, and behind them what holds an object.
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
           o.protected, o.approval->>'state' AS approval
    FROM (
        SELECT customer, 'site' AS kind, id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, id AS site, uid, suspended, suspend_reason, protected, approval
        FROM sites
        UNION ALL
        SELECT customer, 'tunnel', id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, site, uid, suspended, suspend_reason, protected, approval
        FROM tunnels
        UNION ALL
        SELECT customer, 'device', id, health, sync, generation, observed_generation, failure_code,
               failure_message, drift, conditions, vendor, site, uid, suspended, suspend_reason, protected, approval
        FROM devices
    ) AS o
    LEFT JOIN customers AS c ON c.customer = o.customer
    LEFT JOIN sites AS s ON s.customer = o.customer AND s.id = o.site;
COMMENT ON VIEW status IS 'How every object is: one row per site, tunnel and device. suspended_with says whose suspension rests it: its own, its site''s or its customer''s.';
