//! What a person, or the engine that runs Terraform, is told when something goes wrong.
//!
//! A summary starts with a stable word: `VendorRefused`, `VendorBusy`, `Network` or `Unexpected`.

use std::error::Error;

use wanwright_vendors::ClientError;

use crate::proto::tfplugin6::{self, AttributePath, attribute_path};
use crate::resource::ResourceType;

/// An error about a resource or one attribute of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(crate) summary: String,
    pub(crate) detail: String,
    pub(crate) attribute: Option<String>,
}

impl Diagnostic {
    /// Something that neither the vendor nor the network is to blame for.
    pub(crate) fn unexpected(summary: impl std::fmt::Display, detail: impl Into<String>) -> Self {
        Self { summary: format!("Unexpected: {summary}"), detail: detail.into(), attribute: None }
    }

    pub(crate) fn at(mut self, attribute: impl Into<String>) -> Self {
        self.attribute = Some(attribute.into());
        self
    }

    /// A failed call. `doing` says what the call was for, `creating wanwright_simwan_site`.
    pub(crate) fn of(error: &ClientError, resource: &ResourceType, doing: &str) -> Self {
        let class = error.class();
        let (summary, mut detail) = match error {
            ClientError::Refused { status, code, message, .. } => {
                let code = code.as_deref().map(|code| format!(", code {code}")).unwrap_or_default();
                (message.clone(), format!("The vendor refused (HTTP {status}{code})"))
            }
            ClientError::Busy { status, retry_after, message } => {
                let when = retry_after
                    .map(|wait| format!(" and asks to wait {} s", wait.as_secs()))
                    .unwrap_or_default();
                (message.clone(), format!("The vendor is busy (HTTP {status}){when}"))
            }
            ClientError::Network { .. } => ("no answer from the vendor".to_owned(), chain(error)),
            other => (other.to_string(), chain(other)),
        };
        detail.push_str(&format!(" while {doing} {}.", resource.type_name));
        let field = match error {
            ClientError::Refused { field, .. } => field.as_deref(),
            _ => None,
        };
        let known = field.filter(|field| resource.api.attributes.contains_key(*field));
        if let (Some(field), None) = (field, known) {
            detail.push_str(&format!(" It is about `{field}`."));
        }
        Self { summary: format!("{class}: {summary}"), detail, attribute: known.map(str::to_owned) }
    }

    /// Adds a sentence to the detail.
    pub(crate) fn note(mut self, sentence: &str) -> Self {
        self.detail.push(' ');
        self.detail.push_str(sentence);
        self
    }
}

impl From<Diagnostic> for tfplugin6::Diagnostic {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            severity: tfplugin6::diagnostic::Severity::Error.into(),
            summary: diagnostic.summary,
            detail: diagnostic.detail,
            attribute: diagnostic.attribute.as_deref().map(attribute_path),
        }
    }
}

/// The path of a top-level attribute.
pub(crate) fn attribute_path(name: &str) -> AttributePath {
    let selector = attribute_path::step::Selector::AttributeName(name.to_owned());
    AttributePath { steps: vec![attribute_path::Step { selector: Some(selector) }] }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
