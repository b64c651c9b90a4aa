//! Run records: how an order is carried out. Detail about doing, kept for 30 days; never a decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{CommandId, CustomerId, OrderId, VendorId};
use crate::order::Target;
use crate::reason::Reason;

/// The version this code writes.
pub const RUN_VERSION: u64 = 1;

/// Generations in a row, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Generations {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

impl Generations {
    /// Those behind one generation and before another; none where nothing lies between.
    pub fn between(after: u64, before: u64) -> Option<Self> {
        let (from, to) = (after.checked_add(1)?, before.checked_sub(1)?);
        (from <= to).then_some(Self { from, to })
    }

    /// How many they are.
    pub fn count(self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }
}

/// What an order waits for whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// For room in the vendor's limits.
    Budget,
    /// For the vendor to be well again.
    Breaker,
}

/// A call that was made for many orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SharedCall {
    /// The call: the same in the records of all its orders, and in their effects.
    pub call: Uuid,
    /// How many orders it was made for.
    pub orders: u32,
}

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
    /// Somebody took back what it asked for.
    Cancelled {
        /// The command that did.
        by: CommandId,
    },
    /// Its turn has come, and it does not begin yet.
    Waiting {
        /// Why not.
        why: Wait,
    },
    /// An executor began.
    Started {
        /// Which try this is, from 1.
        attempt: u32,
        /// The executor.
        executor: String,
        /// The generations of the target that nobody ever brought to the vendor, because this order took their place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<Generations>,
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
        /// The others that it was made for as well, where one call was made for many orders.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared: Option<SharedCall>,
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
            Self::Cancelled { .. } => "cancelled",
            Self::Waiting { .. } => "waiting",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_lie_between_two_others_or_nowhere() {
        assert_eq!(Generations::between(1, 11), Some(Generations { from: 2, to: 10 }));
        assert_eq!(Generations::between(1, 11).map(Generations::count), Some(9));
        for (after, before) in [(1, 2), (2, 2), (3, 2), (0, 0), (0, 1), (u64::MAX, 1)] {
            assert_eq!(Generations::between(after, before), None, "{after} {before}");
        }
    }
}
