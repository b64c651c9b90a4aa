-- Answers to commands, and what could not be handled. Folded from OUTCOMES and DEAD.

CREATE TABLE outcomes (
    customer text NOT NULL,
    command uuid NOT NULL,
    kind text,
    id text,
    status text NOT NULL CHECK (status IN ('accepted','refused')),
    generation bigint,
    position_stream text,
    position_sequence bigint,
    events text[] NOT NULL DEFAULT '{}',
    code text,
    number integer,
    message text,
    field text,
    next text,
    time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, command)
);
COMMENT ON TABLE outcomes IS 'The answer to each command, folded from OUTCOMES, which keeps them for 24 hours.';
COMMENT ON COLUMN outcomes.customer IS 'The customer.';
COMMENT ON COLUMN outcomes.command IS 'The command.';
COMMENT ON COLUMN outcomes.kind IS 'The kind of the object, where the subject named one.';
COMMENT ON COLUMN outcomes.id IS 'The object, where the subject named one.';
COMMENT ON COLUMN outcomes.status IS 'accepted or refused.';
COMMENT ON COLUMN outcomes.generation IS 'The object''s generation afterwards.';
COMMENT ON COLUMN outcomes.position_stream IS 'The stream with its events; null when there are none.';
COMMENT ON COLUMN outcomes.position_sequence IS 'The sequence of its events.';
COMMENT ON COLUMN outcomes.events IS 'The types of its events.';
COMMENT ON COLUMN outcomes.code IS 'The reason''s code of a refusal.';
COMMENT ON COLUMN outcomes.number IS 'The reason''s number of a refusal.';
COMMENT ON COLUMN outcomes.message IS 'The refusal in a sentence.';
COMMENT ON COLUMN outcomes.field IS 'The field of the body that was wrong.';
COMMENT ON COLUMN outcomes.next IS 'What to do next.';
COMMENT ON COLUMN outcomes.time IS 'When the answer was stored.';
COMMENT ON COLUMN outcomes.sequence IS 'The sequence in OUTCOMES.';
CREATE INDEX outcomes_recent ON outcomes (customer, sequence DESC);
CREATE INDEX outcomes_refused ON outcomes (code, time) WHERE status = 'refused';
CREATE INDEX outcomes_age ON outcomes (time);

CREATE TABLE dead_letters (
    sequence bigint NOT NULL,
    customer text,
    what text NOT NULL,
    reason text NOT NULL,
    message text,
    original_subject text,
    headers jsonb NOT NULL DEFAULT '{}',
    payload text NOT NULL,
    payload_bytes bigint NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (sequence)
);
COMMENT ON TABLE dead_letters IS 'What could not be handled, with the reason, folded from DEAD.';
COMMENT ON COLUMN dead_letters.sequence IS 'The sequence in DEAD.';
COMMENT ON COLUMN dead_letters.customer IS 'The customer, where the original subject names one.';
COMMENT ON COLUMN dead_letters.what IS 'What it was, from the subject wan.dead.<what>.<reason>.';
COMMENT ON COLUMN dead_letters.reason IS 'The reason''s code.';
COMMENT ON COLUMN dead_letters.message IS 'The reason in a sentence.';
COMMENT ON COLUMN dead_letters.original_subject IS 'The subject it was published on.';
COMMENT ON COLUMN dead_letters.headers IS 'Its headers: a name to its values.';
COMMENT ON COLUMN dead_letters.payload IS 'Its body as text, cut after 64 KB; bytes that are no UTF-8 are replaced.';
COMMENT ON COLUMN dead_letters.payload_bytes IS 'How long its body is.';
COMMENT ON COLUMN dead_letters.time IS 'When it was stored.';
CREATE INDEX dead_letters_customer ON dead_letters (customer, sequence DESC);
CREATE INDEX dead_letters_reason ON dead_letters (reason, sequence DESC);
