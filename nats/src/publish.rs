//! Publishing with a stated expectation, and knowing a conflict from every other failure.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, Subject};
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
    let subject = Subject::from(subject);
    let doing = || format!("publishing on {subject}");
    let sent = js.publish_with_headers(subject.clone(), headers, payload).await;
    let acked = match sent {
        Ok(future) => future.await,
        Err(error) => Err(error),
    };
    match acked {
        Ok(ack) => Ok(ack.sequence),
        Err(error) if is_conflict(&error) => Err(CheckedError::Conflict),
        Err(error) => Err(NatsError::failed(doing())(error).into()),
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
    cause.is_some_and(|cause| is_conflict_code(cause.error_code()))
}

/// Whether the server says with this code that another message came first. A publish knows only the first by its kind.
fn is_conflict_code(code: ErrorCode) -> bool {
    [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT].contains(&code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(code: u64) -> jetstream::Error {
        serde_json::from_value(json!({ "code": 400, "err_code": code, "description": "said by the server" }))
            .expect("an error of the server")
    }

    #[test]
    fn a_conflict_has_two_codes_and_no_other() {
        for (code, is) in [(10_071, true), (10_164, true), (10_070, false), (10_077, false), (0, false)] {
            assert_eq!(is_conflict_code(said(code).error_code()), is, "{code}");
            // As a publish answers it, by kind or with the server's error behind it.
            let failed = PublishError::with_source(PublishErrorKind::Other, said(code));
            assert_eq!(is_conflict(&failed), is, "{code}");
        }
        assert!(is_conflict(&PublishError::new(PublishErrorKind::WrongLastSequence)));
        assert!(!is_conflict(&PublishError::new(PublishErrorKind::TimedOut)));
    }
}
