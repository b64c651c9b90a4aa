//! Plans: what Terraform would do to a stack, as it said before anybody approved it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::Digest;

/// Most fields that a plan tells of. What there is beside them is counted.
pub const MOST_FIELDS: usize = 200;

/// The longest value that a plan tells of, in bytes of its JSON.
pub const LONGEST_VALUE: usize = 512;

/// A plan that Terraform made, as far as it is told: the file itself is kept sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The digest of the plan file: what is approved, and what is applied.
    pub hash: Digest,
    /// What it was made with, in lowercase hexadecimal: the digest of the stack's version of the vendor's template, and of
    /// everything else in the vendor's folder that decides what its resources do.
    pub template: String,
    /// The serial of the Terraform state it was made from; 0 where there was none.
    pub serial: i64,
    /// The lineage of that state; empty where there was none.
    pub lineage: String,
    /// How many resources it would change.
    pub counts: PlanCounts,
    /// What it would change, by resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PlanChange>,
    /// How many fields it would change beside those: they would not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// How many resources a plan would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanCounts {
    /// Made.
    pub create: u32,
    /// Changed where they are.
    pub update: u32,
    /// Taken away.
    pub delete: u32,
    /// Taken away and made anew.
    pub replace: u32,
}

impl PlanCounts {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something would be taken away, be it to be made anew.
    pub fn destroys(&self) -> bool {
        self.delete > 0 || self.replace > 0
    }
}

impl std::ops::AddAssign for PlanCounts {
    fn add_assign(&mut self, other: Self) {
        self.create += other.create;
        self.update += other.update;
        self.delete += other.delete;
        self.replace += other.replace;
    }
}

/// What a plan would do to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PlanAction {
    /// Make it.
    Create,
    /// Change it where it is.
    Update,
    /// Take it away.
    Delete,
    /// Take it away and make it anew.
    Replace,
}

impl PlanAction {
    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Replace => "replace",
        }
    }
}

/// What a plan would do to one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanChange {
    /// Terraform's address of the resource.
    pub address: String,
    /// What would be done to it.
    pub action: PlanAction,
    /// The fields that would be others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<PlanField>,
}

/// A field that a plan would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanField {
    /// The attribute's name.
    pub field: String,
    /// What it is; null where it is nothing, is sensitive or is too long.
    pub before: Value,
    /// What it would be; null where it would be nothing, is sensitive, is too long or is known only afterwards.
    pub after: Value,
    /// Whether what it would be is known only when the plan has been applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_after: bool,
    /// Whether it is sensitive: then it is not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Whether what it is or would be is too long to be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
}

/// The plan that an order is to apply, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BoundPlan {
    /// The digest of the plan file.
    pub hash: Digest,
    /// The digest of what it was made with, as in the [`Plan`].
    pub template: String,
    /// The serial of the state it was made from.
    pub serial: i64,
    /// The lineage of that state.
    pub lineage: String,
    /// The first moment at which it may not be begun any more.
    pub expires: Timestamp,
}

/// Why a plan cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// Its file is not kept any more.
    Missing,
    /// What is kept is not the file that was made, or does not open.
    Damaged,
    /// The stack has another version of its vendor's template, or the vendor's folder says something else of what the
    /// resources in it do.
    Template,
    /// The stack's state is another one than it was made from.
    State,
    /// Its time is over.
    Expired,
    /// A run that applied it died: what that run did is not known.
    Interrupted,
}

impl Stale {
    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Template => "template",
            Self::State => "state",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
