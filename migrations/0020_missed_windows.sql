-- A window that was missed is followed by the next one, and when that opens is not noted: the view says so instead of
-- showing a time that is over.
CREATE OR REPLACE VIEW held_changes AS
    SELECT w.kind, w.customer, w.id, w.vendor, w.generation, w.waiting_for,
           CASE WHEN w.next_at > now() THEN w.next_at END AS next_at,
           CASE w.waiting_for
               WHEN 'suspended' THEN coalesce(w.suspended_because, 'suspended')
               WHEN 'approval' THEN w.approval
               WHEN 'window' THEN CASE WHEN w.next_at <= now()
                   THEN 'its change window was missed or is open; it begins in this one or the next' ELSE 'its change window is closed' END
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
