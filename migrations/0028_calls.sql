-- Which try made a call, and which call was made for several orders at once.

SET lock_timeout = '5s';

ALTER TABLE run_log
    ADD COLUMN attempt bigint,
    ADD COLUMN shared_call uuid;
COMMENT ON COLUMN run_log.attempt IS 'Which try of the call it was, from 1: a call that failed in passing is tried again within the same run. Null in rows of the release before, and where it is no call.';
COMMENT ON COLUMN run_log.shared_call IS 'The call itself, where one was made for several orders: the same in the rows of all of them. Null for a call of one order.';
