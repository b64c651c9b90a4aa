//! What waits, by customer and vendor.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::{CustomerId, VendorId};

use super::operations::WaitingFor;

/// A row of the view `queue`: the orders of a customer at a vendor that have not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// The customer.
    pub customer: CustomerId,
    /// The vendor.
    pub vendor: VendorId,
    /// How many wait for their first try.
    pub waiting: u64,
    /// How many an executor has.
    pub running: u64,
    /// How many failed in passing and are tried again.
    pub retrying: u64,
    /// How many had an executor that died.
    pub unknown: u64,
    /// What they wait for, each with how many do.
    pub waiting_for: BTreeMap<WaitingFor, u64>,
    /// The codes of the failures after which they are tried again, each with how many are.
    pub retrying_after: BTreeMap<String, u64>,
    /// Since when the oldest of them has been there.
    pub oldest_at: Timestamp,
    /// When the first of them goes on at the earliest, where that is known.
    pub next_at: Option<Timestamp>,
}
