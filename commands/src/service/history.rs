//! Histories for whom they belong to: a page of envelopes, byte for byte as they are stored.
//!
//! A page is compared with all that is known of the history before it is given away: with the evidence, with what was
//! seen of it here, with its chain, and with its end as the leader has it.

use std::sync::Arc;

use async_nats::Subscriber;
use bytes::Bytes;
use cqrs_es::AggregateError;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{History, Nats, StoredMessage};
use wanwright_schemas::CustomerId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, HistoryMessage, HistoryPage, HistoryRequest, MAX_PAGE};
use wanwright_schemas::{strict, subjects};

use super::intake::{Bounds, Intake};
use super::pages::Begin;
use super::store::CustomerStore;
use super::{side_door, verdict};

/// How many pages are read at once; the others wait.
const AT_ONCE: usize = 16;

/// No further message is added to a page behind so many bytes.
const PAGE_BYTES: usize = 512 * 1024;

pub(super) async fn serve(
    asked: Subscriber,
    nats: Nats,
    store: CustomerStore,
    stop: CancellationToken,
) -> &'static str {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = Intake::new(asked, nats.clone(), Bounds::QUESTIONS);
    while let Some((request, waiting)) = asked.next(&stop).await {
        let Ok(permit) = asked.until(Arc::clone(&room).acquire_owned()).await else { break };
        let (nats, store) = (nats.clone(), store.clone());
        tokio::spawn(async move {
            let page = page(&nats, &store, &request.subject, &request.payload).await;
            side_door::answer(&nats, request.reply, page).await;
            drop((permit, waiting));
        });
    }
    "the service of histories"
}

async fn page(nats: &Nats, store: &CustomerStore, subject: &str, body: &[u8]) -> Result<Bytes, Refusal> {
    let (customer, _) = services::asked(subject)?;
    let mut request: HistoryRequest = strict::parse(body)?;
    let mut begin = Begin::Behind(request.after);
    if request.newest {
        let head = History::new(nats.clone()).head(&customer).await;
        let head = head.map_err(|error| side_door::unavailable(&error))?;
        (begin, request.limit) = (Begin::At(head), 1);
    }
    if !(1..=MAX_PAGE).contains(&request.limit) {
        let why = format!("it must be 1 to {MAX_PAGE}");
        return Err(Refusal::new(Reason::InvalidValue, why).field("limit"));
    }
    let stream = subjects::events_stream(subjects::partition(&customer, nats.partitions));
    let page = store.page(&customer, begin, request.limit, PAGE_BYTES).await;
    let (stored, more) = page.map_err(|error| untold(&customer, error))?;
    let limit = nats.client.max_payload() - verdict::HEADROOM;
    let (fitting, cut) = fitting(&stored, limit)?;
    let messages = fitting.iter().map(|stored| message(&customer, stored));
    let messages = messages.collect::<Result<Vec<_>, Refusal>>()?;
    let next = messages.last().filter(|_| more || cut).map(|last| last.sequence);
    let page = HistoryPage { customer, stream, messages, next };
    let body = serde_json::to_vec(&page).map_err(|error| side_door::unavailable(&error))?;
    Ok(body.into())
}

/// Why no page can be given.
fn untold(customer: &CustomerId, error: AggregateError<Refusal>) -> Refusal {
    match error {
        AggregateError::DeserializationError(cause) => {
            // Where it is damaged is for who repairs it: streams have the places of others in them.
            tracing::error!(%customer, error = cause.as_ref() as &dyn std::error::Error, "a history is damaged");
            let why =
                format!("the history of customer {customer} is damaged, so no part of it is given away");
            Refusal::new(Reason::HistoryDamaged, why)
        }
        error => side_door::unavailable(&error),
    }
}

/// As many of the messages as fit into an answer, and whether some do not.
fn fitting(stored: &[StoredMessage], limit: usize) -> Result<(&[StoredMessage], bool), Refusal> {
    /// What a message costs besides its envelope.
    const FRAME: usize = 64;
    let mut bytes = 0;
    let fits = stored.iter().take_while(|message| {
        // The first one has room for its frame in what is left of a message for the rest of the answer.
        bytes += if bytes == 0 { message.payload.len() } else { message.payload.len() + FRAME };
        bytes <= limit
    });
    let count = fits.count();
    match stored.first() {
        Some(first) if count == 0 => Err(verdict::too_large(first.payload.len(), limit)),
        _ => Ok((&stored[..count], count < stored.len())),
    }
}

fn message(customer: &CustomerId, stored: &StoredMessage) -> Result<HistoryMessage, Refusal> {
    let text = String::from_utf8(stored.payload.to_vec()).ok();
    let envelope = text.and_then(|text| RawValue::from_string(text).ok());
    let envelope = envelope.ok_or_else(|| {
        let why = format!("message {} of customer {customer} is no envelope", stored.sequence);
        Refusal::new(Reason::HistoryDamaged, why)
    })?;
    Ok(HistoryMessage { sequence: stored.sequence, envelope })
}
