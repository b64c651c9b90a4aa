-- no-transaction
-- Lists of outcomes follow the time. `outcomes_recent` is for the version before; a later migration drops it.
CREATE INDEX CONCURRENTLY outcomes_newest ON outcomes (customer, time DESC, command DESC);
