//! The files of a backup: written under another name until they are on the disk, and read against the manifest.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wanwright_schemas::envelope::Digest;

use super::{BackupError, BackupFile};

/// How the name of a file ends while it is written.
pub(super) const UNFINISHED: &str = ".tmp";

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Removes a file that was begun or finished, where it is there.
pub(super) async fn forget(dir: &Path, name: &str) -> Result<(), BackupError> {
    for name in [name.to_owned(), format!("{name}{UNFINISHED}")] {
        let path = dir.join(name);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::io("removing", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name is on disk only when the folder is, and the folder's own name only when that of its parent is.
pub(super) async fn sync_folder(dir: &Path) -> Result<(), BackupError> {
    let dir = fs::canonicalize(dir).await.map_err(BackupError::io("finding", dir))?;
    for dir in std::iter::once(dir.as_path()).chain(dir.parent()) {
        let synced = async { fs::File::open(dir).await?.sync_all().await };
        synced.await.map_err(BackupError::io("writing to the disk", dir))?;
    }
    Ok(())
}

/// A file that is being written.
pub(super) struct Writer {
    file: fs::File,
    temporary: PathBuf,
    path: PathBuf,
    name: String,
    hash: Sha256,
    bytes: u64,
    rows: u64,
}

impl Writer {
    /// Begins a file of this name, which nobody else may have begun.
    pub(super) async fn create(dir: &Path, name: &str) -> Result<Self, BackupError> {
        let temporary = dir.join(format!("{name}{UNFINISHED}"));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).await;
        Ok(Self::of(file.map_err(BackupError::io("making", &temporary))?, dir, name))
    }

    /// Goes on with the file of this name, which was begun and is empty.
    pub(super) fn of(file: fs::File, dir: &Path, name: &str) -> Self {
        let (path, temporary) = (dir.join(name), dir.join(format!("{name}{UNFINISHED}")));
        let (name, hash) = (name.to_owned(), Sha256::new());
        Self { file, temporary, path, name, hash, bytes: 0, rows: 0 }
    }

    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), BackupError> {
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        self.rows += lines(chunk);
        self.file.write_all(chunk).await.map_err(BackupError::io("writing", &self.temporary))
    }

    /// How many rows were written.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Puts the file on the disk and gives it its name.
    pub(super) async fn finish(self) -> Result<BackupFile, BackupError> {
        let Self { mut file, temporary, path, name, hash, bytes, rows } = self;
        let finished = async {
            // The write is still on its way; `sync_all` would wait for it and keep its failure to itself.
            file.flush().await?;
            file.sync_all().await?;
            drop(file);
            fs::rename(&temporary, &path).await
        };
        finished.await.map_err(BackupError::io("writing", &path))?;
        Ok(BackupFile { name, rows, bytes, digest: Digest::from_bytes(hash.finalize().into()) })
    }
}

/// How many rows end in a text: `COPY` never writes the end of a line inside a row.
fn lines(chunk: &[u8]) -> u64 {
    chunk.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Reads a file to its end, and sees that it is what the manifest says. What was read counts only then.
pub(super) async fn read_through(
    dir: &Path,
    wanted: &BackupFile,
    mut each: impl AsyncFnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let path = dir.join(&wanted.name);
    let mut file = match fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::damaged(&path, "it is not there"));
        }
        Err(error) => return Err(BackupError::io("reading", &path)(error)),
    };
    let (mut chunk, mut hash, mut bytes, mut rows) = (vec![0; CHUNK], Sha256::new(), 0, 0);
    loop {
        let read = file.read(&mut chunk).await.map_err(BackupError::io("reading", &path))?;
        if read == 0 {
            break;
        }
        let chunk = &chunk[..read];
        hash.update(chunk);
        bytes += read as u64;
        rows += lines(chunk);
        each(chunk).await?;
    }
    if bytes != wanted.bytes {
        let why = format!("it has {bytes} bytes, and {} were written", wanted.bytes);
        return Err(BackupError::damaged(&path, why));
    }
    if rows != wanted.rows || Digest::from_bytes(hash.finalize().into()) != wanted.digest {
        return Err(BackupError::damaged(&path, "it is not what was written"));
    }
    Ok(())
}
