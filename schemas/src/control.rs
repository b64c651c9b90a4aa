//! Controls: what an operator holds back for a while, without a change of what should be: all doing at a vendor, or for a
//! customer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Actor, CustomerId, VendorId};
use crate::reason::{Reason, Refusal};

/// The version this code writes.
pub const CONTROL_VERSION: u64 = 1;

/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// What is held back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", content = "name", rename_all = "lowercase")]
pub enum Scope {
    /// Whatever is done at a vendor.
    Vendor(VendorId),
    /// Whatever is done for a customer.
    Customer(CustomerId),
}

impl Scope {
    /// The scope of these two words.
    ///
    /// # Errors
    /// The refusal of words that name none.
    pub fn parse(scope: &str, name: &str) -> Result<Self, Refusal> {
        let invalid = |error: crate::ids::InvalidToken| Refusal::new(Reason::BadSubject, error.to_string());
        match scope {
            "vendor" => Ok(Self::Vendor(name.parse().map_err(invalid)?)),
            "customer" => Ok(Self::Customer(name.parse().map_err(invalid)?)),
            _ => Err(Refusal::new(Reason::BadSubject, "a vendor or a customer can be paused, nothing else")),
        }
    }

    /// `vendor` or `customer`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vendor(_) => "vendor",
            Self::Customer(_) => "customer",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Vendor(id) => id.as_str(),
            Self::Customer(id) => id.as_str(),
        }
    }

    /// Its key in the bucket of controls.
    pub fn key(&self) -> String {
        format!("{}.{}", self.word(), self.name())
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.word(), self.name())
    }
}

/// What was said last about a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The record's version.
    pub v: u64,
    /// What it is about.
    #[serde(flatten)]
    pub scope: Scope,
    /// Whether orders wait.
    pub paused: bool,
    /// Who said so.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// When the pause ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When it was said.
    pub time: Timestamp,
}

impl Control {
    /// Whether orders wait at this time.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.paused && self.until.is_none_or(|until| until > now)
    }
}

/// The body of a pause or a resumption.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRequest {
    /// Why; a pause has to say so.
    #[serde(default)]
    pub reason: String,
    /// When the pause ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl ControlRequest {
    /// What is recorded of it.
    ///
    /// # Errors
    /// The refusal, which names the field.
    pub fn judge(self, scope: Scope, actor: Actor, paused: bool, now: Timestamp) -> Result<Control, Refusal> {
        let Self { reason, until } = self;
        if paused && reason.trim().is_empty() {
            return Err(Refusal::new(Reason::MissingField, "a pause says why").field("reason"));
        }
        if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
            let why = format!("a reason is one line of at most {LONGEST_REASON} characters");
            return Err(Refusal::new(Reason::InvalidValue, why).field("reason"));
        }
        if !paused && until.is_some() {
            return Err(Refusal::new(Reason::InvalidValue, "only a pause has an end").field("until"));
        }
        if until.is_some_and(|until| until <= now) {
            return Err(
                Refusal::new(Reason::InvalidValue, "the pause would have ended already").field("until")
            );
        }
        Ok(Control { v: CONTROL_VERSION, scope, paused, actor, reason, until, time: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(reason: &str, until: Option<i64>, paused: bool) -> Result<Control, Refusal> {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let request = ControlRequest { reason: reason.to_owned(), until: until.map(at) };
        let scope = Scope::parse("vendor", "simwan").expect("a scope");
        request.judge(scope, "anna".parse().expect("an actor"), paused, at(100))
    }

    #[test]
    fn a_pause_says_why_and_ends_later_than_now() {
        let control = judge("maintenance", Some(200), true).expect("a pause");
        let at = |second| control.holds(Timestamp::from_second(second).expect("a time"));
        assert_eq!((at(199), at(200)), (true, false));
        let field = |request: Result<Control, Refusal>| request.expect_err("refused").field;
        assert_eq!(field(judge(" ", None, true)).as_deref(), Some("reason"));
        assert_eq!(field(judge("two\nlines", None, true)).as_deref(), Some("reason"));
        assert_eq!(field(judge(&"x".repeat(501), None, true)).as_deref(), Some("reason"));
        assert_eq!(field(judge("late", Some(100), true)).as_deref(), Some("until"));
        assert_eq!(field(judge("", Some(200), false)).as_deref(), Some("until"));
        assert!(!judge("", None, false).expect("a resumption").holds(Timestamp::UNIX_EPOCH));
    }

    /// What is stored keeps its form: this line may never change.
    #[test]
    fn a_stored_control_reads_and_is_written_as_it_was() {
        let line = r#"{"v":1,"scope":"customer","name":"acme","paused":true,"actor":"anna","reason":"why","until":"2026-11-21T08:00:00Z","time":"2026-11-21T07:00:00Z"}"#;
        let control: Control = serde_json::from_str(line).expect("a control");
        assert_eq!(control.scope.key(), "customer.acme");
        assert_eq!(serde_json::to_string(&control).expect("JSON"), line);
    }

    #[test]
    fn only_vendors_and_customers_can_be_paused() {
        assert!(Scope::parse("customer", "acme").is_ok());
        for (scope, name) in [("device", "acme"), ("vendor", "A"), ("customer", "a.b"), ("", "")] {
            assert_eq!(Scope::parse(scope, name).expect_err(scope).code, Reason::BadSubject);
        }
    }
}
