-- What happened: the timeline and the drift that was found. Folded from EVENTS-*.

CREATE TABLE timeline (
    customer text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('customer','site','tunnel','device')),
    id text NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    index integer NOT NULL,
    time timestamptz NOT NULL,
    actor text NOT NULL,
    command uuid NOT NULL,
    cause text,
    correlation text,
    type text NOT NULL,
    generation bigint,
    changes jsonb,
    summary text NOT NULL,
    PRIMARY KEY (stream, sequence, index)
);
COMMENT ON TABLE timeline IS 'Every event of every customer: one row per event, kept for ever.';
COMMENT ON COLUMN timeline.customer IS 'The customer.';
COMMENT ON COLUMN timeline.kind IS 'The kind of the object.';
COMMENT ON COLUMN timeline.id IS 'The object.';
COMMENT ON COLUMN timeline.stream IS 'The stream of the message.';
COMMENT ON COLUMN timeline.sequence IS 'The sequence of the message in its stream.';
COMMENT ON COLUMN timeline.index IS 'The place of the event in its message, from 0.';
COMMENT ON COLUMN timeline.time IS 'When it was decided, by the command service''s clock.';
COMMENT ON COLUMN timeline.actor IS 'Who sent the command.';
COMMENT ON COLUMN timeline.command IS 'The command.';
COMMENT ON COLUMN timeline.cause IS 'What caused the command, if its sender said so.';
COMMENT ON COLUMN timeline.correlation IS 'What the command belongs to, if its sender said so.';
COMMENT ON COLUMN timeline.type IS 'The event''s type, for example SiteCreated.';
COMMENT ON COLUMN timeline.generation IS 'The generation the event is about, where it has one.';
COMMENT ON COLUMN timeline.changes IS 'Field by field what changed: [{field, before, after}]; for drift before is what was applied and after what the vendor has.';
COMMENT ON COLUMN timeline.summary IS 'The event in a sentence.';
CREATE INDEX timeline_customer ON timeline (customer, sequence DESC, index DESC);
CREATE INDEX timeline_object ON timeline (customer, kind, id, sequence DESC, index DESC);
CREATE INDEX timeline_command ON timeline (command);
CREATE INDEX timeline_time ON timeline (time);

CREATE TABLE drift_reports (
    customer text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('customer','site','tunnel','device')),
    id text NOT NULL,
    check_command uuid NOT NULL,
    fields jsonb NOT NULL,
    found_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text CHECK (resolution IN ('applied','disappeared','removed','found-again')),
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, kind, id, check_command)
);
COMMENT ON TABLE drift_reports IS 'Every drift that was found: one row per object and check, open until resolved.';
COMMENT ON COLUMN drift_reports.customer IS 'The customer.';
COMMENT ON COLUMN drift_reports.kind IS 'The kind of the object.';
COMMENT ON COLUMN drift_reports.id IS 'The object.';
COMMENT ON COLUMN drift_reports.check_command IS 'The command that asked to look.';
COMMENT ON COLUMN drift_reports.fields IS 'What differs: [{field, desired, observed}].';
COMMENT ON COLUMN drift_reports.found_at IS 'When it was found.';
COMMENT ON COLUMN drift_reports.resolved_at IS 'When it was resolved; null while it is open.';
COMMENT ON COLUMN drift_reports.resolution IS 'How it was resolved: applied (the desired state was applied), disappeared (a later check found nothing), removed (the object is gone), found-again (a later check replaced it).';
COMMENT ON COLUMN drift_reports.stream IS 'The stream of the last event about it.';
COMMENT ON COLUMN drift_reports.sequence IS 'The sequence of the last message about it.';
CREATE INDEX drift_reports_open ON drift_reports (customer, found_at DESC) WHERE resolved_at IS NULL;
CREATE INDEX drift_reports_found ON drift_reports (customer, found_at DESC, kind, id, check_command);
CREATE INDEX drift_reports_position ON drift_reports (stream, sequence);

CREATE TABLE customer_overview (
    view_id text NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    payload json NOT NULL,
    PRIMARY KEY (view_id)
);
COMMENT ON TABLE customer_overview IS 'One document per customer with its sites, tunnels and devices in short, kept by postgres-es: view_id is the customer.';
COMMENT ON COLUMN customer_overview.view_id IS 'The customer.';
COMMENT ON COLUMN customer_overview.version IS 'How many times the document was written; a writer that read an older version fails.';
COMMENT ON COLUMN customer_overview.payload IS 'The document.';
