-- Versions of vendors' templates: which one a stack has, and how another one is given out.

SET lock_timeout = '5s';

ALTER TABLE sites
    ADD COLUMN template integer NOT NULL DEFAULT 1,
    ADD COLUMN templates jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN sites.template IS 'The version of the vendor''s Terraform template that the site''s stack is to have; it has it where the site is Healthy. 1 at vendors without a template as well.';
COMMENT ON COLUMN sites.templates IS 'The versions it was given, as far as they matter still: {assigned: [{generation, template: {version, digest}}], rollout}; rollout is the number of the last rollout that gave it one.';

CREATE TABLE rollouts (
    vendor text PRIMARY KEY,
    number bigint NOT NULL,
    from_version integer NOT NULL,
    to_version integer NOT NULL,
    rolls_back bigint,
    state text NOT NULL CHECK (state IN ('planning','planned','running','paused','stopped','done')),
    why text,
    wave integer NOT NULL,
    waves integer NOT NULL,
    customers bigint NOT NULL,
    stacks bigint NOT NULL,
    waiting bigint NOT NULL,
    progressing bigint NOT NULL,
    applied bigint NOT NULL,
    failed bigint NOT NULL,
    held bigint NOT NULL,
    taken_back bigint NOT NULL,
    policy jsonb NOT NULL,
    summary jsonb,
    actor text NOT NULL,
    began_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sequence bigint NOT NULL
);
COMMENT ON TABLE rollouts IS 'The newest rollout of each vendor''s template, folded from the bucket rollouts.';
COMMENT ON COLUMN rollouts.vendor IS 'Whose template.';
COMMENT ON COLUMN rollouts.number IS 'Which rollout of the vendor, from 1.';
COMMENT ON COLUMN rollouts.from_version IS 'The version that its stacks have.';
COMMENT ON COLUMN rollouts.to_version IS 'The version that they get.';
COMMENT ON COLUMN rollouts.rolls_back IS 'The number of the rollout that it takes back; null when it takes none back.';
COMMENT ON COLUMN rollouts.state IS 'planning, planned, running, paused, stopped or done.';
COMMENT ON COLUMN rollouts.why IS 'Why it is paused or stopped.';
COMMENT ON COLUMN rollouts.wave IS 'The wave it is at; 0 are the canaries.';
COMMENT ON COLUMN rollouts.waves IS 'The last wave; 0 where it was only planned.';
COMMENT ON COLUMN rollouts.customers IS 'How many customers have such stacks.';
COMMENT ON COLUMN rollouts.stacks IS 'How many stacks it is about.';
COMMENT ON COLUMN rollouts.waiting IS 'How many of them it did not come to.';
COMMENT ON COLUMN rollouts.progressing IS 'How many are being changed.';
COMMENT ON COLUMN rollouts.applied IS 'How many have the version: it was brought about there.';
COMMENT ON COLUMN rollouts.failed IS 'How many were given the version and failed before they had it.';
COMMENT ON COLUMN rollouts.held IS 'How many are suspended, frozen, or wait for an approval or a change window.';
COMMENT ON COLUMN rollouts.taken_back IS 'How many were given it and have another version again, because somebody took it back.';
COMMENT ON COLUMN rollouts.policy IS 'How it goes about it: {canaries, steps, max_failures, max_failures_percent, when_held, pause_seconds, at_once}.';
COMMENT ON COLUMN rollouts.summary IS 'What Terraform would do, where that was asked for: {sample, customers, stacks, planned, unchanged, actions: {create, update, delete, replace}, failed, problem, unread}; actions are those of the planned stacks together.';
COMMENT ON COLUMN rollouts.actor IS 'Who started it.';
COMMENT ON COLUMN rollouts.began_at IS 'When it was started or planned.';
COMMENT ON COLUMN rollouts.updated_at IS 'When its record was written last.';
COMMENT ON COLUMN rollouts.sequence IS 'The sequence in KV_rollouts.';

CREATE VIEW rollout_customers AS
    SELECT vendor, number, customer, count(*) AS stacks,
           count(*) FILTER (WHERE standing = 'waiting') AS waiting,
           count(*) FILTER (WHERE standing = 'progressing') AS progressing,
           count(*) FILTER (WHERE standing = 'applied') AS applied,
           count(*) FILTER (WHERE standing = 'failed') AS failed,
           count(*) FILTER (WHERE standing = 'held') AS held,
           count(*) FILTER (WHERE standing = 'taken back') AS taken_back
    FROM (
        SELECT r.vendor, r.number, s.customer,
               CASE
                   WHEN g.rollout < r.number THEN 'waiting'
                   WHEN s.template <> r.to_version THEN 'taken back'
                   WHEN s.observed_generation >= g.given THEN 'applied'
                   WHEN s.health = 'Degraded' THEN 'failed'
                   WHEN c.suspended OR s.suspended OR s.approval->>'state' IN ('waiting','rejected')
                        OR s.postponement IS NOT NULL THEN 'held'
                   ELSE 'progressing'
               END AS standing
        FROM rollouts r
        JOIN sites s ON s.vendor = r.vendor AND NOT s.decommissioning
        CROSS JOIN LATERAL (
            SELECT coalesce((s.templates->>'rollout')::bigint, 0) AS rollout,
                   (SELECT max((a->>'generation')::bigint) FROM jsonb_array_elements(s.templates->'assigned') a
                    WHERE (a->>'generation')::bigint <= s.generation) AS given
        ) g
        LEFT JOIN customers c ON c.customer = s.customer
        WHERE g.rollout = r.number
           OR (s.template = r.from_version
               AND CASE WHEN r.rolls_back IS NULL THEN g.rollout < r.number ELSE g.rollout = r.rolls_back END)
    ) stacks
    GROUP BY vendor, number, customer;
COMMENT ON VIEW rollout_customers IS 'How far each vendor''s newest rollout is with each customer, in stacks.';
