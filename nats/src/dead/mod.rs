//! Dead letters: what could not be handled, with the reason, until a person sends it back or drops it.
//!
//! A letter is never changed. What a person did about it is another message, about its sequence: so whoever reads the
//! stream from its beginning knows what is still to be looked at.

mod requeue;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::{Digest, Reason, headers, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::{load_page, load_subject};
use crate::publish::publish;
use crate::topology::DEAD;
pub use requeue::{Back, Kept, requeue};

/// How many letters one look is about, and how many bytes of them.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

/// What becomes a dead letter, where it is no command.
#[derive(Debug)]
pub struct Letter<'a> {
    /// `order` or `report`.
    pub what: &'a str,
    /// Why.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: &'a str,
    /// The subject it was published on, or would have been.
    pub subject: &'a str,
    /// The row of the table of orders that it is about.
    pub row: &'a str,
    /// The order, where it could be read.
    pub order: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// What was done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settlement {
    /// It was sent back to where it came from.
    Requeued,
    /// It was given up.
    Dropped,
}

impl Settlement {
    /// As it stands in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Dropped => "dropped",
        }
    }
}

/// The note that something was done about a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The letter's sequence.
    pub letter: u64,
    /// What was done.
    pub how: Settlement,
    /// Who did it.
    pub by: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub time: Timestamp,
}

/// The note in a message of the stream; none when it is a letter.
pub fn settled(message: &StoredMessage) -> Option<Settled> {
    message.subject.starts_with(subjects::DEAD_SETTLED).then_some(())?;
    serde_json::from_slice(&message.payload).ok()
}

/// Whether a message of the stream is a letter, and no note about one.
pub fn is_letter(message: &StoredMessage) -> bool {
    !message.subject.starts_with(subjects::DEAD_SETTLED)
}

/// Puts something among the dead letters, and waits until it is stored.
///
/// # Errors
/// [`NatsError`].
pub async fn bury(nats: &Nats, letter: Letter<'_>) -> Result<u64, NatsError> {
    let mut head = HeaderMap::new();
    let text: String = letter.message.chars().filter(|c| !c.is_control()).take(1000).collect();
    head.insert(headers::DEAD_REASON, letter.reason.code());
    head.insert(headers::DEAD_MESSAGE, text.as_str());
    head.insert(headers::DEAD_SUBJECT, letter.subject);
    head.insert(headers::DEAD_SIZE, letter.body.len().to_string().as_str());
    head.insert(headers::DEAD_DIGEST, Digest::of(&letter.body).to_string().as_str());
    head.insert(headers::DEAD_ROW, letter.row);
    if let Some(order) = &letter.order {
        head.insert(headers::DEAD_ORDER, order.as_str());
    }
    publish(&nats.js, subjects::dead(letter.what, letter.reason), head, letter.body).await
}

/// Notes what was done about a letter.
///
/// # Errors
/// [`NatsError`].
pub async fn settle(nats: &Nats, note: &Settled) -> Result<(), NatsError> {
    let subject = subjects::dead_settled(note.letter);
    let body = serde_json::to_vec(note)
        .map_err(NatsError::failed(format!("noting what became of {}", note.letter)))?;
    publish(&nats.js, subject, HeaderMap::new(), body.into()).await.map(drop)
}

/// A letter; none when there is none of that sequence.
///
/// # Errors
/// [`NatsError`].
pub async fn get(nats: &Nats, sequence: u64) -> Result<Option<StoredMessage>, NatsError> {
    let doing = format!("reading dead letter {sequence}");
    let stream = nats.js.get_stream_no_info(DEAD).await.map_err(NatsError::failed(doing.clone()))?;
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(Some(StoredMessage::read(DEAD, message)).filter(is_letter)),
        Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(NatsError::failed(doing)(error)),
    }
}

/// What was done about a letter, if anything was.
///
/// # Errors
/// [`NatsError`].
pub async fn settlement(nats: &Nats, sequence: u64) -> Result<Option<Settled>, NatsError> {
    let notes = load_subject(nats, DEAD, &subjects::dead_settled(sequence), 0).await?;
    Ok(notes.iter().rev().find_map(settled))
}

/// The letters behind a sequence that nothing was done about, oldest first: at most so many.
///
/// # Errors
/// [`NatsError`]; nothing partial is answered.
pub async fn open(nats: &Nats, after: u64, limit: usize) -> Result<Vec<StoredMessage>, NatsError> {
    let notes = load_subject(nats, DEAD, &format!("{}*", subjects::DEAD_SETTLED), 0).await?;
    let done: std::collections::BTreeSet<u64> =
        notes.iter().filter_map(settled).map(|note| note.letter).collect();
    let (mut letters, mut after) = (Vec::new(), after);
    loop {
        let (page, more) = load_page(nats, DEAD, subjects::DEAD_ALL, after, PAGE, PAGE_BYTES).await?;
        let Some(last) = page.last() else { return Ok(letters) };
        after = last.sequence;
        letters.extend(page.into_iter().filter(|one| is_letter(one) && !done.contains(&one.sequence)));
        if letters.len() >= limit || !more {
            letters.truncate(limit);
            return Ok(letters);
        }
    }
}

/// Takes a letter out of the stream for good. The note about it stays.
///
/// # Errors
/// [`NatsError`].
pub async fn remove(nats: &Nats, sequence: u64) -> Result<(), NatsError> {
    let doing = format!("removing dead letter {sequence}");
    let stream: jetstream::stream::Stream<()> =
        nats.js.get_stream_no_info(DEAD).await.map_err(NatsError::failed(doing))?;
    crate::keys::erase_message(&stream, sequence).await.map(drop)
}
