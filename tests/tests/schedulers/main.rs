//! Schedulers, one or several, between the real command service and dispatcher and the simulated vendor.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod admitted;
mod cancelled;
mod child;
mod dead;
mod edits;
mod ending;
mod failing;
mod killed;
mod listed;
mod observed;
mod pager;
mod paused;
mod slow;
mod together;
mod world;
