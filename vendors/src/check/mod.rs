//! Checking a vendor folder: whether it loads, what its author may have overlooked, and whether its recorded examples
//! come out as they say when the real client plays them.

mod example;
mod lint;
mod play;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::LoadError;
use crate::folder;
use crate::vendor::Vendor;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The vendor's name; `None` if the folder does not load.
    pub vendor: Option<String>,
    /// How many examples were played.
    pub examples: usize,
    /// What was found, errors first.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong or may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// The file.
    pub file: PathBuf,
    /// The key in it; `None` if the file as a whole is meant.
    pub key: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not work.
    Error,
    /// It works, and may not be what was meant.
    Warning,
}

impl Checked {
    /// Whether there is no error.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.problems.iter().all(|problem| problem.level == Level::Warning)
    }
}

impl Problem {
    fn error(file: impl Into<PathBuf>, key: Option<&str>, message: impl Into<String>) -> Self {
        let key = key.map(str::to_owned);
        Self { level: Level::Error, file: file.into(), key, message: message.into() }
    }

    fn warning(file: impl Into<PathBuf>, key: Option<&str>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(file, key, message) }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Field { file, field, message } => Self::error(file, Some(&field), message),
            LoadError::Syntax { file, message } => Self::error(file, None, message),
            LoadError::Layout { path, message } => Self::error(path, None, message),
            LoadError::Read { path, source } => Self::error(path, None, format!("cannot be read: {source}")),
        }
    }
}

/// Checks one vendor folder. The examples are played over loopback; nothing else is called.
pub async fn check(dir: &Path) -> Checked {
    // A folder's own name counts, also when it is given as `.`.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let vendor = match Vendor::load(&dir) {
        Ok(vendor) => vendor,
        Err(error) => return Checked { vendor: None, examples: 0, problems: vec![error.into()] },
    };
    let mut problems = lint::lint(&dir, &vendor);
    let mut examples = Vec::new();
    let folder = dir.join("examples");
    if folder.is_dir() {
        match folder::entries(&folder) {
            Err(error) => problems.push(error.into()),
            Ok(files) => {
                for (name, file) in files {
                    match example::read(&name, &file) {
                        Ok(example) => examples.push((file, example)),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
        }
    }
    for (file, example) in &examples {
        problems.extend(play::play(&dir, &vendor, file, example).await);
    }
    problems.extend(lint::bare_lists(&dir, &vendor, examples.iter().map(|(_, example)| example)));
    problems.extend(lint::unplayed(&dir, &vendor, examples.iter().map(|(_, example)| example)));
    problems.sort();
    Checked { vendor: Some(vendor.name), examples: examples.len(), problems }
}
