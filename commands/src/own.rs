//! Decisions about a customer itself.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::policy::{
    ConfirmClaimsBody, CustomerAsk, CustomerChange, DecommissionBody, MAX_CLAIMS, SuspendBody,
};
use wanwright_schemas::reason::{Reason, Refusal};

use crate::cascade::{self, listed};
use crate::customer::Customer;
use crate::decide::{self, Circumstances, patched};
use crate::{freezes, holds};

pub(crate) fn decide(
    state: &Customer,
    customer: &CustomerId,
    ask: &CustomerAsk,
    facts: Circumstances<'_>,
) -> Result<Vec<Event>, Refusal> {
    let changes = match ask {
        CustomerAsk::Decommission(body) => return decommission(state, customer, *body),
        CustomerAsk::Change(patch) => change(state, customer, patch, facts)?,
        CustomerAsk::Suspend(body) => suspend(state, body)?,
        CustomerAsk::Resume if state.own.suspended.is_some() => vec![CustomerChange::Resumed {}],
        CustomerAsk::Resume => Vec::new(),
        CustomerAsk::Freeze(body) => freezes::freeze(state, body, facts.received)?,
        CustomerAsk::Unfreeze(body) => freezes::unfreeze(state, &body.name)?,
        CustomerAsk::ConfirmClaims(body) => abandoned(state, body, facts)?,
        CustomerAsk::Erase => erase(state, facts),
    };
    Ok(changes.into_iter().map(|change| Event::Customer(customer.clone(), change)).collect())
}

/// Refuses to make something new for a customer that is being taken down.
pub(crate) fn stays(state: &Customer, customer: &CustomerId) -> Result<(), Refusal> {
    if state.own.leaving {
        let message = format!("customer/{customer} is being decommissioned");
        return Err(Refusal::new(Reason::BeingRemoved, message));
    }
    Ok(())
}

fn change(
    state: &Customer,
    customer: &CustomerId,
    patch: &serde_json::Value,
    facts: Circumstances<'_>,
) -> Result<Vec<CustomerChange>, Refusal> {
    stays(state, customer)?;
    let Some(spec) = patched(&state.own.spec, patch)? else { return Ok(Vec::new()) };
    for vendor in spec.accounts.keys() {
        decide::vendor(facts, vendor).map_err(|refusal| refusal.field(format!("accounts.{vendor}")))?;
    }
    Ok(vec![CustomerChange::Changed { generation: state.own.generation + 1, spec }])
}

fn suspend(state: &Customer, body: &SuspendBody) -> Result<Vec<CustomerChange>, Refusal> {
    let reason = holds::reason(&body.reason)?;
    if state.own.suspended.as_deref() == Some(reason) {
        return Ok(Vec::new());
    }
    Ok(vec![CustomerChange::Suspended { reason: reason.to_owned() }])
}

/// Says that the customer's personal data is not to be read any more. What is erased already needs no saying.
fn erase(state: &Customer, facts: Circumstances<'_>) -> Vec<CustomerChange> {
    let key = facts.key.filter(|key| !state.erased.contains(key));
    key.map(|key| CustomerChange::Erased { key }).into_iter().collect()
}

/// Ends a customer: at once when it has nothing, else with the last of what it has.
fn decommission(
    state: &Customer,
    customer: &CustomerId,
    body: DecommissionBody,
) -> Result<Vec<Event>, Refusal> {
    if state.own.leaving {
        return Ok(Vec::new());
    }
    if !body.cascade && !state.is_empty() {
        let sites = state.sites.keys().cloned().map(ObjectRef::Site);
        let tunnels = state.tunnels.keys().cloned().map(ObjectRef::Tunnel);
        let devices = state.devices.keys().cloned().map(ObjectRef::Device);
        let has: Vec<ObjectRef> = sites.chain(tunnels).chain(devices).collect();
        let message = format!("customer/{customer} has {}", listed(&has, 5));
        return Err(Refusal::new(Reason::CustomerInUse, message));
    }
    let mut events = cascade::of_customer(state, customer)?;
    events.push(Event::Customer(customer.clone(), CustomerChange::DecommissionRequested {}));
    if state.is_empty() {
        events.push(Event::Customer(customer.clone(), CustomerChange::Removed {}));
    }
    Ok(events)
}

/// The claims that no device of the customer has. What a device has is confirmed by saying nothing.
fn abandoned(
    state: &Customer,
    body: &ConfirmClaimsBody,
    facts: Circumstances<'_>,
) -> Result<Vec<CustomerChange>, Refusal> {
    if body.claims.len() > MAX_CLAIMS {
        let message = format!("at most {MAX_CLAIMS} claims are confirmed at once, not {}", body.claims.len());
        return Err(Refusal::new(Reason::InvalidValue, message).field("claims"));
    }
    let has = |device, serial| state.devices.get(device).is_some_and(|device| &device.spec.serial == serial);
    let gone = body.claims.iter().filter(|claim| !has(&claim.device, &claim.serial));
    Ok(gone
        .map(|claim| CustomerChange::ClaimAbandoned {
            device: claim.device.clone(),
            serial: claim.serial.clone(),
            asked: facts.command,
        })
        .collect())
}
