//! Credentials: read by reference, put into requests here and nowhere else, and taken out of answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::http::header::InvalidHeaderValue;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use tokio::time::Instant;
use wanwright_vendors::{CredentialRef, CredentialSource};

use super::GatewayError;
use super::lanes::Lane;
use super::oauth::Tokens;
use super::run::Run;

/// What stands in an answer where the credential was.
pub(super) const MASK: &[u8] = b"***";

/// Shorter secrets are not looked for: they would be found in the middle of words.
pub(super) const SHORTEST: usize = 4;

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
    /// Every form in which it may come back, the longest first.
    forms: Vec<Vec<u8>>,
    /// The texts of a login; none where the secret is what calls carry.
    login: BTreeMap<String, String>,
    /// The forms of the one before, which a vendor may still quote.
    before: Vec<Vec<u8>>,
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
    fn read(reference: &CredentialRef, before: Vec<Vec<u8>>) -> Result<Self, String> {
        let secret = read(&reference.source).map_err(|what| format!("its credential {what}"))?;
        let secret = secret.trim_end();
        if secret.is_empty() {
            return Err("its credential is empty".to_owned());
        }
        if let Some(oauth) = &reference.oauth {
            let wrong = |_| "its credential is no JSON object of texts, which OAuth needs".to_owned();
            let login: BTreeMap<String, String> = serde_json::from_str(secret).map_err(wrong)?;
            let hidden = login.iter().filter(|(name, _)| !oauth.public.contains(name));
            let mut forms: Vec<_> = hidden.flat_map(|(_, text)| forms(text)).collect();
            forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
            return Ok(Self {
                value: HeaderValue::from_static(""),
                forms,
                login,
                before,
                worked: AtomicBool::new(false),
            });
        }
        let value = carried(&reference.prefix, secret)
            .map_err(|_| "its credential has characters that a header cannot carry".to_owned())?;
        Ok(Self {
            value,
            forms: forms(secret),
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
            forms: forms(token),
            login: BTreeMap::new(),
            before: hidden,
            worked: AtomicBool::new(false),
        })
    }

    /// An answer's body without the secret: a vendor that quotes the request must not hand it to engines and logs.
    pub(super) fn mask(&self, body: Bytes) -> Bytes {
        self.masked(&body).map_or(body, Bytes::from)
    }

    /// The same for a header's value.
    pub(super) fn mask_header(&self, value: &HeaderValue) -> HeaderValue {
        let masked = self.masked(value.as_bytes());
        masked.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).unwrap_or_else(|| value.clone())
    }

    /// The text without any form of the secret, or of the one before it; `None` if there was none.
    fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Option<Vec<u8>> = None;
        for form in self.forms.iter().chain(self.before.iter()) {
            if let Some(masked) = masked(form, clean.as_deref().unwrap_or(text)) {
                clean = Some(masked);
            }
        }
        clean
    }
}

fn carried(prefix: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!("{prefix}{secret}"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The forms in which a secret may come back: as it is, percent-encoded, as JSON writes it, in either base64.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let quoted = serde_json::Value::from(secret).to_string();
    let mut escaped = quoted[1..quoted.len() - 1].to_owned();
    let mut forms = vec![secret.to_owned(), escaped.clone()];
    // And once more, where JSON is quoted in a text of JSON.
    let twice = serde_json::Value::from(escaped.as_str()).to_string();
    forms.push(twice[1..twice.len() - 1].to_owned());
    escaped = escaped.replace('/', "\\/");
    forms.push(escaped);
    for upper in [true, false] {
        for plain in [&b"-_.~"[..], b"-_.~!*'()", b"-_.*"] {
            let encoded = percent(secret, upper, |c| c.is_ascii_alphanumeric() || plain.contains(&c));
            // Forms of web pages write a space as a plus.
            forms.push(encoded.replace("%20", "+"));
            forms.push(encoded);
        }
    }
    for before in 0..3_usize {
        // In base64 the same text looks different by where it begins in its group of three; what it shares with its
        // neighbours is left out.
        let bytes = [&vec![0; before][..], secret.as_bytes()].concat();
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.push(encoded[first..end].to_owned());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms.into_iter().map(String::into_bytes).collect()
}

fn percent(text: &str, upper: bool, plain: impl Fn(u8) -> bool) -> String {
    let encode = |byte: u8| match (plain(byte), upper) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

/// The text with each occurrence of the secret replaced; `None` if there is none.
pub(super) fn masked(secret: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    if secret.len() < SHORTEST {
        return None;
    }
    let (mut clean, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(secret.len()).position(|window| window == secret) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(MASK);
        rest = &rest[at + secret.len()..];
    }
    if rest.len() == text.len() {
        return None;
    }
    clean.extend_from_slice(rest);
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_masked_and_nothing_else() {
        let clean =
            masked(b"s3cret", br#"{"got":"Bearer s3cret","again":"s3crets3cret"}"#).expect("it is there");
        assert_eq!(clean, br#"{"got":"Bearer ***","again":"******"}"#);
        assert_eq!(masked(b"s3cret", b"s3cre"), None);
        assert_eq!(masked(b"", b"anything"), None);
        assert_eq!(masked(b"abc", b"abc"), None, "too short to be looked for");
    }

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
    fn a_secret_is_found_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let plain = "p/a+s\"s wörd=";
        for plain in [plain.replace('ö', "o"), "s3cr3t/tok+en=".to_owned()] {
            std::fs::write(&path, &plain).unwrap();
            let credential = Credential::read("v", &credential(&path)).unwrap();
            let secret = credential.secret();
            let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            for form in [
                plain.clone(),
                serde_json::to_string(&plain).unwrap(),
                encoded(&plain),
                encoded(&format!("user:{plain}")),
                encoded(&format!("Bearer {plain}; and more")),
                encoded(&format!("me:{plain}!")).replace('+', "-").replace('/', "_"),
                percent(&plain, true, |c| c.is_ascii_alphanumeric()),
                percent(&plain, false, |c| c.is_ascii_alphanumeric()).replace("%20", "+"),
            ] {
                let body = secret.mask(Bytes::from(format!("<{form}>")));
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert!(body.contains("***") && body.len() < form.len() - 3, "{form}: {body}");
            }
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
        let body = credential.secret().mask(Bytes::from_static(b"first-one other-one"));
        assert_eq!(body, "*** ***", "the earlier one may still be quoted");
    }
}
