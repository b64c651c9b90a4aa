use std::path::PathBuf;

/// Why the simulator could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket could not be used.
    #[error("{doing}")]
    Io {
        /// What was being done, with the path or address.
        doing: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file of the vendor folder is not valid TOML, or not of the expected shape.
    #[error("reading {}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The vendor folder contradicts itself or asks for something the simulator cannot do.
    #[error("vendor folder {}: {what}", path.display())]
    Vendor {
        /// The vendor folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A value of the configuration is out of range.
    #[error("configuration: {0}")]
    Config(String),
    /// Another simulator uses the data folder.
    #[error("the data folder {} is in use by another simulator", .0.display())]
    InUse(PathBuf),
    /// The journal is damaged before its end, so what was answered cannot be restored.
    #[error("{}: line {line} is damaged and valid lines follow it", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The first damaged line, from 1.
        line: usize,
    },
    /// A task ended in a way it never should.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
