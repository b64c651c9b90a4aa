//! Reading a stream from a place on, for ever.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use crate::error::NatsError;
use crate::unreadable::{self, first_unreadable};

/// A message as a stream holds it.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The stream.
    pub stream: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// The subject it was stored under.
    pub subject: String,
    /// When it was stored, by the server's clock.
    pub time: Timestamp,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Bytes,
}

impl StoredMessage {
    /// A message that was asked for by itself.
    pub(crate) fn read(stream: &str, message: jetstream::message::StreamMessage) -> Self {
        Self {
            stream: stream.to_owned(),
            sequence: message.sequence,
            subject: message.subject.to_string(),
            time: timestamp(message.time.unix_timestamp_nanos()),
            headers: message.headers,
            payload: message.payload,
        }
    }
}

/// Facts about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The stream.
    pub name: String,
    /// When it was created: another time is another stream, whatever its name.
    pub incarnation: Timestamp,
    /// The first sequence it still holds.
    pub first: u64,
    /// The last sequence it gave out.
    pub last: u64,
    /// When the last message was stored, in milliseconds since 1970 by the server's clock; 0 when there was none.
    pub last_millis: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// How many servers keep it.
    pub replicas: usize,
}

impl StreamInfo {
    /// The facts that the server answered.
    pub(crate) fn of(info: &jetstream::stream::Info) -> Self {
        Self {
            name: info.config.name.clone(),
            incarnation: timestamp(info.created.unix_timestamp_nanos()),
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            last_millis: u64::try_from(info.state.last_timestamp.unix_timestamp_nanos() / 1_000_000)
                .unwrap_or_default(),
            messages: info.state.messages,
            replicas: info.config.num_replicas,
        }
    }
}

pub(crate) fn timestamp(nanoseconds: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
}

/// Asks the server for facts about a stream.
pub async fn stream_info(js: &jetstream::Context, stream: &str) -> Result<StreamInfo, NatsError> {
    let doing = format!("asking about stream {stream}");
    let handle = js.get_stream(stream).await.map_err(NatsError::failed(doing))?;
    Ok(StreamInfo::of(handle.cached_info()))
}

fn connects(js: &jetstream::Context) -> u64 {
    js.client().statistics().connects.load(Ordering::Relaxed)
}

/// A reader of one stream from a sequence on. It comes back by itself when the connection was lost, and goes on behind
/// the last message it gave.
pub struct Follower {
    js: jetstream::Context,
    stream: String,
    filter: String,
    next: u64,
    messages: Option<consumer::pull::Ordered>,
    /// How many connections there had been when something came last.
    connects: u64,
    /// The same when messages were last asked for.
    subscribed: u64,
}

/// How often a reader looks whether the connection is another one. A server that was started again knows its consumer no
/// more, which the client library finds out after three silent heartbeats only.
const GLANCE: Duration = Duration::from_secs(1);

/// How many messages are looked at when the connection was lost over one of them: more are never on their way at once.
const LOOKED_AT: usize = 512;

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("stream", &self.stream)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Opens a reader at a sequence (1 is the beginning).
    pub async fn open(js: jetstream::Context, stream: &str, from: u64) -> Result<Self, NatsError> {
        Self::open_filtered(js, stream, String::new(), from).await
    }

    /// The same, for the subjects that match a filter only.
    pub async fn open_filtered(
        js: jetstream::Context,
        stream: &str,
        filter: String,
        from: u64,
    ) -> Result<Self, NatsError> {
        let connects = connects(&js);
        let (stream, next) = (stream.to_owned(), from.max(1));
        let mut follower = Self { js, stream, filter, next, messages: None, connects, subscribed: connects };
        // Whoever opens again behind a message that ended the connection does not have it ended once more.
        follower.look(2).await?;
        follower.subscribe().await?;
        Ok(follower)
    }

    async fn subscribe(&mut self) -> Result<(), NatsError> {
        let doing = format!("reading stream {} from {}", self.stream, self.next);
        let over = connects(&self.js);
        let config = consumer::pull::OrderedConfig {
            filter_subject: self.filter.clone(),
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ..Default::default()
        };
        let consumer = self
            .js
            .create_consumer_on_stream(config, self.stream.as_str())
            .await
            .map_err(NatsError::failed(doing.clone()))?;
        self.messages = Some(consumer.messages().await.map_err(NatsError::failed(doing))?);
        self.subscribed = over;
        Ok(())
    }

    /// Asks for messages again when the connection is not the one over which that was done.
    async fn subscribe_over_another_connection(&mut self) -> Result<(), NatsError> {
        if self.subscribed == connects(&self.js) {
            return Ok(());
        }
        // The connection may have ended over the next message, and would again.
        self.look(LOOKED_AT).await?;
        self.subscribe().await
    }

    /// Waits up to `wait` for a message, then answers what is there in order: at most `max` messages, none when the
    /// time ran out. After an error the next call subscribes anew.
    pub async fn next_batch(&mut self, max: usize, wait: Duration) -> Result<Vec<StoredMessage>, NatsError> {
        let mut batch = Vec::new();
        let outcome = tokio::time::timeout(wait, self.fill(&mut batch, max)).await;
        let connects = connects(&self.js);
        if batch.is_empty() && self.connects != connects {
            self.look(LOOKED_AT).await?;
        }
        self.connects = connects;
        if let Ok(Err(error)) = outcome {
            self.messages = None;
            if batch.is_empty() {
                return Err(error);
            }
        }
        Ok(batch)
    }

    /// Looks whether one of the next messages is there and cannot be read. It holds nothing of this reader meanwhile.
    fn look(&self, most: usize) -> impl Future<Output = Result<(), NatsError>> + Send + use<> {
        let (js, stream, filter, next) =
            (self.js.clone(), self.stream.clone(), self.filter.clone(), self.next);
        async move {
            let found = first_unreadable(&js, &stream, &filter, next, most).await?;
            found.map_or(Ok(()), |place| Err(unreadable::error(format!("reading stream {stream}"), &place)))
        }
    }

    async fn fill(&mut self, batch: &mut Vec<StoredMessage>, max: usize) -> Result<(), NatsError> {
        if self.messages.is_none() {
            self.subscribe().await?;
        }
        self.subscribe_over_another_connection().await?;
        let doing = format!("reading stream {}", self.stream);
        while batch.len() < max {
            let Some(messages) = self.messages.as_mut() else { return Ok(()) };
            let next = if batch.is_empty() {
                let Ok(next) = tokio::time::timeout(GLANCE, messages.next()).await else {
                    self.subscribe_over_another_connection().await?;
                    continue;
                };
                next
            } else {
                messages.next().now_or_never().flatten()
            };
            let Some(message) = next else {
                if batch.is_empty() {
                    return Err(NatsError::failed(doing)("the reader ended"));
                }
                return Ok(());
            };
            let message = message.map_err(NatsError::failed(doing.clone()))?;
            let info = message.info().map_err(NatsError::failed(doing.clone()))?;
            let (sequence, time) = (info.stream_sequence, timestamp(info.published.unix_timestamp_nanos()));
            if sequence < self.next {
                // The client library makes a lost consumer anew, and one that had delivered nothing yet begins at the
                // stream's first message, wherever it was told to begin.
                tracing::debug!(stream = self.stream, sequence, next = self.next, "the reader fell back");
                self.messages = None;
                self.subscribe().await?;
                continue;
            }
            self.next = sequence + 1;
            let message = message.message;
            batch.push(StoredMessage {
                stream: self.stream.clone(),
                sequence,
                subject: message.subject.to_string(),
                time,
                headers: message.headers.unwrap_or_default(),
                payload: message.payload,
            });
        }
        Ok(())
    }
}
