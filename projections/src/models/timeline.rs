//! `timeline`: one row per event.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::event::Change;
use wanwright_schemas::plan::PlanCounts;
use wanwright_schemas::{Actor, CommandId, CustomerId, Event, Kind};

use super::diff::FieldChange;
use super::settings;
use crate::message::EventMessage;
use crate::table::Table;

/// The key of an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TimelineKey {
    /// The stream.
    pub stream: String,
    /// The message.
    pub sequence: u64,
    /// The place in the message.
    pub index: u32,
}

/// A row of `timeline`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineRow {
    /// The customer.
    pub customer: CustomerId,
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub id: String,
    /// The stream of the message.
    pub stream: String,
    /// The sequence of the message.
    pub sequence: u64,
    /// The place of the event in its message, from 0.
    pub index: u32,
    /// When it was decided.
    pub time: Timestamp,
    /// Who sent the command.
    pub actor: Actor,
    /// The command.
    pub command: CommandId,
    /// What caused the command.
    pub cause: Option<String>,
    /// What the command belongs to.
    pub correlation: Option<String>,
    /// The event's type.
    #[serde(rename = "type")]
    pub name: String,
    /// The generation the event is about.
    pub generation: Option<u64>,
    /// Field by field what changed.
    pub changes: Option<Vec<FieldChange>>,
    /// The event in a sentence.
    pub summary: String,
}

impl Table for TimelineRow {
    type Key = TimelineKey;
    const NAME: &'static str = "timeline";
    const KEY: &'static [&'static str] = &["stream", "sequence", "index"];
    fn key(&self) -> TimelineKey {
        TimelineKey { stream: self.stream.clone(), sequence: self.sequence, index: self.index }
    }
}

impl TimelineRow {
    /// The row of an event.
    pub fn of(message: &EventMessage, index: u32, event: &Event, changes: Option<Vec<FieldChange>>) -> Self {
        let envelope = &message.envelope;
        let object = event.object();
        let (generation, said) = match event {
            Event::Site(_, change) => describe(change, changes.as_deref()),
            Event::Tunnel(_, change) => describe(change, changes.as_deref()),
            Event::Device(_, change) => describe(change, changes.as_deref()),
            Event::Customer(_, change) => settings::describe(change, changes.as_deref()),
        };
        Self {
            customer: message.customer.clone(),
            kind: object.kind(),
            id: object.id().to_owned(),
            stream: message.stream.clone(),
            sequence: message.sequence,
            index,
            time: envelope.time,
            actor: envelope.actor.clone(),
            command: envelope.command,
            cause: envelope.cause.clone(),
            correlation: envelope.correlation.clone(),
            name: event.type_name(),
            generation,
            summary: format!("{} {} {said}", object.kind(), object.id()),
            changes,
        }
    }
}

fn describe<S>(change: &Change<S>, changes: Option<&[FieldChange]>) -> (Option<u64>, String) {
    let fields = || {
        let names: Vec<&str> =
            changes.unwrap_or_default().iter().map(|change| change.field.as_str()).collect();
        names.join(", ")
    };
    match change {
        Change::Created { generation, .. } => (Some(*generation), "was created".to_owned()),
        Change::Changed { generation, reverted_to: Some(former), .. } => {
            let text =
                format!("was reverted to generation {former}, as generation {generation}: {}", fields());
            (Some(*generation), text)
        }
        Change::Changed { generation, .. } => {
            (Some(*generation), format!("was changed to generation {generation}: {}", fields()))
        }
        Change::DecommissionRequested { generation } => (Some(*generation), "is to be taken down".to_owned()),
        Change::RetryRequested { retries } => (None, format!("is to be applied again (retry {retries})")),
        Change::DriftCheckRequested { .. } => (None, "is to be compared with its vendor".to_owned()),
        Change::Applied { generation, .. } => {
            (Some(*generation), format!("has generation {generation} at its vendor"))
        }
        Change::Failed { generation, code, message, .. } => {
            (Some(*generation), format!("failed in generation {generation}: {code}: {message}"))
        }
        Change::Removed { .. } => (None, "is gone".to_owned()),
        Change::DriftFound { .. } => (None, format!("has drifted: {}", fields())),
        Change::DriftNotFound { .. } => (None, "is as it was applied".to_owned()),
        Change::Postponed { generation, until: Some(until), window: Some(window) } => {
            let text =
                format!("waits for the change window {window} in generation {generation}, until {until}");
            (Some(*generation), text)
        }
        Change::Postponed { generation, .. } => {
            (Some(*generation), format!("waits for a change window in generation {generation}"))
        }
        Change::Due { generation } => {
            (Some(*generation), format!("waits for no change window in generation {generation} any more"))
        }
        Change::Released { generation, released_by, reason } => (
            Some(*generation),
            format!(
                "was released from its change windows in generation {generation} by {released_by}: {reason}"
            ),
        ),
        Change::Cancelled { generation, restored: Some(restored), tried } => {
            let again = if *tried { "is to be as in" } else { "is as in" };
            let text = format!("was cancelled: it {again} generation {restored}, as generation {generation}");
            (Some(*generation), text)
        }
        Change::Cancelled { generation, restored: None, tried: true } => {
            (Some(*generation), "was cancelled: what was begun of it is to be taken down".to_owned())
        }
        Change::Cancelled { generation, .. } => {
            (Some(*generation), "was cancelled before its vendor had it, and is gone".to_owned())
        }
        Change::Acknowledged { of, acknowledged_by, reason, until } => {
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            let of = of.as_str();
            (None, format!("has a {of} that {acknowledged_by} knows of{until}: {reason}"))
        }
        Change::Noted { text } => (None, format!("was noted: {text}")),
        Change::TemplateAssigned { generation, template, rollout: Some(rollout), .. } => {
            let text = format!(
                "was given version {} of the template by rollout {rollout}, as generation {generation}",
                template.version
            );
            (Some(*generation), text)
        }
        Change::TemplateAssigned { generation, template, .. } => {
            (Some(*generation), format!("begins with version {} of the template", template.version))
        }
        Change::StateStored { state, .. } => {
            (None, format!("has a Terraform state with serial {}", state.serial))
        }
        Change::ContactChanged { .. } => (None, "has another contact".to_owned()),
        Change::Suspended { reason } => (None, format!("was suspended: {reason}")),
        Change::Resumed {} => (None, "was resumed".to_owned()),
        Change::Protected {} => (None, "was protected from being taken down".to_owned()),
        Change::Unprotected {} => (None, "is protected no more".to_owned()),
        Change::ApprovalRequested { generation, .. } => {
            (Some(*generation), format!("waits for approval in generation {generation}"))
        }
        Change::Approved { generation, approved_by, plan: None } => {
            (Some(*generation), format!("was approved in generation {generation} by {approved_by}"))
        }
        Change::Approved { generation, approved_by, plan: Some(plan) } => {
            (Some(*generation), format!("has a plan that {approved_by} approved: {plan}"))
        }
        Change::Rejected { generation, rejected_by, reason, plan: None } => {
            (Some(*generation), format!("was rejected in generation {generation} by {rejected_by}: {reason}"))
        }
        Change::Rejected { generation, rejected_by, reason, plan: Some(plan) } => {
            (Some(*generation), format!("has a plan that {rejected_by} rejected: {reason} ({plan})"))
        }
        Change::PlanRequested { generation, .. } => {
            (Some(*generation), format!("is to be planned in generation {generation}"))
        }
        Change::Planned { generation, plan, approvals, .. } => {
            let PlanCounts { create, update, delete, replace } = plan.counts;
            let needs = if approvals.is_some() { ", and the plan waits for approval" } else { "" };
            let what =
                format!("{create} to create, {update} to update, {delete} to delete, {replace} to replace");
            (Some(*generation), format!("was planned: {what}{needs} ({})", plan.hash))
        }
        Change::PlanApplied { generation, plan, .. } => {
            (Some(*generation), format!("was changed as planned: {plan}"))
        }
        Change::PlanStale { generation, plan, why, .. } => {
            (Some(*generation), format!("is planned anew, for its plan is stale ({}): {plan}", why.word()))
        }
    }
}
