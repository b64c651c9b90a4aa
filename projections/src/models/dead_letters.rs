//! `dead_letters`: what could not be handled.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::StoredMessage;
use wanwright_nats::dead::{Settled, Settlement};
use wanwright_schemas::{CustomerId, OrderId, VendorId, headers, subjects};

use crate::message::micros;
use crate::table::Table;

/// How much of a body is kept, in bytes. The whole body is in the stream.
const KEPT: usize = 64 * 1024;

/// The key of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeadLetterKey {
    /// The sequence.
    pub sequence: u64,
}

/// A row of `dead_letters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRow {
    /// The sequence in DEAD.
    pub sequence: u64,
    /// The customer, where the original subject names one.
    pub customer: Option<CustomerId>,
    /// What it was.
    pub what: String,
    /// The reason's code.
    pub reason: String,
    /// The reason in a sentence.
    pub message: Option<String>,
    /// The subject it was published on.
    pub original_subject: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body as text.
    pub payload: String,
    /// How long its body is.
    pub payload_bytes: usize,
    /// When it was stored.
    pub time: Timestamp,
    /// The row of the table of orders that it is about.
    #[serde(default)]
    pub order_row: Option<String>,
    /// The vendor whose order or report it is.
    #[serde(default)]
    pub vendor: Option<VendorId>,
    /// The order that it is about.
    #[serde(default)]
    pub order_id: Option<OrderId>,
    /// What was done about it: `requeued` or `dropped`.
    #[serde(default)]
    pub settled: Option<String>,
    /// Who did that.
    #[serde(default)]
    pub settled_by: Option<String>,
    /// Why.
    #[serde(default)]
    pub settled_reason: Option<String>,
    /// When.
    #[serde(default)]
    pub settled_at: Option<Timestamp>,
}

impl Table for DeadLetterRow {
    type Key = DeadLetterKey;
    const NAME: &'static str = "dead_letters";
    const KEY: &'static [&'static str] = &["sequence"];
    fn key(&self) -> DeadLetterKey {
        DeadLetterKey { sequence: self.sequence }
    }
}

impl DeadLetterRow {
    /// The row of a dead letter. Whatever the message is, there is a row: nothing may stop this reader.
    pub fn of(message: &StoredMessage) -> Self {
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
        let mut tokens = message.subject.strip_prefix("wan.dead.").unwrap_or(&message.subject).splitn(2, '.');
        let what = tokens.next().unwrap_or_default().to_owned();
        let reason =
            header(headers::DEAD_REASON).unwrap_or_else(|| tokens.next().unwrap_or_default().to_owned());
        let original_subject = header(headers::DEAD_SUBJECT);
        let customer = original_subject.as_deref().and_then(customer_of);
        let order_row = header(headers::DEAD_ROW);
        let all = message.headers.iter().map(|(name, values)| {
            (name.to_string(), values.iter().map(|value| value.as_str().to_owned()).collect())
        });
        Self {
            sequence: message.sequence,
            customer,
            what,
            reason,
            message: header(headers::DEAD_MESSAGE),
            original_subject,
            headers: all.collect(),
            payload: String::from_utf8_lossy(&message.payload[..message.payload.len().min(KEPT)])
                .into_owned(),
            payload_bytes: message.payload.len(),
            time: micros(message.time),
            vendor: order_row.as_deref().and_then(subjects::parts_of_order).map(|(vendor, ..)| vendor),
            order_row,
            order_id: header(headers::DEAD_ORDER).and_then(|id| id.parse().ok()),
            settled: None,
            settled_by: None,
            settled_reason: None,
            settled_at: None,
        }
    }

    /// Notes what was done about it. What was dropped is gone, here too.
    pub fn settle(&mut self, note: &Settled) {
        if note.how == Settlement::Dropped {
            self.payload.clear();
            self.headers.clear();
        }
        self.settled = Some(note.how.as_str().to_owned());
        self.settled_by = Some(note.by.clone());
        self.settled_reason.clone_from(&note.reason);
        self.settled_at = Some(micros(note.time));
    }
}

/// The customer is the third token, or the fourth where a partition or a vendor stands before it.
fn customer_of(subject: &str) -> Option<CustomerId> {
    let mut tokens = subject.strip_prefix("wan.")?.split('.');
    match tokens.next()? {
        "do" | "cmd" | "out" | "run" | "effect" => tokens.next()?.parse().ok(),
        "evt" | "order" => tokens.nth(1)?.parse().ok(),
        _ => None,
    }
}
