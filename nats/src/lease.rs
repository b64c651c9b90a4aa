//! Leases: a right that one process at a time has, and loses when it dies.
//!
//! A bucket drops a key that was not written for its time. A holder counts from before it sent its last write, and
//! takes the lease for lost a third of that time before the server could have dropped it: by then its work must stop.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use wanwright_schemas::{CustomerId, Kind, VendorId};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::publish::delete_untold;
use crate::topology::{LEASE_TIME, LEASES, PARTITION_LEASE_TIME, PARTITIONS};

/// Pause after a renewal that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// The key of the lease of a target, which a change of it and a look at it share.
pub fn key_of_target(vendor: &VendorId, customer: &CustomerId, kind: Kind, id: &str) -> String {
    format!("target.{vendor}.{customer}.{kind}.{id}")
}

/// The leases on a server.
#[derive(Debug, Clone)]
pub struct Leases {
    nats: Nats,
    store: kv::Store,
    holder: Arc<str>,
    time: Duration,
    /// When the bucket was made.
    incarnation: Timestamp,
}

/// A lease that is held until it is released, dropped or lost.
#[derive(Debug)]
pub struct Lease {
    key: String,
    release: Option<oneshot::Sender<Release>>,
    keeping: tokio::task::JoinHandle<Result<(), NatsError>>,
    held: Held,
}

/// Whether a lease is held, for those who act under it, and what tells it from others of its key.
#[derive(Debug, Clone)]
pub struct Held {
    /// Until when it is surely held; none when it is lost or given back.
    until: watch::Receiver<Option<Instant>>,
    fence: Fence,
}

/// What tells a lease from those before it: of two in the same bucket the one that was taken later has the larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// When the bucket was made; numbers of another one cannot be compared with these.
    pub incarnation: Timestamp,
    /// The number.
    pub number: u64,
}

impl Held {
    /// Whether the lease is held now, by the clock: the news of a loss may come late to a process that stood still.
    pub fn is_held(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// What tells the lease from others.
    pub fn fence(&self) -> Fence {
        self.fence
    }
}

impl Leases {
    /// Opens the leases of executors and sweepers; `holder` names this process to others.
    pub async fn open(nats: &Nats, holder: &str) -> Result<Self, NatsError> {
        Self::of(nats, holder, LEASES, LEASE_TIME).await
    }

    /// Opens the leases on partitions, which run out sooner.
    pub async fn of_partitions(nats: &Nats, holder: &str) -> Result<Self, NatsError> {
        Self::of(nats, holder, PARTITIONS, PARTITION_LEASE_TIME).await
    }

    async fn of(nats: &Nats, holder: &str, bucket: &str, time: Duration) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(bucket).await.map_err(NatsError::failed("opening the leases"))?;
        let created = store.stream.cached_info().created.unix_timestamp_nanos();
        let incarnation = Timestamp::from_nanosecond(created).unwrap_or_default();
        Ok(Self { nats: nats.clone(), store, holder: holder.into(), time, incarnation })
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
        let (tell, held) = watch::channel(Some(asked + self.time * 2 / 3));
        let (release, released) = oneshot::channel();
        let (store, key) = (self.store.clone(), key.to_owned());
        let nats = self.nats.clone();
        let keeper = Keeper { nats, store, key: key.clone(), value, revision, asked, time: self.time };
        let keeping = tokio::spawn(keeper.keep(released, tell));
        let held = Held { until: held, fence: Fence { incarnation: self.incarnation, number: revision } };
        Ok(Some(Lease { key, release: Some(release), keeping, held }))
    }

    /// Who holds a lease.
    pub async fn holder(&self, key: &str) -> Result<Option<String>, NatsError> {
        let value =
            self.store.get(key).await.map_err(NatsError::failed(format!("reading the lease {key}")))?;
        let text = value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(text.map(|text| text.split(' ').next().unwrap_or_default().to_owned()))
    }
}

/// How a lease is given back.
#[derive(Debug)]
enum Release {
    /// Its holder waits until that is stored.
    Awaited,
    Untold,
}

/// What keeps one lease; the only one who knows its revision.
struct Keeper {
    nats: Nats,
    store: kv::Store,
    key: String,
    value: Bytes,
    revision: u64,
    /// When the last write that was stored had been sent.
    asked: Instant,
    /// How long the bucket keeps it from then on.
    time: Duration,
}

impl Keeper {
    async fn keep(
        mut self,
        mut released: oneshot::Receiver<Release>,
        tell: watch::Sender<Option<Instant>>,
    ) -> Result<(), NatsError> {
        loop {
            tokio::select! {
                told = &mut released => {
                    let _ = tell.send(None);
                    return match told {
                        Ok(Release::Awaited) => self.delete().await,
                        Ok(Release::Untold) => {
                            delete_untold(&self.nats, &self.store.name, &self.key, self.revision).await
                        }
                        // Dropped without a word: it runs out by itself.
                        Err(_) => Ok(()),
                    };
                }
                () = tokio::time::sleep_until(self.asked + self.time / 3) => {}
            }
            let held = self.renew().await;
            // A closed channel is the same news to a holder that comes too late to be told.
            let _ = tell.send(held.then(|| self.until()));
            if !held {
                return Ok(());
            }
        }
    }

    /// Until when it is surely held: a third of its time before the server could drop it.
    fn until(&self) -> Instant {
        self.asked + self.time * 2 / 3
    }

    /// Renews until it worked, or until the lease has to be taken for lost.
    async fn renew(&mut self) -> bool {
        let deadline = self.until();
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
        let mut held = self.held.until.clone();
        // A closed channel means that nobody keeps it, which is a loss as well.
        let _ = held.wait_for(Option::is_none).await;
    }

    /// Whether it is held now, by the clock: the news of a loss may come late to a process that stood still.
    pub fn is_held(&self) -> bool {
        self.held.is_held()
    }

    /// The same for those who act under it.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Gives the lease back. One that was lost is somebody else's by now and is left alone.
    pub async fn release(mut self) -> Result<(), NatsError> {
        if let Some(release) = self.release.take() {
            let _ = release.send(Release::Awaited);
        }
        let doing = format!("releasing the lease {}", self.key);
        (&mut self.keeping).await.map_err(NatsError::failed(doing))?
    }

    /// The same without waiting until it is stored. Where the word gets lost, the lease runs out.
    pub async fn release_untold(mut self) -> Result<(), NatsError> {
        if let Some(release) = self.release.take() {
            let _ = release.send(Release::Untold);
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
