//! Keeping states: in the spool first, then in Postgres; one stack at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::OwnedMutexGuard;

use super::spool::Spool;
use super::store::{self, Mark, StoreError, Version};

/// How often the spool is looked through for what Postgres did not take at once.
const FLUSH: Duration = Duration::from_secs(2);

/// Longest wait for Postgres while Terraform waits for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// The states of all stacks.
pub(super) struct Keeper {
    pool: PgPool,
    spool: Spool,
    stacks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(StoreError::Late))
}

impl Keeper {
    pub(super) fn new(pool: PgPool, spool: Spool) -> Self {
        Self { pool, spool, stacks: Mutex::new(HashMap::new()) }
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
            None => in_time(store::newest(&self.pool, stack)).await,
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
            in_time(store::store(&self.pool, &version)).await.map_err(|_| error)?;
            // What waited is older, and would be served in its place.
            return self.spool.forget(&version.stack).await;
        }
        match self.settle(&version).await {
            // It is safe on disk; the flush brings it to Postgres.
            Err(error @ (StoreError::Postgres(_) | StoreError::Late)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(stack = version.stack, error, "a state waits for Postgres");
                Ok(())
            }
            settled => settled,
        }
    }

    /// Brings the spooled version of a stack to Postgres.
    async fn settle(&self, version: &Version) -> Result<(), StoreError> {
        match in_time(store::store(&self.pool, version)).await {
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

    /// Brings to Postgres what waits for it, again and again.
    pub(super) async fn flush(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FLUSH).await;
            for stack in self.spool.waiting().await.unwrap_or_default() {
                if let Err(error) = self.flush_stack(&stack).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(stack, error, "a state still waits for Postgres");
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;
    use sqlx::Executor;
    use wanwright_supervisor::{Postgres, PostgresOptions};

    use super::*;

    const TABLE: &str = include_str!("../../../migrations/0007_terraform_states.sql");

    /// A keeper whose Postgres can be taken away. Only one of it: a server is not started for each test.
    struct World {
        postgres: Postgres,
        keeper: Keeper,
        spool: PathBuf,
        _dir: tempfile::TempDir,
    }

    async fn world() -> World {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        // Postgres does not run as root, so another user has to enter.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/programs");
        let mut options = PostgresOptions::new(dir.path().join("postgres"), cache);
        options.settings = vec![("fsync".into(), "off".into())];
        let postgres = Postgres::start(&options).await.expect("a Postgres");
        let options = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_millis(500));
        let pool = options.connect(&postgres.url()).await.expect("a connection");
        let create = TABLE.split("COMMENT ON").next().expect("the table");
        pool.execute(create).await.expect("a table");
        let spool = dir.path().join("spool");
        let keeper = Keeper::new(pool, Spool::open(&spool).await.expect("a spool"));
        World { postgres, keeper, spool, _dir: dir }
    }

    fn version(serial: i64, what: &str, after: Option<Mark>) -> Version {
        let body = json!({"version": 4, "serial": serial, "lineage": "l", "outputs": what}).to_string();
        Version::read("stack", "order", body.into_bytes(), vec![after]).expect("a state")
    }

    fn names(spool: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(spool).expect("the spool").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_state_follows_the_one_it_was_made_from_and_is_never_lost() {
        let World { postgres, keeper, spool, _dir } = world().await;
        let first = version(1, "one", None);
        keeper.keep(first.clone()).await.expect("the first");
        keeper.keep(first.clone()).await.expect("the same again");
        assert_eq!(names(&spool), [""; 0], "Postgres has it");

        // Somebody who has not seen the first one does not write over it, whatever the serial.
        let blind = keeper.keep(version(5, "blind", None)).await;
        assert!(matches!(blind, Err(StoreError::Conflict { .. })), "{blind:?}");
        assert_eq!(names(&spool), ["stack.5.conflict"]);

        // What Terraform left on disk is taken in if it was made from what is there.
        let left = version(2, "left", None);
        keeper.adopt("stack", "order", left.body.clone(), Some(Some(first.mark()))).await.expect("adopted");
        assert_eq!(
            keeper.newest("stack").await.expect("a state").map(|found| found.mark()),
            Some(left.mark())
        );

        // Without Postgres the spool is enough, and the chain holds over several writes.
        postgres.stop(Duration::from_secs(10)).await;
        let third = version(3, "three", Some(left.mark()));
        let fourth = version(4, "four", Some(third.mark()));
        keeper.keep(third.clone()).await.expect("spooled");
        keeper.keep(fourth.clone()).await.expect("spooled");
        let stranger = keeper.keep(version(9, "stranger", Some(left.mark()))).await;
        assert!(matches!(stranger, Err(StoreError::Conflict { .. })), "{stranger:?}");
        assert_eq!(
            keeper.newest("stack").await.expect("spooled").map(|found| found.mark()),
            Some(fourth.mark())
        );
        assert_eq!(names(&spool), ["stack.5.conflict", "stack.9.conflict", "stack.json"]);
        let waiting = keeper.spool.get("stack").await.expect("readable").expect("there");
        assert_eq!(waiting.after, [Some(left.mark()), Some(third.mark())]);
        assert!(waiting.follows(Some(&left)) && waiting.follows(Some(&third)) && !waiting.follows(None));

        // A file that is no state does not block its stack.
        std::fs::write(spool.join("stack.json"), "{").expect("written");
        assert!(keeper.spool.get("stack").await.expect("set aside").is_none());
        assert_eq!(names(&spool), ["stack.5.conflict", "stack.9.conflict", "stack.bad"]);
    }
}
