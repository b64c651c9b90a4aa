//! Serial numbers belong to one customer in the whole fleet, which no customer's history can know alone.

use wanwright_nats::NatsError;
use wanwright_nats::claim::{Claimed, Claims, Held};
use wanwright_schemas::CustomerId;
use wanwright_schemas::command::{Ask, CommandBody};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::DeviceId;
use wanwright_schemas::policy::SerialClaim;
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;

fn name(serial: &str) -> String {
    format!("serial/{serial}")
}

fn owner(customer: &CustomerId, device: &DeviceId) -> String {
    format!("{customer}/{device}")
}

/// Whose claim to which serial number this is; none when it is no such claim.
pub(super) fn claimed(held: &Held) -> Option<(CustomerId, SerialClaim)> {
    let serial = held.name.strip_prefix("serial/")?.to_owned();
    let (customer, device) = held.owner.split_once('/')?;
    Some((customer.parse().ok()?, SerialClaim { device: device.parse().ok()?, serial }))
}

/// A device and its serial number.
pub(super) type Serial = (DeviceId, String);

/// Claims the serial numbers that the events give to devices, and notes in `fresh` those that were nobody's. Claimed
/// before the append and re-entrant, so a command that is tried again finds its own claim.
pub(super) async fn claim(
    claims: &Claims,
    customer: &CustomerId,
    events: &[Event],
    fresh: &mut Vec<Serial>,
) -> Result<Result<(), Refusal>, NatsError> {
    for event in events {
        let Event::Device(id, Change::Created { spec, .. }) = event else { continue };
        match claims.claim(&name(&spec.serial), &owner(customer, id)).await? {
            Claimed::New => fresh.push((id.clone(), spec.serial.clone())),
            Claimed::Again => {}
            Claimed::Taken => return Ok(Err(taken(&spec.serial))),
        }
    }
    Ok(Ok(()))
}

/// The same question without claiming anything, for a dry run.
pub(super) async fn would_claim(
    claims: &Claims,
    customer: &CustomerId,
    events: &[Event],
) -> Result<Result<(), Refusal>, NatsError> {
    for event in events {
        let Event::Device(id, Change::Created { spec, .. }) = event else { continue };
        if claims.is_taken(&name(&spec.serial), &owner(customer, id)).await? {
            return Ok(Err(taken(&spec.serial)));
        }
    }
    Ok(Ok(()))
}

fn taken(serial: &str) -> Refusal {
    let message = format!("serial number {serial} belongs to another device");
    Refusal::new(Reason::SerialTaken, message).field("serial")
}

/// The serial numbers that a report may free: those of the leaving devices it is about.
pub(super) fn leaving(state: &Customer, body: &CommandBody) -> Vec<Serial> {
    let CommandBody::Device(id, Ask::Report(_)) = body else { return Vec::new() };
    let device = state.devices.get(id).filter(|device| device.leaving);
    device.map(|device| (id.clone(), device.spec.serial.clone())).into_iter().collect()
}

/// The serial numbers of the devices that these events removed, where the state has no such device again.
pub(super) fn removed(state: &Customer, known: &[Serial], events: &[Event]) -> Vec<Serial> {
    let is_removed = |id: &DeviceId| {
        events.iter().any(|event| matches!(event, Event::Device(of, Change::Removed { .. }) if of == id))
    };
    absent(state, known).into_iter().filter(|(id, _)| is_removed(id)).collect()
}

/// Those serial numbers that no device of this name has.
pub(super) fn absent(state: &Customer, known: &[Serial]) -> Vec<Serial> {
    let has =
        |(id, serial): &&Serial| state.devices.get(id).is_some_and(|device| &device.spec.serial == serial);
    known.iter().filter(|known| !has(known)).cloned().collect()
}

/// The serial numbers that events gave to devices.
pub(super) fn given<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Serial> {
    let serial = |event: &Event| match event {
        Event::Device(id, Change::Created { spec, .. }) => Some((id.clone(), spec.serial.clone())),
        _ => None,
    };
    events.filter_map(serial).collect()
}

/// Gives serial numbers back.
pub(super) async fn release(claims: &Claims, customer: &CustomerId, serials: &[Serial]) {
    for (id, serial) in serials {
        if let Err(error) = claims.release(&name(serial), &owner(customer, id)).await {
            tracing::warn!(%serial, error = &error as &dyn std::error::Error, "a serial number stays claimed");
        }
    }
}
