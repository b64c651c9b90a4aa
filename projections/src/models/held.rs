//! Changes that there is no order for yet.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::Kind;

/// A row of the view `held_changes`: a change that something has to come before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldChange {
    /// What is to be changed.
    pub kind: Kind,
    /// The customer.
    pub customer: String,
    /// The object's id.
    pub id: String,
    /// The vendor.
    pub vendor: String,
    /// The generation that is to be brought about.
    pub generation: u64,
    /// What it waits for: suspended, approval, window or dependency.
    pub waiting_for: String,
    /// When it goes on by itself, where that is known.
    pub next_at: Option<Timestamp>,
    /// What holds it, in words.
    pub waiting_because: Option<String>,
}
