//! Reports: what an executor says it did or found. A report is the body of a command, judged like any other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::command::ObjectRef;
use crate::envelope::Digest;
use crate::ids::{CommandId, OrderId};
use crate::plan::{Plan, Stale};
use crate::reason::Reason;

/// What an object is at its vendor: the vendor's id and whatever else other orders need.
pub type Outputs = Map<String, Value>;

/// A field that differs between what was applied and what the vendor has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DriftField {
    /// The attribute's name in the vendor's folder.
    pub field: String,
    /// What was applied.
    pub desired: Value,
    /// What the vendor has; null when the whole object is gone.
    pub observed: Value,
}

/// What came of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Finding {
    /// The vendor has the object as this generation wants it.
    Applied {
        /// The generation that was applied.
        generation: u64,
        /// What the object is at the vendor.
        outputs: Outputs,
    },
    /// The vendor does not have the object any more.
    Removed,
    /// The change failed for good; a person has to look.
    Failed {
        /// The generation that was tried.
        generation: u64,
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
    },
    /// The vendor has something else than what was applied.
    Drifted {
        /// The command that asked to look.
        check: CommandId,
        /// What differs.
        fields: Vec<DriftField>,
    },
    /// The vendor has what was applied.
    InSync {
        /// The command that asked to look.
        check: CommandId,
    },
    /// This is what would be done to the stack. Its file is kept.
    Planned {
        /// The plan.
        plan: Plan,
    },
    /// The plan that was to be applied cannot be, and nothing of it was begun by this run.
    PlanStale {
        /// The digest of the plan's file.
        plan: Digest,
        /// Why.
        why: Stale,
    },
}

/// A finding about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "json-schema", schemars(deny_unknown_fields))]
pub struct ObjectFinding {
    /// Which object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// The command that created the object, so that a late report never meets a namesake.
    pub uid: CommandId,
    /// What came of it.
    #[serde(flatten)]
    pub finding: Finding,
}

/// A version of a stack's Terraform state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct StateMark {
    /// The serial Terraform gave it. It only ever rises.
    pub serial: i64,
    /// The digest of what Terraform wrote.
    pub digest: Digest,
}

/// What an executor says about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The order that was carried out.
    pub order: OrderId,
    /// What came of each object of the order.
    pub findings: Vec<ObjectFinding>,
    /// The newest version of the stack's Terraform state that is stored; none where there is none, or where it is not stored
    /// yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateMark>,
}
