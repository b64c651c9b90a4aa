//! Outcomes: the answer to a command.

use serde::{Deserialize, Serialize};

use crate::command::ObjectRef;
use crate::event::Event;
use crate::ids::{CommandId, VendorId};
use crate::order::{Desired, Intent, Order, Target};
use crate::plan::Plan;
use crate::reason::Refusal;

/// A place in the history: what a reader waits for to see its own write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Position {
    /// The stream, for example `EVENTS-3`.
    pub stream: String,
    /// The sequence in the stream.
    pub sequence: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.stream, self.sequence)
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Verdict {
    /// It was decided and recorded, or had nothing to change.
    Accepted {
        /// Where its events are; null when it had nothing to change or was a dry run.
        position: Option<Position>,
        /// The types of its events.
        events: Vec<String>,
        /// The object's generation afterwards, where the object has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// In answers to a dry run: the events that would follow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        would_follow: Option<Vec<Event>>,
        /// In answers to a dry run: the orders that the targets of these events would have then, the first
        /// [`MOST_ORDERS`] of them. Those that were there before are among them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        would_order: Option<Vec<WouldOrder>>,
        /// How many such orders there would be beside those.
        #[serde(default, skip_serializing_if = "is_zero")]
        more_orders: u64,
        /// In answers to a dry run that asks for it: what Terraform would do for the first [`MOST_PLANS`] stacks among
        /// these orders.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        would_plan: Option<Vec<WouldPlan>>,
        /// How many such stacks there would be beside those.
        #[serde(default, skip_serializing_if = "is_zero")]
        more_plans: u64,
    },
    /// It was refused; nothing changed.
    Refused {
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
        /// The reason's number.
        number: u16,
    },
}

/// Most orders in the answer to a dry run. A change of an account concerns everything a customer has, and an answer has
/// to fit into a message.
pub const MOST_ORDERS: usize = 100;

/// Most plans in the answer to a dry run: whoever asks waits for each of them.
pub const MOST_PLANS: usize = 4;

/// What Terraform would do to a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct WouldPlan {
    /// The stack.
    pub target: Target,
    /// What would be done; none where that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Why that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Refusal>,
}

/// An order that there would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct WouldOrder {
    /// What it would be about.
    pub target: Target,
    /// At which vendor.
    pub vendor: VendorId,
    /// What would be done.
    pub intent: Intent,
    /// The generation of the target.
    pub generation: u64,
    /// What should be.
    pub desired: Desired,
}

impl From<Order> for WouldOrder {
    fn from(order: Order) -> Self {
        let (target, generation) = (order.target(), order.generation());
        Self { target, vendor: order.vendor, intent: order.intent, generation, desired: order.desired }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Outcome {
    /// The outcome's version.
    pub v: u64,
    /// The command; null when it was so malformed that it has no id.
    pub command: Option<CommandId>,
    /// The object, where the subject named one.
    pub object: Option<ObjectRef>,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whether this is the first outcome, said again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Whether nothing was written because the command asked for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Outcome {
    /// The version this code writes.
    pub const VERSION: u64 = 1;

    /// The answer that refuses a command.
    pub fn refused(command: Option<CommandId>, object: Option<ObjectRef>, refusal: Refusal) -> Self {
        let number = refusal.code.number();
        let verdict = Verdict::Refused { refusal, number };
        Self { v: Self::VERSION, command, object, verdict, repeated: false, dry_run: false }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Refused { refusal, .. } => Some(refusal),
            Verdict::Accepted { .. } => None,
        }
    }

    /// Where the events are, if there are any.
    pub fn position(&self) -> Option<&Position> {
        match &self.verdict {
            Verdict::Accepted { position, .. } => position.as_ref(),
            Verdict::Refused { .. } => None,
        }
    }
}
