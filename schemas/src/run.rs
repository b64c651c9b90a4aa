//! Run records: how an order is carried out. Detail about doing, kept for 30 days; never a decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{CustomerId, OrderId, VendorId};
use crate::order::Target;
use crate::reason::Reason;

/// The version this code writes.
pub const RUN_VERSION: u64 = 1;

/// What happened while an order waited or ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The order was written into the table of orders.
    Queued {
        /// `apply`, `remove` or `observe`.
        intent: String,
        /// The generation it brings.
        generation: u64,
    },
    /// A newer order took its place before it was done.
    Superseded {
        /// The newer order.
        by: OrderId,
    },
    /// What it asked for is not wanted any more.
    Withdrawn,
    /// An executor began.
    Started {
        /// Which try this is, from 1.
        attempt: u32,
        /// The executor.
        executor: String,
    },
    /// The run before this one died; what it did is unknown until it has been observed.
    Unknown {
        /// The try that died.
        attempt: u32,
        /// The executor that died.
        executor: String,
    },
    /// One call to the vendor.
    Call {
        /// The HTTP method.
        method: String,
        /// The path, without query.
        path: String,
        /// The vendor's status; 0 when there was no answer.
        status: u16,
        /// How long the vendor took, in milliseconds.
        millis: u64,
        /// How long the call waited for the budget, in milliseconds.
        waited_millis: u64,
        /// Which try of this call it was, from 1.
        attempt: u32,
    },
    /// A line of the run's log.
    Log {
        /// `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
    },
    /// The try failed in passing; there will be another.
    Retrying {
        /// The try that failed.
        attempt: u32,
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
        /// When the next try begins at the earliest.
        at: Timestamp,
    },
    /// The order is done.
    Succeeded {
        /// How many calls the vendor got in this try.
        calls: u64,
        /// How long the try took, in milliseconds.
        millis: u64,
    },
    /// The order failed for good.
    Failed {
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
    },
}

impl RunEvent {
    /// The last token of the subject: what happened, in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Superseded { .. } => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::Started { .. } => "started",
            Self::Unknown { .. } => "unknown",
            Self::Call { .. } => "call",
            Self::Log { .. } => "log",
            Self::Retrying { .. } => "retrying",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A record about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RunRecord {
    /// The record's version.
    pub v: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Whose order it is.
    pub customer: CustomerId,
    /// At which vendor.
    pub vendor: VendorId,
    /// The order.
    pub order: OrderId,
    /// What the order is about.
    pub target: Target,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}
