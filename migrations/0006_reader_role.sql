-- A role for people and dashboards that only read. It is created where the migrating user may create roles; where not,
-- an administrator creates `wanwright_reader` and runs the grants below.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        CREATE ROLE wanwright_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'wanwright_reader was not created: the migrating user may not create roles';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of the same server created it at the same moment
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        GRANT USAGE ON SCHEMA public TO wanwright_reader;
        GRANT SELECT ON customers, sites, tunnels, devices, timeline, drift_reports, customer_overview, operations,
            run_log, outcomes, dead_letters, projection_status, status, drift_report, projection_lag
            TO wanwright_reader;
    END IF;
END
$$;
