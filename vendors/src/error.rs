//! Why a vendor folder could not be loaded.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a vendor folder could not be loaded. Each names the file, and where it can the field, and says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// A file is not TOML, JSON or UTF-8.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// A field is missing, unknown, or has a value it may not have.
    #[error("{}: `{field}`: {message}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// Dotted path of the field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file is missing, or is there and should not be.
    #[error("{}: {message}", path.display())]
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}

impl LoadError {
    /// The file or folder the error is about.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Read { path, .. } | Self::Layout { path, .. } => path,
            Self::Syntax { file, .. } | Self::Field { file, .. } => file,
        }
    }
}
