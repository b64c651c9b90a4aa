//! `outcomes`: the answer to each command. What decided something is told by its events, the rest by VERDICTS.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::outcome::Verdict;
use wanwright_schemas::{CommandId, CustomerId, Event, Kind, ObjectRef, Outcome};

use crate::message::EventMessage;
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
    /// When it was decided; of what changed nothing, when the answer was stored.
    pub time: Timestamp,
    /// The stream of the row's message: a customer's EVENTS, or VERDICTS.
    pub stream: String,
    /// The sequence of the row's message in its stream.
    pub sequence: u64,
}

impl Table for OutcomeRow {
    type Key = OutcomeKey;
    const NAME: &'static str = "outcomes";
    const KEY: &'static [&'static str] = &["customer", "command"];
    /// What a history says happened, whatever was said besides: a service that lost its partition may have noted a
    /// verdict that its successor did not know of.
    const REPLACES: &'static str = "excluded.position_stream IS NOT NULL OR stored.position_stream IS NULL";
    fn key(&self) -> OutcomeKey {
        OutcomeKey { customer: self.customer.clone(), command: self.command }
    }
}

impl OutcomeRow {
    /// The row of a command that decided something.
    pub fn of_events(message: &EventMessage) -> Self {
        let envelope = &message.envelope;
        Self {
            generation: message.generation,
            position_stream: Some(message.stream.clone()),
            position_sequence: Some(message.sequence),
            events: envelope.events.iter().map(Event::type_name).collect(),
            stream: message.stream.clone(),
            sequence: message.sequence,
            ..Self::bare(message.customer.clone(), envelope.command, message.object.as_ref(), envelope.time)
        }
    }

    /// The row of an outcome that no event tells. Customer and command are those of the subject.
    pub fn of_verdict(
        customer: CustomerId,
        command: CommandId,
        outcome: Outcome,
        time: Timestamp,
        (stream, sequence): (String, u64),
    ) -> Self {
        let row = Self { stream, sequence, ..Self::bare(customer, command, outcome.object.as_ref(), time) };
        match outcome.verdict {
            Verdict::Accepted { position, events, generation, .. } => Self {
                position_sequence: position.as_ref().map(|position| position.sequence),
                position_stream: position.map(|position| position.stream),
                events,
                generation,
                ..row
            },
            Verdict::Refused { refusal, number } => Self {
                status: "refused".to_owned(),
                code: Some(refusal.code.code().to_owned()),
                number: Some(number),
                message: Some(refusal.message),
                field: refusal.field,
                next: Some(refusal.next),
                ..row
            },
        }
    }

    fn bare(customer: CustomerId, command: CommandId, object: Option<&ObjectRef>, time: Timestamp) -> Self {
        Self {
            customer,
            command,
            kind: object.map(ObjectRef::kind),
            id: object.map(|object| object.id().to_owned()),
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
            stream: String::new(),
            sequence: 0,
        }
    }
}
