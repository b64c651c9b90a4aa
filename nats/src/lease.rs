//! Leases: a right that one process at a time has, and loses when it dies.
//!
//! The bucket drops a key that was not renewed for [`crate::topology::LEASE_TIME`]; a holder renews it three times as
//! often and stops its work when it could not.

use std::sync::Arc;

use async_nats::jetstream::kv;
use tokio::sync::watch;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::{LEASE_TIME, LEASES};

/// The leases on a server.
#[derive(Debug, Clone)]
pub struct Leases {
    store: kv::Store,
    holder: Arc<str>,
}

/// A lease that is held until it is released, dropped or lost.
#[derive(Debug)]
pub struct Lease {
    store: kv::Store,
    key: String,
    renewal: tokio::task::JoinHandle<()>,
    lost: watch::Receiver<bool>,
}

impl Leases {
    /// Opens the leases; `holder` names this process to others.
    pub async fn open(nats: &Nats, holder: &str) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(LEASES).await.map_err(NatsError::failed("opening the leases"))?;
        Ok(Self { store, holder: holder.into() })
    }

    /// Takes a lease, or answers `None` when somebody else holds it.
    pub async fn take(&self, key: &str) -> Result<Option<Lease>, NatsError> {
        let holder = bytes::Bytes::copy_from_slice(self.holder.as_bytes());
        let revision = match self.store.create(key, holder.clone()).await {
            Ok(revision) => revision,
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(NatsError::failed(format!("taking the lease {key}"))(error)),
        };
        let (tell_lost, lost) = watch::channel(false);
        let renewal = tokio::spawn(renew(self.store.clone(), key.to_owned(), holder, revision, tell_lost));
        Ok(Some(Lease { store: self.store.clone(), key: key.to_owned(), renewal, lost }))
    }

    /// Who holds a lease.
    pub async fn holder(&self, key: &str) -> Result<Option<String>, NatsError> {
        let value =
            self.store.get(key).await.map_err(NatsError::failed(format!("reading the lease {key}")))?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

async fn renew(
    store: kv::Store,
    key: String,
    holder: bytes::Bytes,
    mut revision: u64,
    lost: watch::Sender<bool>,
) {
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LEASE_TIME / 3).await;
        match store.update(&key, holder.clone(), revision).await {
            Ok(next) => {
                revision = next;
                renewed = tokio::time::Instant::now();
            }
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => break,
            // NATS may be away for a moment; the lease is ours until the server could have dropped it.
            Err(_) if renewed.elapsed() < LEASE_TIME * 2 / 3 => {}
            Err(_) => break,
        }
    }
    let _ = lost.send(true);
}

impl Lease {
    /// Resolves when the lease is lost: what it protected must stop.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // A closed channel means that renewal has ended, which is a loss as well.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Gives the lease back.
    pub async fn release(self) -> Result<(), NatsError> {
        self.renewal.abort();
        let doing = format!("releasing the lease {}", self.key);
        self.store.delete(&self.key).await.map_err(NatsError::failed(doing))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
