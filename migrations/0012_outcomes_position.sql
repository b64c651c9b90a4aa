-- no-transaction
-- A rebuild finds the rows of one stream.
CREATE INDEX CONCURRENTLY outcomes_position ON outcomes (stream, sequence);
