//! Versions of a schema and their digests.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The version of a kind's settings, written `v1`, `v2`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SchemaVersion(NonZeroU16);

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no version: write v1, v2, …")]
pub struct InvalidVersion(String);

impl SchemaVersion {
    /// The first version. Settings that were stored before versions were recorded are of this one.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The version after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many versions there are before this one.
    pub(super) fn index(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for SchemaVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let digits = text.strip_prefix('v').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.filter(|digits| !digits.starts_with('0')).and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| InvalidVersion(super::check::clipped(text, 40)))
    }
}

impl TryFrom<String> for SchemaVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<SchemaVersion> for String {
    fn from(version: SchemaVersion) -> Self {
        version.to_string()
    }
}

/// `sha256:` and the digest of a schema's JSON with its keys sorted and no white space: the same for files that say the
/// same.
pub(super) fn digest(json: &Value) -> String {
    let mut text = String::new();
    canonical(json, &mut text);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn canonical(json: &Value, text: &mut String) {
    match json {
        Value::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(&map[name], text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(value, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_written_one_way() {
        assert_eq!("v12".parse::<SchemaVersion>().map(|version| version.to_string()), Ok("v12".to_owned()));
        assert_eq!("v1".parse(), Ok(SchemaVersion::FIRST));
        for odd in ["", "1", "v", "v0", "v01", "v-1", "v+1", "v99999", "V1", "v1 ", "v1.2"] {
            assert!(odd.parse::<SchemaVersion>().is_err(), "{odd}");
        }
    }

    #[test]
    fn the_digest_is_over_what_is_said() {
        let one: Value =
            serde_json::from_str(r#"{"b": [1, {"d": "é", "c": null}], "a": true}"#).unwrap_or_default();
        let other = json!({"a": true, "b": [1, {"c": null, "d": "é"}]});
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&one), digest(&json!({"a": true, "b": [1]})));
        // printf '%s' '{"a":1}' | sha256sum
        let known = "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
        assert_eq!(digest(&json!({"a": 1})), known);
    }
}
