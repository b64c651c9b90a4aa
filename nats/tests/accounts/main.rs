//! Operator, accounts and users on a real nats-server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod many;
mod rights;
mod tls;

mod world;
