-- How far each reader is. A reader's rows and its row here commit together.

CREATE TABLE projection_status (
    read_model text NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL DEFAULT 0,
    digest text,
    message_time timestamptz,
    incarnation timestamptz NOT NULL,
    skipped bigint NOT NULL DEFAULT 0,
    stream_last bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running','stopped')),
    last_error text,
    last_error_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (read_model, stream)
);
COMMENT ON TABLE projection_status IS 'How far each reader of each read model is, and why it stopped if it did.';
COMMENT ON COLUMN projection_status.read_model IS 'The read model: events, overview, operations, outcomes or dead-letters.';
COMMENT ON COLUMN projection_status.stream IS 'The stream it reads.';
COMMENT ON COLUMN projection_status.sequence IS 'The last message whose rows are committed; 0 before the first.';
COMMENT ON COLUMN projection_status.digest IS 'The digest of that message.';
COMMENT ON COLUMN projection_status.message_time IS 'When that message was stored in the stream.';
COMMENT ON COLUMN projection_status.incarnation IS 'When the stream was created: a stream made anew is another one, whatever its name.';
COMMENT ON COLUMN projection_status.skipped IS 'How many messages had left the stream before they were read. Always 0 for EVENTS, where a gap stops the reader.';
COMMENT ON COLUMN projection_status.stream_last IS 'The stream''s last sequence when the reader looked last.';
COMMENT ON COLUMN projection_status.state IS 'running, or stopped: the reader will not go on until somebody mends what last_error says.';
COMMENT ON COLUMN projection_status.last_error IS 'What went wrong last; null while all is well.';
COMMENT ON COLUMN projection_status.last_error_at IS 'When that was.';
COMMENT ON COLUMN projection_status.updated_at IS 'When the reader wrote this row.';

-- A reader writes its row all the time: leave room for updates in place.
ALTER TABLE projection_status SET (fillfactor = 50);

CREATE VIEW status AS
    SELECT customer, 'site' AS kind, id, health, sync, generation, observed_generation,
           coalesce(failure_code, CASE WHEN drift IS NOT NULL THEN 'Drifted' END) AS reason,
           coalesce(failure_message, conditions->2->>'message') AS message,
           (SELECT max((c->>'lastTransitionTime')::timestamptz) FROM jsonb_array_elements(conditions) AS c) AS since, vendor, id AS site, uid
    FROM sites
    UNION ALL
    SELECT customer, 'tunnel', id, health, sync, generation, observed_generation,
           coalesce(failure_code, CASE WHEN drift IS NOT NULL THEN 'Drifted' END),
           coalesce(failure_message, conditions->2->>'message'), (SELECT max((c->>'lastTransitionTime')::timestamptz) FROM jsonb_array_elements(conditions) AS c), vendor, site, uid
    FROM tunnels
    UNION ALL
    SELECT customer, 'device', id, health, sync, generation, observed_generation,
           coalesce(failure_code, CASE WHEN drift IS NOT NULL THEN 'Drifted' END),
           coalesce(failure_message, conditions->2->>'message'), (SELECT max((c->>'lastTransitionTime')::timestamptz) FROM jsonb_array_elements(conditions) AS c), vendor, site, uid
    FROM devices;
COMMENT ON VIEW status IS 'How every object is: one row per site, tunnel and device.';

CREATE VIEW drift_report AS
    SELECT r.customer, r.kind, r.id, f.field, f.desired, f.observed, r.found_at, r.resolved_at, r.resolution,
           r.check_command
    FROM drift_reports r
    CROSS JOIN LATERAL jsonb_to_recordset(r.fields) AS f (field text, desired jsonb, observed jsonb);
COMMENT ON VIEW drift_report IS 'What differs between what was applied and what the vendor has: one row per field of each report; open while resolved_at is null.';

CREATE VIEW projection_lag AS
    SELECT read_model, stream, state, greatest(stream_last - sequence, 0) AS behind, sequence, stream_last,
           message_time, updated_at, last_error
    FROM projection_status;
COMMENT ON VIEW projection_lag IS 'How many messages each reader is behind its stream.';
