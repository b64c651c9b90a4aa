//! Leases: a right that one process at a time has, and loses when it dies.
//!
//! The bucket drops a key that was not written for [`LEASE_TIME`]. A holder counts from before it sent its last write, and
//! takes the lease for lost a third of that time before the server could have dropped it: by then its work must stop.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::{LEASE_TIME, LEASES};

/// Pause after a renewal that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// The leases on a server.
#[derive(Debug, Clone)]
pub struct Leases {
    nats: Nats,
    store: kv::Store,
    holder: Arc<str>,
}

/// A lease that is held until it is released, dropped or lost.
#[derive(Debug)]
pub struct Lease {
    key: String,
    release: Option<oneshot::Sender<()>>,
    keeping: tokio::task::JoinHandle<Result<(), NatsError>>,
    lost: watch::Receiver<bool>,
}

impl Leases {
    /// Opens the leases; `holder` names this process to others.
    pub async fn open(nats: &Nats, holder: &str) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(LEASES).await.map_err(NatsError::failed("opening the leases"))?;
        Ok(Self { nats: nats.clone(), store, holder: holder.into() })
    }

    /// Takes a lease, or answers `None` when somebody else holds it.
    pub async fn take(&self, key: &str) -> Result<Option<Lease>, NatsError> {
        // Unique, so that a holder knows its own write again.
        let value = Bytes::from(format!("{} {}", self.holder, self.nats.client.new_inbox()));
        let asked = Instant::now();
        let revision = match self.store.create(key, value.clone()).await {
            Ok(revision) => revision,
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(NatsError::failed(format!("taking the lease {key}"))(error)),
        };
        let (tell_lost, lost) = watch::channel(false);
        let (release, released) = oneshot::channel();
        let keeper = Keeper { store: self.store.clone(), key: key.to_owned(), value, revision, asked };
        let keeping = tokio::spawn(keeper.keep(released, tell_lost));
        Ok(Some(Lease { key: key.to_owned(), release: Some(release), keeping, lost }))
    }

    /// Who holds a lease.
    pub async fn holder(&self, key: &str) -> Result<Option<String>, NatsError> {
        let value =
            self.store.get(key).await.map_err(NatsError::failed(format!("reading the lease {key}")))?;
        let text = value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(text.map(|text| text.split(' ').next().unwrap_or_default().to_owned()))
    }
}

/// What keeps one lease; the only one who knows its revision.
struct Keeper {
    store: kv::Store,
    key: String,
    value: Bytes,
    revision: u64,
    /// When the last write that was stored had been sent.
    asked: Instant,
}

impl Keeper {
    async fn keep(
        mut self,
        mut released: oneshot::Receiver<()>,
        lost: watch::Sender<bool>,
    ) -> Result<(), NatsError> {
        loop {
            tokio::select! {
                told = &mut released => {
                    return match told {
                        Ok(()) => self.delete().await,
                        // Dropped without a word: it runs out by itself.
                        Err(_) => Ok(()),
                    };
                }
                () = tokio::time::sleep_until(self.asked + LEASE_TIME / 3) => {}
            }
            if !self.renew().await {
                // A closed channel is the same news to a holder that comes too late to be told.
                let _ = lost.send(true);
                return Ok(());
            }
        }
    }

    /// Renews until it worked, or until the lease has to be taken for lost.
    async fn renew(&mut self) -> bool {
        let deadline = self.asked + LEASE_TIME * 2 / 3;
        while Instant::now() < deadline {
            let asked = Instant::now();
            let update = self.store.update(&self.key, self.value.clone(), self.revision);
            match tokio::time::timeout_at(deadline, update).await {
                Ok(Ok(revision)) => {
                    self.revision = revision;
                    self.asked = asked;
                    return true;
                }
                Ok(Err(error)) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                    // Our own write, if its acknowledgement was lost; else somebody else's.
                    match tokio::time::timeout_at(deadline, self.store.entry(&self.key)).await {
                        Ok(Ok(Some(entry)))
                            if entry.value == self.value && entry.operation == kv::Operation::Put =>
                        {
                            self.revision = entry.revision;
                        }
                        Ok(Ok(_)) => return false,
                        Ok(Err(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
                    }
                }
                Ok(Err(_)) => tokio::time::sleep(AGAIN).await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Gives the lease back, if it is still ours.
    async fn delete(&self) -> Result<(), NatsError> {
        let doing = format!("releasing the lease {}", self.key);
        let deleted = self.store.delete_expect_revision(&self.key, Some(self.revision)).await;
        deleted.map_err(NatsError::failed(doing))
    }
}

impl Lease {
    /// Resolves when the lease is lost: what it protected must stop.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // A closed channel means that nobody keeps it, which is a loss as well.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Gives the lease back. One that was lost is somebody else's by now and is left alone.
    pub async fn release(mut self) -> Result<(), NatsError> {
        if let Some(release) = self.release.take() {
            let _ = release.send(());
        }
        let doing = format!("releasing the lease {}", self.key);
        (&mut self.keeping).await.map_err(NatsError::failed(doing))?
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}
