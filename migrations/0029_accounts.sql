-- Orders wait for the budget of their customer's account at the vendor, which is the vendor's own where it has none.

SET lock_timeout = '5s';

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
    LEFT JOIN customers c ON c.customer = o.customer
    LEFT JOIN budget_records b
        ON b.vendor = o.vendor AND b.account = coalesce(c.accounts->o.vendor->>'budget', 'default')
    LEFT JOIN LATERAL (
        SELECT * FROM pauses WHERE (scope, name) IN (('vendor', o.vendor), ('customer', o.customer))
        ORDER BY until DESC NULLS FIRST LIMIT 1
    ) p ON o.state IN ('waiting','retrying');

CREATE OR REPLACE VIEW vendor_budgets AS
    WITH live AS (
        SELECT o.vendor, coalesce(c.accounts->o.vendor->>'budget', 'default') AS account,
               count(*) FILTER (WHERE o.state = 'waiting') AS waiting,
               count(*) FILTER (WHERE o.state IN ('running','unknown')) AS running,
               count(*) FILTER (WHERE o.state = 'retrying') AS retrying
        FROM operations o LEFT JOIN customers c ON c.customer = o.customer
        WHERE o.state IN ('waiting','running','retrying','unknown')
        GROUP BY 1, 2
    ), used AS (
        SELECT o.vendor, coalesce(c.accounts->o.vendor->>'budget', 'default') AS account,
               -- A call that was made for several orders is in the log of each.
               count(*) FILTER (WHERE l.shared_call IS NULL) + count(DISTINCT l.shared_call) AS calls
        FROM run_log l JOIN operations o USING (customer, order_id) LEFT JOIN customers c ON c.customer = o.customer
        WHERE l.what = 'call' AND l.time > now() - interval '1 minute'
        GROUP BY 1, 2
    )
    SELECT v.vendor, v.account, coalesce(b.limits, '[]') AS limits,
           coalesce(u.calls, 0) AS used_last_minute,
           coalesce(l.waiting, 0) AS waiting, coalesce(l.running, 0) AS running, coalesce(l.retrying, 0) AS retrying,
           CASE WHEN b.blocked_until > now() THEN b.blocked_until END AS blocked_until,
           CASE WHEN b.breaker_since IS NULL THEN 'closed' WHEN b.breaker_until > now() THEN 'open' ELSE 'trying' END AS breaker,
           b.breaker_since, b.breaker_until, b.breaker_reason,
           p.name IS NOT NULL AS paused, p.actor AS paused_by, p.reason AS pause_reason, p.until AS paused_until,
           b.processes, b.updated_at
    FROM (SELECT vendor, account FROM budget_records UNION SELECT vendor, account FROM live
          UNION SELECT vendor, account FROM used
          UNION SELECT name, 'default' FROM pauses WHERE scope = 'vendor') v
    LEFT JOIN budget_records b ON b.vendor = v.vendor AND b.account = v.account
    LEFT JOIN live l ON l.vendor = v.vendor AND l.account = v.account
    LEFT JOIN used u ON u.vendor = v.vendor AND u.account = v.account
    LEFT JOIN pauses p ON p.scope = 'vendor' AND p.name = v.vendor;
COMMENT ON VIEW vendor_budgets IS 'Each vendor account: its limits, breaker and pause from budget_records and controls, the calls of the last minute from run_log, what waits and runs from operations. Orders count for the budget of their customer''s account, or for default where it has none.';
