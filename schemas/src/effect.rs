//! The effect journal: each change at a vendor, before and after. What a dead run had created is found here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::OrderId;

/// The version this code writes.
pub const EFFECT_VERSION: u64 = 1;

/// Whether the change is about to be asked for, or was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum Phase {
    /// The request is about to be sent; without an `after` its result is unknown.
    Before,
    /// The vendor answered.
    After {
        /// The vendor's status; 0 when there was no answer and the result stays unknown.
        status: u16,
        /// The object's id at the vendor, where the answer named one.
        id: Option<String>,
    },
}

/// One half of a change at a vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The record's version.
    pub v: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The order the change was made for.
    pub order: OrderId,
    /// Joins before and after.
    pub call: u64,
    /// The HTTP method.
    pub method: String,
    /// The path, without query.
    pub path: String,
    /// The idempotency key, where the request had one.
    pub key: Option<String>,
    /// Before or after.
    #[serde(flatten)]
    pub phase: Phase,
}
