//! `outcomes`: the answer to each command.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::outcome::Verdict;
use wanwright_schemas::{CommandId, CustomerId, Kind, Outcome};

use crate::table::Table;

/// The key of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OutcomeKey {
    /// The customer.
    pub customer: CustomerId,
    /// The command.
    pub command: CommandId,
}

/// A row of `outcomes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The customer.
    pub customer: CustomerId,
    /// The command.
    pub command: CommandId,
    /// The object's kind.
    pub kind: Option<Kind>,
    /// The object.
    pub id: Option<String>,
    /// `accepted` or `refused`.
    pub status: String,
    /// The object's generation afterwards.
    pub generation: Option<u64>,
    /// The stream with its events.
    pub position_stream: Option<String>,
    /// The sequence of its events.
    pub position_sequence: Option<u64>,
    /// The types of its events.
    pub events: Vec<String>,
    /// The reason's code of a refusal.
    pub code: Option<String>,
    /// The reason's number.
    pub number: Option<u16>,
    /// The refusal in a sentence.
    pub message: Option<String>,
    /// The field of the body that was wrong.
    pub field: Option<String>,
    /// What to do next.
    pub next: Option<String>,
    /// When the answer was stored.
    pub time: Timestamp,
    /// The sequence in OUTCOMES.
    pub sequence: u64,
}

impl Table for OutcomeRow {
    type Key = OutcomeKey;
    const NAME: &'static str = "outcomes";
    const KEY: &'static [&'static str] = &["customer", "command"];
    fn key(&self) -> OutcomeKey {
        OutcomeKey { customer: self.customer.clone(), command: self.command }
    }
}

impl OutcomeRow {
    /// The row of a stored outcome. Customer and command are those of the subject.
    pub fn of(
        customer: CustomerId,
        command: CommandId,
        outcome: Outcome,
        time: Timestamp,
        sequence: u64,
    ) -> Self {
        let mut row = Self {
            customer,
            command,
            kind: outcome.object.as_ref().map(wanwright_schemas::ObjectRef::kind),
            id: outcome.object.as_ref().map(|object| object.id().to_owned()),
            status: "accepted".to_owned(),
            generation: None,
            position_stream: None,
            position_sequence: None,
            events: Vec::new(),
            code: None,
            number: None,
            message: None,
            field: None,
            next: None,
            time,
            sequence,
        };
        match outcome.verdict {
            Verdict::Accepted { position, events, generation, .. } => {
                row.position_sequence = position.as_ref().map(|position| position.sequence);
                row.position_stream = position.map(|position| position.stream);
                row.events = events;
                row.generation = generation;
            }
            Verdict::Refused { refusal, number } => {
                row.status = "refused".to_owned();
                row.code = Some(refusal.code.code().to_owned());
                row.number = Some(number);
                row.message = Some(refusal.message);
                row.field = refusal.field;
                row.next = Some(refusal.next);
            }
        }
        row
    }
}
