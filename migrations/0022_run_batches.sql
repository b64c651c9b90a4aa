-- A message of RUNS may hold several records, so a line's place is more than its message's sequence. The column takes
-- the new numbers as it is: a later message has larger ones than every line before it, those of the earlier form as well.
COMMENT ON TABLE run_log IS 'What happened to orders, line by line: vendor calls, log lines, tries and their ends, folded from RUNS.';
COMMENT ON COLUMN run_log.sequence IS 'Its place among all lines: the sequence of its message in RUNS times 1024, and which record of that message it is; in rows from before 0022, until a rebuild, the sequence alone.';
