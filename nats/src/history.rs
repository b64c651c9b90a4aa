//! The event store: the history of a customer is one subject of its partition's stream.
//!
//! What follows from a history is for others to say; here are bytes, sequences and conflicts.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use wanwright_schemas::outcome::Position;
use wanwright_schemas::subjects;
use wanwright_schemas::{CommandId, CustomerId};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::evidence::check::{self, Evidence, Proven, Unproven};
use crate::follow::StoredMessage;
use crate::load::load_subject;
use crate::publish::{CheckedError, publish_expecting};
use crate::unreadable::is_unreadable;

/// Why a command was not appended.
pub type AppendError = CheckedError;

/// The histories of all customers.
#[derive(Clone, Debug)]
pub struct History {
    nats: Nats,
}

impl History {
    /// The histories on this server.
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Where a message of the customer with this sequence is.
    pub fn position(&self, customer: &CustomerId, sequence: u64) -> Position {
        let partition = subjects::partition(customer, self.nats.partitions);
        Position { stream: subjects::events_stream(partition), sequence }
    }

    /// The customer's messages after a sequence (0: all), in order.
    pub async fn load(&self, customer: &CustomerId, after: u64) -> Result<Vec<StoredMessage>, NatsError> {
        let subject = subjects::events(customer, self.nats.partitions);
        load_subject(&self.nats, &self.position(customer, 0).stream, &subject, after).await
    }

    /// The customer's last sequence, from the stream's leader: a direct get may answer from a replica that is behind.
    pub async fn head(&self, customer: &CustomerId) -> Result<u64, NatsError> {
        let subject = subjects::events(customer, self.nats.partitions);
        let doing = format!("asking for the head of {subject}");
        let stream = self.position(customer, 0).stream;
        let stream =
            self.nats.js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing.clone()))?;
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) if is_unreadable(&error) => {
                Err(NatsError::malformed(doing, "it is there and cannot be read"))
            }
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// The customer's message with this sequence, if it is there.
    pub async fn message(
        &self,
        customer: &CustomerId,
        sequence: u64,
    ) -> Result<Option<StoredMessage>, NatsError> {
        let stream = self.position(customer, 0).stream;
        let doing = format!("reading {stream} at {sequence}");
        let handle = self.nats.js.get_stream_no_info(&stream).await;
        let handle = handle.map_err(NatsError::failed(doing.clone()))?;
        // In JSON: a message whose headers are damaged would end the connection otherwise.
        match handle.get_raw_message(sequence).await {
            Ok(message) => {
                let message = StoredMessage::read(&stream, message);
                let is_own = message.subject == subjects::events(customer, self.nats.partitions);
                Ok(is_own.then_some(message))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) if is_unreadable(&error) => {
                Err(NatsError::malformed(doing, "it is there and cannot be read"))
            }
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// Compares the customer's stream with what is known of it; see [`check::prove`].
    ///
    /// # Errors
    /// [`Unproven`].
    pub async fn prove(
        &self,
        customer: &CustomerId,
        evidence: Option<&Evidence>,
    ) -> Result<Proven, Unproven> {
        let subject = subjects::events(customer, self.nats.partitions);
        check::prove(&self.nats, evidence, &self.position(customer, 0).stream, &subject).await
    }

    /// Appends one message where the customer's last sequence is still `expected`, and answers the new one. The headers
    /// are for who reads the stream; nothing is decided on them.
    pub async fn append(
        &self,
        customer: &CustomerId,
        expected: u64,
        command: CommandId,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, AppendError> {
        headers.insert(wanwright_schemas::headers::COMMAND_ID, command.to_string().as_str());
        let subject = subjects::events(customer, self.nats.partitions);
        publish_expecting(&self.nats.js, subject, expected, headers, payload).await
    }
}
