//! The promises of the running system, tested from outside: the real program, real NATS, Postgres and Terraform, and the
//! simulated vendor as the judge.

mod accounts;
mod bad_input;
mod damage;
mod demo;
mod drift;
mod failures;
mod inbox;
mod kills;
mod outages;
mod personal;
mod races;
mod readme;
mod repeats;
mod roles;
mod rows;
mod schemas;
mod soak;
mod stopping;
mod support;
mod tenants;
