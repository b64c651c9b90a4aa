//! Credentials files: the signed claims of a user and its secret key, as every NATS client reads them.

use std::path::Path;

use nkeys::KeyPair;
use serde_json::Value;

use super::{AccountError, jwt, matches};

/// What a credentials file says, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, which is its actor.
    pub name: String,
    /// The prefix its answers must come under, where its permissions name one.
    pub inbox_prefix: Option<String>,
    /// When it ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// The subjects it may publish on; empty: any.
    pub publish: Vec<String>,
}

impl Credentials {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AccountError`] when there is no such file or it holds no claims.
    pub fn read(path: &Path) -> Result<Self, AccountError> {
        let text = std::fs::read_to_string(path).map_err(AccountError::file("read", path))?;
        let token = text.lines().map(str::trim).find(|line| line.starts_with("eyJ"));
        let token = token.ok_or_else(|| {
            AccountError::malformed(format!("{} is not a credentials file of NATS", path.display()))
        })?;
        let claims = jwt::decode(token)?;
        Ok(Self {
            name: claims["name"].as_str().unwrap_or_default().to_owned(),
            inbox_prefix: inbox_prefix(&claims),
            expires: claims["exp"].as_u64(),
            publish: allowed(&claims, "pub"),
        })
    }

    /// Whether the server would take a message on this subject. It says no to nobody's face, so whoever can ask before.
    pub fn may_publish(&self, subject: &str) -> bool {
        self.publish.is_empty() || self.publish.iter().any(|allowed| matches(allowed, subject))
    }
}

fn allowed(claims: &Value, what: &str) -> Vec<String> {
    let listed = claims.pointer(&format!("/nats/{what}/allow")).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|subject| Some(subject.as_str()?.to_owned())).collect()
}

fn inbox_prefix(claims: &Value) -> Option<String> {
    let allowed = allowed(claims, "sub");
    let mut inboxes = allowed.iter().filter_map(|subject| subject.strip_suffix(".>"));
    inboxes.find(|subject| subject.starts_with("_INBOX")).map(str::to_owned)
}

/// The text of a credentials file.
pub(super) fn text(token: &str, key: &KeyPair) -> Result<String, AccountError> {
    let seed = key.seed().map_err(|error| AccountError::malformed(format!("a key has no seed: {error}")))?;
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         The key below is a secret: whoever has it is this user.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_inbox_is_read_from_the_permissions() {
        let claims = json!({ "nats": { "sub": { "allow": ["wan.live.acme.>", "_INBOX.anna.>"] } } });
        assert_eq!(inbox_prefix(&claims).as_deref(), Some("_INBOX.anna"));
        assert_eq!(inbox_prefix(&json!({ "nats": {} })), None);
    }
}
