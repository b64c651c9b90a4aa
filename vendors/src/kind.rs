//! The kind of an object: `site`, `tunnel`, `device`.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an object, as it is written in file names: lowercase letters, digits and `_`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(String);

impl Kind {
    /// Parses a kind; `None` if it has other characters than a kind may have, or more than 32.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        is_identifier(name, 32).then(|| Self(name.to_owned()))
    }

    /// The kind as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lowercase letters, digits and `_`, starting with a letter, at most `longest` bytes.
pub(crate) fn is_identifier(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Kind {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Lets a map keyed by kind be asked with a plain string.
impl Borrow<str> for Kind {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or_else(|| {
            format!("`{name}` is no kind: use lowercase letters, digits and `_`, as in `site`")
        })
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.0
    }
}
