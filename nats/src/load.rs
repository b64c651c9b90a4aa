//! Loading what a stream holds of one subject.
//!
//! It goes through batched direct gets, never through a consumer: a stream bears few of those, and each lingers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::unreadable::{self, first_unreadable};

/// How many messages one request of a load asks for.
const BATCH: usize = 256;

/// How long a batch may take between two messages.
const BATCH_WAIT: Duration = Duration::from_secs(5);

/// How often is looked meanwhile whether the connection is still the one that was asked over.
const LOOK: Duration = Duration::from_millis(50);

/// The messages of a subject after a sequence (0: all), in order.
///
/// # Errors
/// [`NatsError`]; nothing partial is answered.
pub async fn load_subject(
    nats: &Nats,
    stream: &str,
    subject: &str,
    after: u64,
) -> Result<Vec<StoredMessage>, NatsError> {
    let mut messages = Vec::new();
    let mut next = after + 1;
    loop {
        let asked = json!({ "seq": next, "next_by_subj": subject, "batch": BATCH });
        let (batch, more) = batch(nats, stream, subject, next, asked).await?;
        let Some(last) = batch.last() else { return Ok(messages) };
        next = last.sequence + 1;
        messages.extend(batch);
        if !more {
            return Ok(messages);
        }
    }
}

/// A part of that: at most `limit` messages, and no further one behind `bytes` bytes. Answers whether more follow.
///
/// # Errors
/// [`NatsError`]; nothing partial is answered.
pub async fn load_page(
    nats: &Nats,
    stream: &str,
    subject: &str,
    after: u64,
    limit: usize,
    bytes: usize,
) -> Result<(Vec<StoredMessage>, bool), NatsError> {
    let next = after.saturating_add(1);
    let asked = json!({ "seq": next, "next_by_subj": subject, "batch": limit, "max_bytes": bytes });
    batch(nats, stream, subject, next, asked).await
}

/// The last message of each of these subjects, of which a server takes up to a thousand at once; `all` is a filter that all of
/// them match.
///
/// # Errors
/// [`NatsError`]; nothing partial is answered.
pub(crate) async fn load_last(
    nats: &Nats,
    stream: &str,
    all: &str,
    subjects: &[&str],
) -> Result<Vec<StoredMessage>, NatsError> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let asked = json!({ "multi_last": subjects, "batch": subjects.len() });
    Ok(batch(nats, stream, all, 1, asked).await?.0)
}

async fn batch(
    nats: &Nats,
    stream: &str,
    subject: &str,
    from: u64,
    asked: serde_json::Value,
) -> Result<(Vec<StoredMessage>, bool), NatsError> {
    let doing = format!("loading {subject} from {from}");
    let known = nats.unreadable.of(stream, subject).filter(|sequence| *sequence >= from);
    if let Some(sequence) = known {
        // Asked for in the usual way it would end the connection again, over which everybody else asks.
        if let Some(place) = first_unreadable(&nats.js, stream, subject, sequence, 1).await? {
            return Err(unreadable::error(doing, &place));
        }
        nats.unreadable.forget(stream, subject);
    }
    let connected = connects(nats);
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(NatsError::failed(doing.clone()))?;
    nats.client
        .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, asked.to_string().into())
        .await
        .map_err(NatsError::failed(doing.clone()))?;
    let mut batch = Vec::new();
    loop {
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(BATCH_WAIT, answers.next()) => answer,
            () = another(nats, connected) => {
                let next = batch.last().map_or(from, |last: &StoredMessage| last.sequence + 1);
                return Err(cut_off(nats, stream, subject, next, doing).await);
            }
        };
        let answer = answer
            .map_err(NatsError::failed(doing.clone()))?
            .ok_or_else(|| NatsError::failed(doing.clone())("the connection closed"))?;
        let status = answer.status.map(|status| status.as_u16());
        match status {
            None => {
                batch.push(stored(stream, answer).map_err(|what| NatsError::malformed(doing.clone(), what))?)
            }
            // 204 ends a batch and says how many are left; 404 says there is none.
            Some(204) => return Ok((batch, pending(&answer) > 0)),
            Some(404) => return Ok((batch, false)),
            Some(code) => return Err(NatsError::malformed(doing, format!("the server answered {code}"))),
        }
    }
}

fn connects(nats: &Nats) -> u64 {
    nats.client.statistics().connects.load(Ordering::Relaxed)
}

/// Waits until the connection is another one than it was.
async fn another(nats: &Nats, connected: u64) {
    while connects(nats) == connected {
        tokio::time::sleep(LOOK).await;
    }
}

/// Why a load was cut off: the connection was lost, or a message ended it.
async fn cut_off(nats: &Nats, stream: &str, subject: &str, next: u64, doing: String) -> NatsError {
    match first_unreadable(&nats.js, stream, subject, next, BATCH).await {
        Ok(Some(place)) => {
            nats.unreadable.note(stream, subject, place.sequence);
            unreadable::error(doing, &place)
        }
        Ok(None) => NatsError::failed(doing)("the connection was lost"),
        Err(error) => error,
    }
}

fn pending(answer: &async_nats::Message) -> u64 {
    header(answer, "Nats-Num-Pending").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn header<'a>(answer: &'a async_nats::Message, name: &str) -> Option<&'a str> {
    Some(answer.headers.as_ref()?.get(name)?.as_str())
}

fn stored(stream: &str, answer: async_nats::Message) -> Result<StoredMessage, String> {
    let get = |name: &str| header(&answer, name).ok_or_else(|| format!("an answer lacks the header {name}"));
    let sequence = get("Nats-Sequence")?.parse().map_err(|error| format!("Nats-Sequence: {error}"))?;
    let time = get("Nats-Time-Stamp")?.parse().map_err(|error| format!("Nats-Time-Stamp: {error}"))?;
    let subject = get("Nats-Subject")?.to_owned();
    let headers = answer.headers.unwrap_or_default();
    Ok(StoredMessage { stream: stream.to_owned(), sequence, subject, time, headers, payload: answer.payload })
}
