//! Keeping states: in the spool first, then in Postgres and NATS; one stack at a time.
//!
//! A version that waits for them is in the spool of the executor that took it from Terraform, and nowhere else. That
//! executor may never be started again, so the others on this machine take over what is in the spools of those that are
//! dead, before they run a stack as well as now and then, and no stack runs that has a version in the spool of one that
//! lives. What waits on another machine is told to NATS (`waiting.rs`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::OwnedMutexGuard;
use wanwright_nats::Fence;

use super::left::{self, Seen};
use super::neighbours::Neighbours;
use super::spool::Spool;
use super::store::{Store, StoreError, Version};
use super::waiting::Waiting;

/// How often the spool is looked through for what Postgres did not take at once.
const FLUSH: Duration = Duration::from_secs(2);

/// How often old versions of states are removed.
const THIN: Duration = Duration::from_secs(60 * 60);

/// Longest wait for Postgres while Terraform waits for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a version that Postgres has not taken yet is noted as one that waits for it.
const SOON: Duration = Duration::from_millis(300);

/// The states of all stacks.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) spool: Spool,
    neighbours: Neighbours,
    waiting: Waiting,
    stacks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(StoreError::Late))
}

impl Keeper {
    pub(super) fn new(store: Store, spool: Spool, neighbours: Neighbours, waiting: Waiting) -> Self {
        Self { store, spool, neighbours, waiting, stacks: Mutex::new(HashMap::new()) }
    }

    /// Excludes everybody else from a stack.
    async fn alone(&self, stack: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
            stacks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(stacks.entry(stack.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// The newest state of a stack, wherever it is.
    ///
    /// A version moves from the spool of a dead neighbour to that of a living one and from there to Postgres. Looked for
    /// in that order twice, with the same result, it cannot have been overlooked on its way.
    pub(super) async fn newest(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        loop {
            self.inherit(stack).await?;
            let first = self.own(stack).await?;
            if self.neighbours.is_alone().await {
                return Ok(first);
            }
            self.inherit(stack).await?;
            let second = self.own(stack).await?;
            if first.as_ref().map(Version::mark) == second.as_ref().map(Version::mark) {
                return Ok(second);
            }
        }
    }

    /// The newest state of a stack in our spool and in Postgres. What our spool has may be older: it had reached Postgres
    /// when we died, and others have gone on from there.
    async fn own(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        let _alone = self.alone(stack).await;
        if let Some(spooled) = self.spool.get(stack).await? {
            match self.settle_waiting(&spooled).await {
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(StoreError::Postgres(_) | StoreError::Late | StoreError::Copy(_)) => {
                    return Ok(Some(spooled));
                }
                Err(error) => return Err(error),
            }
        }
        in_time(self.store.newest(stack)).await
    }

    /// Takes over what a dead neighbour has of a stack. One that lives keeps it, and the stack has to wait.
    async fn inherit(&self, stack: &str) -> Result<(), StoreError> {
        for folder in self.neighbours.with(stack).await {
            if !self.take_over(&folder).await? {
                return Err(StoreError::Elsewhere { folder });
            }
        }
        Ok(())
    }

    /// Takes over what waits in the spool of a neighbour, if that is dead. `false`: it lives, or somebody else is at it.
    async fn take_over(&self, folder: &Path) -> Result<bool, StoreError> {
        let Some(_dead) = self.neighbours.lock(folder)? else { return Ok(false) };
        let left = self
            .spool
            .beside(&folder.join(Spool::FOLDER))
            .await
            .map_err(StoreError::spool("opening a spool"))?;
        for stack in left.waiting().await.map_err(StoreError::spool("reading a spool"))? {
            let Some(version) = left.get(&stack).await? else { continue };
            tracing::warn!(stack, serial = version.serial, from = %folder.display(), "a dead executor's state is taken over");
            let _alone = self.alone(&stack).await;
            match self.receive(version).await {
                // It was set aside here.
                Ok(()) | Err(StoreError::Conflict { .. }) => left.forget(&stack).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Puts a version of a neighbour into our spool; it reaches Postgres from there.
    async fn receive(&self, version: Version) -> Result<(), StoreError> {
        let Some(own) = self.spool.get(&version.stack).await? else {
            self.spool.put(&version).await?;
            self.waiting.note(&version).await;
            return Ok(());
        };
        if own.after.contains(&Some(version.mark())) {
            // Ours was made from it, and may follow whatever it may follow.
            let after = [version.after, own.after.clone()].concat();
            return self.spool.put(&Version { after, ..own }).await;
        }
        self.keep_alone(version).await
    }

    /// Notes that a stack is locked under a lease. `false`: it was under a later one.
    ///
    /// What waits here was made before that, and whoever has the lease goes on from it: it is stored first, and as long as
    /// it cannot be, nothing is noted.
    pub(super) async fn fence(&self, stack: &str, fence: Fence) -> Result<bool, StoreError> {
        self.take_over_left().await;
        self.inherit(stack).await?;
        let _alone = self.alone(stack).await;
        if let Some(spooled) = self.spool.get(stack).await? {
            match self.settle_waiting(&spooled).await {
                // Postgres has it, or it was set aside.
                Ok(()) | Err(StoreError::Copy(_) | StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        in_time(self.store.fence(stack, fence)).await
    }

    /// Keeps a version that was made from what its `after` names. It is safe when this answers.
    pub(super) async fn keep(&self, version: Version) -> Result<(), StoreError> {
        let _alone = self.alone(&version.stack).await;
        self.keep_alone(version).await
    }

    async fn keep_alone(&self, mut version: Version) -> Result<(), StoreError> {
        // A spool that cannot be read cannot be written either; Postgres is then asked right away.
        let spooled = self.spool.get(&version.stack).await.ok().flatten();
        let has_waited = spooled.is_some();
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
        let settled = match has_waited {
            true => self.settle_waiting(&version).await,
            false => self.settle_soon(&version).await,
        };
        match settled {
            // It is safe on disk; the flush brings it to Postgres and NATS.
            Err(error @ (StoreError::Postgres(_) | StoreError::Late | StoreError::Copy(_))) => {
                tracing::warn!(
                    stack = version.stack,
                    error = &error as &dyn std::error::Error,
                    "a state waits for Postgres or NATS"
                );
                self.waiting.note(&version).await;
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

    /// The same, noted as waiting when Postgres does not answer soon: this process may be gone before it does.
    async fn settle_soon(&self, version: &Version) -> Result<(), StoreError> {
        let settled = self.settle(version);
        tokio::pin!(settled);
        if let Ok(settled) = tokio::time::timeout(SOON, &mut settled).await {
            return settled;
        }
        self.waiting.note(version).await;
        let settled = settled.await;
        self.forget_settled(version, &settled).await;
        settled
    }

    /// The same for one that has waited, and was noted as such.
    async fn settle_waiting(&self, version: &Version) -> Result<(), StoreError> {
        let settled = self.settle(version).await;
        self.forget_settled(version, &settled).await;
        settled
    }

    async fn forget_settled(&self, version: &Version, settled: &Result<(), StoreError>) {
        if matches!(settled, Ok(()) | Err(StoreError::Conflict { .. })) {
            self.waiting.forget(&version.stack).await;
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

    /// Takes in a state that Terraform could not hand over and left on disk. `seen` is what it was made from; where nobody
    /// knows that, it is set aside, unless it is there already.
    pub(super) async fn adopt(
        &self,
        stack: &str,
        order: &str,
        body: Vec<u8>,
        seen: Option<Seen>,
    ) -> Result<(), StoreError> {
        let (after, fence) = match seen {
            Some(Seen { version, fence }) => (vec![version], fence),
            None => (Vec::new(), None),
        };
        self.keep(Version::read(stack, order, body, after)?.under(fence)).await
    }

    /// Brings to Postgres and NATS what waits for them, that of dead neighbours included, again and again.
    pub(super) async fn flush(self: Arc<Self>) {
        let mut thin = tokio::time::interval(THIN);
        loop {
            self.flush_once().await;
            if thin.tick().now_or_never().is_some()
                && let Err(error) = self.store.thin().await
            {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "old versions of states are removed later");
            }
            tokio::time::sleep(FLUSH).await;
        }
    }

    /// Takes over what all dead neighbours left.
    async fn take_over_left(&self) {
        for folder in self.neighbours.left().await {
            if let Err(error) = self.take_over_all(&folder).await {
                let (error, folder) = (&error as &dyn std::error::Error, folder.display());
                tracing::warn!(%folder, error, "what a dead executor left waits to be taken over");
            }
        }
    }

    async fn flush_once(&self) {
        self.take_over_left().await;
        for stack in self.spool.waiting().await.unwrap_or_default() {
            if let Err(error) = self.flush_stack(&stack).await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(stack, error, "a state still waits");
            }
        }
        self.waiting.tell_again().await;
    }

    /// Takes over what a dead neighbour left: its spool, then what Terraform left in the folders of its runs.
    async fn take_over_all(&self, folder: &Path) -> Result<(), StoreError> {
        if !self.take_over(folder).await? {
            return Ok(());
        }
        let Some(_dead) = self.neighbours.lock(folder)? else { return Ok(()) };
        left::clear(self, &folder.join(left::RUNS)).await
    }

    async fn flush_stack(&self, stack: &str) -> Result<(), StoreError> {
        let _alone = self.alone(stack).await;
        match self.spool.get(stack).await? {
            Some(version) => self.settle_waiting(&version).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
