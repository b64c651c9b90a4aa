//! What a customer itself is asked and what happens to it: vendor accounts, change policy, change windows, freezes,
//! suspension, its end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contact::KeyId;
use crate::envelope::Digest;
use crate::ids::{Actor, CommandId, DeviceId, Kind, VendorId, is_token};
use crate::remarks::NoteBody;
use crate::rule::{Approvals, Rule};
use crate::window::Window;

/// A name of a credential, a budget, a window or a freeze: 1 to 63 characters of a-z, 0-9 and -. What looks like a secret is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    /// What was typed is not repeated: it may be a secret in the place of its name.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_token(&text) { Ok(Self(text)) } else { Err("a name is 1 to 63 characters of a-z, 0-9 and -") }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The account of a customer at a vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The name under which the gateway finds the credential; never the secret itself.
    pub credential: Name,
    /// The budget that the account's calls are counted against.
    pub budget: Name,
}

/// Groups of people by name, for rules that want approvals of one of them.
pub type Groups = BTreeMap<Name, BTreeSet<Actor>>;

/// The rule for changes of each kind of object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For sites.
    #[serde(default, skip_serializing_if = "Rule::is_default")]
    pub site: Rule,
    /// For tunnels.
    #[serde(default, skip_serializing_if = "Rule::is_default")]
    pub tunnel: Rule,
    /// For devices.
    #[serde(default, skip_serializing_if = "Rule::is_default")]
    pub device: Rule,
}

impl Policy {
    /// The rule for a kind of object. A customer itself is at no vendor, so nothing about it waits.
    pub fn of(&self, kind: Kind) -> &Rule {
        match kind {
            Kind::Customer => &Rule::Apply,
            Kind::Site => &self.site,
            Kind::Tunnel => &self.tunnel,
            Kind::Device => &self.device,
        }
    }
}

/// What a customer says about itself. A customer that never said anything has the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CustomerSpec {
    /// Its accounts, by vendor. At a vendor without one the credential of the vendor's folder is used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<VendorId, Account>,
    /// How changes come about.
    #[serde(default)]
    pub policy: Policy,
    /// Who belongs to which group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: Groups,
    /// When its vendors may be changed, by name. What none of them is about is changed at any time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<Name, Window>,
}

/// A time in which nothing new is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Its name, unique within the customer.
    pub name: Name,
    /// The first moment that belongs to it.
    pub from: Timestamp,
    /// The first moment that does not belong to it any more.
    pub to: Timestamp,
    /// The IANA time zone in which the times were typed, if they were local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Why.
    pub reason: String,
}

/// A freeze as people type it: local times with a zone, or RFC 3339 instants without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FreezeBody {
    /// Its name.
    pub name: Name,
    /// When it begins.
    pub from: String,
    /// When it ends.
    pub to: String,
    /// The IANA time zone of local times.
    #[serde(default)]
    pub zone: Option<String>,
    /// Why.
    pub reason: String,
}

/// The name of a freeze that is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnfreezeBody {
    /// Its name.
    pub name: Name,
}

/// Why something is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SuspendBody {
    /// Why, in a sentence of 1 to 500 characters.
    pub reason: String,
}

/// Which generation is approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApproveBody {
    /// The generation, as its approver has seen it.
    pub generation: u64,
    /// The digest of the plan, where a plan is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
}

/// Which generation is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RejectBody {
    /// The generation, as who rejects it has seen it.
    pub generation: u64,
    /// The digest of the plan, where a plan is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Why, in a sentence of 1 to 500 characters, for those who asked for it.
    pub reason: String,
}

/// Whether what uses an object goes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DecommissionBody {
    /// Whether it does.
    #[serde(default)]
    pub cascade: bool,
}

/// A serial number that is claimed for a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SerialClaim {
    /// The device.
    pub device: DeviceId,
    /// The serial number.
    pub serial: String,
}

/// Claims that a customer should confirm or abandon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmClaimsBody {
    /// The claims, at most [`MAX_CLAIMS`].
    pub claims: Vec<SerialClaim>,
}

/// Most claims in one `confirm-claims`.
pub const MAX_CLAIMS: usize = 256;

/// What a command asks of a customer itself.
#[derive(Debug, Clone, PartialEq)]
pub enum CustomerAsk {
    /// Change accounts and policy by a JSON merge patch.
    Change(Value),
    /// Take everything down and forget the customer's own settings.
    Decommission(DecommissionBody),
    /// Do nothing at its vendors until further notice.
    Suspend(SuspendBody),
    /// Go on.
    Resume,
    /// Refuse changes for a time.
    Freeze(FreezeBody),
    /// End a freeze.
    Unfreeze(UnfreezeBody),
    /// Say of claims whether they are still wanted. Only the claims sweeper may ask.
    ConfirmClaims(ConfirmClaimsBody),
    /// Destroy the key of the customer's personal data.
    Erase,
    /// Let settings that waited for this be in force.
    Approve(ApproveBody),
    /// Say that settings which wait for approval are not to be.
    Reject(RejectBody),
    /// Say something for others to read.
    Note(NoteBody),
}

impl CustomerAsk {
    /// The verb of the subject.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Change(_) => "change",
            Self::Decommission(_) => "decommission",
            Self::Suspend(_) => "suspend",
            Self::Resume => "resume",
            Self::Freeze(_) => "freeze",
            Self::Unfreeze(_) => "unfreeze",
            Self::ConfirmClaims(_) => "confirm-claims",
            Self::Erase => "erase",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Note(_) => "note",
        }
    }
}

/// What happened to a customer itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum CustomerChange {
    /// Its accounts or its policy are others.
    Changed {
        /// The new generation; the first change makes 1.
        generation: u64,
        /// What it says about itself now, whole.
        spec: CustomerSpec,
    },
    /// It should have other settings, which ask for fewer approvals or others than those in force: they wait for the
    /// approvals that are in force.
    ApprovalRequested {
        /// The generation of the settings that wait.
        generation: u64,
        /// What the customer would say about itself, whole.
        spec: CustomerSpec,
        /// Who asked for it, and so cannot approve it.
        requested_by: Actor,
        /// The approvals it needs.
        #[serde(default, skip_serializing_if = "Approvals::is_default")]
        approvals: Approvals,
    },
    /// Somebody approved of the settings that wait. With the last approval they are in force, which `Changed` says.
    Approved {
        /// The generation.
        generation: u64,
        /// Who approved it.
        approved_by: Actor,
    },
    /// Somebody refused the settings that waited: they are not to be.
    Rejected {
        /// The generation.
        generation: u64,
        /// Who rejected it.
        rejected_by: Actor,
        /// Why.
        reason: String,
    },
    /// Everything it has should be taken down.
    DecommissionRequested {},
    /// It has nothing any more, and its own settings are forgotten.
    Removed {},
    /// Nothing is to be done at its vendors until it is resumed.
    Suspended {
        /// Why.
        reason: String,
    },
    /// Things are to be done again.
    Resumed {},
    /// Changes are refused for a time.
    Frozen {
        /// The freeze.
        freeze: Freeze,
    },
    /// A freeze is over, or was given up before its end.
    Unfrozen {
        /// Its name.
        name: Name,
    },
    /// A claim to a serial number that no device of the customer has: whoever decides on a state from before this has
    /// to decide again, and so has to claim again.
    ClaimAbandoned {
        /// The device it was claimed for.
        device: DeviceId,
        /// The serial number.
        serial: String,
        /// The command that asked.
        asked: CommandId,
    },
    /// Its personal data is not to be read any more, by anybody: the key is destroyed.
    Erased {
        /// The key.
        key: KeyId,
    },
    /// Somebody said something about it.
    Noted {
        /// What.
        text: String,
    },
}

impl CustomerChange {
    /// Its name on the wire, which `Customer` stands before.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "Changed",
            Self::DecommissionRequested {} => "DecommissionRequested",
            Self::Removed {} => "Removed",
            Self::Suspended { .. } => "Suspended",
            Self::Resumed {} => "Resumed",
            Self::Frozen { .. } => "Frozen",
            Self::Unfrozen { .. } => "Unfrozen",
            Self::ClaimAbandoned { .. } => "ClaimAbandoned",
            Self::Erased { .. } => "Erased",
            Self::ApprovalRequested { .. } => "ApprovalRequested",
            Self::Approved { .. } => "Approved",
            Self::Rejected { .. } => "Rejected",
            Self::Noted { .. } => "Noted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_its_name_is_refused_and_not_repeated() {
        let secret = r#"{"credential":"Bearer AbC.123","budget":"b"}"#;
        let error = serde_json::from_str::<Account>(secret).expect_err("no name").to_string();
        assert!(!error.contains("AbC"), "{error}");
        assert!(serde_json::from_str::<Account>(r#"{"credential":"acme-simwan","budget":"acme"}"#).is_ok());
    }

    #[test]
    fn the_default_policy_is_written_as_nothing() {
        let text = serde_json::to_string(&CustomerSpec::default()).expect("JSON");
        assert_eq!(text, r#"{"policy":{}}"#);
    }
}
