//! The table of orders: one row per subject, the newest wins.
//!
//! A row that is done is not removed: an empty message takes its place. The server forgets messages that a newer one
//! replaced without writing that down, because after a crash it would find them replaced again. Were the newest one
//! removed, an older order would be the newest after a `kill -9`, and would be carried out again.

use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use jiff::Timestamp;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::timestamp;
use crate::publish::{CheckedError, publish_expecting};
use crate::topology::ORDERS;

/// A row of the table.
#[derive(Debug, Clone)]
pub struct TableRow {
    /// The sequence that names this very version of the row.
    pub sequence: u64,
    /// When this version was written, by the server's clock.
    pub time: Timestamp,
    /// Its headers: the trace of what caused it, and what its writers tell each other.
    pub headers: HeaderMap,
    /// The row; empty when it is done.
    pub payload: Bytes,
}

impl TableRow {
    /// Whether nothing is left to be done.
    pub fn is_done(&self) -> bool {
        self.payload.is_empty()
    }
}

/// The table of orders.
#[derive(Debug, Clone)]
pub struct OrderTable {
    nats: Nats,
}

impl OrderTable {
    /// The table on this server.
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    async fn stream(&self, doing: &str) -> Result<jetstream::stream::Stream<()>, NatsError> {
        self.nats.js.get_stream_no_info(ORDERS).await.map_err(NatsError::failed(doing))
    }

    /// The row of a subject as the leader has it.
    pub async fn get(&self, subject: &str) -> Result<Option<TableRow>, NatsError> {
        let doing = format!("reading {subject}");
        match self.stream(&doing).await?.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(TableRow {
                sequence: message.sequence,
                time: timestamp(message.time.unix_timestamp_nanos()),
                headers: message.headers,
                payload: message.payload,
            })),
            Err(error) if error.kind() == jetstream::stream::LastRawMessageErrorKind::NoMessageFound => {
                Ok(None)
            }
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// Writes a row where the present one has the sequence `expected` (0: there is none).
    pub async fn put(
        &self,
        subject: String,
        expected: u64,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, CheckedError> {
        publish_expecting(&self.nats.js, subject, expected, headers, payload).await
    }

    /// Marks this very version of a row as done; a newer one stays. Answers whether it was marked.
    pub async fn done(&self, subject: &str, sequence: u64) -> Result<bool, NatsError> {
        self.end(subject, sequence, HeaderMap::new()).await
    }

    /// The same, with headers that tell whoever writes the row next how it ended.
    pub async fn end(&self, subject: &str, sequence: u64, headers: HeaderMap) -> Result<bool, NatsError> {
        match self.put(subject.to_owned(), sequence, headers, Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(CheckedError::Conflict) => Ok(false),
            Err(CheckedError::Failed(error)) => Err(error),
        }
    }
}
