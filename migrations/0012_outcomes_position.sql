-- no-transaction
-- A rebuild finds the rows of one stream.
CREATE INDEX CONCURRENTLY IF NOT EXISTS outcomes_position ON outcomes (stream, sequence);
