//! The spool: what Terraform wrote, on our disk before Terraform is told so.
//!
//! A state that is answered and then lost means resources that nobody knows of. So a write is answered when it is on
//! disk here; Postgres gets it right after, or when it is back. Nothing in here is ever deleted that Postgres does not
//! have: what cannot be used is set aside under another name, for a person.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::store::{Mark, StoreError, Version};

/// The spool of one executor: a file per stack with the newest write that Postgres does not have yet. It does not
/// exclude anybody; whoever uses it takes one stack at a time.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    dir: PathBuf,
}

/// What a file holds: the state, the order it belongs to, and the versions it may follow.
#[derive(Serialize, Deserialize)]
struct Spooled {
    order: String,
    after: Vec<Option<Mark>>,
    state: String,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Spool { doing, source }
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
    pub(super) async fn put(&self, version: &Version) -> Result<(), StoreError> {
        self.write(version, &self.path(&version.stack)).await.map_err(failed("spooling a state"))
    }

    async fn write(&self, version: &Version, path: &Path) -> io::Result<()> {
        let state = String::from_utf8(version.body.clone()).map_err(io::Error::other)?;
        let spooled = Spooled { order: version.order.clone(), after: version.after.clone(), state };
        let temporary = self.dir.join(format!("{}.tmp", version.stack));
        let mut file = fs::File::create(&temporary).await?;
        file.write_all(&serde_json::to_vec(&spooled)?).await?;
        // The write is still on its way; `sync_all` would wait for it and keep its failure to itself.
        file.flush().await?;
        file.sync_all().await?;
        drop(file);
        fs::rename(&temporary, path).await?;
        self.sync().await
    }

    /// A name is on disk only when the folder is.
    async fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.dir).await?.sync_all().await
    }

    /// The version that waits for Postgres, if one does. A file that is none is set aside: it must not block its stack
    /// for ever.
    pub(super) async fn get(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        let bytes = match fs::read(self.path(stack)).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading a spooled state")(error)),
        };
        let version = serde_json::from_slice::<Spooled>(&bytes)
            .map_err(|error| StoreError::NoState(error.to_string()))
            .and_then(|spooled| {
                Version::read(stack, &spooled.order, spooled.state.into_bytes(), spooled.after)
            });
        match version {
            Ok(version) => Ok(Some(version)),
            Err(error) => {
                let aside = self.free(&format!("{stack}.bad")).await;
                tracing::error!(stack, %error, aside = %aside.display(), "a spooled state cannot be read; it is set aside");
                fs::rename(self.path(stack), aside).await.map_err(failed("setting a spooled state aside"))?;
                Ok(None)
            }
        }
    }

    /// Forgets what waits of a stack: Postgres has it, or something newer.
    pub(super) async fn forget(&self, stack: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(stack)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("clearing a spooled state")(error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a version that does not fit what Postgres has, beside the spool, for a person to look at.
    pub(super) async fn set_aside(&self, version: &Version) -> Result<PathBuf, StoreError> {
        let aside = self.free(&format!("{}.{}.conflict", version.stack, version.serial)).await;
        self.write(version, &aside).await.map_err(failed("setting a state aside"))?;
        Ok(aside)
    }

    /// A name that is not taken.
    async fn free(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        if !fs::try_exists(&path).await.unwrap_or(true) {
            return path;
        }
        self.dir.join(format!("{name}.{}", uuid::Uuid::new_v4().simple()))
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
