-- `outcomes` is no longer folded from OUTCOMES, which may lose its last moments with the power and use sequences again:
-- accepted commands come from EVENTS-*, every other outcome from VERDICTS. `sequence` alone said nothing any more, so a
-- row names its stream as well, and lists follow the time. The default is what the version before writes.
-- What that version has written stays until it is 30 days old; a rebuild writes the accepted ones anew.
SET LOCAL lock_timeout = '5s';

ALTER TABLE outcomes ADD COLUMN stream text NOT NULL DEFAULT 'OUTCOMES';
COMMENT ON TABLE outcomes IS 'The answer to each command: accepted ones folded from EVENTS-*, the others from VERDICTS. Rows go after 30 days.';
COMMENT ON COLUMN outcomes.generation IS 'The object''s generation afterwards, where the message says it.';
COMMENT ON COLUMN outcomes.time IS 'When it was decided; of what changed nothing, when the answer was stored.';
COMMENT ON COLUMN outcomes.stream IS 'The stream of the row''s message: EVENTS-<p> for what an event tells, VERDICTS for refusals and for commands that had nothing to change, OUTCOMES for rows of earlier versions.';
COMMENT ON COLUMN outcomes.sequence IS 'The sequence of the row''s message in its stream.';

-- The reader of OUTCOMES is gone; without this its row would say for ever that it is behind.
DELETE FROM projection_status WHERE read_model = 'outcomes' AND stream = 'OUTCOMES';
COMMENT ON COLUMN projection_status.read_model IS 'The read model: events, overview, operations, outcomes (of VERDICTS) or dead-letters.';
