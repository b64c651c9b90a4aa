//! Credentials: read by reference, put into requests here and nowhere else.

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use wanwright_vendors::{CredentialRef, CredentialSource};

use super::GatewayError;

/// What stands in an answer where the credential was.
const MASK: &[u8] = b"***";

/// Shorter secrets are not looked for: they would be found in the middle of words.
const SHORTEST: usize = 4;

/// A header that carries a secret.
pub(super) struct Credential {
    pub(super) name: HeaderName,
    pub(super) value: HeaderValue,
    secret: Vec<u8>,
}

impl Credential {
    pub(super) fn read(vendor: &str, reference: &CredentialRef) -> Result<Self, GatewayError> {
        let wrong = |what: String| GatewayError::Credential { vendor: vendor.to_owned(), what };
        let secret = match &reference.source {
            CredentialSource::Env(name) => std::env::var(name).map_err(|_| {
                wrong(format!("the environment variable {name} with its credential is not set"))
            })?,
            CredentialSource::File(path) => std::fs::read_to_string(path).map_err(|error| {
                wrong(format!("its credential cannot be read from {}: {error}", path.display()))
            })?,
        };
        let secret = secret.trim_end();
        let name = HeaderName::try_from(reference.header.as_str())
            .map_err(|_| wrong(format!("`{}` is no header's name", reference.header)))?;
        let mut value = HeaderValue::try_from(format!("{}{secret}", reference.prefix))
            .map_err(|_| wrong("its credential has characters that a header cannot carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self { name, value, secret: secret.as_bytes().to_vec() })
    }

    /// An answer's body without the secret: a vendor that quotes the request must not hand it to engines and logs.
    pub(super) fn mask(&self, body: Bytes) -> Bytes {
        masked(&self.secret, &body).map_or(body, Bytes::from)
    }

    /// The same for a header's value.
    pub(super) fn mask_header(&self, value: &HeaderValue) -> HeaderValue {
        let masked = masked(&self.secret, value.as_bytes());
        masked.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).unwrap_or_else(|| value.clone())
    }
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
}
