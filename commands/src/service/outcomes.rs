//! The outcomes of commands, as their senders read them: written once, said again to whoever repeats himself.
//!
//! Nothing depends on this stream: what an accepted command decided is in its event, every other outcome among the
//! verdicts. So it is written without waiting for the disk, and made again when it is missing.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::Bytes;
use wanwright_nats::publish::{CheckedError, publish_expecting};
use wanwright_nats::topology::OUTCOMES;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::subjects;

use super::door::Headers;

/// The header that tells what the command said, so that a used id with another content is noticed.
pub(super) const BODY_HEADER: &str = "Wan-Body-Sha256";

/// The first outcome of a command, if the stream still has one that can be read.
pub(super) async fn first(
    nats: &Nats,
    customer: &CustomerId,
    command: CommandId,
) -> Result<Option<Outcome>, NatsError> {
    let subject = subjects::outcome(customer, command);
    let doing = format!("reading {subject}");
    let stream = nats.js.get_stream_no_info(OUTCOMES).await.map_err(NatsError::failed(doing.clone()))?;
    match stream.direct_get_last_for_subject(subject.as_str()).await {
        Ok(message) => Ok(read(&subject, &message.payload, &message.headers).map(|(outcome, _)| outcome)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(NatsError::failed(doing)(error)),
    }
}

/// An outcome as a stream holds it, with the digest of what its command said.
pub(super) fn read(subject: &str, body: &[u8], headers: &HeaderMap) -> Option<(Outcome, Option<Digest>)> {
    match serde_json::from_slice(body) {
        Ok(outcome) => {
            let digest = headers.get(BODY_HEADER).map(|text| Digest::try_from(text.as_str().to_owned()));
            Some((outcome, digest.and_then(Result::ok)))
        }
        Err(error) => {
            // The history knows better; whoever waits must not wait for ever because of this.
            tracing::error!(subject, %error, "an outcome cannot be read; it is worked out again");
            None
        }
    }
}

/// The bytes of an outcome.
pub(super) fn write(subject: &str, outcome: &Outcome) -> Result<Bytes, NatsError> {
    let bytes = serde_json::to_vec(outcome).map_err(NatsError::failed(format!("writing {subject}")))?;
    Ok(bytes.into())
}

/// Publishes an outcome for those who watch, and waits for nobody: its sender hears it in the reply. `body`: the outcome, as
/// it was written for that.
pub(super) async fn tell(
    nats: &Nats,
    customer: &CustomerId,
    asked: &Headers,
    body: Bytes,
) -> Result<(), NatsError> {
    let subject = subjects::outcome(customer, asked.command);
    let mut headers = HeaderMap::new();
    // The first one stands.
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    asked.write_trace(&mut headers);
    let doing = format!("publishing on {subject}");
    nats.client.publish_with_headers(subject, headers, body).await.map_err(NatsError::failed(doing))
}

/// Publishes an outcome and waits until it is stored, for a sender who reads it there.
pub(super) async fn record(
    nats: &Nats,
    customer: &CustomerId,
    asked: &Headers,
    outcome: &Outcome,
) -> Result<(), NatsError> {
    let Some(command) = outcome.command else { return Ok(()) };
    let subject = subjects::outcome(customer, command);
    let body = write(&subject, outcome)?;
    let mut headers = HeaderMap::new();
    asked.write_trace(&mut headers);
    match publish_expecting(&nats.js, subject, 0, headers, body).await {
        // The first one stands.
        Ok(_) | Err(CheckedError::Conflict) => Ok(()),
        Err(CheckedError::Failed(error)) => Err(error),
    }
}
