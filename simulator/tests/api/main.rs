//! The simulator over real HTTP on loopback.

mod backdoor;
mod bulk;
mod durability;
mod faults;
mod folder;
mod idempotency;
mod jobs;
mod limit;
mod lists;
mod objects;
mod refusals;
mod support;
