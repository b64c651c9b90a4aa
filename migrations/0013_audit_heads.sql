-- Signed heads: what each stream of events held, kept outside the streams.

CREATE TABLE audit_heads (
    stream text NOT NULL,
    incarnation timestamptz NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    leaf text NOT NULL,
    rolling text NOT NULL,
    "time" timestamptz NOT NULL,
    key text NOT NULL,
    signature text NOT NULL,
    superseded_at timestamptz,
    PRIMARY KEY (stream, sequence, incarnation, rolling)
);
COMMENT ON TABLE audit_heads IS 'Signed heads: what each stream of events held up to a message. wanwright audit verify compares streams and exports with them.';
COMMENT ON COLUMN audit_heads.stream IS 'The stream.';
COMMENT ON COLUMN audit_heads.incarnation IS 'When the stream was created.';
COMMENT ON COLUMN audit_heads.sequence IS 'The last message that is vouched for.';
COMMENT ON COLUMN audit_heads.leaf IS 'The digest of that message: its place, subject, time, headers and body.';
COMMENT ON COLUMN audit_heads.rolling IS 'The digest over the leaves of the stream from its first message up to that one.';
COMMENT ON COLUMN audit_heads."time" IS 'When it was signed.';
COMMENT ON COLUMN audit_heads.key IS 'The id of the key; wanwright audit key prints it with the public key.';
COMMENT ON COLUMN audit_heads.signature IS 'The Ed25519 signature over all of that, in hexadecimal digits.';
COMMENT ON COLUMN audit_heads.superseded_at IS 'When an operator accepted another history in place of the one this head vouches for; null while it counts.';
CREATE INDEX audit_heads_time ON audit_heads (stream, "time");

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        GRANT SELECT ON audit_heads TO wanwright_reader;
    END IF;
END
$$;
