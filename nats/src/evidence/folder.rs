//! Signed heads in a folder: a file per stream, a line per head, written through to the disk before it counts.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::head::SignedHead;

/// The end of a file that is read for its last line; a head has about 500 bytes.
const TAIL: u64 = 8 * 1024;

/// A line that is no head.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file could not be read or written.
    #[error("the heads in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no head.
    #[error("{path}: `{line}` is no signed head")]
    NoHead {
        /// The file.
        path: PathBuf,
        /// The line, as far as it matters.
        line: String,
    },
}

/// A folder of heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The heads in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a stream.
    pub fn file(&self, stream: &str) -> PathBuf {
        self.0.join(format!("{stream}.jsonl"))
    }

    /// Adds a head; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn append(&self, head: &SignedHead) -> Result<(), FolderError> {
        let path = self.file(&head.stream);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&self.0)?;
            let is_new = !path.exists();
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let mut line = serde_json::to_vec(head)?;
            line.push(b'\n');
            if ends_within_a_line(&mut file)? {
                // A crash left half a line: it stays what it is, and the head gets a line of its own.
                line.insert(0, b'\n');
            }
            file.write_all(&line)?;
            file.sync_data()?;
            if is_new { std::fs::File::open(&self.0)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|source| FolderError::File { path: path.clone(), source })
    }

    /// Renames the file of a stream, so that its heads are kept and no longer count.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn set_aside(&self, stream: &str, mark: &str) -> Result<(), FolderError> {
        let (path, aside) = (self.file(stream), self.0.join(format!("{stream}.superseded-{mark}.jsonl")));
        match std::fs::rename(&path, aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::File { path, source })
            }
            _ => Ok(()),
        }
    }

    /// All heads of a stream, in the order they were written; none when there is no file. A line that a crash cut off is
    /// left out, any other that is no head is an error.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn heads(&self, stream: &str) -> Result<Vec<SignedHead>, FolderError> {
        let path = self.file(stream);
        match std::fs::read(&path) {
            Ok(bytes) => read(&path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(FolderError::File { path, source }),
        }
    }

    /// The newest head of a stream, without reading the whole file.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn newest(&self, stream: &str) -> Result<Option<SignedHead>, FolderError> {
        let path = self.file(stream);
        let tail = || -> io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            if length > TAIL {
                let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
                bytes.drain(..first);
            }
            Ok(bytes)
        };
        match tail() {
            Ok(bytes) => Ok(read(&path, &bytes)?.pop()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::File { path, source }),
        }
    }
}

fn ends_within_a_line(file: &mut std::fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

fn read(path: &Path, bytes: &[u8]) -> Result<Vec<SignedHead>, FolderError> {
    let mut heads: Vec<SignedHead> = Vec::new();
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(head) => heads.push(head),
            // The end of the text came too early: a crash, not a forgery. What it said was not counted on.
            Err(error) if error.is_eof() => {}
            Err(_) => {
                let line = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
                return Err(FolderError::NoHead { path: path.to_owned(), line });
            }
        }
    }
    Ok(heads)
}
