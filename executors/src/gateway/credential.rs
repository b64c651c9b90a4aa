//! Credentials: read by reference, put into requests here and nowhere else, and taken out of answers.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use wanwright_vendors::{CredentialRef, CredentialSource};

use super::GatewayError;

/// What stands in an answer where the credential was.
const MASK: &[u8] = b"***";

/// Shorter secrets are not looked for: they would be found in the middle of words.
const SHORTEST: usize = 4;

/// A header that carries a secret, read again whenever its file is another one.
pub(super) struct Credential {
    vendor: String,
    reference: CredentialRef,
    pub(super) name: HeaderName,
    now: Mutex<Now>,
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
    /// The forms of the one before, which a vendor may still quote.
    before: Vec<Vec<u8>>,
}

impl Credential {
    pub(super) fn read(vendor: &str, reference: &CredentialRef) -> Result<Self, GatewayError> {
        let wrong = |what: String| GatewayError::Credential { vendor: vendor.to_owned(), what };
        let name = HeaderName::try_from(reference.header.as_str())
            .map_err(|_| wrong(format!("`{}` is no header's name", reference.header)))?;
        let seen = look(reference);
        let secret = Secret::read(reference, Vec::new()).map_err(wrong)?;
        let now = Mutex::new(Now { secret: Arc::new(secret), seen });
        Ok(Self { vendor: vendor.to_owned(), reference: reference.clone(), name, now })
    }

    /// The secret for a call: read again if its file has changed since it was read.
    pub(super) fn secret(&self) -> Arc<Secret> {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = look(&self.reference);
        if seen != now.seen {
            self.renew(&mut now, seen);
        }
        Arc::clone(&now.secret)
    }

    /// Reads the secret again because the vendor did not take this one. `true`: it is another one by now.
    pub(super) fn refused(&self, used: &Secret) -> bool {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = look(&self.reference);
        self.renew(&mut now, seen);
        now.secret.value != used.value
    }

    /// One that cannot be read now, because it is just being replaced, leaves the one there was.
    fn renew(&self, now: &mut Now, seen: Option<(SystemTime, u64)>) {
        match Secret::read(&self.reference, now.secret.forms.clone()) {
            Ok(secret) if secret.value == now.secret.value => now.seen = seen,
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

/// What the file looks like; nothing for an environment variable.
fn look(reference: &CredentialRef) -> Option<(SystemTime, u64)> {
    let CredentialSource::File(path) = &reference.source else {
        return None;
    };
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len() ^ node(&facts)))
}

/// What tells a file from the one that took its place within the same tick of the clock.
fn node(facts: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    facts.ino().rotate_left(32) ^ u64::try_from(facts.ctime_nsec()).unwrap_or_default()
}

fn text(path: &Path) -> Result<String, String> {
    let wrong =
        |error: std::io::Error| format!("its credential cannot be read from {}: {error}", path.display());
    std::fs::read_to_string(path).map_err(wrong)
}

impl Secret {
    fn read(reference: &CredentialRef, before: Vec<Vec<u8>>) -> Result<Self, String> {
        let secret = match &reference.source {
            CredentialSource::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} with its credential is not set"))?,
            CredentialSource::File(path) => text(path)?,
        };
        let secret = secret.trim_end();
        if secret.is_empty() {
            return Err("its credential is empty".to_owned());
        }
        let mut value = HeaderValue::try_from(format!("{}{secret}", reference.prefix))
            .map_err(|_| "its credential has characters that a header cannot carry".to_owned())?;
        value.set_sensitive(true);
        Ok(Self { value, forms: forms(secret), before })
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

/// The forms in which a secret may come back: as it is, percent-encoded, as JSON writes it, in either base64.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let quoted = serde_json::Value::from(secret).to_string();
    let mut escaped = quoted[1..quoted.len() - 1].to_owned();
    let mut forms = vec![secret.to_owned(), escaped.clone()];
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
fn masked(secret: &[u8], text: &[u8]) -> Option<Vec<u8>> {
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
        CredentialRef { source, header: "Authorization".to_owned(), prefix: "Bearer ".to_owned() }
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
        assert!(!credential.refused(&used), "it is still the same");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(credential.secret().value, "Bearer first-one");
        std::fs::write(&path, "other-one\n").unwrap();
        assert!(credential.refused(&used));
        assert_eq!(credential.secret().value, "Bearer other-one");
        let body = credential.secret().mask(Bytes::from_static(b"first-one other-one"));
        assert_eq!(body, "*** ***", "the earlier one may still be quoted");
    }
}
