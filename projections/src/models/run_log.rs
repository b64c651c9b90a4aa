//! `run_log`: the vendor calls and log lines of orders.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_schemas::run::{RunEvent, RunRecord, RunUsage, Wait};
use wanwright_schemas::{CustomerId, OrderId};

use crate::message::micros;
use crate::table::Table;

/// The key of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RunLogKey {
    /// The customer.
    pub customer: CustomerId,
    /// The order.
    pub order_id: OrderId,
    /// The sequence.
    pub sequence: u64,
}

/// A row of `run_log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogRow {
    /// The customer.
    pub customer: CustomerId,
    /// The order.
    pub order_id: OrderId,
    /// Its place among all lines: the sequence of its message in RUNS times 1024, and which record of that message it is.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened, in one word.
    pub what: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
    /// The call's HTTP method.
    pub method: Option<String>,
    /// The call's path.
    pub path: Option<String>,
    /// The vendor's status; 0 when there was no answer.
    pub status: Option<u16>,
    /// How long the vendor took, in milliseconds.
    pub millis: Option<u64>,
    /// How long the call waited for the budget, in milliseconds.
    pub waited_millis: Option<u64>,
    /// Which try of the call it was, from 1.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// The call itself, where one was made for several orders: the same in the rows of all of them.
    #[serde(default)]
    pub shared_call: Option<Uuid>,
    /// The resource that a line of the log tells of.
    #[serde(default)]
    pub resource: Option<String>,
    /// Processor time of the try's processes, in milliseconds, where it ended here.
    #[serde(default)]
    pub cpu_millis: Option<u64>,
    /// The most memory that one of them had resident, in KiB.
    #[serde(default)]
    pub peak_kib: Option<u64>,
}

impl Table for RunLogRow {
    type Key = RunLogKey;
    const NAME: &'static str = "run_log";
    const KEY: &'static [&'static str] = &["customer", "order_id", "sequence"];
    fn key(&self) -> RunLogKey {
        RunLogKey { customer: self.customer.clone(), order_id: self.order_id, sequence: self.sequence }
    }
}

impl RunLogRow {
    /// The line of a record, at this place.
    pub fn of(record: &RunRecord, sequence: u64) -> Self {
        let (level, message) = describe(&record.event);
        let mut row = Self {
            customer: record.customer.clone(),
            order_id: record.order,
            sequence,
            time: micros(record.time),
            what: record.event.word().to_owned(),
            level: level.to_owned(),
            message,
            method: None,
            path: None,
            status: None,
            millis: None,
            waited_millis: None,
            attempt: None,
            shared_call: None,
            resource: None,
            cpu_millis: None,
            peak_kib: None,
        };
        if let RunEvent::Log { resource: Some(step), .. } = &record.event {
            row.resource = Some(step.address.clone());
        }
        let processes = record.event.usage().and_then(|usage| usage.processes);
        row.cpu_millis = processes.map(|processes| processes.cpu_millis);
        row.peak_kib = processes.map(|processes| processes.peak_kib);
        if let RunEvent::Call { method, path, status, millis, waited_millis, attempt, shared } = &record.event
        {
            row.method = Some(method.clone());
            row.path = Some(path.clone());
            row.status = Some(*status);
            row.millis = Some(*millis);
            row.waited_millis = Some(*waited_millis);
            row.attempt = Some(*attempt);
            row.shared_call = shared.map(|shared| shared.call);
        }
        row
    }
}

fn describe(event: &RunEvent) -> (&'static str, String) {
    match event {
        RunEvent::Queued { intent, generation } => {
            ("info", format!("waits: {intent} generation {generation}"))
        }
        RunEvent::Superseded { by } => ("info", format!("order {by} took its place")),
        RunEvent::Withdrawn => ("info", "is not wanted any more".to_owned()),
        RunEvent::Cancelled { by } => ("info", format!("was cancelled by command {by}")),
        RunEvent::Waiting { why: Wait::Budget } => {
            ("info", "waits for room in the vendor's limits".to_owned())
        }
        RunEvent::Waiting { why: Wait::Breaker } => {
            ("warn", "waits for the vendor to be well again".to_owned())
        }
        RunEvent::Started { attempt, executor, replaced } => {
            let instead =
                replaced.map(|range| format!(", in place of generations {} to {}", range.from, range.to));
            ("info", format!("try {attempt} began on {executor}{}", instead.unwrap_or_default()))
        }
        RunEvent::Unknown { attempt, executor } => {
            ("warn", format!("{executor} died in try {attempt}; what it did is looked at first"))
        }
        RunEvent::Call { method, path, status: 0, attempt, .. } => {
            ("warn", format!("{method} {path}: no answer (try {attempt})"))
        }
        RunEvent::Call { method, path, status, millis, shared, .. } => {
            let others = shared.map(|shared| format!(", one call for {} orders", shared.orders));
            let level = if *status >= 400 { "warn" } else { "info" };
            (level, format!("{method} {path}: {status} in {millis} ms{}", others.unwrap_or_default()))
        }
        RunEvent::Planned { plan } => ("info", format!("made the plan {plan}")),
        RunEvent::PlanOpened { plan } => ("info", format!("applies the plan {plan} and nothing else")),
        RunEvent::Log { level, message, .. } => {
            let level = ["warn", "error"].into_iter().find(|known| known == level).unwrap_or("info");
            (level, message.clone())
        }
        RunEvent::Retrying { attempt, code, message, at, usage } => {
            let took = took(usage.as_ref());
            ("warn", format!("try {attempt} failed ({code}: {message}); the next one begins at {at}{took}"))
        }
        RunEvent::Succeeded { calls, millis, usage } => {
            ("info", format!("done with {calls} calls in {millis} ms{}", took(usage.as_ref())))
        }
        RunEvent::Failed { code, message, usage } => {
            ("error", format!("failed for good: {code}: {message}{}", took(usage.as_ref())))
        }
    }
}

/// What a try took, for the end of its last line.
fn took(usage: Option<&RunUsage>) -> String {
    usage.map(|usage| format!("; {usage}")).unwrap_or_default()
}
