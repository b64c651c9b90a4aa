//! The promises of the running system, tested from outside: the real program, real NATS, Postgres and Terraform, and the
//! simulated vendor as the judge.

mod accounts;
mod audit;
mod bad_input;
mod damage;
mod demo;
mod drift;
mod explain;
mod failures;
mod fleet;
mod holds;
mod inbox;
mod kills;
mod operating;
mod outages;
mod partitions;
mod personal;
mod profiles;
mod races;
mod readme;
mod repeats;
mod replicas;
mod roles;
mod rows;
mod schemas;
mod secrets;
mod send;
mod services;
mod soak;
mod states;
mod stopping;
mod storage;
mod support;
mod tenants;
mod traces;
mod windows;
