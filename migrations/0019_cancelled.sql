-- Orders that were cancelled.

SET lock_timeout = '5s';

-- Every row fits the wider rule, so it is not looked at again.
ALTER TABLE operations
    DROP CONSTRAINT operations_state_check,
    ADD CONSTRAINT operations_state_check CHECK (state IN ('waiting','running','retrying','succeeded','failed','superseded','withdrawn','cancelled','unknown')) NOT VALID;
COMMENT ON COLUMN operations.state IS 'waiting, running, retrying, succeeded, failed, superseded (a newer order took its place), withdrawn (not wanted any more), cancelled (somebody took it back before it began) or unknown (its executor died; being observed).';
COMMENT ON COLUMN operations.finished_at IS 'When it ended: succeeded, failed, superseded, withdrawn or cancelled.';
