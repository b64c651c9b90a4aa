//! The folder of a backup while it is written. The manifest is there from the beginning, empty and under its temporary name:
//! that tells what a killed backup left from a backup that has lost its manifest, and from what somebody else has there.
//! The same rename that gives the manifest its name ends it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::fs;

use super::files::{UNFINISHED, Writer, forget, sync_folder};
use super::{BackupError, FENCES, STATES, manifest};

/// The files besides the manifest.
const DATA: [&str; 2] = [STATES.file, FENCES.file];

/// A folder that nobody else writes a backup into until this is dropped or the process ends, however it ends.
pub(super) struct Begun {
    dir: PathBuf,
    manifest: File,
}

impl Begun {
    /// Makes the folder, or takes one that is empty or has what a killed backup left, which is removed: the moment that it
    /// was of is gone, so it cannot be gone on with.
    pub(super) async fn take(dir: &Path) -> Result<Self, BackupError> {
        fs::create_dir_all(dir).await.map_err(BackupError::io("making", dir))?;
        let begun = loop {
            if let Some(begun) = Self::lock(dir).await? {
                break begun;
            }
        };
        for name in DATA {
            forget(dir, name).await?;
        }
        let emptied = begun.manifest.set_len(0);
        emptied.map_err(BackupError::io("writing", &temporary(dir)))?;
        sync_folder(dir).await?;
        Ok(begun)
    }

    /// Holds the folder, unless what is in it has become another's meanwhile.
    async fn lock(dir: &Path) -> Result<Option<Self>, BackupError> {
        let path = temporary(dir);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(!is_left(dir).await?).mode(0o600);
        let file = match options.open(&path).await {
            Ok(file) => file.into_std().await,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Ok(None);
            }
            Err(error) => return Err(BackupError::io("making", &path)(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::UnderWay { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(BackupError::io("locking", &path)(error)),
        }
        // Who held it may have finished or failed before it was locked here: then it is not the one that has the name.
        let held = file.metadata().map_err(BackupError::io("reading", &path))?;
        let is_held = match fs::metadata(&path).await {
            Ok(named) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(BackupError::io("reading", &path)(error)),
        };
        let is_ours = is_held && is_left(dir).await?;
        Ok(is_ours.then(|| Self { dir: dir.to_owned(), manifest: file }))
    }

    /// Where the manifest is written to, still held.
    pub(super) fn manifest(&self) -> Result<Writer, BackupError> {
        let file = self.manifest.try_clone().map_err(BackupError::io("opening", &temporary(&self.dir)))?;
        Ok(Writer::of(file.into(), &self.dir, manifest::NAME))
    }

    /// Removes what was written, the manifest last: what cannot be removed is then as if the backup had been killed.
    pub(super) async fn give_up(self) {
        for name in DATA.into_iter().chain([manifest::NAME]) {
            if let Err(error) = forget(&self.dir, name).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what is left of a backup cannot be removed; the next one does it");
                return;
            }
        }
    }
}

/// The manifest while it is not finished.
fn temporary(dir: &Path) -> PathBuf {
    dir.join(format!("{}{UNFINISHED}", manifest::NAME))
}

/// Whether a backup was begun in the folder and not finished. No: nothing is in it. Everything else is refused.
async fn is_left(dir: &Path) -> Result<bool, BackupError> {
    let not_empty = |what: String| BackupError::NotEmpty { dir: dir.to_owned(), what };
    let (mut is_begun, mut data) = (false, None);
    let reading = || BackupError::io("reading", dir);
    let mut entries = fs::read_dir(dir).await.map_err(reading())?;
    while let Some(entry) = entries.next_entry().await.map_err(reading())? {
        let is_file = entry.file_type().await.map_err(reading())?.is_file();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == manifest::NAME {
            return Err(not_empty("a backup".to_owned()));
        } else if is_file && entry.path() == temporary(dir) {
            is_begun = true;
        } else if is_file && DATA.contains(&name.strip_suffix(UNFINISHED).unwrap_or(&name)) {
            data = Some(name);
        } else {
            return Err(not_empty(name));
        }
    }
    match data {
        // Data without a manifest that was begun: perhaps all that is left of a backup.
        Some(name) if !is_begun => Err(not_empty(name)),
        _ => Ok(is_begun),
    }
}
