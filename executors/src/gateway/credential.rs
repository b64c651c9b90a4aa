//! Credentials: read by reference, put into requests here and nowhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::http::header::InvalidHeaderValue;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use tokio::time::Instant;
use wanwright_vendors::{CredentialRef, CredentialSource};

use super::GatewayError;
use super::lanes::Lane;
use super::mask::{self, Form, MASK};
use super::oauth::Tokens;
use super::run::Run;

/// A header that carries a secret, read again whenever its file is another one.
pub(super) struct Credential {
    vendor: String,
    reference: CredentialRef,
    pub(super) name: HeaderName,
    now: Mutex<Now>,
    tokens: Tokens,
}

struct Now {
    secret: Arc<Secret>,
    /// What the file looked like when it was read.
    seen: Option<(SystemTime, u64)>,
}

/// The secret as it is now.
pub(super) struct Secret {
    pub(super) value: HeaderValue,
    /// Every form in which it may come back.
    forms: Vec<Form>,
    /// The texts of a login; none where the secret is what calls carry.
    login: BTreeMap<String, String>,
    /// The forms of the one before, which a vendor may still quote.
    before: Vec<Form>,
    /// Whether the vendor has taken it.
    worked: AtomicBool,
}

impl Credential {
    pub(super) fn read(vendor: &str, reference: &CredentialRef) -> Result<Self, GatewayError> {
        let wrong = |what: String| GatewayError::Credential { vendor: vendor.to_owned(), what };
        let name = HeaderName::try_from(reference.header.as_str())
            .map_err(|_| wrong(format!("`{}` is no header's name", reference.header)))?;
        let seen = look_at(&reference.source);
        let secret = Secret::read(reference, Vec::new()).map_err(wrong)?;
        let now = Mutex::new(Now { secret: Arc::new(secret), seen });
        let tokens = Tokens::default();
        Ok(Self { vendor: vendor.to_owned(), reference: reference.clone(), name, now, tokens })
    }

    /// The secret for a call: read again if its file has changed since it was read.
    pub(super) fn secret(&self) -> Arc<Secret> {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = look_at(&self.reference.source);
        if seen != now.seen {
            self.renew(&mut now, seen);
        }
        Arc::clone(&now.secret)
    }

    /// What a call has to carry: the secret, or an access token that is fetched for it.
    ///
    /// # Errors
    /// The answer to the caller: there is none now.
    pub(super) async fn ready(
        &self,
        run: &Run,
        lane: &Lane,
        deadline: Instant,
    ) -> Result<Arc<Secret>, Response> {
        match &self.reference.oauth {
            None => Ok(self.secret()),
            Some(oauth) => self.tokens.get(run, lane, oauth, deadline).await,
        }
    }

    /// The vendor did not take this. `true`: it is another one by now.
    pub(super) async fn refused(&self, used: &Secret) -> bool {
        if self.reference.oauth.is_some() { self.tokens.refused(used).await } else { self.is_replaced(used) }
    }

    /// Reads the secret again because the vendor did not take this one. `true`: it is another one by now.
    fn is_replaced(&self, used: &Secret) -> bool {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = look_at(&self.reference.source);
        self.renew(&mut now, seen);
        now.secret.value != used.value
    }

    /// One that cannot be read now, because it is just being replaced, leaves the one there was.
    fn renew(&self, now: &mut Now, seen: Option<(SystemTime, u64)>) {
        match Secret::read(&self.reference, now.secret.forms.clone()) {
            Ok(secret) if secret.is(&now.secret) => now.seen = seen,
            Ok(secret) => {
                tracing::info!(vendor = self.vendor, "the vendor's credential has changed");
                *now = Now { secret: Arc::new(secret), seen };
            }
            Err(what) => {
                now.seen = seen;
                tracing::warn!(vendor = self.vendor, what, "the earlier credential stays in use");
            }
        }
    }
}

/// What a file looks like: another one looks different.
pub(super) type Seen = (SystemTime, u64);

/// What the file looks like; nothing for an environment variable.
pub(super) fn look_at(source: &CredentialSource) -> Option<Seen> {
    match source {
        CredentialSource::File(path) => look(path),
        CredentialSource::Env(_) => None,
    }
}

pub(super) fn look(path: &Path) -> Option<Seen> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len() ^ node(&facts)))
}

/// What tells a file from the one that took its place within the same tick of the clock.
fn node(facts: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    facts.ino().rotate_left(32) ^ u64::try_from(facts.ctime_nsec()).unwrap_or_default()
}

/// What is there, or the end of a sentence that says why not.
pub(super) fn read(source: &CredentialSource) -> Result<String, String> {
    match source {
        CredentialSource::Env(name) => std::env::var(name)
            .map_err(|_| format!("is in the environment variable {name}, which is not set")),
        CredentialSource::File(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot be read from {}: {error}", path.display())),
    }
}

impl Secret {
    fn read(reference: &CredentialRef, before: Vec<Form>) -> Result<Self, String> {
        let secret = read(&reference.source).map_err(|what| format!("its credential {what}"))?;
        let secret = secret.trim_end();
        if secret.is_empty() {
            return Err("its credential is empty".to_owned());
        }
        if let Some(oauth) = &reference.oauth {
            let wrong = |_| "its credential is no JSON object of texts, which OAuth needs".to_owned();
            let login: BTreeMap<String, String> = serde_json::from_str(secret).map_err(wrong)?;
            let hidden = login.iter().filter(|(name, _)| !oauth.public.contains(name));
            return Ok(Self {
                value: HeaderValue::from_static(""),
                forms: hidden.flat_map(|(_, text)| mask::forms(text, MASK)).collect(),
                login,
                before,
                worked: AtomicBool::new(false),
            });
        }
        let value = carried(&reference.prefix, secret)
            .map_err(|_| "its credential has characters that a header cannot carry".to_owned())?;
        Ok(Self {
            value,
            forms: mask::forms(secret, MASK),
            login: BTreeMap::new(),
            before,
            worked: AtomicBool::new(false),
        })
    }

    /// The vendor has taken it.
    pub(super) fn works(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_worked(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }

    fn is(&self, other: &Self) -> bool {
        self.value == other.value && self.login == other.login
    }

    /// A text of a login.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.login.get(name).map(String::as_str)
    }

    /// An access token that was given for this login, after this one.
    pub(super) fn token(
        &self,
        credential: &Credential,
        token: &str,
        before: Option<&Self>,
    ) -> Result<Self, InvalidHeaderValue> {
        let value = carried(&credential.reference.prefix, token)?;
        let mut hidden = [&self.forms[..], &self.before].concat();
        hidden.extend(before.into_iter().flat_map(|before| before.forms.iter().cloned()));
        Ok(Self {
            value,
            forms: mask::forms(token, MASK),
            login: BTreeMap::new(),
            before: hidden,
            worked: AtomicBool::new(false),
        })
    }

    /// Its forms, and those of the one before.
    pub(super) fn forms(&self) -> impl Iterator<Item = &Form> {
        self.forms.iter().chain(&self.before)
    }
}

fn carried(prefix: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!("{prefix}{secret}"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(path: &Path) -> CredentialRef {
        let source = CredentialSource::File(path.to_owned());
        CredentialRef {
            source,
            header: "Authorization".to_owned(),
            prefix: "Bearer ".to_owned(),
            oauth: None,
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_missing_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "first-one\n").unwrap();
        let credential = Credential::read("v", &credential(&path)).unwrap();
        assert_eq!(credential.secret().value, "Bearer first-one");
        let used = credential.secret();
        assert!(!credential.is_replaced(&used), "it is still the same");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(credential.secret().value, "Bearer first-one");
        std::fs::write(&path, "other-one\n").unwrap();
        assert!(credential.is_replaced(&used));
        assert_eq!(credential.secret().value, "Bearer other-one");
        let (secret, text) = (credential.secret(), b"first-one other-one");
        let forms: Vec<_> = secret.forms().collect();
        let clean = mask::without(text, mask::found(&forms, text)).unwrap();
        assert_eq!(clean, b"*** ***", "the earlier one may still be quoted");
    }
}
