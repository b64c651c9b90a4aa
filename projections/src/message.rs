//! A stored message of EVENTS-*, read.

use jiff::{Timestamp, Unit};
use wanwright_nats::StoredMessage;
use wanwright_schemas::{CustomerId, Digest, Envelope, subjects};

use crate::error::Stop;

/// One message of a customer's history with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMessage {
    /// The stream.
    pub stream: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// Whose history it continues.
    pub customer: CustomerId,
    /// The digest of its bytes: what the customer's next message must name.
    pub digest: Digest,
    /// What was decided.
    pub envelope: Envelope,
}

impl EventMessage {
    /// Reads a stored message.
    pub fn read(message: &StoredMessage) -> Result<Self, Stop> {
        let (stream, sequence) = (message.stream.clone(), message.sequence);
        let Some(customer) = subjects::customer_of_events(&message.subject) else {
            return Err(Stop::Subject { stream, sequence, subject: message.subject.clone() });
        };
        let mut envelope = Envelope::decode(&message.payload).map_err(|source| Stop::Unreadable {
            stream: stream.clone(),
            sequence,
            source,
        })?;
        envelope.time = micros(envelope.time);
        Ok(Self { stream, sequence, customer, digest: Digest::of(&message.payload), envelope })
    }
}

/// A time as Postgres keeps it. Rows must not depend on whether they went through Postgres between two messages.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
    time.round(rounding).unwrap_or(time)
}
