//! A record of what should be in a stream: the newest message below a subject.
//!
//! Whoever writes does so under a subject of its own, and without a check. Where the server cannot read a message it neither
//! says so nor acknowledges what is published on the same subject afterwards, because it cannot remove the one before. So
//! nothing is published on a subject that was used before, and a damaged record holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::INVENTORY;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::{CommandId, subjects};

/// How often a record is asked for, five seconds each time, before it counts as one that cannot be read.
const TRIES: u32 = 2;

/// What somebody wrote down.
#[derive(Debug)]
pub(in super::super) enum Said<T> {
    /// Nobody wrote anything.
    Nothing,
    /// It is there and cannot be read, which is reported.
    Unreadable,
    /// This.
    This(T),
}

impl<T> Said<T> {
    /// What can be read.
    pub(in super::super) fn known(self) -> Option<T> {
        match self {
            Self::This(said) => Some(said),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Where somebody writes a record.
#[derive(Debug, Clone)]
pub(in super::super) struct Record {
    /// What it is about.
    of: String,
    /// Where this writer writes.
    own: String,
    /// Whether what others wrote before is removed.
    is_tidy: Arc<AtomicBool>,
}

impl Record {
    /// A writer that has written nothing yet.
    pub(in super::super) fn new(of: &str) -> Self {
        let writer = CommandId::mint().to_string();
        let own = subjects::inventory_by(of, &writer);
        Self { of: of.to_owned(), own, is_tidy: Arc::default() }
    }

    /// What anybody wrote down last, with its sequence. Where that cannot be read, nothing is missed this time, which is
    /// reported, and everything else goes on.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked at all.
    pub(in super::super) async fn read<T: DeserializeOwned>(
        &self,
        nats: &Nats,
    ) -> Result<(u64, Said<T>), NatsError> {
        let doing = format!("reading {}", self.of);
        let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed(doing))?;
        let mut tries = 1;
        loop {
            match stream.get_last_raw_message_by_subject(&subjects::inventory_by(&self.of, "*")).await {
                Ok(message) => match serde_json::from_slice(&message.payload) {
                    Ok(said) => return Ok((message.sequence, Said::This(said))),
                    Err(error) => return self.unreadable(nats, message.sequence, &error).await,
                },
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    // The server says the same of what it cannot read, but counts it.
                    return if self.is_written(nats).await? {
                        self.unreadable(nats, 0, &error).await
                    } else {
                        Ok((0, Said::Nothing))
                    };
                }
                Err(_) if tries < TRIES => tries += 1,
                Err(error) => return self.unreadable(nats, 0, &error).await,
            }
        }
    }

    async fn is_written(&self, nats: &Nats) -> Result<bool, NatsError> {
        let doing = || format!("looking for {}", self.of);
        let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed(doing()))?;
        let info = stream.info_with_subjects(subjects::inventory_by(&self.of, "*")).await;
        let mut found = info.map_err(NatsError::failed(doing()))?;
        Ok(found.try_next().await.map_err(NatsError::failed(doing()))?.is_some())
    }

    async fn unreadable<T>(
        &self,
        nats: &Nats,
        sequence: u64,
        error: &(dyn std::fmt::Display + Sync),
    ) -> Result<(u64, Said<T>), NatsError> {
        let of = &self.of;
        let why =
            format!("INVENTORY: {of} cannot be read, so what it tells of is not missed this time: {error}");
        super::report(nats, "inventory", &why, &json!({ "stream": INVENTORY, "of": of })).await?;
        Ok((sequence, Said::Unreadable))
    }

    /// Writes down what there is, and answers its sequence. After an error another writer has to go on.
    ///
    /// # Errors
    /// [`NatsError`].
    pub(in super::super) async fn write<T: Serialize>(
        &self,
        nats: &Nats,
        there_is: &T,
    ) -> Result<u64, NatsError> {
        let doing = format!("writing {}", self.of);
        let body = serde_json::to_vec(there_is).map_err(NatsError::failed(doing))?;
        let sequence = publish(&nats.js, self.own.clone(), HeaderMap::new(), body.into()).await?;
        if !self.is_tidy.swap(true, Ordering::Relaxed) {
            tokio::spawn(tidy(nats.clone(), subjects::inventory_by(&self.of, "*"), sequence));
        }
        Ok(sequence)
    }
}

/// Removes what is older. A record that cannot be removed is in nobody's way.
async fn tidy(nats: Nats, all: String, before: u64) {
    let removed = async {
        let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed("opening"))?;
        stream.purge().filter(&all).sequence(before).await.map_err(NatsError::failed("removing"))
    };
    if let Err(error) = removed.await {
        let error = wanwright_nats::chain(&error);
        tracing::info!(all, error, "old records of what should be in a stream are not removed");
    }
}
