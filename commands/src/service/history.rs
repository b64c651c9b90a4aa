//! Histories for whom they belong to: a page of envelopes, byte for byte as they are stored.

use std::sync::Arc;

use async_nats::Subscriber;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, StoredMessage, load_page};
use wanwright_schemas::CustomerId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, HistoryMessage, HistoryPage, HistoryRequest, MAX_PAGE};
use wanwright_schemas::subjects;

use super::intake::{Bounds, Intake};
use super::{side_door, verdict};

/// How many pages are read at once; the others wait.
const AT_ONCE: usize = 16;

/// No further message is added to a page behind so many bytes.
const PAGE_BYTES: usize = 512 * 1024;

pub(super) async fn serve(asked: Subscriber, nats: Nats, stop: CancellationToken) -> &'static str {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = Intake::new(asked, nats.clone(), Bounds::QUESTIONS);
    while let Some((request, waiting)) = asked.next(&stop).await {
        let Ok(permit) = asked.until(Arc::clone(&room).acquire_owned()).await else { break };
        let nats = nats.clone();
        tokio::spawn(async move {
            let page = page(&nats, &request.subject, &request.payload).await;
            side_door::answer(&nats, request.reply, page).await;
            drop((permit, waiting));
        });
    }
    "the service of histories"
}

async fn page(nats: &Nats, subject: &str, body: &[u8]) -> Result<Bytes, Refusal> {
    let (customer, _) = services::asked(subject)?;
    let request: HistoryRequest = side_door::read(body)?;
    if !(1..=MAX_PAGE).contains(&request.limit) {
        let why = format!("it must be 1 to {MAX_PAGE}");
        return Err(Refusal::new(Reason::InvalidValue, why).field("limit"));
    }
    let stream = subjects::events_stream(subjects::partition(&customer, nats.partitions));
    let of = subjects::events(&customer, nats.partitions);
    let loaded = load_page(nats, &stream, &of, request.after, request.limit, PAGE_BYTES).await;
    let (stored, more) = loaded.map_err(|error| side_door::unavailable(&error))?;
    let limit = nats.client.max_payload() - verdict::HEADROOM;
    let (fitting, cut) = fitting(&stored, limit)?;
    let messages = fitting.iter().map(|stored| message(&customer, stored));
    let messages = messages.collect::<Result<Vec<_>, Refusal>>()?;
    let next = messages.last().filter(|_| more || cut).map(|last| last.sequence);
    let page = HistoryPage { customer, stream, messages, next };
    let body = serde_json::to_vec(&page).map_err(|error| side_door::unavailable(&error))?;
    Ok(body.into())
}

/// As many of the messages as fit into an answer, and whether some do not.
fn fitting(stored: &[StoredMessage], limit: usize) -> Result<(&[StoredMessage], bool), Refusal> {
    /// What a message costs besides its envelope.
    const FRAME: usize = 64;
    let mut bytes = 0;
    let fits = stored.iter().take_while(|message| {
        bytes += message.payload.len() + FRAME;
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
