//! The log file of a child: what it said since its start.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const TAIL_BYTES: u64 = 64 * 1024;
const TAIL_LINES: usize = 12;

/// A log, from the length it had when the child was started.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    from: u64,
}

impl Log {
    /// Remembers how long the file is now.
    pub(crate) fn from_here(path: &Path) -> Self {
        Self { path: path.to_owned(), from: std::fs::metadata(path).map_or(0, |meta| meta.len()) }
    }

    /// What was written since, at most the last 64 KiB. Empty when the file cannot be read: it only explains a failure.
    pub(crate) fn recent(&self) -> String {
        let read = || {
            let mut file = File::open(&self.path)?;
            let from = self.from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// The last lines of that.
    pub(crate) fn tail(&self) -> String {
        let recent = self.recent();
        let lines: Vec<&str> = recent.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}
