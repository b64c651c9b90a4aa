//! The event store: the history of a customer is one subject of its partition's stream.
//!
//! Loading goes through batched direct gets, never through a consumer: a stream bears few of those, and each lingers.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use wanwright_schemas::outcome::Position;
use wanwright_schemas::subjects;
use wanwright_schemas::{CommandId, CustomerId};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::publish::{CheckedError, publish_expecting};

/// How many messages one request of a load asks for.
const BATCH: usize = 256;

/// How long a batch may take between two messages.
const BATCH_WAIT: Duration = Duration::from_secs(5);

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
        let mut messages = Vec::new();
        let mut next = after + 1;
        loop {
            let (batch, more) = self.batch(customer, next).await?;
            let Some(last) = batch.last() else { return Ok(messages) };
            next = last.sequence + 1;
            messages.extend(batch);
            if !more {
                return Ok(messages);
            }
        }
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
            Err(error) if error.kind() == jetstream::stream::LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// Appends one message where the customer's last sequence is still `expected`, and answers the new one.
    pub async fn append(
        &self,
        customer: &CustomerId,
        expected: u64,
        command: CommandId,
        payload: Bytes,
    ) -> Result<u64, AppendError> {
        let mut headers = HeaderMap::new();
        headers.insert(wanwright_schemas::headers::COMMAND_ID, command.to_string().as_str());
        let subject = subjects::events(customer, self.nats.partitions);
        publish_expecting(&self.nats.js, subject, expected, headers, payload).await
    }

    async fn batch(&self, customer: &CustomerId, from: u64) -> Result<(Vec<StoredMessage>, bool), NatsError> {
        let subject = subjects::events(customer, self.nats.partitions);
        let stream = self.position(customer, 0).stream;
        let doing = format!("loading {subject} from {from}");
        let inbox = self.nats.client.new_inbox();
        let mut answers =
            self.nats.client.subscribe(inbox.clone()).await.map_err(NatsError::failed(doing.clone()))?;
        let request = json!({ "seq": from, "next_by_subj": subject, "batch": BATCH }).to_string();
        self.nats
            .client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, request.into())
            .await
            .map_err(NatsError::failed(doing.clone()))?;
        let mut batch = Vec::new();
        loop {
            let answer = tokio::time::timeout(BATCH_WAIT, answers.next())
                .await
                .map_err(NatsError::failed(doing.clone()))?
                .ok_or_else(|| NatsError::malformed(doing.clone(), "the connection closed"))?;
            let status = answer.status.map(|status| status.as_u16());
            match status {
                None => batch
                    .push(stored(&stream, answer).map_err(|what| NatsError::malformed(doing.clone(), what))?),
                // 204 ends a batch and says how many are left; 404 says there is none.
                Some(204) => return Ok((batch, pending(&answer) > 0)),
                Some(404) => return Ok((batch, false)),
                Some(code) => return Err(NatsError::malformed(doing, format!("the server answered {code}"))),
            }
        }
    }
}

fn pending(answer: &async_nats::Message) -> u64 {
    header(answer, "Nats-Num-Pending").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn header<'a>(answer: &'a async_nats::Message, name: &str) -> Option<&'a str> {
    Some(answer.headers.as_ref()?.get(name)?.as_str())
}

fn stored(stream: &str, answer: async_nats::Message) -> Result<StoredMessage, String> {
    let get = |name: &str| header(&answer, name).ok_or_else(|| format!("an answer lacks the header {name}"));
    let sequence = get("Nats-Sequence")?.parse().map_err(|error| format!("Nats-Sequence: {error}"))?;
    let time = get("Nats-Time-Stamp")?.parse().map_err(|error| format!("Nats-Time-Stamp: {error}"))?;
    let subject = get("Nats-Subject")?.to_owned();
    let headers = answer.headers.unwrap_or_default();
    Ok(StoredMessage { stream: stream.to_owned(), sequence, subject, time, headers, payload: answer.payload })
}
