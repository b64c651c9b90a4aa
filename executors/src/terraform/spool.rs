//! The spool: what Terraform wrote, on our disk before Terraform is told so.
//!
//! A state that is answered and then lost means resources that nobody knows of. So a write is answered when it is on
//! disk here; Postgres gets it right after, or when it is back.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::store::{StoreError, Version};

/// The spool of one executor: a file per stack with the newest write that Postgres does not have yet.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    dir: PathBuf,
}

/// What a file holds: the state and the order it belongs to.
#[derive(Serialize, Deserialize)]
struct Spooled {
    order: String,
    state: String,
}

impl Spool {
    /// Opens the spool in this folder.
    pub(super) async fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir).await?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn path(&self, stack: &str) -> PathBuf {
        self.dir.join(format!("{stack}.json"))
    }

    /// Puts a version on disk, for good.
    pub(super) async fn put(&self, version: &Version) -> io::Result<()> {
        let state = String::from_utf8(version.body.clone()).map_err(io::Error::other)?;
        let spooled = serde_json::to_vec(&Spooled { order: version.order.clone(), state })?;
        let (path, temporary) = (self.path(&version.stack), self.dir.join(format!("{}.tmp", version.stack)));
        let mut file = fs::File::create(&temporary).await?;
        file.write_all(&spooled).await?;
        file.sync_all().await?;
        drop(file);
        fs::rename(&temporary, &path).await?;
        // The name is on disk only when the folder is.
        fs::File::open(&self.dir).await?.sync_all().await
    }

    /// The version that waits for Postgres, if one does.
    pub(super) async fn get(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        let bytes = match fs::read(self.path(stack)).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::NoState(format!("the spool cannot be read: {error}"))),
        };
        let spooled: Spooled =
            serde_json::from_slice(&bytes).map_err(|error| StoreError::NoState(error.to_string()))?;
        Version::read(stack, &spooled.order, spooled.state.into_bytes()).map(Some)
    }

    /// Forgets a version that Postgres has, unless a newer one came meanwhile.
    pub(super) async fn done(&self, version: &Version) -> Result<(), StoreError> {
        if self.get(&version.stack).await?.is_some_and(|present| present.body == version.body) {
            fs::remove_file(self.path(&version.stack))
                .await
                .map_err(|error| StoreError::NoState(format!("the spool cannot be cleared: {error}")))?;
        }
        Ok(())
    }

    /// The stacks with a version that waits.
    pub(super) async fn waiting(&self) -> io::Result<Vec<String>> {
        let mut stacks = Vec::new();
        let mut entries = fs::read_dir(&self.dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            if let Some(stack) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                stacks.push(stack.to_owned());
            }
        }
        Ok(stacks)
    }
}
