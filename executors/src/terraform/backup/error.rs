//! Why there is no backup, or none is brought back.

use std::io;
use std::path::{Path, PathBuf};

use wanwright_schemas::reason::{Reason, Refusal};

/// Why a backup was not written or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder is another's.
    #[error("{} has {what} in it", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// What is in it.
        what: String,
    },
    /// Somebody is writing a backup there.
    #[error("another backup is being written into {}", dir.display())]
    UnderWay {
        /// The folder.
        dir: PathBuf,
    },
    /// A version would be in the backup for everybody to read.
    #[error("version {serial} of stack {stack} is not sealed")]
    Unsealed {
        /// The stack.
        stack: String,
        /// The serial of the version.
        serial: i64,
    },
    /// No manifest.
    #[error(
        "{} has no {}, so it is no backup or one that was not finished",
        dir.display(),
        super::manifest::NAME
    )]
    None {
        /// The folder.
        dir: PathBuf,
    },
    /// The backup is not what was written.
    #[error("{}: {why}; nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The backup is of a later wanwright.
    #[error("{} was written by a later wanwright; nothing was restored", dir.display())]
    Later {
        /// The folder.
        dir: PathBuf,
    },
    /// A file or folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Postgres did not do its part.
    #[error("Postgres")]
    Postgres(#[from] sqlx::Error),
}

impl BackupError {
    /// Trouble with a file or folder.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// A file that is not what was written.
    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }

    /// The reason of a refusal; none for what failed on the way.
    pub fn code(&self) -> Option<Reason> {
        match self {
            Self::NotEmpty { .. } => Some(Reason::BackupFolderNotEmpty),
            Self::UnderWay { .. } => Some(Reason::BackupUnderWay),
            Self::Unsealed { .. } => Some(Reason::StateUnsealed),
            Self::None { .. } => Some(Reason::BackupMissing),
            Self::Damaged { .. } => Some(Reason::BackupDamaged),
            Self::Later { .. } => Some(Reason::BackupLater),
            Self::Io { .. } | Self::Postgres(_) => None,
        }
    }

    /// The refusal, if it is one: what is wrong, and what to do next.
    pub fn refusal(&self) -> Option<Refusal> {
        self.code().map(|code| Refusal::new(code, self.to_string()))
    }
}
