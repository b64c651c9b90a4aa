//! The promises of the running system, tested from outside: the real program, real NATS, Postgres and Terraform, and the
//! simulated vendor as the judge.

mod bad_input;
mod damage;
mod demo;
mod drift;
mod failures;
mod holds;
mod inbox;
mod kills;
mod outages;
mod readme;
mod repeats;
mod roles;
mod rows;
mod soak;
mod stopping;
mod support;
