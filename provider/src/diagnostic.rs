//! What a person, or the engine that runs Terraform, is told when something goes wrong.
//!
//! The summary of an error starts with a stable word: `Invalid` (said before anybody is called), `VendorRefused`,
//! `VendorBusy`, `Network`, `OutcomeUnknown` or `Unexpected`.

use std::error::Error;

use wanwright_vendors::{AttributePath, ClientError, PathStep};

use crate::proto::tfplugin6::{self, attribute_path};
use crate::resource::ResourceType;

/// An error or a warning about a resource or a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(crate) warning: bool,
    pub(crate) summary: String,
    pub(crate) detail: String,
    pub(crate) attribute: Option<AttributePath>,
}

impl Diagnostic {
    /// Something that neither the vendor nor the network is to blame for.
    pub(crate) fn unexpected(summary: impl std::fmt::Display, detail: impl Into<String>) -> Self {
        Self::error(format!("Unexpected: {summary}"), detail)
    }

    /// A configuration that cannot be carried out, whoever is called.
    pub(crate) fn invalid(summary: impl std::fmt::Display, detail: impl Into<String>) -> Self {
        Self::error(format!("Invalid: {summary}"), detail)
    }

    pub(crate) fn error(summary: String, detail: impl Into<String>) -> Self {
        Self { warning: false, summary, detail: detail.into(), attribute: None }
    }

    pub(crate) fn warning(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { warning: true, summary: summary.into(), detail: detail.into(), attribute: None }
    }

    /// About an attribute.
    pub(crate) fn at(self, attribute: &str) -> Self {
        self.at_path(AttributePath::of(attribute))
    }

    /// About a place in an attribute.
    pub(crate) fn at_path(mut self, path: AttributePath) -> Self {
        self.attribute = Some(path);
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
        let path = field.and_then(AttributePath::parse);
        let known = path.filter(|path| {
            path.attribute().is_some_and(|attribute| resource.api.attributes.contains_key(attribute))
        });
        if let (Some(field), None) = (field, &known) {
            detail.push_str(&format!(" It is about `{field}`."));
        }
        Self { attribute: known, ..Self::error(format!("{class}: {summary}"), detail) }
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
        use tfplugin6::diagnostic::Severity;
        let severity = if diagnostic.warning { Severity::Warning } else { Severity::Error };
        Self {
            severity: severity.into(),
            summary: diagnostic.summary,
            detail: diagnostic.detail,
            attribute: diagnostic.attribute.as_ref().map(attribute_path),
        }
    }
}

/// A path as Terraform has it.
pub(crate) fn attribute_path(path: &AttributePath) -> tfplugin6::AttributePath {
    use attribute_path::step::Selector;
    let step = |step: &PathStep| {
        let selector = match step {
            PathStep::Attribute(name) => Selector::AttributeName(name.clone()),
            // No list is as long as that.
            PathStep::Index(index) => Selector::ElementKeyInt(i64::try_from(*index).unwrap_or(i64::MAX)),
            PathStep::Key(key) => Selector::ElementKeyString(key.clone()),
        };
        attribute_path::Step { selector: Some(selector) }
    };
    tfplugin6::AttributePath { steps: path.0.iter().map(step).collect() }
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
