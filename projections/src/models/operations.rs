//! `operations`: one row per order.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::run::{RunEvent, RunRecord, Wait};
use wanwright_schemas::{CustomerId, Kind, OrderId, VendorId};

use crate::message::micros;
use crate::table::Table;

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It waits for its turn.
    Waiting,
    /// An executor has it.
    Running,
    /// A try failed in passing; there will be another.
    Retrying,
    /// It is done.
    Succeeded,
    /// It failed for good.
    Failed,
    /// A newer order took its place.
    Superseded,
    /// It is not wanted any more.
    Withdrawn,
    /// Somebody took it back before it began.
    Cancelled,
    /// Its executor died; what it did is being looked at.
    Unknown,
}

impl OperationState {
    /// The state as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an order waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitingFor {
    /// For calls of the vendor's budget.
    Budget,
    /// For somebody to approve it.
    Approval,
    /// For a change window.
    Window,
    /// For another order.
    Dependency,
    /// For the time of its next try.
    Retry,
    /// For the vendor to be well again.
    Breaker,
    /// For its turn.
    Lane,
    /// For somebody to resume its vendor or its customer. Only the view `operations_now` says so.
    Paused,
}

/// The key of an operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OperationKey {
    /// The customer.
    pub customer: CustomerId,
    /// The order.
    pub order_id: OrderId,
}

/// A row of `operations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRow {
    /// The customer.
    pub customer: CustomerId,
    /// The order.
    pub order_id: OrderId,
    /// The vendor.
    pub vendor: VendorId,
    /// The kind of the target.
    pub kind: Kind,
    /// The target.
    pub id: String,
    /// What has become of it.
    pub state: OperationState,
    /// `apply`, `remove` or `observe`.
    pub intent: Option<String>,
    /// The generation it brings.
    pub generation: Option<u64>,
    /// How many tries began.
    pub attempts: u32,
    /// Why it waits.
    pub waiting_for: Option<WaitingFor>,
    /// When the next try begins at the earliest.
    pub next_at: Option<Timestamp>,
    /// How many calls the vendor got, over all tries.
    pub calls: u64,
    /// How long its calls waited for the budget, in milliseconds.
    pub budget_wait_millis: u64,
    /// The reason's code of the last failure.
    pub error_code: Option<String>,
    /// The last failure in a sentence.
    pub error_message: Option<String>,
    /// The executor that has or had it last.
    pub executor: Option<String>,
    /// The order that took its place.
    pub superseded_by: Option<OrderId>,
    /// The first generation that its runs took the place of: nobody ever brought it to the vendor.
    #[serde(default)]
    pub replaced_from: Option<u64>,
    /// The last one.
    #[serde(default)]
    pub replaced_to: Option<u64>,
    /// When its first record was written.
    pub queued_at: Timestamp,
    /// When the last try began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its last record was written.
    pub updated_at: Timestamp,
    /// The sequence of its last record.
    pub sequence: u64,
}

impl Table for OperationRow {
    type Key = OperationKey;
    const NAME: &'static str = "operations";
    const KEY: &'static [&'static str] = &["customer", "order_id"];
    fn key(&self) -> OperationKey {
        OperationKey { customer: self.customer.clone(), order_id: self.order_id }
    }
}

impl OperationRow {
    /// The row after a record.
    pub fn after(before: Option<&Self>, record: &RunRecord, sequence: u64) -> Self {
        let time = micros(record.time);
        let mut row = before.cloned().unwrap_or_else(|| Self::new(record, time));
        row.updated_at = time;
        row.sequence = sequence;
        row.evolve(&record.event, time);
        row
    }

    fn new(record: &RunRecord, time: Timestamp) -> Self {
        Self {
            customer: record.customer.clone(),
            order_id: record.order,
            vendor: record.vendor.clone(),
            kind: record.target.kind(),
            id: record.target.id().to_owned(),
            state: OperationState::Waiting,
            intent: None,
            generation: None,
            attempts: 0,
            waiting_for: Some(WaitingFor::Lane),
            next_at: None,
            calls: 0,
            budget_wait_millis: 0,
            error_code: None,
            error_message: None,
            executor: None,
            superseded_by: None,
            replaced_from: None,
            replaced_to: None,
            queued_at: time,
            started_at: None,
            finished_at: None,
            updated_at: time,
            sequence: 0,
        }
    }

    fn evolve(&mut self, event: &RunEvent, time: Timestamp) {
        match event {
            RunEvent::Queued { intent, generation } => {
                // The dispatcher and an executor write on their own: a record about waiting that comes after the first
                // one about doing says nothing new.
                self.intent = Some(intent.clone());
                self.generation = Some(*generation);
                // What was suspended is wanted again, as the same order.
                if matches!(self.state, OperationState::Withdrawn | OperationState::Cancelled) {
                    self.state = OperationState::Waiting;
                    self.finished_at = None;
                    self.wait(Some(WaitingFor::Lane), None);
                }
            }
            RunEvent::Superseded { by } => {
                self.superseded_by = Some(*by);
                self.finish(OperationState::Superseded, time);
            }
            RunEvent::Withdrawn => self.finish(OperationState::Withdrawn, time),
            RunEvent::Cancelled { .. } => self.finish(OperationState::Cancelled, time),
            RunEvent::Waiting { why } => {
                // An order that ended meanwhile waits for nothing.
                if matches!(self.state, OperationState::Waiting | OperationState::Retrying) {
                    let reason = match why {
                        Wait::Budget => WaitingFor::Budget,
                        Wait::Breaker => WaitingFor::Breaker,
                    };
                    self.wait(Some(reason), None);
                }
            }
            RunEvent::Started { attempt, executor, replaced } => {
                self.state = OperationState::Running;
                self.attempts = *attempt;
                self.executor = Some(executor.clone());
                self.started_at = Some(time);
                if let Some(replaced) = replaced {
                    self.replaced_from = Some(replaced.from);
                    self.replaced_to = Some(replaced.to);
                }
                self.finished_at = None;
                self.wait(None, None);
            }
            RunEvent::Unknown { executor, .. } => {
                self.state = OperationState::Unknown;
                self.executor = Some(executor.clone());
                self.finished_at = None;
                self.wait(None, None);
            }
            RunEvent::Call { waited_millis, .. } => {
                self.calls += 1;
                self.budget_wait_millis += waited_millis;
            }
            RunEvent::Log { .. } => {}
            RunEvent::Retrying { code, message, at, .. } => {
                self.state = OperationState::Retrying;
                self.error_code = Some(code.code().to_owned());
                self.error_message = Some(message.clone());
                self.wait(Some(WaitingFor::Retry), Some(micros(*at)));
            }
            RunEvent::Succeeded { .. } => {
                self.error_code = None;
                self.error_message = None;
                self.finish(OperationState::Succeeded, time);
            }
            RunEvent::Failed { code, message } => {
                self.error_code = Some(code.code().to_owned());
                self.error_message = Some(message.clone());
                self.finish(OperationState::Failed, time);
            }
        }
    }

    fn wait(&mut self, reason: Option<WaitingFor>, next_at: Option<Timestamp>) {
        self.waiting_for = reason;
        self.next_at = next_at;
    }

    fn finish(&mut self, state: OperationState, time: Timestamp) {
        self.state = state;
        self.finished_at = Some(time);
        self.wait(None, None);
    }
}
