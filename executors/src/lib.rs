//! Carrying decisions out.
//!
//! The [`dispatcher`] keeps the table of orders equal to what the customers' states ask for; the [`scheduler`] picks
//! from the table, one run per target and in turns between customers; an [`engine`] carries one order out; the
//! [`gateway`] is the only way to a vendor. What was done is reported by command, like anything anybody says.

mod deaths;
pub mod dispatcher;
pub mod engine;
pub mod gateway;
mod preview;
mod questions;
mod records;
mod reporting;
pub mod scheduler;
pub mod terraform;
mod vital;
