//! Run records: how an order is carried out. Detail about doing, kept for 30 days; never a decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::envelope::Digest;
use crate::ids::{CommandId, CustomerId, OrderId, VendorId};
use crate::order::Target;
use crate::reason::Reason;

/// The version of a record that is a message of its own.
pub const RUN_VERSION: u64 = 1;

/// The version of a message with several records, and the newest that this code reads.
pub const RUN_BATCH_VERSION: u64 = 2;

/// Most records in one message.
pub const MOST_RECORDS: usize = 1024;

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

/// How far a resource of a stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ResourceState {
    /// The plan does something to it.
    Planned,
    /// That was begun.
    Applying,
    /// That is done.
    Done,
    /// That failed.
    Failed,
}

impl ResourceState {
    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Applying => "applying",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A step of one resource, and how far its run is with all that it does something to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ResourceStep {
    /// The resource, as Terraform names it.
    pub address: String,
    /// What is done to it: `create`, `update`, `delete`, `replace` and the like.
    pub action: String,
    /// How far it is.
    pub state: ResourceState,
    /// How many resources are done.
    pub done: u32,
    /// How many the plan does something to; while it is planned, those that are known.
    pub total: u32,
}

/// What a try took, up to the record that says how it ended. Its parts follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RunUsage {
    /// Reading the order, noting the try, making the run's folder, in milliseconds.
    pub preparing_millis: u64,
    /// Waiting for room in the vendor's limits and for a core, in milliseconds.
    pub waiting_millis: u64,
    /// Terraform, or the API engine's calls, in milliseconds.
    pub running_millis: u64,
    /// Taking the state in and reporting, in milliseconds.
    pub finishing_millis: u64,
    /// What the processes of the try took; none where it started none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessUsage>,
}

impl std::fmt::Display for RunUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { preparing_millis, waiting_millis, running_millis, finishing_millis, processes } = self;
        write!(
            f,
            "{preparing_millis} ms preparing, {waiting_millis} ms waiting, {running_millis} ms running, \
             {finishing_millis} ms finishing"
        )?;
        if let Some(ProcessUsage { cpu_millis, peak_kib }) = processes {
            write!(f, ", {cpu_millis} ms of processor time, {} MB at most", peak_kib / 1024)?;
        }
        Ok(())
    }
}

/// What processes took, with those that they started and waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ProcessUsage {
    /// Processor time, user and system, of all of them together, in milliseconds.
    pub cpu_millis: u64,
    /// The most memory that one of them had resident, in KiB.
    pub peak_kib: u64,
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
    /// A plan was made, and its file is kept.
    Planned {
        /// The digest of the file.
        plan: Digest,
    },
    /// The plan's file was opened and is handed to Terraform, which applies it and nothing else.
    PlanOpened {
        /// The digest of the file that was opened.
        plan: Digest,
    },
    /// A line of the run's log.
    Log {
        /// `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
        /// The step of a resource that the line tells of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<ResourceStep>,
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
        /// What the try took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<RunUsage>,
    },
    /// The order is done.
    Succeeded {
        /// How many calls the vendor got in this try.
        calls: u64,
        /// How long the try took, in milliseconds.
        millis: u64,
        /// What the try took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<RunUsage>,
    },
    /// The order failed for good.
    Failed {
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
        /// What the try took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<RunUsage>,
    },
}

impl RunEvent {
    /// A line of the log.
    pub fn log(level: &str, message: impl Into<String>) -> Self {
        Self::Log { level: level.to_owned(), message: message.into(), resource: None }
    }

    /// A failure for good of which nothing was measured.
    pub fn failed(code: Reason, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into(), usage: None }
    }

    /// Whether nothing more happens to the order after it, unless it is wanted again.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Superseded { .. }
                | Self::Withdrawn
                | Self::Cancelled { .. }
                | Self::Succeeded { .. }
                | Self::Failed { .. }
        )
    }

    /// What the try took that it ends.
    pub fn usage(&self) -> Option<&RunUsage> {
        match self {
            Self::Succeeded { usage, .. } | Self::Failed { usage, .. } | Self::Retrying { usage, .. } => {
                usage.as_ref()
            }
            _ => None,
        }
    }

    /// The same with what the try took, where it ends one.
    #[must_use]
    pub fn measured(mut self, took: RunUsage) -> Self {
        if let Self::Succeeded { usage, .. } | Self::Failed { usage, .. } | Self::Retrying { usage, .. } =
            &mut self
        {
            *usage = Some(took);
        }
        self
    }

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
            Self::Planned { .. } => "planned",
            Self::PlanOpened { .. } => "plan-opened",
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

/// One of several records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RunEntry {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// Several records about an order, in their order: what one run did in a short time is one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RunBatch {
    /// The message's version.
    pub v: u64,
    /// Whose order it is.
    pub customer: CustomerId,
    /// At which vendor.
    pub vendor: VendorId,
    /// The order.
    pub order: OrderId,
    /// What the order is about.
    pub target: Target,
    /// What happened: at least one, at most [`MOST_RECORDS`].
    pub records: Vec<RunEntry>,
}

impl RunBatch {
    /// The records, each by itself.
    pub fn into_records(self) -> Vec<RunRecord> {
        let Self { customer, vendor, order, target, records, .. } = self;
        let record = |entry: RunEntry| RunRecord {
            v: RUN_VERSION,
            time: entry.time,
            customer: customer.clone(),
            vendor: vendor.clone(),
            order,
            target: target.clone(),
            event: entry.event,
        };
        records.into_iter().map(record).collect()
    }
}

/// The records of a message, whichever version it has.
///
/// # Errors
/// When it is no record and no batch of records.
pub fn read(body: &[u8]) -> Result<Vec<RunRecord>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u64,
    }
    let Versioned { v } = serde_json::from_slice(body)?;
    if v < RUN_BATCH_VERSION {
        return Ok(vec![serde_json::from_slice(body)?]);
    }
    let batch: RunBatch = serde_json::from_slice(body)?;
    if batch.records.len() > MOST_RECORDS {
        let count = batch.records.len();
        return Err(serde::de::Error::custom(format!("{count} records, more than {MOST_RECORDS}")));
    }
    Ok(batch.into_records())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_record_or_several() {
        let frozen = include_str!("../frozen/run.v1.jsonl").lines();
        for line in frozen.map(str::as_bytes) {
            let record: RunRecord = serde_json::from_slice(line).expect("a record");
            assert_eq!(read(line).expect("a message"), [record]);
        }
        let batch = include_str!("../frozen/run.v2.jsonl").lines().next().expect("a line");
        let words: Vec<&str> =
            read(batch.as_bytes()).expect("a batch").iter().map(|record| record.event.word()).collect();
        assert_eq!(words, ["started", "call", "log", "succeeded"]);
        let batch: RunBatch = serde_json::from_str(batch).expect("a batch");
        let long = RunBatch { records: vec![batch.records[0].clone(); MOST_RECORDS + 1], ..batch };
        assert!(read(&serde_json::to_vec(&long).expect("JSON")).is_err());
    }

    #[test]
    fn generations_lie_between_two_others_or_nowhere() {
        assert_eq!(Generations::between(1, 11), Some(Generations { from: 2, to: 10 }));
        assert_eq!(Generations::between(1, 11).map(Generations::count), Some(9));
        for (after, before) in [(1, 2), (2, 2), (3, 2), (0, 0), (0, 1), (u64::MAX, 1)] {
            assert_eq!(Generations::between(after, before), None, "{after} {before}");
        }
    }
}
