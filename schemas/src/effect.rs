//! The effect journal: each change at a vendor, before and after. What a dead run had created is found here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::OrderId;

/// The version this code writes.
pub const EFFECT_VERSION: u64 = 2;

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
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
    /// The request was not sent after all.
    Withheld,
    /// No change: a run ended well that brought the whole target to what is wanted, so nothing before is unknown any
    /// more. Method and path are empty.
    Settled,
}

/// One entry of the journal: one half of a change at a vendor, or that the target is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Effect {
    /// The record's version.
    pub v: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The order the change was made for.
    pub order: OrderId,
    /// Joins before and after: an id of the change's own, because runs and their counts repeat.
    pub call: Uuid,
    /// The HTTP method; `create`, `update` or `delete` where a foreign Terraform provider was asked for a change, `make`
    /// where ours was asked for what neither key nor name finds again.
    pub method: String,
    /// The path, without query; where a provider was asked, the resource's type and, if it has one, its id.
    pub path: String,
    /// The idempotency key, where the request had one.
    pub key: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    pub phase: Phase,
}
