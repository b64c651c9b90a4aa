//! A part of a customer's history, for who reads it in pages: nothing of it is given away that does not fit.

use std::time::Duration;

use cqrs_es::AggregateError;
use tokio::time::Instant;
use wanwright_nats::{StoredMessage, load_page};
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::reason::Refusal;
use wanwright_schemas::subjects;

use super::store::{CustomerStore, damaged, unproven, unread};
use crate::head::BrokenHistory;

/// How long a replica may take to have what its leader has: less than whoever asks waits.
const PATIENCE: Duration = Duration::from_secs(3);

type Failed = AggregateError<Refusal>;

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// Behind this sequence (0: with the first message). Where that is a message of the customer, the page goes on with
    /// its chain; where a history is read page by page, that is its whole chain.
    Behind(u64),
    /// With the message of this sequence, whatever is before it: that may be of others, and is not read.
    At(u64),
}

impl CustomerStore {
    /// At most `limit` messages from there on, and no further one behind `bytes` bytes; and whether more follow.
    ///
    /// # Errors
    /// [`AggregateError::DeserializationError`], where the history is not what is known of it.
    pub(super) async fn page(
        &self,
        customer: &CustomerId,
        begin: Begin,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<StoredMessage>, bool), Failed> {
        let after = match begin {
            Begin::Behind(sequence) => sequence,
            Begin::At(sequence) => sequence.saturating_sub(1),
        };
        self.is_whole(customer)?;
        // Before the leader is asked: what is decided meanwhile is seen here first.
        let mut proof = self.shared.seen.proof(customer);
        let evidence = self.shared.evidence.as_deref();
        let (proven, end) = tokio::join!(self.history.prove(customer, evidence), self.history.head(customer));
        let (proven, end) = (proven.map_err(unproven)?, end.map_err(unread)?);
        proof.ends_at(end).map_err(damaged)?;
        if let Some(seen) = proof.before(after.saturating_add(1)) {
            let message = self.history.message(customer, seen).await.map_err(unread)?;
            proof.passes(seen, message.map(|message| Digest::of(&message.payload)));
        }
        let subject = subjects::events(customer, self.nats.partitions);
        let stream = self.position(customer, 0).stream;
        let asked = Instant::now();
        let (messages, more) = loop {
            let (messages, more) =
                load_page(&self.nats, &stream, &subject, after, limit, bytes).await.map_err(unread)?;
            let last = messages.last().map_or(after, |last| last.sequence);
            // What was appended since may be known to the one who counted, and not yet to the one who was read.
            let is_counted = || after > 0 || proven.is_read_by(messages.len() as u64).is_ok();
            if more || last >= end && (is_counted() || asked.elapsed() >= PATIENCE / 3) {
                break (messages, more);
            }
            if asked.elapsed() >= PATIENCE {
                let what = format!("the history of {customer} is read up to {last}, its head is {end}");
                return Err(AggregateError::DatabaseConnectionError(what.into()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut prev = match begin {
            Begin::Behind(sequence) if !messages.is_empty() => self.digest_at(customer, sequence).await?,
            Begin::Behind(_) | Begin::At(_) => None,
        };
        for message in &messages {
            let digest = Digest::of(&message.payload);
            follows(message, prev).map_err(damaged)?;
            proof.passes(message.sequence, Some(digest));
            prev = Some(Some(digest));
        }
        if !more {
            proof.whole(end).map_err(damaged)?;
        }
        if after == 0 && !more {
            proven.is_read_by(messages.len() as u64).map_err(damaged)?;
        }
        Ok((messages, more))
    }

    /// What the message behind this place has to name as the one before; none where that is not known, because the
    /// customer has no message in this place.
    async fn digest_at(
        &self,
        customer: &CustomerId,
        sequence: u64,
    ) -> Result<Option<Option<Digest>>, Failed> {
        if sequence == 0 {
            return Ok(Some(None));
        }
        let before = self.history.message(customer, sequence).await.map_err(unread)?;
        Ok(before.map(|before| Some(Digest::of(&before.payload))))
    }
}

/// Whether a message names the one before it, where that is known.
fn follows(message: &StoredMessage, prev: Option<Option<Digest>>) -> Result<(), BrokenHistory> {
    let sequence = message.sequence;
    let envelope = Envelope::decode(&message.payload)
        .map_err(|source| BrokenHistory::Unreadable { sequence, source })?;
    match prev {
        Some(prev) => BrokenHistory::unless_linked(sequence, envelope.prev, prev),
        None => Ok(()),
    }
}
