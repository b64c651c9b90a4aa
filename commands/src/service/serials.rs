//! Serial numbers belong to one customer in the whole fleet, which no customer's history can know alone.

use wanwright_nats::NatsError;
use wanwright_nats::claim::Claims;
use wanwright_schemas::CustomerId;
use wanwright_schemas::command::{Ask, CommandBody};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::DeviceId;
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;

fn name(serial: &str) -> String {
    format!("serial/{serial}")
}

fn owner(customer: &CustomerId, device: &DeviceId) -> String {
    format!("{customer}/{device}")
}

/// Claims the serial numbers that the events give to devices. Claimed before the append and re-entrant, so a command
/// that is tried again finds its own claim.
pub(super) async fn claim(
    claims: &Claims,
    customer: &CustomerId,
    events: &[Event],
) -> Result<Result<(), Refusal>, NatsError> {
    for event in events {
        let Event::Device(id, Change::Created { spec, .. }) = event else { continue };
        if !claims.claim(&name(&spec.serial), &owner(customer, id)).await? {
            let message = format!("serial number {} belongs to another device", spec.serial);
            return Ok(Err(Refusal::new(Reason::SerialTaken, message).field("serial")));
        }
    }
    Ok(Ok(()))
}

/// The serial numbers that a report may free: those of the leaving devices it is about.
pub(super) fn leaving(state: &Customer, body: &CommandBody) -> Vec<(DeviceId, String)> {
    let CommandBody::Device(id, Ask::Report(_)) = body else { return Vec::new() };
    let device = state.devices.get(id).filter(|device| device.leaving);
    device.map(|device| (id.clone(), device.spec.serial.clone())).into_iter().collect()
}

/// Gives back the serial numbers of the devices that are gone now.
pub(super) async fn release(
    claims: &Claims,
    customer: &CustomerId,
    leaving: &[(DeviceId, String)],
    events: &[Event],
) {
    for (id, serial) in leaving {
        let gone =
            events.iter().any(|event| matches!(event, Event::Device(of, Change::Removed { .. }) if of == id));
        if gone && let Err(error) = claims.release(&name(serial), &owner(customer, id)).await {
            tracing::warn!(%serial, error = &error as &dyn std::error::Error, "a serial number stays claimed");
        }
    }
}
