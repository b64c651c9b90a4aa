//! The dispatcher on a real nats-server; the gateway and the API engine between one and the simulated vendor.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod api;
mod breaker;
mod budget;
mod dispatcher;
mod doors;
mod echoes;
mod faults;
mod gateway;
mod losses;
mod made_up;
mod oauth;
mod placeholders;
mod rollouts;
mod standin;
mod tls;
mod versa;
mod world;
