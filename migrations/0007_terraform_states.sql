-- Terraform's states. They are no read model: no stream can rebuild them, so they have a schema and a backup of their own.
CREATE SCHEMA IF NOT EXISTS terraform;

CREATE TABLE IF NOT EXISTS terraform.states (
    stack      text        NOT NULL,
    serial     bigint      NOT NULL,
    lineage    text        NOT NULL,
    wan_order  text        NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    body       bytea       NOT NULL,
    PRIMARY KEY (stack, serial)
);

COMMENT ON SCHEMA terraform IS 'Terraform states: not rebuildable from the streams; back it up by itself.';
COMMENT ON TABLE terraform.states IS 'Every version of every stack''s Terraform state.';
COMMENT ON COLUMN terraform.states.stack IS 'The stack: the id of the command that created its site.';
COMMENT ON COLUMN terraform.states.serial IS 'The serial Terraform gave this version; grows within a lineage.';
COMMENT ON COLUMN terraform.states.lineage IS 'The lineage Terraform gave the stack; never changes.';
COMMENT ON COLUMN terraform.states.wan_order IS 'The order in whose run the version was written.';
COMMENT ON COLUMN terraform.states.written_at IS 'When the version reached Postgres.';
COMMENT ON COLUMN terraform.states.body IS 'The state as Terraform wrote it.';
