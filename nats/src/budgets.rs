//! What is left of each vendor's budget: a record that all processes change by compare-and-set and watch, and the
//! server's clock to which its times refer.

use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::BUDGETS;

/// The key that is written only to learn what time the server has.
const CLOCK: &str = "clock";

/// How often the clock is asked for when others ask at the same moment.
const TRIES: u32 = 8;

/// A record as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes; empty, when the record was taken away.
    pub value: Bytes,
    /// The write that stored it.
    pub revision: u64,
    /// When that was by the server's clock, in microseconds since 1970.
    pub at: i64,
}

/// A moment of the server's clock between two of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// We had not sent the write yet.
    pub after: Instant,
    /// We knew that it was stored.
    pub before: Instant,
    /// The server's clock, in microseconds since 1970.
    pub server: i64,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// It is stored, with this revision.
    Stored(u64),
    /// Somebody else wrote before.
    Outrun,
}

/// The records on a server.
#[derive(Debug, Clone)]
pub struct Budgets {
    store: kv::Store,
}

impl Budgets {
    /// Opens the records.
    ///
    /// # Errors
    /// [`NatsError`] when there is no such bucket.
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(BUDGETS).await.map_err(NatsError::failed("opening the budgets"))?;
        Ok(Self { store })
    }

    /// The keys of all records.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn keys(&self) -> Result<Vec<String>, NatsError> {
        let doing = "listing the budgets";
        let keys = self.store.keys().await.map_err(NatsError::failed(doing))?;
        keys.try_collect().await.map_err(NatsError::failed(doing))
    }

    /// The record of this key, if there is one.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, NatsError> {
        let entry = self.store.entry(key).await;
        Ok(entry.map_err(NatsError::failed(format!("reading the budget {key}")))?.map(stored))
    }

    /// Writes a record, if it still is the one of this revision; 0 is none.
    ///
    /// # Errors
    /// [`NatsError`], when it is not known whether it was stored.
    pub async fn put(&self, key: &str, value: Bytes, revision: u64) -> Result<Written, NatsError> {
        match self.store.update(key, value, revision).await {
            Ok(revision) => Ok(Written::Stored(revision)),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(Written::Outrun),
            Err(error) => Err(NatsError::failed(format!("writing the budget {key}"))(error)),
        }
    }

    /// The record of this key now, and each one that is written from now on. It ends when the connection does.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn watch(
        &self,
        key: &str,
    ) -> Result<impl Stream<Item = Result<Stored, NatsError>> + Send + Unpin + use<>, NatsError> {
        let doing = format!("watching the budget {key}");
        let watch = self.store.watch_with_history(key).await.map_err(NatsError::failed(doing.clone()))?;
        Ok(watch.map(move |entry| entry.map(stored).map_err(NatsError::failed(doing.clone()))))
    }

    /// Asks the server what time it is: one write and one read.
    ///
    /// # Errors
    /// [`NatsError`], when it does not answer.
    pub async fn time(&self) -> Result<Moment, NatsError> {
        let doing = "asking for the server's time";
        for _ in 0..TRIES {
            let after = Instant::now();
            let revision = self.store.put(CLOCK, Bytes::new()).await.map_err(NatsError::failed(doing))?;
            let before = Instant::now();
            let entry = self.store.entry(CLOCK).await.map_err(NatsError::failed(doing))?;
            // Another process may have asked meanwhile, and a replica may not have ours yet.
            if let Some(entry) = entry.filter(|entry| entry.revision == revision) {
                return Ok(Moment { after, before, server: stored(entry).at });
            }
            tokio::time::sleep(Duration::from_millis(revision % 7)).await;
        }
        Err(NatsError::malformed(doing, "others ask for it all the time"))
    }
}

fn stored(entry: kv::Entry) -> Stored {
    let at = i64::try_from(entry.created.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
    let value = if entry.operation == kv::Operation::Put { entry.value } else { Bytes::new() };
    Stored { value, revision: entry.revision, at }
}
