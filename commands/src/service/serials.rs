//! Serial numbers belong to one customer in the whole fleet, which no customer's history can know alone.
//!
//! A claim is freed as it was seen, never as it is then: whoever claims again in between, for a device that is yet to be
//! appended, keeps it. What is not freed because of that, or because a process died, the claims sweeper asks about; why
//! that takes no claim from a device is said there, and holds here: a claim is seen before the append that says that its
//! device is gone, or is one that this very command made.

use wanwright_nats::NatsError;
use wanwright_nats::claim::{Claimed, Claims, Held};
use wanwright_schemas::CustomerId;
use wanwright_schemas::command::{Ask, CommandBody};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::DeviceId;
use wanwright_schemas::policy::SerialClaim;
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;

/// The name of the claim to a serial number.
pub(super) fn name(serial: &str) -> String {
    format!("serial/{serial}")
}

fn owner(customer: &CustomerId, device: &DeviceId) -> String {
    format!("{customer}/{device}")
}

/// A claim as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The device and its serial number.
    pub(super) claim: SerialClaim,
    /// The write that claimed it last.
    pub(super) revision: u64,
}

/// Whose claim to which serial number this is; none when it is no such claim.
pub(super) fn claimed(held: &Held) -> Option<(CustomerId, Seen)> {
    let serial = held.name.strip_prefix("serial/")?.to_owned();
    let (customer, device) = held.owner.split_once('/')?;
    let claim = SerialClaim { device: device.parse().ok()?, serial };
    Some((customer.parse().ok()?, Seen { claim, revision: held.revision }))
}

/// What became of the claims of a command.
pub(super) enum Claim {
    /// Its devices have their serial numbers.
    Own,
    /// Another device has one of them.
    Refused(Refusal),
    /// This one may be another device's.
    Doubtful(String),
}

/// Claims the serial numbers that the events give to devices, and notes in `fresh` those that were nobody's. Claimed
/// before the append and re-entrant, so a command that is tried again finds its own claim.
pub(super) async fn claim(
    claims: &Claims,
    customer: &CustomerId,
    events: &[Event],
    fresh: &mut Vec<Seen>,
) -> Result<Claim, NatsError> {
    for event in events {
        let Event::Device(id, Change::Created { spec, .. }) = event else { continue };
        let claim = SerialClaim { device: id.clone(), serial: spec.serial.clone() };
        match claims.claim(&name(&spec.serial), &owner(customer, id)).await? {
            Claimed::New(revision) => fresh.push(Seen { claim, revision }),
            Claimed::Doubtful { was, now } => {
                match was {
                    None => fresh.push(Seen { claim, revision: now }),
                    // Whoever claimed it before may be about to append: the sweeper asks about it.
                    Some(was) => again(fresh, &claim, was, now),
                }
                return Ok(Claim::Doubtful(spec.serial.clone()));
            }
            Claimed::Again { was, now } => again(fresh, &claim, was, now),
            Claimed::Taken => return Ok(Claim::Refused(taken(&spec.serial))),
        }
    }
    Ok(Claim::Own)
}

/// What became of the claim of a device that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    /// It was never lost.
    WasThere,
    /// It was nobody's, and is the device's again.
    Again,
    /// Somebody else has it.
    Conflict,
}

/// Claims again for a device that has a serial number, if its claim is not there. Nothing is written where it is: that
/// would make a claim young each time it is looked at.
pub(super) async fn restore(
    claims: &Claims,
    customer: &CustomerId,
    device: &DeviceId,
    serial: &str,
) -> Result<Restored, NatsError> {
    if is_claimed(claims, customer, device, serial).await? {
        return Ok(Restored::WasThere);
    }
    Ok(match claims.claim_back(&name(serial), &owner(customer, device)).await? {
        Claimed::New(_) => Restored::Again,
        Claimed::Again { .. } | Claimed::Doubtful { .. } => Restored::WasThere,
        Claimed::Taken => Restored::Conflict,
    })
}

/// Whether a device has the claim to its serial number.
pub(super) async fn is_claimed(
    claims: &Claims,
    customer: &CustomerId,
    device: &DeviceId,
    serial: &str,
) -> Result<bool, NatsError> {
    Ok(claims.seen(&name(serial), &owner(customer, device)).await?.is_some())
}

/// Whether a claim is as it was seen.
pub(super) async fn is_newest(
    claims: &Claims,
    customer: &CustomerId,
    seen: &Seen,
) -> Result<bool, NatsError> {
    let SerialClaim { device, serial } = &seen.claim;
    Ok(claims.seen(&name(serial), &owner(customer, device)).await? == Some(seen.revision))
}

/// A claim that this command made stays its own while nobody else has claimed again in between.
fn again(fresh: &mut Vec<Seen>, claim: &SerialClaim, was: u64, now: u64) {
    fresh.retain(|seen| seen.claim != *claim || seen.revision == was);
    if let Some(own) = fresh.iter_mut().find(|seen| seen.claim == *claim) {
        own.revision = now;
    }
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

/// The serial numbers that a report or a `cancel` may free: those of the leaving devices it is about, and of those that
/// never were at their vendor.
pub(super) fn leaving(state: &Customer, body: &CommandBody) -> Vec<SerialClaim> {
    let CommandBody::Device(id, ask) = body else { return Vec::new() };
    let device = state.devices.get(id).filter(|device| match ask {
        Ask::Report(_) => device.leaving,
        Ask::Cancel => device.observed.is_none(),
        _ => false,
    });
    let claim = |serial: &String| SerialClaim { device: id.clone(), serial: serial.clone() };
    device.map(|device| claim(&device.spec.serial)).into_iter().collect()
}

/// The serial numbers of the devices that these events removed, where the state has no such device again.
pub(super) fn removed(state: &Customer, known: Vec<SerialClaim>, events: &[Event]) -> Vec<SerialClaim> {
    let is_removed = |id: &DeviceId| {
        events.iter().any(|event| matches!(event, Event::Device(of, change) if of == id && change.is_end()))
    };
    known.into_iter().filter(|claim| is_removed(&claim.device) && is_absent(state, claim)).collect()
}

/// Whether no device of this name has this serial number.
pub(super) fn is_absent(state: &Customer, claim: &SerialClaim) -> bool {
    state.devices.get(&claim.device).is_none_or(|device| device.spec.serial != claim.serial)
}

/// The serial numbers that events gave to devices.
pub(super) fn given<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<SerialClaim> {
    let claim = |event: &Event| match event {
        Event::Device(id, Change::Created { spec, .. }) => {
            Some(SerialClaim { device: id.clone(), serial: spec.serial.clone() })
        }
        _ => None,
    };
    events.filter_map(claim).collect()
}

/// Those of the claims that there are, as they are now.
pub(super) async fn see(
    claims: &Claims,
    customer: &CustomerId,
    known: Vec<SerialClaim>,
) -> Result<Vec<Seen>, NatsError> {
    let mut seen = Vec::new();
    for claim in known {
        let revision = claims.seen(&name(&claim.serial), &owner(customer, &claim.device)).await?;
        seen.extend(revision.map(|revision| Seen { claim, revision }));
    }
    Ok(seen)
}

/// Frees a claim that nobody claimed again since it was seen, and says whether it was so.
pub(super) async fn free(claims: &Claims, seen: &Seen) -> Result<bool, NatsError> {
    claims.release_seen(&name(&seen.claim.serial), seen.revision).await
}

/// Gives serial numbers back.
pub(super) async fn release(claims: &Claims, seen: &[Seen]) {
    for seen in seen {
        let serial = &seen.claim.serial;
        match free(claims, seen).await {
            Ok(true) => {}
            Ok(false) => tracing::info!(%serial, "a serial number was claimed again and stays claimed"),
            Err(error) => {
                tracing::warn!(%serial, error = &error as &dyn std::error::Error, "a serial number stays claimed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::spoilt::spoilt;

    const PIECES: [&str; 4] = ["/", "acme/", "serial/", "Å"];

    fn text() -> impl Strategy<Value = String> {
        let any = prop::collection::vec(any::<u8>(), 0..40);
        let bytes =
            prop_oneof![spoilt(b"acme/d1".to_vec(), &PIECES), spoilt(b"serial/SN-1".to_vec(), &PIECES), any];
        bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a claim, it is nobody's or says whose it is in no other way than it was written.
        #[test]
        fn hostile_claims(name in text(), owner in text(), revision in any::<u64>()) {
            let held = Held { name, owner, revision, time: Timestamp::UNIX_EPOCH };
            let Some((customer, seen)) = claimed(&held) else { return Ok(()) };
            prop_assert_eq!(super::name(&seen.claim.serial), held.name);
            prop_assert_eq!(super::owner(&customer, &seen.claim.device), held.owner);
            prop_assert_eq!(seen.revision, revision);
        }
    }

    #[test]
    fn a_claim_says_whose_it_is() {
        let (name, owner) = ("serial/SN/1".to_owned(), "acme/d1".to_owned());
        let held = Held { name, owner, revision: 7, time: Timestamp::UNIX_EPOCH };
        let (customer, seen) = claimed(&held).expect("a claim");
        let SerialClaim { device, serial } = seen.claim;
        assert_eq!((customer.as_str(), device.as_str(), serial.as_str()), ("acme", "d1", "SN/1"));
        for owner in ["acme", "acme/d1/d2", "/d1", "acme/", "?"] {
            assert!(claimed(&Held { owner: owner.to_owned(), ..held.clone() }).is_none(), "{owner}");
        }
    }
}
