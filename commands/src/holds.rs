//! What keeps an object as it is: suspension and protection; approvals, and what is only said about an object, have
//! modules of their own.

use jiff::Timestamp;
use wanwright_schemas::Actor;
use wanwright_schemas::command::Ask;
use wanwright_schemas::event::Change;
use wanwright_schemas::ids::{CustomerId, DeviceId, SiteId};
use wanwright_schemas::policy::{Groups, SuspendBody};
use wanwright_schemas::reason::{Reason, Refusal};

use crate::approvals;
use crate::customer::Customer;
use crate::decide::live;
use crate::object::Object;
use crate::{plans, remarks};

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

/// The object a command is about, which must be there.
pub(crate) fn present<'a, S>(object: Option<&'a Object<S>>, name: &str) -> Result<&'a Object<S>, Refusal> {
    object.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no {name}")))
}

/// What is the same for every kind of object; none for a verb that is not.
pub(crate) fn decide<S>(
    object: Option<&Object<S>>,
    name: &str,
    ask: &Ask<S>,
    actor: &Actor,
    groups: &Groups,
    now: Timestamp,
) -> Option<Result<Vec<Change<S>>, Refusal>> {
    match ask {
        Ask::Suspend(body) => Some(suspend(object, name, body)),
        Ask::Resume => Some(resume(object, name)),
        Ask::Protect => Some(protect(object, name, true)),
        Ask::Unprotect => Some(protect(object, name, false)),
        Ask::Approve(body) => Some(
            plans::none_is_named(body.plan, name)
                .and_then(|()| present(object, name))
                .and_then(|object| approvals::approve(object, name, body.generation, actor, groups)),
        ),
        Ask::Reject(body) => Some(
            plans::none_is_named(body.plan, name)
                .and_then(|()| present(object, name))
                .and_then(|object| approvals::reject(object, name, body, actor, groups)),
        ),
        Ask::Note(body) => {
            Some(present(object, name).and_then(|_| Ok(vec![Change::Noted { text: remarks::text(body)? }])))
        }
        Ask::Acknowledge(body) => Some(
            present(object, name).and_then(|object| remarks::acknowledge(object, name, body, actor, now)),
        ),
        Ask::Create(_)
        | Ask::Change(_)
        | Ask::Revert(_)
        | Ask::Release(_)
        | Ask::Decommission(_)
        | Ask::Retry
        | Ask::Cancel
        | Ask::CheckDrift
        | Ask::AssignTemplate(_)
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
