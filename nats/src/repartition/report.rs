//! What a change is about to do, does, and has done.

use serde::Serialize;
use wanwright_schemas::CustomerId;

/// What a change moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The count now.
    pub from: u16,
    /// The count afterwards.
    pub to: u16,
    /// Whether the change has begun already.
    pub begun: bool,
    /// How many customers there are.
    pub customers: u64,
    /// How many of them move.
    pub moving: u64,
    /// How many messages their histories have.
    pub messages: u64,
    /// How many of those are at their new place already.
    pub present: u64,
    /// The streams that are to be created.
    pub streams: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was to be done.
    #[serde(flatten)]
    pub plan: Plan,
    /// How many messages of histories were copied.
    pub copied: u64,
    /// How many verdicts were copied.
    pub verdicts: u64,
    /// Customers whose chain is broken. They were moved as they are, and their commands are refused as before.
    pub damaged: Vec<CustomerId>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}
