//! The other executors of this machine: whose folders are beside ours.

use std::path::{Path, PathBuf};

use wanwright_supervisor::{DirLock, Error};

use super::left;
use super::spool::Spool;
use super::store::StoreError;

/// The folders beside ours that are executors': those with a spool and a lock, which whoever lives holds.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    own: PathBuf,
}

impl Neighbours {
    /// Those of the executor with this folder.
    pub(super) fn of(own: &Path) -> Self {
        Self { own: own.canonicalize().unwrap_or_else(|_| own.to_owned()) }
    }

    /// Whether there are none.
    pub(super) async fn is_alone(&self) -> bool {
        self.folders(|_| true).await.is_empty()
    }

    /// The neighbours whose spool has a version of this stack.
    pub(super) async fn with(&self, stack: &str) -> Vec<PathBuf> {
        let file = Spool::file(stack);
        self.folders(move |folder| folder.join(Spool::FOLDER).join(&file).exists()).await
    }

    /// The neighbours with anything in their spool or in the folders of their runs that has to be taken in or away, those
    /// that live among them.
    pub(super) async fn left(&self) -> Vec<PathBuf> {
        self.folders(|folder| Spool::is_left(&folder.join(Spool::FOLDER)) || left::is_any(folder)).await
    }

    async fn folders(&self, which: impl Fn(&Path) -> bool + Send + 'static) -> Vec<PathBuf> {
        let own = self.own.clone();
        let list = move || {
            let entries = own.parent().and_then(|parent| std::fs::read_dir(parent).ok());
            let folders = entries.into_iter().flatten().flatten().map(|entry| entry.path());
            let is_executor =
                |folder: &PathBuf| folder.join(Spool::FOLDER).is_dir() && folder.join("lock").is_file();
            folders.filter(|folder| *folder != own && is_executor(folder) && which(folder)).collect()
        };
        tokio::task::spawn_blocking(list).await.unwrap_or_default()
    }

    /// Takes the place of a dead neighbour for as long as the lock is held: it cannot be started meanwhile, and nobody
    /// else takes anything over. None while it lives.
    pub(super) fn lock(&self, folder: &Path) -> Result<Option<DirLock>, StoreError> {
        match DirLock::acquire(folder) {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::Locked { .. }) => Ok(None),
            Err(error) => {
                Err(StoreError::spool("locking another executor's folder")(std::io::Error::other(error)))
            }
        }
    }
}
