//! What keeps an object as it is: suspension, protection, approval.

use wanwright_schemas::Actor;
use wanwright_schemas::command::Ask;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CustomerId, DeviceId, Kind, SiteId};
use wanwright_schemas::policy::{ApproveBody, Rule, SuspendBody};
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;
use crate::decide::live;
use crate::object::Object;

/// Longest reason that people give, in characters.
const MAX_REASON: usize = 500;

/// A reason as people type it, for others to read.
pub(crate) fn reason(text: &str) -> Result<&str, Refusal> {
    let length = text.chars().count();
    if (1..=MAX_REASON).contains(&length) && !text.trim().is_empty() && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let message = format!("a reason is 1 to {MAX_REASON} characters without control characters");
    Err(Refusal::new(Reason::InvalidValue, message).field("reason"))
}

fn present<'a, S>(object: Option<&'a Object<S>>, name: &str) -> Result<&'a Object<S>, Refusal> {
    object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))
}

/// What is the same for every kind of object; none for a verb that is not about holding it.
pub(crate) fn decide<S>(
    object: Option<&Object<S>>,
    name: &str,
    ask: &Ask<S>,
    actor: &Actor,
) -> Option<Result<Vec<Change<S>>, Refusal>> {
    match ask {
        Ask::Suspend(body) => Some(suspend(object, name, body)),
        Ask::Resume => Some(resume(object, name)),
        Ask::Protect => Some(protect(object, name, true)),
        Ask::Unprotect => Some(protect(object, name, false)),
        Ask::Approve(body) => Some(approve(object, name, body, actor)),
        Ask::Create(_)
        | Ask::Change(_)
        | Ask::Decommission(_)
        | Ask::Retry
        | Ask::CheckDrift
        | Ask::Report(_) => None,
    }
}

/// Refuses to look at a customer that is suspended.
pub(crate) fn customer_goes_on(state: &Customer, customer: &CustomerId) -> Result<(), Refusal> {
    goes_on(state.own.suspended.as_deref(), || format!("customer/{customer}"))
}

/// Refuses to look at a site that is suspended.
pub(crate) fn site_goes_on(state: &Customer, id: &SiteId) -> Result<(), Refusal> {
    goes_on(state.own.suspended.as_deref(), || "the customer".to_owned())?;
    let site = state.sites.get(id);
    goes_on(site.and_then(|site| site.suspended.as_deref()), || format!("site/{id}"))
}

/// Refuses to look at a device that is suspended, by itself or with its site.
pub(crate) fn device_goes_on(state: &Customer, id: &DeviceId) -> Result<(), Refusal> {
    let Some(device) = state.devices.get(id) else { return Ok(()) };
    site_goes_on(state, &device.spec.site)?;
    goes_on(device.suspended.as_deref(), || format!("device/{id}"))
}

fn goes_on(suspended: Option<&str>, name: impl FnOnce() -> String) -> Result<(), Refusal> {
    match suspended {
        None => Ok(()),
        Some(reason) => Err(Refusal::new(Reason::Suspended, format!("{} is suspended: {reason}", name()))),
    }
}

/// Suspends an object, one that is being taken down included. The same again says nothing; another reason is noted.
fn suspend<S>(object: Option<&Object<S>>, name: &str, body: &SuspendBody) -> Result<Vec<Change<S>>, Refusal> {
    let object = present(object, name)?;
    let reason = reason(&body.reason)?;
    if object.suspended.as_deref() == Some(reason) {
        return Ok(Vec::new());
    }
    Ok(vec![Change::Suspended { reason: reason.to_owned() }])
}

/// Goes on with an object. One that is not suspended stays as it is.
fn resume<S>(object: Option<&Object<S>>, name: &str) -> Result<Vec<Change<S>>, Refusal> {
    let suspended = present(object, name)?.suspended.is_some();
    Ok(if suspended { vec![Change::Resumed {}] } else { Vec::new() })
}

/// Protects an object, or takes its protection away.
fn protect<S>(object: Option<&Object<S>>, name: &str, protected: bool) -> Result<Vec<Change<S>>, Refusal> {
    let object = live(object, name)?;
    Ok(match (object.protected, protected) {
        (false, true) => vec![Change::Protected {}],
        (true, false) => vec![Change::Unprotected {}],
        _ => Vec::new(),
    })
}

/// Approves the generation that waits. Its approver names it, so that nobody approves what he has not seen.
fn approve<S>(
    object: Option<&Object<S>>,
    name: &str,
    body: &ApproveBody,
    actor: &Actor,
) -> Result<Vec<Change<S>>, Refusal> {
    let Some(waiting) = &present(object, name)?.approval else {
        return Err(Refusal::new(
            Reason::NothingToApprove,
            format!("nothing about {name} waits for approval"),
        ));
    };
    if waiting.generation != body.generation {
        let message = format!(
            "generation {} of {name} waits for approval, not {}",
            waiting.generation, body.generation
        );
        return Err(Refusal::new(Reason::GenerationMismatch, message).field("generation"));
    }
    if waiting.requested_by.contains(actor) {
        let message = format!("{actor} asked for generation {} of {name}", waiting.generation);
        return Err(Refusal::new(Reason::OwnChange, message));
    }
    Ok(vec![Change::Approved { generation: waiting.generation, approved_by: actor.clone() }])
}

/// The generation that a change makes, if it makes one.
fn wished<S>(change: &Change<S>) -> Option<u64> {
    match change {
        Change::Created { generation, .. }
        | Change::Changed { generation, .. }
        | Change::DecommissionRequested { generation } => Some(*generation),
        _ => None,
    }
}

/// The request for approval that a change needs. Who asked for a generation that still waits has asked for the next
/// one too, for it brings both.
fn approval<S>(
    state: &Customer,
    kind: Kind,
    object: Option<&Object<S>>,
    change: &Change<S>,
    actor: &Actor,
) -> Option<Change<S>> {
    let generation = wished(change).filter(|_| state.own.spec.policy.of(kind) == Rule::Approve)?;
    let waiting = object.and_then(|object| object.approval.as_ref());
    let mut requested_by = waiting.map(|waiting| waiting.requested_by.clone()).unwrap_or_default();
    if !requested_by.contains(actor) {
        requested_by.push(actor.clone());
    }
    Some(Change::ApprovalRequested { generation, requested_by })
}

/// The events with a request for approval behind each that needs one.
pub(crate) fn with_approvals(state: &Customer, events: Vec<Event>, actor: &Actor) -> Vec<Event> {
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let request = match &event {
            Event::Site(id, change) => approval(state, Kind::Site, state.sites.get(id), change, actor)
                .map(|request| Event::Site(id.clone(), request)),
            Event::Tunnel(id, change) => approval(state, Kind::Tunnel, state.tunnels.get(id), change, actor)
                .map(|request| Event::Tunnel(id.clone(), request)),
            Event::Device(id, change) => approval(state, Kind::Device, state.devices.get(id), change, actor)
                .map(|request| Event::Device(id.clone(), request)),
            Event::Customer(..) => None,
        };
        all.push(event);
        all.extend(request);
    }
    all
}
