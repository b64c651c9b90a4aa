-- What waits, by customer and vendor, and which vendor a dead letter is about.

SET lock_timeout = '5s';

ALTER TABLE dead_letters ADD COLUMN vendor text;
COMMENT ON COLUMN dead_letters.vendor IS 'The vendor whose order or report it is; null for commands and in rows from before there was this column, which a rebuild of all read models fills.';

CREATE VIEW queue AS
    WITH live AS (
        SELECT customer, vendor, state, waiting_for, error_code, queued_at, next_at
        FROM operations_now WHERE state IN ('waiting','running','retrying','unknown')
    ), reasons AS (
        SELECT customer, vendor, jsonb_object_agg(waiting_for, orders) AS waiting_for
        FROM (SELECT customer, vendor, waiting_for, count(*) AS orders FROM live
              WHERE waiting_for IS NOT NULL GROUP BY 1, 2, 3) AS r
        GROUP BY 1, 2
    ), failures AS (
        SELECT customer, vendor, jsonb_object_agg(error_code, orders) AS retrying_after
        FROM (SELECT customer, vendor, error_code, count(*) AS orders FROM live
              WHERE state = 'retrying' AND error_code IS NOT NULL GROUP BY 1, 2, 3) AS f
        GROUP BY 1, 2
    ), counts AS (
        SELECT customer, vendor,
               count(*) FILTER (WHERE state = 'waiting') AS waiting,
               count(*) FILTER (WHERE state = 'running') AS running,
               count(*) FILTER (WHERE state = 'retrying') AS retrying,
               count(*) FILTER (WHERE state = 'unknown') AS unknown,
               min(queued_at) AS oldest_at,
               min(next_at) FILTER (WHERE state IN ('waiting','retrying')) AS next_at
        FROM live GROUP BY 1, 2
    )
    SELECT c.customer, c.vendor, c.waiting, c.running, c.retrying, c.unknown,
           coalesce(r.waiting_for, '{}') AS waiting_for, coalesce(f.retrying_after, '{}') AS retrying_after,
           c.oldest_at, c.next_at
    FROM counts c
    LEFT JOIN reasons r USING (customer, vendor)
    LEFT JOIN failures f USING (customer, vendor);
COMMENT ON VIEW queue IS 'The orders that have not ended, counted by customer and vendor, with what they wait for now.';
COMMENT ON COLUMN queue.customer IS 'The customer.';
COMMENT ON COLUMN queue.vendor IS 'The vendor.';
COMMENT ON COLUMN queue.waiting IS 'How many wait for their first try.';
COMMENT ON COLUMN queue.running IS 'How many an executor has.';
COMMENT ON COLUMN queue.retrying IS 'How many failed in passing and are tried again.';
COMMENT ON COLUMN queue.unknown IS 'How many had an executor that died.';
COMMENT ON COLUMN queue.waiting_for IS 'What those wait for that wait or are tried again, as in operations_now, each with how many do.';
COMMENT ON COLUMN queue.retrying_after IS 'The codes of the failures after which orders are tried again, each with how many are.';
COMMENT ON COLUMN queue.oldest_at IS 'Since when the oldest of them has been there.';
COMMENT ON COLUMN queue.next_at IS 'When the first of them goes on at the earliest, where that is known.';

COMMENT ON COLUMN vendor_budgets.used_last_minute IS 'The calls of the last minute that are in the log of orders. What a dry run with a plan called is in none: it spends the limits and is not counted here.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        GRANT SELECT ON queue TO wanwright_reader;
    END IF;
END
$$;
