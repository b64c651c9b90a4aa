-- How many partitions the rows were folded with. There were always 8 until now.

SET lock_timeout = '5s';

ALTER TABLE projection_status ADD COLUMN partitions integer NOT NULL DEFAULT 8 CHECK (partitions BETWEEN 1 AND 256);
COMMENT ON COLUMN projection_status.partitions IS 'Over how many partitions customers were spread when the rows were folded; another count now stops the readers of EVENTS.';
