//! `operations`: one row per order.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::run::{ResourceState, ResourceStep, RunEvent, RunRecord, RunUsage, Wait};
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

/// Most resources that a row tells of one by one.
const MOST_RESOURCES: usize = 200;

/// How far a resource of the stack is, in the last try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceProgress {
    /// The resource, as Terraform names it.
    pub address: String,
    /// What is done to it.
    pub action: String,
    /// How far it is.
    pub state: ResourceState,
    /// Since when.
    pub since: Timestamp,
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
    /// The resources that the last try does something to, the first 200 of them, as they were planned.
    #[serde(default)]
    pub resources: Vec<ResourceProgress>,
    /// How many of all are done.
    #[serde(default)]
    pub resources_done: Option<u32>,
    /// How many there are.
    #[serde(default)]
    pub resources_total: Option<u32>,
    /// How long the last try that ended was prepared, in milliseconds.
    #[serde(default)]
    pub preparing_millis: Option<u64>,
    /// How long it waited for room in the vendor's limits and for a core, in milliseconds.
    #[serde(default)]
    pub waiting_millis: Option<u64>,
    /// How long Terraform or the API engine ran, in milliseconds.
    #[serde(default)]
    pub running_millis: Option<u64>,
    /// How long it took to take the state in and to report, in milliseconds.
    #[serde(default)]
    pub finishing_millis: Option<u64>,
    /// Processor time of the processes of all tries that ended, in milliseconds.
    #[serde(default)]
    pub cpu_millis: Option<u64>,
    /// The most memory that one of them had resident, in KiB.
    #[serde(default)]
    pub peak_kib: Option<u64>,
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
            resources: Vec::new(),
            resources_done: None,
            resources_total: None,
            preparing_millis: None,
            waiting_millis: None,
            running_millis: None,
            finishing_millis: None,
            cpu_millis: None,
            peak_kib: None,
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
            // The dispatcher takes away what has ended too where it hears of that before the executor has done so.
            RunEvent::Superseded { .. } | RunEvent::Withdrawn
                if matches!(self.state, OperationState::Succeeded | OperationState::Failed) => {}
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
                // What the try before did is in its state; this one plans anew.
                self.resources = Vec::new();
                (self.resources_done, self.resources_total) = (None, None);
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
            RunEvent::Planned { .. } | RunEvent::PlanOpened { .. } => {}
            RunEvent::Log { resource, .. } => {
                if let Some(step) = resource {
                    self.step(step, time);
                }
            }
            RunEvent::Retrying { code, message, at, usage, .. } => {
                self.took(usage.as_ref());
                self.state = OperationState::Retrying;
                self.error_code = Some(code.code().to_owned());
                self.error_message = Some(message.clone());
                self.wait(Some(WaitingFor::Retry), Some(micros(*at)));
            }
            RunEvent::Succeeded { usage, .. } => {
                self.took(usage.as_ref());
                self.error_code = None;
                self.error_message = None;
                self.finish(OperationState::Succeeded, time);
            }
            RunEvent::Failed { code, message, usage } => {
                self.took(usage.as_ref());
                self.error_code = Some(code.code().to_owned());
                self.error_message = Some(message.clone());
                self.finish(OperationState::Failed, time);
            }
        }
    }

    fn step(&mut self, step: &ResourceStep, time: Timestamp) {
        self.resources_done = Some(step.done);
        self.resources_total = Some(step.total);
        let ResourceStep { address, action, state, .. } = step;
        if let Some(known) = self.resources.iter_mut().find(|known| known.address == *address) {
            // What replaces it is two steps of one plan.
            if known.action != "replace" {
                known.action.clone_from(action);
            }
            (known.state, known.since) = (*state, time);
        } else if self.resources.len() < MOST_RESOURCES {
            let (address, action) = (address.clone(), action.clone());
            self.resources.push(ResourceProgress { address, action, state: *state, since: time });
        }
    }

    fn took(&mut self, usage: Option<&RunUsage>) {
        let Some(usage) = usage else { return };
        self.preparing_millis = Some(usage.preparing_millis);
        self.waiting_millis = Some(usage.waiting_millis);
        self.running_millis = Some(usage.running_millis);
        self.finishing_millis = Some(usage.finishing_millis);
        if let Some(processes) = usage.processes {
            self.cpu_millis = Some(self.cpu_millis.unwrap_or_default() + processes.cpu_millis);
            self.peak_kib = self.peak_kib.max(Some(processes.peak_kib));
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

#[cfg(test)]
mod tests {
    use wanwright_schemas::Target;
    use wanwright_schemas::reason::Reason;
    use wanwright_schemas::run::RUN_VERSION;

    use super::*;

    /// The row after these events of an order.
    fn after(events: impl IntoIterator<Item = RunEvent>) -> OperationRow {
        let record = |event| RunRecord {
            v: RUN_VERSION,
            time: Timestamp::UNIX_EPOCH,
            customer: "acme".parse().expect("a customer"),
            vendor: "simwan".parse().expect("a vendor"),
            order: "00000000-0000-8000-8000-000000000001".parse().expect("an order"),
            target: Target::Device("d1".parse().expect("a device")),
            event,
        };
        let row = events.into_iter().fold(None, |row: Option<OperationRow>, event| {
            Some(OperationRow::after(row.as_ref(), &record(event), 1))
        });
        row.expect("some events")
    }

    #[test]
    fn what_has_ended_is_not_taken_away_afterwards() {
        let queued = || RunEvent::Queued { intent: "apply".into(), generation: 1 };
        let by = "00000000-0000-8000-8000-000000000002".parse().expect("an order");
        for (taken, state) in [
            (RunEvent::Superseded { by }, OperationState::Superseded),
            (RunEvent::Withdrawn, OperationState::Withdrawn),
        ] {
            assert_eq!(after([queued(), taken.clone()]).state, state);
            let failed = RunEvent::failed(Reason::VendorRefused, "no");
            let row = after([queued(), failed.clone(), taken.clone()]);
            assert_eq!((row.state, row.superseded_by), (OperationState::Failed, None));
            // It was told before the executor had ended it.
            assert_eq!(after([queued(), taken, failed]).state, OperationState::Failed);
        }
    }
}
