//! Approvals: what waits for them, who gives them, and what must not get round them.

use wanwright_schemas::Actor;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::Kind;
use wanwright_schemas::policy::{Groups, RejectBody};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::rule::Rule;

use crate::customer::Customer;
use crate::holds;
use crate::object::{Approval, Object};

/// What one more approval does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// Nothing: the actor gave his already.
    Before,
    /// It counts, and others are needed still.
    Counts,
    /// It is the last one that was needed.
    Suffices,
}

/// Judges one more approval. Its giver names the generation, so that nobody approves what he has not seen.
///
/// # Errors
/// The refusal, when nothing waits, another generation does, or the actor may not approve it.
pub(crate) fn judge(
    waiting: Option<&Approval>,
    name: &str,
    generation: u64,
    actor: &Actor,
    groups: &Groups,
) -> Result<Given, Refusal> {
    let waiting = of_generation(waiting, name, generation)?;
    if waiting.requested_by.contains(actor) {
        let message = format!("{actor} asked for generation {generation} of {name}");
        return Err(Refusal::new(Reason::OwnChange, message));
    }
    in_group(waiting, actor, groups)?;
    if waiting.approved_by.contains(actor) {
        return Ok(Given::Before);
    }
    let enough = waiting.approved_by.len() + 1 >= waiting.needed();
    Ok(if enough { Given::Suffices } else { Given::Counts })
}

/// Judges a rejection: by whom an approval would count, or by who asked for it and does not want it any more.
///
/// # Errors
/// As [`judge`].
pub(crate) fn judge_rejection(
    waiting: Option<&Approval>,
    name: &str,
    body: &RejectBody,
    actor: &Actor,
    groups: &Groups,
) -> Result<String, Refusal> {
    let waiting = of_generation(waiting, name, body.generation)?;
    if !waiting.requested_by.contains(actor) {
        in_group(waiting, actor, groups)?;
    }
    holds::reason(&body.reason).map(str::to_owned)
}

fn of_generation<'a>(
    waiting: Option<&'a Approval>,
    name: &str,
    generation: u64,
) -> Result<&'a Approval, Refusal> {
    let Some(waiting) = waiting else {
        let message = format!("nothing about {name} waits for approval");
        return Err(Refusal::new(Reason::NothingToApprove, message));
    };
    if let Some(by) = &waiting.rejected_by {
        let message = format!("generation {} of {name} was rejected by {by}", waiting.generation);
        let next = "Send another `change`; the generation it makes waits for approval.";
        return Err(Refusal::new(Reason::NothingToApprove, message).next(next));
    }
    if waiting.generation != generation {
        let message =
            format!("generation {} of {name} waits for approval, not {generation}", waiting.generation);
        return Err(Refusal::new(Reason::GenerationMismatch, message).field("generation"));
    }
    Ok(waiting)
}

/// Refuses whoever does not belong, now, to the group whose approvals are wanted.
fn in_group(waiting: &Approval, actor: &Actor, groups: &Groups) -> Result<(), Refusal> {
    let Some(group) = &waiting.approvals.group else { return Ok(()) };
    if groups.get(group).is_some_and(|members| members.contains(actor)) {
        return Ok(());
    }
    let message = format!("{actor} does not belong to the group `{group}`");
    Err(Refusal::new(Reason::NotApprover, message))
}

/// Approves the generation of an object that waits. The same by the same actor says nothing.
pub(crate) fn approve<S>(
    object: &Object<S>,
    name: &str,
    generation: u64,
    actor: &Actor,
    groups: &Groups,
) -> Result<Vec<Change<S>>, Refusal> {
    Ok(match judge(object.approval.as_ref(), name, generation, actor, groups)? {
        Given::Before => Vec::new(),
        Given::Counts | Given::Suffices => {
            vec![Change::Approved { generation, approved_by: actor.clone(), plan: None }]
        }
    })
}

/// Rejects the generation of an object that waits.
pub(crate) fn reject<S>(
    object: &Object<S>,
    name: &str,
    body: &RejectBody,
    actor: &Actor,
    groups: &Groups,
) -> Result<Vec<Change<S>>, Refusal> {
    let reason = judge_rejection(object.approval.as_ref(), name, body, actor, groups)?;
    let (generation, rejected_by) = (body.generation, actor.clone());
    Ok(vec![Change::Rejected { generation, rejected_by, reason, plan: None }])
}

/// Whether an event says that another one before it waits for approval.
pub(crate) fn is_request(event: &Event) -> bool {
    matches!(
        event,
        Event::Site(_, Change::ApprovalRequested { .. })
            | Event::Tunnel(_, Change::ApprovalRequested { .. })
            | Event::Device(_, Change::ApprovalRequested { .. })
    )
}

/// The generation that a change makes, if it makes one.
pub(crate) fn wished<S>(change: &Change<S>) -> Option<u64> {
    match change {
        Change::Created { generation, .. }
        | Change::Changed { generation, .. }
        | Change::TemplateAssigned { generation, .. }
        | Change::DecommissionRequested { generation } => Some(*generation),
        _ => None,
    }
}

/// The request for approval that a change needs. A generation made while one waits, or after one was rejected, brings
/// that one's content too: so it waits whatever the policy says by now, and whoever asked for the one has asked for the
/// other.
fn request<S>(
    state: &Customer,
    kind: Kind,
    object: Option<&Object<S>>,
    change: &Change<S>,
    actor: &Actor,
) -> Option<Change<S>> {
    let generation = wished(change)?;
    if object.is_none() && matches!(change, Change::TemplateAssigned { .. }) {
        // It is in the generation that the site is created with.
        return None;
    }
    let waiting = object.and_then(|object| object.approval.as_ref());
    let approvals = match state.own.spec.policy.of(kind) {
        Rule::Approve(approvals) => approvals.clone(),
        // What is planned has its own approvals, of the plan.
        Rule::Apply | Rule::Plan(_) => waiting?.approvals.clone(),
    };
    let mut requested_by = waiting.map(|waiting| waiting.requested_by.clone()).unwrap_or_default();
    if !requested_by.contains(actor) {
        requested_by.push(actor.clone());
    }
    Some(Change::ApprovalRequested { generation, requested_by, approvals })
}

/// The events with a request for approval behind each that needs one.
pub(crate) fn with_requests(state: &Customer, events: Vec<Event>, actor: &Actor) -> Vec<Event> {
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let request = match &event {
            Event::Site(id, change) => request(state, Kind::Site, state.sites.get(id), change, actor)
                .map(|request| Event::Site(id.clone(), request)),
            Event::Tunnel(id, change) => request(state, Kind::Tunnel, state.tunnels.get(id), change, actor)
                .map(|request| Event::Tunnel(id.clone(), request)),
            Event::Device(id, change) => request(state, Kind::Device, state.devices.get(id), change, actor)
                .map(|request| Event::Device(id.clone(), request)),
            Event::Customer(..) => None,
        };
        all.push(event);
        all.extend(request);
    }
    all
}
