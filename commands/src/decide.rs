//! Deciding a command: events, nothing because it is a repeat, or a refusal.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_schemas::body;
use wanwright_schemas::command::{Ask, Command, CommandBody};
use wanwright_schemas::contact::{CustomerAsk, CustomerChange, KeyId};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, VendorId};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_vendors::{Catalogue, SchemaVersion, Vendor};

use crate::customer::Customer;
use crate::object::Object;
use crate::settings::{self, Specified};
use crate::{device, report, site, tunnel};

/// What a decision may depend on beside the customer's state.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The command's id: the identity of what it creates.
    pub command: CommandId,
    /// The generation the sender expects the object to have.
    pub expected_generation: Option<u64>,
    /// What the vendors can do.
    pub vendors: &'a Catalogue,
    /// The version of the vendor's settings that the sender speaks; the stored one when it does not say.
    pub schema: Option<SchemaVersion>,
    /// The key that the customer's personal data is sealed with, where there is one.
    pub key: Option<KeyId>,
}

/// The one actor that may report.
pub const EXECUTOR: &str = "executor";

/// Decides a command against a customer's state.
///
/// # Errors
/// The refusal, when a rule forbids the command.
pub fn decide(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Result<Vec<Event>, Refusal> {
    let reporting = command.verb() == "report";
    if reporting != (command.actor.as_str() == EXECUTOR) {
        let message = format!("actor `{}` may not send `{}`", command.actor, command.verb());
        return Err(Refusal::new(Reason::NotAllowed, message));
    }
    as_expected(state, command, facts)?;
    match &command.body {
        CommandBody::CheckCustomerDrift => check_all(state, facts),
        CommandBody::Customer(CustomerAsk::Erase) => Ok(erase(state, command, facts)),
        CommandBody::Site(id, Ask::Report(report)) => {
            Ok(report::of_stack(&command.customer, state, id, report, facts.vendors))
        }
        CommandBody::Site(id, ask) => {
            let changes = site::decide(state, id, ask, facts)?;
            Ok(changes.into_iter().map(|change| Event::Site(id.clone(), change)).collect())
        }
        CommandBody::Tunnel(id, ask) => {
            let changes = tunnel::decide(state, id, ask, facts)?;
            Ok(changes.into_iter().map(|change| Event::Tunnel(id.clone(), change)).collect())
        }
        CommandBody::Device(id, Ask::Report(report)) => {
            Ok(report::of_device(&command.customer, state, id, report, facts.vendors))
        }
        CommandBody::Device(id, ask) => {
            let changes = device::decide(state, id, ask, facts)?;
            Ok(changes.into_iter().map(|change| Event::Device(id.clone(), change)).collect())
        }
    }
}

/// Refuses a command whose sender saw another generation. Who creates saw nothing, which is generation 0.
fn as_expected(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Result<(), Refusal> {
    let object = command.object();
    let message = match (facts.expected_generation, state.generation(&object)) {
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

/// Asks for a look at everything that the customer has at its vendors.
fn check_all(state: &Customer, facts: Circumstances<'_>) -> Result<Vec<Event>, Refusal> {
    let check = facts.command;
    let sites = state.sites.iter().filter(|(_, site)| site.observed.is_some() && !site.leaving);
    let devices = state.devices.iter().filter(|(_, device)| device.observed.is_some() && !device.leaving);
    let events: Vec<Event> = sites
        .map(|(id, _)| Event::Site(id.clone(), Change::DriftCheckRequested { check }))
        .chain(devices.map(|(id, _)| Event::Device(id.clone(), Change::DriftCheckRequested { check })))
        .collect();
    if events.is_empty() {
        return Err(Refusal::new(Reason::NothingToCheck, "the customer has nothing at a vendor yet"));
    }
    Ok(events)
}

/// Says that the customer's personal data is not to be read any more. What is erased already needs no saying.
fn erase(state: &Customer, command: &Command, facts: Circumstances<'_>) -> Vec<Event> {
    let key = facts.key.filter(|key| !state.erased.contains(key));
    let event = |key| Event::Customer(command.customer.clone(), CustomerChange::Erased { key });
    key.map(event).into_iter().collect()
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
    let changed: S = body::from_value(value)?;
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
    vec![Change::Changed { generation: object.generation + 1, spec, schema }]
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

/// Asks again: for an object that failed or drifted, and that nobody is working on.
pub(crate) fn retry<S>(object: Option<&Object<S>>, name: &str) -> Result<Vec<Change<S>>, Refusal> {
    let object = object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))?;
    if object.failure.is_none() && (object.drift.is_empty() || object.pending()) {
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

/// Asks for the end of an object that nothing depends on. Asked twice, the second time says nothing.
pub(crate) fn decommission<S>(object: Option<&Object<S>>, name: &str) -> Result<Vec<Change<S>>, Refusal> {
    let object = object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))?;
    if object.leaving {
        return Ok(Vec::new());
    }
    Ok(vec![Change::DecommissionRequested { generation: object.generation + 1 }])
}
