//! The read models: folds without any server, everything else on a real Postgres and a real nats-server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod folds;
mod given;
mod held;
mod holes;
mod migrations;
mod outcomes;
mod parity;
mod queue;
mod rebuilds;
mod rows;
mod servers;
mod trouble;
