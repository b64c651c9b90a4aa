//! Real processes, a real nats-server, a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod child;
mod confine;
mod helper;
mod nats;
mod postgres;
mod support;
mod tools;
