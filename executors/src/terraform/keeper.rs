//! Keeping states: in the spool first, then in Postgres and NATS; one stack at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::spool::Spool;
use super::store::{Mark, Store, StoreError, Version};

/// How often the spool is looked through for what Postgres did not take at once.
const FLUSH: Duration = Duration::from_secs(2);

/// Longest wait for Postgres while Terraform waits for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// The states of all stacks.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) spool: Spool,
    stacks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(StoreError::Late))
}

impl Keeper {
    pub(super) fn new(store: Store, spool: Spool) -> Self {
        Self { store, spool, stacks: Mutex::new(HashMap::new()) }
    }

    /// Excludes everybody else from a stack.
    async fn alone(&self, stack: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(stacks.entry(stack.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// The newest state of a stack, wherever it is.
    pub(super) async fn newest(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        let _alone = self.alone(stack).await;
        match self.spool.get(stack).await? {
            Some(spooled) => Ok(Some(spooled)),
            None => in_time(self.store.newest(stack)).await,
        }
    }

    /// Keeps a version that was made from what its `after` names. It is safe when this answers.
    pub(super) async fn keep(&self, version: Version) -> Result<(), StoreError> {
        let _alone = self.alone(&version.stack).await;
        self.keep_alone(version).await
    }

    async fn keep_alone(&self, mut version: Version) -> Result<(), StoreError> {
        // A spool that cannot be read cannot be written either; Postgres is then asked right away.
        let spooled = self.spool.get(&version.stack).await.ok().flatten();
        if let Some(spooled) = spooled {
            if spooled.body == version.body {
                version.after = spooled.after;
            } else if version.after.contains(&Some(spooled.mark())) && version.serial > spooled.serial {
                // The one that waits is replaced; Postgres may or may not have got it.
                version.after = [spooled.after.clone(), vec![Some(spooled.mark())]].concat();
            } else {
                let conflict = version.conflict(Some(&spooled));
                self.set_aside(&version).await?;
                return Err(conflict);
            }
        }
        if let Err(error) = self.spool.put(&version).await {
            tracing::error!(
                stack = version.stack,
                error = &error as &dyn std::error::Error,
                "a state cannot be spooled; only Postgres can take it"
            );
            in_time(self.store.store(&version)).await.map_err(|_| error)?;
            // What waited is older, and would be served in its place.
            return self.spool.forget(&version.stack).await;
        }
        match self.settle(&version).await {
            // It is safe on disk; the flush brings it to Postgres and NATS.
            Err(error @ (StoreError::Postgres(_) | StoreError::Late | StoreError::Copy(_))) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(stack = version.stack, error, "a state waits for Postgres or NATS");
                Ok(())
            }
            settled => settled,
        }
    }

    /// Brings the spooled version of a stack to Postgres and NATS.
    async fn settle(&self, version: &Version) -> Result<(), StoreError> {
        match in_time(self.store.store(version)).await {
            Ok(()) => self.spool.forget(&version.stack).await,
            Err(conflict @ StoreError::Conflict { .. }) => {
                self.set_aside(version).await?;
                self.spool.forget(&version.stack).await?;
                Err(conflict)
            }
            Err(error) => Err(error),
        }
    }

    async fn set_aside(&self, version: &Version) -> Result<(), StoreError> {
        let aside = self.spool.set_aside(version).await?;
        tracing::error!(
            stack = version.stack,
            serial = version.serial,
            aside = %aside.display(),
            "a state does not follow the one before it; it is set aside, and what it knew has to be looked for"
        );
        Ok(())
    }

    /// Takes in a state that Terraform could not hand over and left on disk. `seen` is what it was made from, if that
    /// is known; else the state has to be a later one of the same lineage.
    pub(super) async fn adopt(
        &self,
        stack: &str,
        order: &str,
        body: Vec<u8>,
        seen: Option<Option<Mark>>,
    ) -> Result<(), StoreError> {
        let after = match seen {
            Some(seen) => seen,
            None => self.newest(stack).await?.map(|present| present.mark()),
        };
        self.keep(Version::read(stack, order, body, vec![after])?).await
    }

    /// Brings to Postgres and NATS what waits for them, again and again.
    pub(super) async fn flush(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FLUSH).await;
            for stack in self.spool.waiting().await.unwrap_or_default() {
                if let Err(error) = self.flush_stack(&stack).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(stack, error, "a state still waits");
                }
            }
        }
    }

    async fn flush_stack(&self, stack: &str) -> Result<(), StoreError> {
        let _alone = self.alone(stack).await;
        match self.spool.get(stack).await? {
            Some(version) => self.settle(&version).await,
            None => Ok(()),
        }
    }
}
