//! Decisions about a customer itself.

use std::collections::BTreeMap;

use wanwright_schemas::ObjectRef;
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::{Actor, CustomerId, VendorId};
use wanwright_schemas::policy::{
    Account, ConfirmClaimsBody, CustomerAsk, CustomerChange, DecommissionBody, MAX_CLAIMS, RejectBody,
    SuspendBody,
};
use wanwright_schemas::reason::{Reason, Refusal};

use crate::accounts;
use crate::approvals::{self, Given};
use crate::cascade::{self, listed};
use crate::customer::{Customer, Waiting};
use crate::decide::{self, Circumstances, patched};
use crate::{freezes, holds, loosening, plans, remarks, windows};

pub(crate) fn decide(
    state: &Customer,
    customer: &CustomerId,
    ask: &CustomerAsk,
    actor: &Actor,
    facts: Circumstances<'_>,
) -> Result<Vec<Event>, Refusal> {
    let changes = match ask {
        CustomerAsk::Decommission(body) => return decommission(state, customer, *body),
        CustomerAsk::Change(patch) => change(state, customer, patch, actor, facts)?,
        CustomerAsk::Suspend(body) => suspend(state, body)?,
        CustomerAsk::Resume if state.own.suspended.is_some() => vec![CustomerChange::Resumed {}],
        CustomerAsk::Resume => Vec::new(),
        CustomerAsk::Freeze(body) => freezes::freeze(state, body, facts.received)?,
        CustomerAsk::Unfreeze(body) => freezes::unfreeze(state, &body.name)?,
        CustomerAsk::ConfirmClaims(body) => abandoned(state, body, facts)?,
        CustomerAsk::Erase => erase(state, facts),
        CustomerAsk::Approve(body) => {
            plans::none_is_named(body.plan, &format!("customer/{customer}"))?;
            approve(state, customer, body.generation, actor, facts)?
        }
        CustomerAsk::Reject(body) => {
            plans::none_is_named(body.plan, &format!("customer/{customer}"))?;
            reject(state, customer, body, actor)?
        }
        CustomerAsk::Note(body) => vec![CustomerChange::Noted { text: remarks::text(body)? }],
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
    actor: &Actor,
    facts: Circumstances<'_>,
) -> Result<Vec<CustomerChange>, Refusal> {
    stays(state, customer)?;
    let Some(spec) = patched(&state.own.spec, patch)? else { return Ok(Vec::new()) };
    accounts_exist(state, customer, &spec.accounts, facts)?;
    loosening::can_be_followed(&spec)?;
    plans::can_be_followed(state, &spec, facts.vendors)?;
    windows::can_open(&spec)?;
    let generation = state.own.generation + 1;
    let Some(approvals) = loosening::approvals(state, &spec)? else {
        return Ok(vec![CustomerChange::Changed { generation, spec }]);
    };
    let same = |waiting: &Waiting| waiting.spec == spec && waiting.approval.requested_by.contains(actor);
    if state.own.waiting.as_ref().is_some_and(same) {
        return Ok(Vec::new());
    }
    let requested_by = actor.clone();
    Ok(vec![CustomerChange::ApprovalRequested { generation, spec, requested_by, approvals }])
}

/// Refuses an account that the vendor's folder does not have for the customer. One that is named already stays: orders say
/// when it is gone.
fn accounts_exist(
    state: &Customer,
    customer: &CustomerId,
    accounts: &BTreeMap<VendorId, Account>,
    facts: Circumstances<'_>,
) -> Result<(), Refusal> {
    for (id, account) in accounts {
        let vendor = decide::vendor(facts, id).map_err(|refusal| refusal.field(format!("accounts.{id}")))?;
        if state.own.spec.accounts.get(id) == Some(account) {
            continue;
        }
        accounts::judge(vendor, customer, account).map_err(|refusal| {
            let field = refusal.field.clone().unwrap_or_default();
            refusal.field(format!("accounts.{id}.{field}"))
        })?;
    }
    Ok(())
}

/// Approves the settings that wait. They are in force with the last approval they need, which is refused where something
/// was made meanwhile that could not follow them.
fn approve(
    state: &Customer,
    customer: &CustomerId,
    generation: u64,
    actor: &Actor,
    facts: Circumstances<'_>,
) -> Result<Vec<CustomerChange>, Refusal> {
    stays(state, customer)?;
    let (waiting, groups) = (state.own.waiting.as_ref(), &state.own.spec.groups);
    let approval = waiting.map(|waiting| &waiting.approval);
    let given = approvals::judge(approval, &format!("customer/{customer}"), generation, actor, groups)?;
    let approved = CustomerChange::Approved { generation, approved_by: actor.clone() };
    let spec = waiting.map(|waiting| waiting.spec.clone()).unwrap_or_default();
    Ok(match given {
        Given::Before => Vec::new(),
        Given::Counts => vec![approved],
        Given::Suffices => {
            plans::can_be_followed(state, &spec, facts.vendors)?;
            vec![approved, CustomerChange::Changed { generation, spec }]
        }
    })
}

fn reject(
    state: &Customer,
    customer: &CustomerId,
    body: &RejectBody,
    actor: &Actor,
) -> Result<Vec<CustomerChange>, Refusal> {
    let approval = state.own.waiting.as_ref().map(|waiting| &waiting.approval);
    let (name, groups) = (format!("customer/{customer}"), &state.own.spec.groups);
    let reason = approvals::judge_rejection(approval, &name, body, actor, groups)?;
    Ok(vec![CustomerChange::Rejected { generation: body.generation, rejected_by: actor.clone(), reason }])
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
    if loosening::asks(&state.own.spec) {
        let message = format!("the policy of customer/{customer} asks for approvals");
        return Err(Refusal::new(Reason::ApprovalsInForce, message));
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
