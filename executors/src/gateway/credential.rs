//! Credentials: read by reference, put into requests here and nowhere else.

use axum::http::{HeaderName, HeaderValue};
use wanwright_vendors::{CredentialRef, CredentialSource};

use super::GatewayError;

/// A header that carries a secret.
pub(super) struct Credential {
    pub(super) name: HeaderName,
    pub(super) value: HeaderValue,
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
        let name = HeaderName::try_from(reference.header.as_str())
            .map_err(|_| wrong(format!("`{}` is no header's name", reference.header)))?;
        let mut value = HeaderValue::try_from(format!("{}{}", reference.prefix, secret.trim_end()))
            .map_err(|_| wrong("its credential has characters that a header cannot carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}
