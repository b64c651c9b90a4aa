//! Publishing with a stated expectation, and knowing a conflict from every other failure.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;

use crate::connect::Nats;
use crate::error::NatsError;

/// Why a checked publish did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CheckedError {
    /// The subject's last sequence is another one; nothing was stored.
    #[error("another message came first")]
    Conflict,
    /// No answer, or another error: the message may or may not be stored.
    #[error(transparent)]
    Failed(#[from] NatsError),
}

/// Publishes where the last message of the subject has this sequence (0: there is none) and answers the new one.
///
/// The server answers a conflict with one of two codes; the client library knows only the first by name.
pub async fn publish_expecting(
    js: &jetstream::Context,
    subject: String,
    expected: u64,
    mut headers: HeaderMap,
    payload: Bytes,
) -> Result<u64, CheckedError> {
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string().as_str());
    let doing = format!("publishing on {subject}");
    let sent = js.publish_with_headers(subject, headers, payload).await;
    let acked = match sent {
        Ok(future) => future.await,
        Err(error) => Err(error),
    };
    match acked {
        Ok(ack) => Ok(ack.sequence),
        Err(error) if is_conflict(&error) => Err(CheckedError::Conflict),
        Err(error) => Err(NatsError::failed(doing)(error).into()),
    }
}

/// Publishes into a stream and waits until it is stored.
pub async fn publish(
    js: &jetstream::Context,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<u64, NatsError> {
    let doing = format!("publishing on {subject}");
    let future =
        js.publish_with_headers(subject, headers, payload).await.map_err(NatsError::failed(doing.clone()))?;
    Ok(future.await.map_err(NatsError::failed(doing))?.sequence)
}

/// Deletes the value of a bucket's key that a write stored, unless another one has been written since, and does not wait
/// for the server to say so: where the word gets lost, the value stays.
pub async fn delete_untold(nats: &Nats, bucket: &str, key: &str, revision: u64) -> Result<(), NatsError> {
    let mut headers = HeaderMap::new();
    headers.insert("KV-Operation", "DEL");
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
    let sent = nats.client.publish_with_headers(format!("$KV.{bucket}.{key}"), headers, Bytes::new()).await;
    sent.map_err(NatsError::failed(format!("deleting {key} in {bucket}")))
}

fn is_conflict(error: &PublishError) -> bool {
    if error.kind() == PublishErrorKind::WrongLastSequence {
        return true;
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<jetstream::Error>());
    cause.is_some_and(|cause| {
        let code = cause.error_code();
        code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            || code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
    })
}
