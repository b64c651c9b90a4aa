//! Conditions in the manner of Kubernetes' `metav1.Condition`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{ApprovalState, Health, State, Sync};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// One condition of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Provisioned`, `InSync`, or `Approved` where the generation needs or had an approval.
    #[serde(rename = "type")]
    pub name: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation this was said about.
    pub observed_generation: u64,
    /// When the status changed last.
    pub last_transition_time: Timestamp,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// The conditions of an object in this state, given the ones it had.
pub fn conditions(state: &State, before: &[Condition], time: Timestamp) -> Vec<Condition> {
    let said = [("Ready", ready(state)), ("Provisioned", provisioned(state)), ("InSync", in_sync(state))];
    let said = said.into_iter().chain(approved(state).map(|said| ("Approved", said)));
    let condition = |(name, (status, reason, message)): (&str, (ConditionStatus, String, String))| {
        let old = before.iter().find(|condition| condition.name == name);
        let since = old.filter(|old| old.status == status).map_or(time, |old| old.last_transition_time);
        Condition {
            name: name.to_owned(),
            status,
            observed_generation: state.generation,
            last_transition_time: since,
            reason,
            message,
        }
    };
    said.map(condition).collect()
}

type Said = (ConditionStatus, String, String);

fn said(status: ConditionStatus, reason: &str, message: impl Into<String>) -> Said {
    (status, reason.to_owned(), message.into())
}

fn ready(state: &State) -> Said {
    match state.health {
        Health::Healthy => said(ConditionStatus::True, "Healthy", "the object is as it should be"),
        Health::Missing => {
            said(ConditionStatus::False, "Missing", "the vendor does not have the object any more")
        }
        Health::Suspended => said(ConditionStatus::False, "Suspended", suspended(state)),
        Health::Unknown => said(ConditionStatus::Unknown, "Unknown", "nothing is known about the object"),
        Health::Degraded | Health::Progressing => provisioned(state),
    }
}

fn provisioned(state: &State) -> Said {
    let (generation, no) = (state.generation, ConditionStatus::False);
    if state.has_failed() {
        let code = state.failure_code.as_deref().unwrap_or("Failed");
        return said(no, code, state.failure_message.clone().unwrap_or_default());
    }
    if let Some(waiting) = state.waiting_for_approval() {
        return said(no, "AwaitingApproval", waiting.summary());
    }
    if let Some(rejected) =
        state.approval.as_ref().filter(|approval| approval.state == ApprovalState::Rejected)
    {
        return said(no, "Rejected", rejected.summary());
    }
    if state.suspended && !state.is_applied() {
        return said(no, "Suspended", suspended(state));
    }
    if state.planning {
        return said(
            no,
            "Planning",
            format!("generation {generation} is brought about as planned, and there is no plan yet"),
        );
    }
    if let Some(postponement) = &state.postponement {
        return said(no, "AwaitingWindow", postponement.summary());
    }
    if state.decommissioning {
        return said(no, "Decommissioning", "the object is being taken down");
    }
    if state.retry_pending {
        return said(no, "Retrying", "somebody asked to apply it again");
    }
    if state.is_applied() {
        return said(ConditionStatus::True, "Applied", format!("generation {generation} was applied"));
    }
    match state.observed_generation {
        Some(observed) => said(
            no,
            "ChangePending",
            format!("generation {generation} is on its way, {observed} was applied"),
        ),
        None => said(no, "CreationPending", "the object is on its way"),
    }
}

fn suspended(state: &State) -> String {
    let reason = state.suspend_reason.as_deref().unwrap_or_default();
    format!("nothing is done about the object: {reason}")
}

/// Nothing for a generation that needed no approval.
fn approved(state: &State) -> Option<Said> {
    let approval = state.approval.as_ref()?;
    Some(match approval.state {
        ApprovalState::Waiting => said(ConditionStatus::False, "AwaitingApproval", approval.summary()),
        ApprovalState::Rejected => said(ConditionStatus::False, "Rejected", approval.summary()),
        ApprovalState::Approved => said(ConditionStatus::True, "Approved", approval.summary()),
    })
}

fn in_sync(state: &State) -> Said {
    if let Some(drift) = &state.drift {
        return said(ConditionStatus::False, "Drifted", drift.summary());
    }
    match state.sync {
        Sync::Synced => said(ConditionStatus::True, "Synced", "the vendor has what was applied"),
        Sync::OutOfSync => {
            said(ConditionStatus::False, "ChangePending", "the vendor has an older generation")
        }
        Sync::Unknown => said(ConditionStatus::Unknown, "NeverApplied", "nothing was applied yet"),
    }
}
