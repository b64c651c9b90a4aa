//! The answers a lane gives, in words.

use std::time::Duration;

use cqrs_es::AggregateError;
use jiff::Timestamp;
use wanwright_nats::{StoredMessage, chain};
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::order::Order;
use wanwright_schemas::outcome::{MOST_ORDERS, Outcome, Position, Verdict, WouldOrder};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{Envelope, headers};

use super::CLOCK_SKEW;
use super::door::Asked;

type Cause = dyn std::error::Error + Send + Sync + 'static;

/// What headers and the server's own words may take beside the body of a message.
pub(crate) const HEADROOM: usize = 4 * 1024;

/// The longest sentence of a refusal, in characters: it may quote what somebody typed, of any length.
const LONGEST: usize = 2000;

/// The longest name of a field, in characters.
const LONGEST_FIELD: usize = 200;

fn outcome(asked: &Asked, verdict: Verdict) -> Outcome {
    Outcome {
        v: Outcome::VERSION,
        command: Some(asked.headers.command),
        object: Some(asked.subject.object.clone()),
        verdict,
        repeated: false,
        dry_run: asked.headers.dry_run,
    }
}

pub(super) fn accepted(
    asked: &Asked,
    position: Option<Position>,
    events: &[Event],
    generation: Option<u64>,
) -> Outcome {
    let events = events.iter().map(Event::type_name).collect();
    outcome(
        asked,
        Verdict::Accepted {
            position,
            events,
            generation,
            would_follow: None,
            would_order: None,
            more_orders: 0,
            would_plan: None,
            more_plans: 0,
        },
    )
}

/// The outcome of an accepted command, as the message with its events tells it.
pub(super) fn told(position: Position, message: &StoredMessage) -> Result<Outcome, AggregateError<Refusal>> {
    let envelope = Envelope::decode(&message.payload);
    let envelope = envelope.map_err(|error| AggregateError::DeserializationError(error.into()))?;
    let header = |name| message.headers.get(name).map(async_nats::HeaderValue::as_str);
    let object = header(headers::OBJECT).and_then(|text| text.parse().ok());
    let generation = header(headers::GENERATION).and_then(|text| text.parse().ok());
    let events = envelope.events.iter().map(Event::type_name).collect();
    Ok(Outcome {
        v: Outcome::VERSION,
        command: Some(envelope.command),
        object: object.or_else(|| Some(envelope.events.first()?.object())),
        verdict: Verdict::Accepted {
            position: Some(position),
            events,
            generation,
            would_follow: None,
            would_order: None,
            more_orders: 0,
            would_plan: None,
            more_plans: 0,
        },
        repeated: false,
        dry_run: false,
    })
}

pub(super) fn would_be(
    asked: &Asked,
    events: Vec<Event>,
    generation: Option<u64>,
    mut orders: Vec<Order>,
) -> Outcome {
    let names = events.iter().map(Event::type_name).collect();
    let more = orders.len().saturating_sub(MOST_ORDERS);
    orders.truncate(MOST_ORDERS);
    let verdict = Verdict::Accepted {
        position: None,
        events: names,
        generation,
        would_follow: Some(events),
        would_order: Some(orders.into_iter().map(WouldOrder::from).collect()),
        more_orders: u64::try_from(more).unwrap_or(u64::MAX),
        would_plan: None,
        more_plans: 0,
    };
    outcome(asked, verdict)
}

pub(super) fn refused(asked: &Asked, refusal: Refusal) -> Outcome {
    let (command, object) = (asked.headers.command, asked.subject.object.clone());
    let outcome = Outcome::refused(Some(command), Some(object), clipped(refusal));
    Outcome { dry_run: asked.headers.dry_run, ..outcome }
}

/// A refusal that fits into a message whatever it quotes.
pub(super) fn clipped(refusal: Refusal) -> Refusal {
    let clip = |text: String, longest| match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    Refusal {
        message: clip(refusal.message, LONGEST),
        field: refusal.field.map(|field| clip(field, LONGEST_FIELD)),
        ..refusal
    }
}

/// NATS did not do its part. An append whose answer was lost may have happened.
pub(super) fn unavailable(asked: &Asked, error: &Cause) -> Outcome {
    let message = format!(
        "the command may or may not have been recorded; send it again under the same id: {}",
        chain(error)
    );
    refused(asked, Refusal::new(Reason::Unavailable, message))
}

/// Too much waits for the customer's lane, or what is before it cannot be recorded.
pub(super) fn not_tried(asked: &Asked) -> Outcome {
    let message = format!(
        "commands of customer {} cannot be taken now; this one was not tried",
        asked.subject.customer
    );
    refused(asked, Refusal::new(Reason::Unavailable, message))
}

pub(super) fn damaged(asked: &Asked, error: &Cause) -> Outcome {
    let message = format!("customer {}: {}", asked.subject.customer, chain(error));
    refused(asked, Refusal::new(Reason::HistoryDamaged, message))
}

/// What the decision would rest on is there and cannot be read.
pub(super) fn unreadable(asked: &Asked, error: &Cause) -> Outcome {
    let message = format!("command {} is not decided: {}", asked.headers.command, chain(error));
    refused(asked, Refusal::new(Reason::StorageDamaged, message))
}

/// Whose a serial number is cannot be told.
pub(super) fn doubtful(asked: &Asked, serial: &str) -> Outcome {
    let message = format!(
        "command {} is not decided: the server lacks claims to serial numbers, and {serial} may be another device's",
        asked.headers.command
    );
    let next = "Have the damaged histories repaired that `wanwright get dead` names, and send it again: then every device \
        has its claim.";
    refused(asked, Refusal::new(Reason::StorageDamaged, message).field("serial").next(next))
}

/// It may be one that was answered before, and whose answer is lost.
pub(super) fn in_doubt(asked: &Asked) -> Outcome {
    let command = asked.headers.command;
    let message = format!(
        "command {command} is not decided: VERDICTS lacks answers that it had, and one of them may be this command's"
    );
    let next = "Look whether it was carried out, and if not, send it under a new id; under this one it is decided once an \
        administrator has said `wanwright nats accept`.";
    refused(asked, Refusal::new(Reason::StorageDamaged, message).next(next))
}

pub(super) fn reused(asked: &Asked) -> Refusal {
    let message = format!("command {} was another command before", asked.headers.command);
    Refusal::new(Reason::CommandIdReused, message)
}

/// The decision does not fit into a message, and a command has one message only.
pub(crate) fn too_large(bytes: usize, limit: usize) -> Refusal {
    let message = format!("the decision has {bytes} bytes, and the server takes messages of at most {limit}");
    Refusal::new(Reason::BodyTooLarge, message)
        .next("Ask for less with one command: for each site instead of the customer, or for its objects one by one.")
}

/// An id is remembered for a window; outside of it nobody can tell a repeat from a new command.
pub(super) fn too_old_or_new(command: CommandId, received_millis: u64, window: Duration) -> Option<Refusal> {
    // Nothing in a foreign id tells its age: the command is as old as its message.
    if command.is_foreign() {
        return None;
    }
    let (minted, received) = (u128::from(command.unix_millis()), u128::from(received_millis));
    if minted + window.as_millis() < received {
        let hours = window.as_secs_f64() / 3600.0;
        let message = format!("command {command} is more than {hours} hours old");
        return Some(Refusal::new(Reason::CommandTooOld, message));
    }
    if minted > received + CLOCK_SKEW.as_millis() {
        let message = format!("command {command} was minted more than 5 minutes from now");
        return Some(Refusal::new(Reason::CommandFromFuture, message));
    }
    None
}

/// Milliseconds since 1970, by this process's clock.
pub(super) fn now_millis() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// From when on decisions are remembered: longer than the window, so that no id is new again at its very end. A command
/// that waits in the inbox is as old as when it was stored, so it counts from the oldest one there.
pub(super) fn horizon(window: Duration, oldest_millis: u64) -> u64 {
    let twice = u64::try_from(2 * window.as_millis()).unwrap_or(u64::MAX);
    now_millis().min(oldest_millis).saturating_sub(twice)
}
