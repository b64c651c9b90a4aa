-- Who locked a stack's state last: an executor that has lost its lease comes too late.

SET lock_timeout = '5s';

CREATE TABLE terraform.fences (
    stack       text PRIMARY KEY,
    incarnation timestamptz NOT NULL,
    number      bigint NOT NULL
);
COMMENT ON TABLE terraform.fences IS 'The lease under which each stack''s state was locked last. A state that was made under an older one is not stored. A row that is removed is written again at the next lock.';
COMMENT ON COLUMN terraform.fences.stack IS 'The stack: the id of the command that created its site.';
COMMENT ON COLUMN terraform.fences.incarnation IS 'When the bucket of leases was made that the lease is in. Numbers of another bucket say nothing of those before.';
COMMENT ON COLUMN terraform.fences.number IS 'The number of the lease: one that is taken later has a larger one.';
