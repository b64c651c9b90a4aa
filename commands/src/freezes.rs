//! Change freezes: times in which a customer wants nothing new to be asked for.
//!
//! A freeze refuses what says how something should be: `create`, `change`, `revert`, `decommission`, `approve` and
//! `release`, the customer's own settings included. Change windows do not open in it. It does not refuse what was decided before it began: `retry` and `resume` bring about nothing
//! that was not asked for earlier, and what is half done is worse than what is done. Looking, suspending, protecting and
//! reporting change nothing. A `change` that only says whom to talk to is let through by `decide`. So is a `cancel` of what
//! nobody has begun; of what was tried it brings about another change at the vendor, as a `revert` would, and is refused.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Disambiguation, TimeZone};
use wanwright_schemas::command::Command;
use wanwright_schemas::policy::{CustomerChange, Freeze, FreezeBody, Name};
use wanwright_schemas::reason::{Reason, Refusal};

use crate::calendar::zone_of;
use crate::customer::Customer;
use crate::holds::reason;

/// Most freezes of one customer that are not over.
const MOST: usize = 32;

/// The verbs that say how something should be.
const REFUSED: [&str; 7] =
    ["create", "change", "revert", "decommission", "approve", "release", "assign-template"];

/// Refuses a command that says how something should be while a freeze is in force.
pub(crate) fn refuse(state: &Customer, command: &Command, now: Timestamp) -> Result<(), Refusal> {
    if REFUSED.contains(&command.verb()) { refuse_in_force(state, command, now) } else { Ok(()) }
}

/// Refuses a command while a freeze is in force, whatever it says.
pub(crate) fn refuse_in_force(state: &Customer, command: &Command, now: Timestamp) -> Result<(), Refusal> {
    let in_force = state.own.freezes.values().filter(|freeze| freeze.from <= now && now < freeze.to);
    let Some(freeze) = in_force.max_by_key(|freeze| freeze.to) else { return Ok(()) };
    let Freeze { name, to, reason, .. } = freeze;
    let local = local_end(freeze).map(|local| format!(" ({local})")).unwrap_or_default();
    let message = format!("the freeze `{name}` is in force until {to}{local}: {reason}");
    let next = format!(
        "Wait until {to}, or end the freeze first: `unfreeze` for customer/{} with {{\"name\":\"{name}\"}}.",
        command.customer
    );
    Err(Refusal::new(Reason::Frozen, message).next(next))
}

/// The end of a freeze as it was typed.
fn local_end(freeze: &Freeze) -> Option<String> {
    let zone = freeze.zone.as_deref()?;
    let tz = zone_of(zone).ok()?;
    Some(format!("{} in {zone}", tz.to_datetime(freeze.to)))
}

/// Adds a freeze. The same again says nothing. Those that are over make room.
pub(crate) fn freeze(
    state: &Customer,
    body: &FreezeBody,
    now: Timestamp,
) -> Result<Vec<CustomerChange>, Refusal> {
    let freeze = read(body)?;
    let known = &state.own.freezes;
    if known.get(&freeze.name) == Some(&freeze) {
        return Ok(Vec::new());
    }
    if freeze.to <= freeze.from {
        return Err(Refusal::new(Reason::InvalidValue, "a freeze ends after it began").field("to"));
    }
    if freeze.to <= now {
        let message = format!("a freeze until {} would be over already", freeze.to);
        return Err(Refusal::new(Reason::InvalidValue, message).field("to"));
    }
    if known.get(&freeze.name).is_some_and(|known| now < known.to) {
        let message =
            format!("there is a freeze `{}` already; send `unfreeze` first to change it", freeze.name);
        return Err(Refusal::new(Reason::AlreadyExists, message).field("name"));
    }
    let over: Vec<&Name> = known.values().filter(|known| known.to <= now).map(|known| &known.name).collect();
    if known.len() - over.len() >= MOST {
        let message = format!("the customer has {MOST} freezes that are not over, and may have no more");
        return Err(Refusal::new(Reason::TooMany, message));
    }
    let gone = over.into_iter().map(|name| CustomerChange::Unfrozen { name: name.clone() });
    Ok(gone.chain([CustomerChange::Frozen { freeze: freeze.clone() }]).collect())
}

/// Ends a freeze, before its time or after.
pub(crate) fn unfreeze(state: &Customer, name: &Name) -> Result<Vec<CustomerChange>, Refusal> {
    if state.own.freezes.contains_key(name) {
        return Ok(vec![CustomerChange::Unfrozen { name: name.clone() }]);
    }
    let known: Vec<&str> = state.own.freezes.keys().map(Name::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("there is no freeze `{name}`; there are: {known}");
    Err(Refusal::new(Reason::NotFound, message).field("name"))
}

fn read(body: &FreezeBody) -> Result<Freeze, Refusal> {
    let tz = body.zone.as_deref().map(zone_of).transpose()?;
    // Where a clock is set back a local time comes twice, and where it is set forward one does not come at all: the
    // freeze is then the longer one of those that may be meant.
    Ok(Freeze {
        name: body.name.clone(),
        from: moment(&body.from, tz.as_ref(), Disambiguation::Earlier, "from")?,
        to: moment(&body.to, tz.as_ref(), Disambiguation::Later, "to")?,
        zone: body.zone.clone(),
        reason: reason(&body.reason)?.to_owned(),
    })
}

fn moment(
    text: &str,
    tz: Option<&TimeZone>,
    unclear: Disambiguation,
    field: &str,
) -> Result<Timestamp, Refusal> {
    let wrong = |what: &str| {
        let text: String = text.chars().take(80).collect();
        Refusal::new(Reason::InvalidValue, format!("`{text}` is {what}")).field(field)
    };
    match (text.parse::<Timestamp>(), tz) {
        (Ok(_), Some(_)) => Err(wrong("a moment already: leave `zone` out, or type a local time")),
        (Ok(moment), None) => Ok(moment),
        (Err(_), None) => Err(wrong("no RFC 3339 moment; for a local time give `zone`")),
        (Err(_), Some(tz)) => {
            let local: DateTime =
                text.parse().map_err(|_| wrong("no local time such as 2026-12-20T00:00"))?;
            let moment = tz.to_ambiguous_zoned(local).disambiguate(unclear);
            moment.map(|zoned| zoned.timestamp()).map_err(|_| wrong("out of range"))
        }
    }
}
