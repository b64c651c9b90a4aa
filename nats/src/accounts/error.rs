//! What can go wrong with keys and accounts.

use std::path::{Path, PathBuf};

/// Why a key was not made, a claim not signed or not taken.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A file could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file, key or claim is not what it must be.
    #[error("{0}")]
    Malformed(String),
    /// What was asked for cannot be: the sentence says why, and what to do.
    #[error("{0}")]
    NotPossible(String),
    /// The server did not take a claim.
    #[error("the server did not take the claims of {account}: {why}")]
    Push {
        /// Which account.
        account: String,
        /// Why.
        why: String,
    },
}

impl AccountError {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(super) fn malformed(text: impl Into<String>) -> Self {
        Self::Malformed(text.into())
    }

    pub(super) fn not_possible(text: impl Into<String>) -> Self {
        Self::NotPossible(text.into())
    }
}
