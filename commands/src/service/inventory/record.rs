//! A record of what should be in a stream: the newest message below a subject.
//!
//! Whoever writes does so under a subject of its own, and without a check. Where the server cannot read a message it neither
//! says so nor acknowledges what is published on the same subject afterwards, because it cannot remove the one before. So
//! nothing is published on a subject that was used before, and a damaged record holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use wanwright_nats::inventory::{self, Said};
use wanwright_nats::publish::publish;
use wanwright_nats::topology::INVENTORY;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::{CommandId, subjects};

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
        let (sequence, said) = inventory::read(nats, &self.of).await?;
        if let Said::Unreadable(why) = &said {
            self.unreadable(nats, why).await?;
        }
        Ok((sequence, said))
    }

    async fn unreadable(&self, nats: &Nats, error: &str) -> Result<(), NatsError> {
        let of = &self.of;
        let why =
            format!("INVENTORY: {of} cannot be read, so what it tells of is not missed this time: {error}");
        super::report(nats, "inventory", &why, &json!({ "stream": INVENTORY, "of": of })).await
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
