//! Deciding a command: events, nothing because it is a repeat, or a refusal.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_schemas::body;
use wanwright_schemas::command::{Ask, Command, CommandBody, ObjectRef};
use wanwright_schemas::contact::KeyId;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{Actor, CommandId, CustomerId, VendorId};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::strict;
use wanwright_vendors::{Catalogue, SchemaVersion, Vendor};

use crate::cancel::Standing;
use crate::customer::Customer;
use crate::object::Object;
use crate::revert::Former;
use crate::settings::{self, Specified};
use crate::{approvals, cascade, device, freezes, holds, missed, own, plans, report, site, tunnel, windows};

/// What a decision may depend on beside the customer's state.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The command's id: the identity of what it creates.
    pub command: CommandId,
    /// The generation the sender expects the object to have.
    pub expected_generation: Option<u64>,
    /// When the command was received: what tells whether a freeze is in force, and whether a change window is open.
    pub received: Timestamp,
    /// What the vendors can do.
    pub vendors: &'a Catalogue,
    /// The version of the vendor's settings that the sender speaks; the stored one when it does not say.
    pub schema: Option<SchemaVersion>,
    /// The key that the customer's personal data is sealed with, where there is one.
    pub key: Option<KeyId>,
    /// What the customer's history says about the generation that a `revert` or `cancel` goes back to; see [`crate::revert::Search`].
    pub former: Option<&'a Former>,
    /// How far the order is that a `cancel` is about; see [`crate::cancel`].
    pub standing: Standing,
}

pub use wanwright_schemas::ids::EXECUTOR;

/// The one actor that may ask a customer about its claims.
pub const SWEEPER: &str = "sweeper";

/// The one actor that may give a stack another version of its template: a rollout, which operators start.
pub const ROLLOUT: &str = "rollout";

/// The verbs that an actor has for itself: nobody else may send them, and it may send nothing else.
const OF_ACTORS: [(&str, &str); 3] =
    [("report", EXECUTOR), ("confirm-claims", SWEEPER), ("assign-template", ROLLOUT)];

/// Decides a command against a customer's state.
///
/// # Errors
/// The refusal, when a rule forbids the command.
pub fn decide(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Result<Vec<Event>, Refusal> {
    let (verb, actor) = (command.verb(), command.actor.as_str());
    if OF_ACTORS.iter().any(|(only, of)| (*only == verb) != (*of == actor)) {
        let message = format!("actor `{actor}` may not send `{verb}`");
        return Err(Refusal::new(Reason::NotAllowed, message));
    }
    if let Err(frozen) = freezes::refuse(state, command, facts.received)
        && !(verb == "change" && is_only_contact(state, command, facts))
    {
        return Err(frozen);
    }
    as_expected(state, command, facts)?;
    if ["create", "revert", "cancel"].contains(&verb) {
        own::stays(state, &command.customer)?;
    }
    let events = of_object(state, command, facts)?;
    let events = match verb {
        "report" => {
            let end = cascade::end_of(state, &command.customer, &events);
            events.into_iter().chain(end).collect()
        }
        // What comes back was approved before. Only where the vendor has to be put right, something begins.
        "cancel" if !events.iter().any(is_tried) => events,
        // Of a plan it is one who asks, not one who approves.
        "cancel" => {
            freezes::refuse_in_force(state, command, facts.received)?;
            let events = plans::with_requests(state, events, &command.actor);
            windows::with_postponements(state, events, facts.received)
        }
        _ => {
            let events = approvals::with_requests(state, events, asker(command));
            let events = plans::with_requests(state, events, asker(command));
            windows::with_postponements(state, events, facts.received)
        }
    };
    Ok(missed::with_renewals(state, events, facts.received))
}

/// Who wants what a command asks for, and so cannot approve it.
fn asker(command: &Command) -> &Actor {
    match &command.body {
        CommandBody::Site(_, Ask::AssignTemplate(body)) => &body.by,
        _ => &command.actor,
    }
}

/// Whether something was tried of what this takes back.
fn is_tried(event: &Event) -> bool {
    fn of<S>(change: &Change<S>) -> bool {
        matches!(change, Change::Cancelled { tried: true, .. })
    }
    match event {
        Event::Site(_, change) => of(change),
        Event::Tunnel(_, change) => of(change),
        Event::Device(_, change) => of(change),
        Event::Customer(..) => false,
    }
}

fn of_object(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Result<Vec<Event>, Refusal> {
    let (actor, groups, now) = (&command.actor, &state.own.spec.groups, facts.received);
    match &command.body {
        CommandBody::CheckCustomerDrift => check_all(state, &command.customer, facts),
        CommandBody::Customer(ask) => own::decide(state, &command.customer, ask, actor, facts),
        CommandBody::Site(id, Ask::Decommission(body)) if body.cascade => site::decommission_all(state, id),
        CommandBody::Site(id, Ask::Report(report)) => {
            Ok(report::of_stack(&command.customer, state, id, report, facts))
        }
        CommandBody::Site(id, Ask::Approve(body)) if plans::is_meant(state, id, body.plan) => {
            let changes = plans::approve(&command.customer, state, id, body, actor, facts)?;
            Ok(changes.into_iter().map(|change| Event::Site(id.clone(), change)).collect())
        }
        CommandBody::Site(id, Ask::Reject(body)) if plans::is_meant(state, id, body.plan) => {
            let changes = plans::reject(state, id, body, actor, groups)?;
            Ok(changes.into_iter().map(|change| Event::Site(id.clone(), change)).collect())
        }
        CommandBody::Site(id, Ask::Release(body)) => windows::release_stack(state, id, body, actor, now),
        CommandBody::Site(id, ask) => {
            let held = holds::decide(state.sites.get(id), &format!("site/{id}"), ask, actor, groups, now);
            let changes = held.unwrap_or_else(|| site::decide(state, id, ask, facts))?;
            Ok(changes.into_iter().map(|change| Event::Site(id.clone(), change)).collect())
        }
        CommandBody::Tunnel(id, ask) => {
            let held = holds::decide(state.tunnels.get(id), &format!("tunnel/{id}"), ask, actor, groups, now);
            let changes = held.unwrap_or_else(|| tunnel::decide(state, id, ask, facts))?;
            Ok(changes.into_iter().map(|change| Event::Tunnel(id.clone(), change)).collect())
        }
        CommandBody::Device(id, Ask::Report(report)) => {
            Ok(report::of_device(&command.customer, state, id, report, facts))
        }
        CommandBody::Device(id, Ask::Release(body)) => windows::release_device(state, id, body, actor, now),
        CommandBody::Device(id, ask) => {
            let held = holds::decide(state.devices.get(id), &format!("device/{id}"), ask, actor, groups, now);
            let changes = held.unwrap_or_else(|| device::decide(state, id, ask, facts))?;
            Ok(changes.into_iter().map(|change| Event::Device(id.clone(), change)).collect())
        }
    }
}

/// Refuses a command whose sender saw another generation. Who creates saw nothing, which is generation 0.
fn as_expected(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Result<(), Refusal> {
    let object = command.object();
    let present = match &object {
        // A customer is there before it says anything about itself.
        ObjectRef::Customer(_) => Some(state.own.generation),
        _ => state.generation(&object),
    };
    let message = match (facts.expected_generation, present) {
        (Some(expected), Some(actual)) if expected != actual => {
            format!("{object} has generation {actual}, not {expected}")
        }
        (Some(expected), None) if expected != 0 && command.verb() == "create" => {
            format!("there is no {object}, so it does not have generation {expected}")
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(Reason::GenerationMismatch, message))
}

/// Asks for a look at everything that the customer has at its vendors, but what is suspended.
fn check_all(
    state: &Customer,
    customer: &CustomerId,
    facts: Circumstances<'_>,
) -> Result<Vec<Event>, Refusal> {
    holds::customer_goes_on(state, customer)?;
    let check = facts.command;
    let sites = state.sites.iter().filter(|(id, site)| {
        site.observed.is_some() && !site.leaving && holds::site_goes_on(state, id).is_ok()
    });
    let devices = state.devices.iter().filter(|(id, device)| {
        device.observed.is_some() && !device.leaving && holds::device_goes_on(state, id).is_ok()
    });
    let events: Vec<Event> = sites
        .map(|(id, _)| Event::Site(id.clone(), Change::DriftCheckRequested { check }))
        .chain(devices.map(|(id, _)| Event::Device(id.clone(), Change::DriftCheckRequested { check })))
        .collect();
    if events.is_empty() {
        return Err(Refusal::new(Reason::NothingToCheck, "the customer has nothing at a vendor yet"));
    }
    Ok(events)
}

/// Whether all that a command does is to say whom to talk to. Nothing is asked for with that, so no freeze is about it.
fn is_only_contact(state: &Customer, command: &Command, facts: Circumstances<'_>) -> bool {
    let Ok(events) = of_object(state, command, facts) else { return false };
    let is_contact = |event: &Event| {
        matches!(
            event,
            Event::Site(_, Change::ContactChanged { .. }) | Event::Device(_, Change::ContactChanged { .. })
        )
    };
    !events.is_empty() && events.iter().all(is_contact)
}

/// The object a command is about, which must be there and must not be leaving.
pub(crate) fn live<'a, S>(object: Option<&'a Object<S>>, name: &str) -> Result<&'a Object<S>, Refusal> {
    let object = object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))?;
    if object.leaving {
        return Err(Refusal::new(Reason::BeingRemoved, format!("{name} is being decommissioned")));
    }
    Ok(object)
}

/// Refuses to create what is there already.
pub(crate) fn absent<S>(object: Option<&Object<S>>, name: &str) -> Result<(), Refusal> {
    match object {
        None => Ok(()),
        Some(object) if object.leaving => {
            Err(Refusal::new(Reason::BeingRemoved, format!("{name} is being decommissioned")))
        }
        Some(_) => Err(Refusal::new(Reason::AlreadyExists, format!("{name} exists already"))),
    }
}

/// A change's new specification: the present one, patched. Answers nothing when nothing would differ.
pub(crate) fn patched<S>(spec: &S, patch: &Value) -> Result<Option<S>, Refusal>
where
    S: Serialize + DeserializeOwned + PartialEq,
{
    let mut value = serde_json::to_value(spec).map_err(|error| {
        Refusal::new(Reason::Internal, format!("the present state cannot be written: {error}"))
    })?;
    body::merge_patch(&mut value, patch);
    let changed: S = body::read_value(&value)?;
    // What was there before is as it was written.
    strict::shape(patch, &changed)?;
    Ok((&changed != spec).then_some(changed))
}

/// A change to this specification, unless the defaults that were filled in made it what it was. The settings are in the
/// vendor's stored version, whichever the present ones are in. Whom to talk to is no matter of the vendor's: where
/// nothing else changed, no new generation has to be brought about.
pub(crate) fn changed<S: Specified>(object: &Object<S>, spec: S, vendor: &Vendor) -> Vec<Change<S>> {
    if let Some(mut present) = settings::as_stored(object, vendor) {
        if present == spec {
            return Vec::new();
        }
        present.set_contact(spec.contact().cloned());
        if present == spec {
            return vec![Change::ContactChanged { contact: spec.contact().cloned() }];
        }
    }
    let schema = settings::reference::<S>(vendor);
    vec![Change::Changed { generation: object.generation + 1, spec, schema, reverted_to: None }]
}

/// A field that must not change.
pub(crate) fn unchanged<T: PartialEq>(before: &T, after: &T, field: &str) -> Result<(), Refusal> {
    if before == after {
        return Ok(());
    }
    Err(Refusal::new(Reason::CannotChange, format!("`{field}` cannot be changed")).field(field))
}

/// The vendor a site names.
pub(crate) fn vendor<'a>(facts: Circumstances<'a>, id: &VendorId) -> Result<&'a Vendor, Refusal> {
    facts.vendors.get(id.as_str()).ok_or_else(|| {
        let known: Vec<&str> = facts.vendors.names().collect();
        let message = format!("there is no vendor `{id}`; there are {}", known.join(", "));
        Refusal::new(Reason::UnknownVendor, message).field("vendor")
    })
}

/// Asks again: for an object that failed or drifted, and that nobody is working on. `stuck`: for the plan of its stack was
/// rejected.
pub(crate) fn retry<S>(
    object: Option<&Object<S>>,
    name: &str,
    stuck: bool,
) -> Result<Vec<Change<S>>, Refusal> {
    let object = object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))?;
    if !stuck && object.failure.is_none() && (object.drift.is_empty() || object.pending()) {
        let message = format!("{name} has neither failed nor drifted");
        return Err(Refusal::new(Reason::NothingToRetry, message));
    }
    Ok(vec![Change::RetryRequested { retries: object.retries + 1 }])
}

/// Asks for a look at the vendor.
pub(crate) fn check_drift<S>(
    object: Option<&Object<S>>,
    name: &str,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<S>>, Refusal> {
    let object = live(object, name)?;
    if object.observed.is_none() {
        return Err(Refusal::new(Reason::NothingToCheck, format!("{name} is not at the vendor yet")));
    }
    Ok(vec![Change::DriftCheckRequested { check: facts.command }])
}

/// Asks for the end of an object that nothing depends on. Asked twice, the second time says nothing, unless the first was
/// rejected: then this is how the object gets on. `rejected`: what was is the plan of its stack.
pub(crate) fn decommission<S>(
    object: Option<&Object<S>>,
    name: &str,
    rejected: bool,
) -> Result<Vec<Change<S>>, Refusal> {
    let object = object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))?;
    if object.leaving && !object.is_rejected() && !rejected {
        return Ok(Vec::new());
    }
    if object.protected {
        return Err(Refusal::new(Reason::Protected, format!("{name} is protected")));
    }
    Ok(vec![Change::DecommissionRequested { generation: object.generation + 1 }])
}
