//! The outcomes of commands: written once, said again to whoever repeats himself.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use wanwright_nats::publish::{CheckedError, publish_expecting};
use wanwright_nats::topology::OUTCOMES;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::subjects;

/// The header that tells what the command said, so that a used id with another content is noticed.
const BODY_HEADER: &str = "Wan-Body-Sha256";

/// The first outcome of a command and the digest of what it said, if it had one lately that can be read.
pub(super) async fn first(
    nats: &Nats,
    customer: &CustomerId,
    command: CommandId,
) -> Result<Option<(Outcome, Option<Digest>)>, NatsError> {
    let subject = subjects::outcome(customer, command);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| NatsError::Failed {
        doing: format!("reading {subject}"),
        source: error,
    };
    let stream = nats.js.get_stream_no_info(OUTCOMES).await.map_err(|error| failed(error.into()))?;
    let message = match stream.direct_get_last_for_subject(subject.as_str()).await {
        Ok(message) => message,
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let outcome = match serde_json::from_slice(&message.payload) {
        Ok(outcome) => outcome,
        Err(error) => {
            // The history knows better; whoever waits must not wait for ever because of this.
            tracing::error!(%subject, %error, "an outcome cannot be read; it is worked out again");
            return Ok(None);
        }
    };
    let digest =
        message.headers.get(BODY_HEADER).and_then(|text| Digest::try_from(text.as_str().to_owned()).ok());
    Ok(Some((outcome, digest)))
}

/// Records an outcome where there is none yet.
pub(super) async fn record(
    nats: &Nats,
    customer: &CustomerId,
    command: CommandId,
    digest: Digest,
    outcome: &Outcome,
) -> Result<(), NatsError> {
    let subject = subjects::outcome(customer, command);
    let body = serde_json::to_vec(outcome)
        .map_err(|error| NatsError::Failed { doing: format!("writing {subject}"), source: error.into() })?;
    let mut headers = HeaderMap::new();
    headers.insert(BODY_HEADER, digest.to_string().as_str());
    match publish_expecting(&nats.js, subject, 0, headers, body.into()).await {
        // The first one stands.
        Ok(_) | Err(CheckedError::Conflict) => Ok(()),
        Err(CheckedError::Failed(error)) => Err(error),
    }
}
