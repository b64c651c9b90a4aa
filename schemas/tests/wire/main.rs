//! The wire: what was ever written reads, what is published is what is read, and nothing that arrives does harm.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cloudevents;
mod frozen;
mod fuzz;
mod hostile;
mod json_schemas;
mod lines;
mod upcast;
mod validator;
