//! The gateway and the API engine between a real nats-server and the simulated vendor.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod gateway;
mod world;
