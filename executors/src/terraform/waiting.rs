//! Which states wait for Postgres on which machine, kept in NATS: whoever has lost that machine learns what is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::kv;
use futures::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Nats, NatsError};

use super::spool::Spool;
use super::store::Version;

/// What the keys of these notes begin with; a stack follows.
const PREFIX: &str = "state.";

/// Longest wait for NATS while Terraform waits for us. What was not noted is noted later.
const PATIENCE: Duration = Duration::from_secs(1);

/// A state that an executor has on its disk and Postgres does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingState {
    /// The stack: the id of the command that created its site.
    pub stack: String,
    /// The order in whose run it was written.
    pub order: String,
    /// The serial Terraform gave it.
    pub serial: i64,
    /// The lineage Terraform gave the stack.
    pub lineage: String,
    /// The machine it is on.
    pub host: String,
    /// The folder of the executor that has it.
    pub folder: PathBuf,
    /// Since when it waits.
    pub since: Timestamp,
}

impl WaitingState {
    /// The file that it is in, on its machine.
    pub fn file(&self) -> PathBuf {
        self.folder.join(Spool::FOLDER).join(Spool::file(&self.stack))
    }
}

/// What this executor has noted, and what it could not note until now.
#[derive(Debug)]
pub(super) struct Waiting {
    nats: Option<Nats>,
    folder: PathBuf,
    /// What NATS has to be told: that a state waits, or (`None`) that it does not any more.
    untold: Mutex<BTreeMap<String, Option<WaitingState>>>,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::Failed { doing: "noting which states wait for Postgres".to_owned(), source: error.into() }
}

async fn notes(nats: &Nats) -> Result<kv::Store, NatsError> {
    nats.js.get_key_value(ATTEMPTS).await.map_err(failed)
}

/// The name of this machine.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The states that wait for Postgres, wherever they are. A note is kept for thirty days.
///
/// # Errors
/// [`NatsError`] when they cannot be read.
pub async fn waiting_states(nats: &Nats) -> Result<Vec<WaitingState>, NatsError> {
    let store = notes(nats).await?;
    let keys: Vec<String> = store.keys().await.map_err(failed)?.try_collect().await.map_err(failed)?;
    let mut found = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(PREFIX)) {
        if let Some(note) = store.get(key).await.map_err(failed)? {
            found.push(serde_json::from_slice(&note).map_err(failed)?);
        }
    }
    Ok(found)
}

impl Waiting {
    /// The notes of the executor with this folder. Without a connection nobody is told.
    pub(super) fn new(nats: Option<Nats>, folder: &Path) -> Self {
        Self { nats, folder: folder.to_owned(), untold: Mutex::new(BTreeMap::new()) }
    }

    fn untold(&self) -> MutexGuard<'_, BTreeMap<String, Option<WaitingState>>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a version waits here.
    pub(super) async fn note(&self, version: &Version) {
        let waiting = WaitingState {
            stack: version.stack.clone(),
            order: version.order.clone(),
            serial: version.serial,
            lineage: version.lineage.clone(),
            host: host(),
            folder: self.folder.clone(),
            since: Timestamp::now(),
        };
        self.untold().insert(version.stack.clone(), Some(waiting));
        self.tell(&version.stack).await;
    }

    /// Notes that nothing of a stack waits here any more.
    pub(super) async fn forget(&self, stack: &str) {
        self.untold().insert(stack.to_owned(), None);
        self.tell(stack).await;
    }

    /// Tells NATS what it could not be told before.
    pub(super) async fn tell_again(&self) {
        let stacks: Vec<String> = self.untold().keys().cloned().collect();
        for stack in stacks {
            self.tell(&stack).await;
        }
    }

    async fn tell(&self, stack: &str) {
        let Some(what) = self.untold().get(stack).cloned() else { return };
        let told = tokio::time::timeout(PATIENCE, self.try_tell(stack, what.as_ref())).await;
        match told {
            Ok(Ok(())) => {
                let mut untold = self.untold();
                if untold.get(stack) == Some(&what) {
                    untold.remove(stack);
                }
            }
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(stack, error, "it is not noted yet whether a state waits here");
            }
            Err(_) => tracing::debug!(stack, "it is not noted yet whether a state waits here"),
        }
    }

    async fn try_tell(&self, stack: &str, what: Option<&WaitingState>) -> Result<(), NatsError> {
        let Some(nats) = &self.nats else { return Ok(()) };
        let (store, key) = (notes(nats).await?, format!("{PREFIX}{stack}"));
        match what {
            Some(waiting) => {
                let note = serde_json::to_vec(waiting).map_err(failed)?;
                store.put(&key, note.into()).await.map(drop).map_err(failed)
            }
            None => store.purge(&key).await.map_err(failed),
        }
    }
}
