//! A stored message of EVENTS-*, read.

use jiff::{Timestamp, Unit};
use wanwright_nats::StoredMessage;
use wanwright_schemas::{CustomerId, Digest, Envelope, ObjectRef, headers, subjects};

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
    /// What the command was about. Messages that are older than the header take the object of their first event.
    pub object: Option<ObjectRef>,
    /// The object's generation afterwards, where the message says it.
    pub generation: Option<u64>,
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
        // Headers are for readers; what cannot be read there is no damage.
        let object = header(message, headers::OBJECT).or_else(|| Some(envelope.events.first()?.object()));
        let generation = header(message, headers::GENERATION);
        let digest = Digest::of(&message.payload);
        Ok(Self { stream, sequence, customer, digest, envelope, object, generation })
    }
}

fn header<T: std::str::FromStr>(message: &StoredMessage, name: &str) -> Option<T> {
    message.headers.get(name)?.as_str().parse().ok()
}

/// A time as Postgres keeps it. Rows must not depend on whether they went through Postgres between two messages.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
    time.round(rounding).unwrap_or(time)
}
