//! Notes, and acknowledgements of trouble.

use jiff::Timestamp;
use wanwright_schemas::Actor;
use wanwright_schemas::event::Change;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::remarks::{AcknowledgeBody, NoteBody, Trouble};

use crate::holds::reason;
use crate::object::{Acknowledgement, Object};

/// Longest note, in characters.
const MOST: usize = 2000;

/// A note as people type it.
pub(crate) fn text(body: &NoteBody) -> Result<String, Refusal> {
    let text = &body.text;
    let is_line = |character: char| !character.is_control() || character == '\n';
    if text.chars().count() <= MOST && !text.trim().is_empty() && text.chars().all(is_line) {
        return Ok(text.clone());
    }
    let message = format!("a note is 1 to {MOST} characters, without control characters but line breaks");
    Err(Refusal::new(Reason::InvalidValue, message).field("text"))
}

/// Says of a failure or a drift that somebody knows of it. The same by the same person says nothing.
pub(crate) fn acknowledge<S>(
    object: &Object<S>,
    name: &str,
    body: &AcknowledgeBody,
    actor: &Actor,
    now: Timestamp,
) -> Result<Vec<Change<S>>, Refusal> {
    let Some(of) = trouble(object) else {
        let message = format!("{name} has neither failed nor drifted");
        return Err(Refusal::new(Reason::NothingToAcknowledge, message));
    };
    let reason = reason(&body.reason)?.to_owned();
    if let Some(until) = body.until.filter(|until| *until <= now) {
        let message = format!("an acknowledgement until {until} would be over already");
        return Err(Refusal::new(Reason::InvalidValue, message).field("until"));
    }
    let said = Acknowledgement { of, by: actor.clone(), reason, until: body.until };
    if object.acknowledged.as_ref() == Some(&said) {
        return Ok(Vec::new());
    }
    let Acknowledgement { of, by: acknowledged_by, reason, until } = said;
    Ok(vec![Change::Acknowledged { of, acknowledged_by, reason, until }])
}

/// The trouble that somebody has to look at; of two the one that keeps the other from being resolved.
fn trouble<S>(object: &Object<S>) -> Option<Trouble> {
    let drifted = (!object.drift.is_empty()).then_some(Trouble::Drift);
    object.failure.as_ref().map(|_| Trouble::Failure).or(drifted)
}
