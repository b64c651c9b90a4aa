-- Plans of stacks: what would be done, who approved it and what became of it. There were none before, so what is there
-- needs no rebuild.

SET lock_timeout = '5s';

ALTER TABLE sites ADD COLUMN planning boolean NOT NULL DEFAULT false, ADD COLUMN plan uuid;
ALTER TABLE tunnels ADD COLUMN planning boolean NOT NULL DEFAULT false, ADD COLUMN plan uuid;
ALTER TABLE devices ADD COLUMN planning boolean NOT NULL DEFAULT false, ADD COLUMN plan uuid;
COMMENT ON COLUMN sites.planning IS 'Whether what was asked for is to be planned and there is no plan of it yet, as far as the site''s own events say.';
COMMENT ON COLUMN sites.plan IS 'The newest plan of the stack that nothing has become of yet: the order it was made for, which is its key in plans.';
COMMENT ON COLUMN tunnels.planning IS 'Whether what was asked for is brought about by a plan of its site''s stack, until it is at the vendor.';
COMMENT ON COLUMN tunnels.plan IS 'Always null: a tunnel is planned with its site.';
COMMENT ON COLUMN devices.planning IS 'Always false: devices are not planned.';
COMMENT ON COLUMN devices.plan IS 'Always null: devices are not planned.';

-- Every row fits the wider rule, so it is not looked at again.
ALTER TABLE operations
    DROP CONSTRAINT operations_intent_check,
    ADD CONSTRAINT operations_intent_check CHECK (intent IN ('apply','remove','observe','plan')) NOT VALID;
COMMENT ON COLUMN operations.intent IS 'apply, remove, observe or plan; null while its first record has not been seen.';

CREATE TABLE plans (
    customer text NOT NULL,
    site text NOT NULL,
    order_id uuid NOT NULL,
    hash text NOT NULL,
    generation bigint NOT NULL,
    wish uuid NOT NULL,
    template text NOT NULL,
    serial bigint NOT NULL,
    lineage text NOT NULL,
    creates bigint NOT NULL,
    updates bigint NOT NULL,
    deletes bigint NOT NULL,
    replaces bigint NOT NULL,
    changes jsonb NOT NULL,
    left_out bigint NOT NULL,
    requested_by jsonb NOT NULL,
    approvals jsonb,
    approved_by jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting','approved','free','rejected','applied','stale','void')),
    because text,
    planned_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, site, order_id)
);
COMMENT ON TABLE plans IS 'Every plan that was made of a stack: what would be done, whose approval it needs and has, and what became of it.';
COMMENT ON COLUMN plans.customer IS 'The customer.';
COMMENT ON COLUMN plans.site IS 'The site whose stack it is.';
COMMENT ON COLUMN plans.order_id IS 'The order that the plan was made for.';
COMMENT ON COLUMN plans.hash IS 'The digest of the plan file, sha256:<hex>: what an approval names.';
COMMENT ON COLUMN plans.generation IS 'The generation of the site: what an approval names beside the hash.';
COMMENT ON COLUMN plans.wish IS 'The digest of all that the stack should be, as the id of the order that would bring it about without a plan.';
COMMENT ON COLUMN plans.template IS 'The digest of the vendor''s template it was made with.';
COMMENT ON COLUMN plans.serial IS 'The serial of the Terraform state it was made from; 0 where there was none.';
COMMENT ON COLUMN plans.lineage IS 'The lineage of that state; empty where there was none.';
COMMENT ON COLUMN plans.creates IS 'How many resources would be made.';
COMMENT ON COLUMN plans.updates IS 'How many resources would be changed where they are.';
COMMENT ON COLUMN plans.deletes IS 'How many resources would be taken away.';
COMMENT ON COLUMN plans.replaces IS 'How many resources would be taken away and made anew.';
COMMENT ON COLUMN plans.changes IS 'What would change: [{address, action, fields: [{field, before, after, known_after, sensitive, too_long}]}]. Sensitive values are not in it.';
COMMENT ON COLUMN plans.left_out IS 'How many fields would change beside those: they did not fit.';
COMMENT ON COLUMN plans.requested_by IS 'Who asked for what it would bring about, and so cannot approve it: [actor].';
COMMENT ON COLUMN plans.approvals IS 'The approvals it needs: {by, group}; null where it needs none.';
COMMENT ON COLUMN plans.approved_by IS 'Who approved it: [actor].';
COMMENT ON COLUMN plans.state IS 'waiting (for approvals), approved, free (it needs none), rejected, applied, stale (it did not fit any more when it was to be applied; see because) or void (another generation, or a newer plan, took its place). One that is waiting, approved or free counts no more when expires_at is over.';
COMMENT ON COLUMN plans.because IS 'Why it is rejected or stale; null otherwise.';
COMMENT ON COLUMN plans.planned_at IS 'When it was made.';
COMMENT ON COLUMN plans.expires_at IS 'The first moment at which it can neither be approved nor begun any more; the stack is planned anew then.';
COMMENT ON COLUMN plans.ended_at IS 'When it was applied, rejected, or found to be stale or void; null before.';
COMMENT ON COLUMN plans.stream IS 'The stream of the last event about it.';
COMMENT ON COLUMN plans.sequence IS 'The sequence of the last message about it.';
CREATE INDEX plans_made ON plans (customer, planned_at DESC, site, order_id);
CREATE INDEX plans_waiting ON plans (customer, planned_at DESC) WHERE state = 'waiting';
CREATE INDEX plans_position ON plans (stream, sequence);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wanwright_reader') THEN
        GRANT SELECT ON plans TO wanwright_reader;
    END IF;
END
$$;
