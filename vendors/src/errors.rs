//! `[errors]`: where a vendor's answers say what was wrong, and what that means.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// How to read a vendor's error answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorRules {
    /// Where the answers say what was wrong.
    pub pointers: ErrorPointers,
    /// JSON pointer into an answer with a success status: an answer that has something there is an error after all, as
    /// in GraphQL. `None` for a vendor whose statuses are to be believed.
    pub in_success: Option<String>,
    /// What errors mean, where the status alone does not say it; the first rule that fits counts.
    pub rules: Vec<ErrorRule>,
}

/// JSON pointers into the body of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPointers {
    /// The vendor's code.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// The field that was wrong: an attribute's name or its JSON pointer.
    pub field: String,
}

impl Default for ErrorPointers {
    fn default() -> Self {
        Self {
            code: "/error/code".to_owned(),
            message: "/error/message".to_owned(),
            field: "/error/field".to_owned(),
        }
    }
}

/// What some errors mean. A condition that is not set fits every error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorRule {
    /// HTTP statuses.
    pub statuses: Vec<u16>,
    /// The vendor's codes.
    pub codes: Vec<String>,
    /// A piece of the vendor's sentence, in any case.
    pub contains: Option<String>,
    /// What it means.
    pub means: ErrorClass,
    /// How long the vendor wants to be left alone; for [`ErrorClass::Busy`].
    pub wait: Option<Duration>,
}

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// The vendor does not have the object.
    Gone,
    /// The vendor has no time now: a rate limit, a lock, maintenance.
    Busy,
    /// The vendor refuses; repeating the call gives the same answer.
    Refused,
    /// The vendor does not accept the credential.
    Denied,
    /// Something is broken at the vendor; it may be mended later.
    Broken,
}

/// What one error answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The vendor's code.
    pub code: Option<String>,
    /// The vendor's sentence.
    pub message: Option<String>,
    /// The field that the vendor complains about, as it names it.
    pub field: Option<String>,
}

impl ErrorRules {
    /// Whether a body that came with a success status is an error.
    #[must_use]
    pub fn is_error(&self, body: &Value) -> bool {
        let at = self.in_success.as_deref().and_then(|pointer| body.pointer(pointer));
        match at {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(items)) => !items.is_empty(),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Bool(true) | Value::Number(_)) => true,
        }
    }

    /// What an error answer's body says.
    #[must_use]
    pub fn complaint(&self, body: &Value) -> Complaint {
        let text = |pointer: &str| match body.pointer(pointer)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Complaint {
            code: text(&self.pointers.code),
            message: text(&self.pointers.message),
            field: text(&self.pointers.field),
        }
    }

    /// The rule for an error; `None` if only its status says what it means.
    #[must_use]
    pub fn rule(&self, status: u16, complaint: &Complaint) -> Option<&ErrorRule> {
        self.rules.iter().find(|rule| rule.fits(status, complaint))
    }
}

impl ErrorRule {
    fn fits(&self, status: u16, complaint: &Complaint) -> bool {
        let code = complaint.code.as_deref();
        let said = complaint.message.as_deref().unwrap_or_default().to_lowercase();
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.codes.is_empty() || code.is_some_and(|code| self.codes.iter().any(|own| own == code)))
            && self.contains.as_deref().is_none_or(|piece| said.contains(&piece.to_lowercase()))
    }
}

/// Reads `[errors]`, in `vendor.toml` or, for one kind, in `api/<kind>.toml`.
pub(crate) fn load(section: Option<Section>) -> Result<ErrorRules, LoadError> {
    let Some(mut section) = section else {
        return Ok(ErrorRules::default());
    };
    let usual = ErrorPointers::default();
    let pointers = ErrorPointers {
        code: pointer::reading(&mut section, "code")?.unwrap_or(usual.code),
        message: pointer::reading(&mut section, "message")?.unwrap_or(usual.message),
        field: pointer::reading(&mut section, "field")?.unwrap_or(usual.field),
    };
    let in_success = pointer::reading(&mut section, "in_success")?;
    let rules = section.sections("rules")?.into_iter().map(rule).collect::<Result<_, _>>()?;
    section.finish()?;
    Ok(ErrorRules { pointers, in_success, rules })
}

fn rule(mut section: Section) -> Result<ErrorRule, LoadError> {
    let wait: Option<u64> = section.optional("wait_seconds")?;
    let rule = ErrorRule {
        statuses: section.optional("status")?.unwrap_or_default(),
        codes: section.optional("code")?.unwrap_or_default(),
        contains: section.optional("contains")?,
        means: section.required("means")?,
        wait: wait.map(Duration::from_secs),
    };
    if rule.statuses.is_empty() && rule.codes.is_empty() && rule.contains.as_deref().is_none_or(str::is_empty)
    {
        return Err(section.error("", "fits every error: add `status`, `code` or `contains`"));
    }
    if rule.wait.is_some() && rule.means != ErrorClass::Busy {
        return Err(section.error("wait_seconds", "is for `means = \"busy\"` only: remove it"));
    }
    section.finish()?;
    Ok(rule)
}
