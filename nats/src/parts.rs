//! What is larger than a message should be: published in parts, which the last one completes.
//!
//! What was not completed, or was damaged, is as good as not there.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::{Bytes, BytesMut};
use wanwright_schemas::Digest;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::load_subject;
use crate::publish::{CheckedError, publish, publish_expecting};

/// The most one message holds.
const CHUNK: usize = 512 * 1024;

/// Which message of how many this is, as `2/3`.
const PART: &str = "Wan-Part";
/// The digest of the whole.
const DIGEST: &str = "Wan-Sha256";
/// The sequence of the first of several messages, in every later one.
const FIRST: &str = "Wan-First";

/// Why what is stored is not whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// Publishes the whole under a subject, instead of what was there before. With `expected`, only where the subject's last
/// message has this sequence (0: there is none). What was there before is there until the whole is.
pub(crate) async fn put(
    nats: &Nats,
    stream: &str,
    subject: &str,
    headers: &HeaderMap,
    whole: &Bytes,
    expected: Option<u64>,
) -> Result<(), CheckedError> {
    let digest = Digest::of(whole).to_string();
    let parts = whole.len().div_ceil(CHUNK).max(1);
    let (mut first, mut expected) = (None, expected);
    for part in 0..parts {
        let mut headers = headers.clone();
        headers.insert(PART, format!("{}/{parts}", part + 1).as_str());
        headers.insert(DIGEST, digest.as_str());
        if let Some(first) = first {
            headers.insert(FIRST, u64::to_string(&first).as_str());
        }
        let chunk = whole.slice(part * CHUNK..whole.len().min((part + 1) * CHUNK));
        let sequence = match expected {
            Some(last) => publish_expecting(&nats.js, subject.to_owned(), last, headers, chunk).await?,
            None => publish(&nats.js, subject.to_owned(), headers, chunk).await?,
        };
        expected = expected.map(|_| sequence);
        first.get_or_insert(sequence);
    }
    Ok(forget_before(nats, stream, subject, first.unwrap_or_default()).await?)
}

async fn forget_before(nats: &Nats, stream: &str, subject: &str, sequence: u64) -> Result<(), NatsError> {
    let doing = format!("removing what was on {subject} before");
    let stream = nats.js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing.clone()))?;
    let purged = stream.purge().filter(subject).sequence(sequence).await;
    purged.map(drop).map_err(NatsError::failed(doing))
}

/// The messages under a subject of which the last may complete a whole; none when there are none.
pub(crate) async fn newest(
    nats: &Nats,
    stream: &str,
    subject: &str,
) -> Result<Option<Vec<StoredMessage>>, NatsError> {
    let Some(last) = last(nats, stream, subject).await? else { return Ok(None) };
    match text(&last, FIRST).and_then(|first| first.parse::<u64>().ok()) {
        None => Ok(Some(vec![last])),
        Some(first) => load_subject(nats, stream, subject, first.saturating_sub(1)).await.map(Some),
    }
}

async fn last(nats: &Nats, stream: &str, subject: &str) -> Result<Option<StoredMessage>, NatsError> {
    let doing = format!("reading {subject}");
    let opened = nats.js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing.clone()))?;
    match opened.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(StoredMessage::read(stream, message))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(NatsError::failed(doing)(error)),
    }
}

/// The whole that the last of these messages completes.
pub(crate) fn whole(messages: &[StoredMessage]) -> Result<Bytes, Unusable> {
    let unusable = |what: &str| Unusable(what.to_owned());
    let last = messages.last().ok_or_else(|| unusable("it is gone"))?;
    let (part, parts) = text(last, PART).and_then(|text| text.split_once('/')).unwrap_or_default();
    let parts: usize = parts.parse().map_err(|_| unusable("it does not say how many parts it has"))?;
    if part != parts.to_string() || messages.len() < parts {
        return Err(unusable("it was not completed"));
    }
    let own = &messages[messages.len() - parts..];
    let digest = text(last, DIGEST);
    if own.iter().any(|message| text(message, DIGEST) != digest) {
        return Err(unusable("two of its parts do not belong together"));
    }
    let whole = match own {
        [only] => only.payload.clone(),
        several => several
            .iter()
            .fold(BytesMut::new(), |mut whole, message| {
                whole.extend_from_slice(&message.payload);
                whole
            })
            .freeze(),
    };
    if digest == Some(Digest::of(&whole).to_string().as_str()) {
        Ok(whole)
    } else {
        Err(unusable("it is damaged"))
    }
}

/// What a message's header says.
pub(crate) fn text<'a>(message: &'a StoredMessage, header: &str) -> Option<&'a str> {
    message.headers.get(header).map(async_nats::HeaderValue::as_str)
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::spoilt::spoilt;

    pub(crate) const PIECES: [&str; 4] = ["/", "1/1", "18446744073709551615", "sha256:"];

    /// A message as it comes out of a stream.
    pub(crate) fn message(headers: HeaderMap, payload: impl Into<Bytes>) -> StoredMessage {
        let (stream, subject) = ("S".to_owned(), "s".to_owned());
        let payload = payload.into();
        StoredMessage { stream, sequence: 1, subject, time: Timestamp::UNIX_EPOCH, headers, payload }
    }

    /// The messages that [`put`] makes of a whole, in so many parts.
    pub(crate) fn completed(whole: &[u8], parts: usize, headers: &HeaderMap) -> Vec<StoredMessage> {
        let size = whole.len().div_ceil(parts).max(1);
        let part = |part: usize| {
            let mut headers = headers.clone();
            headers.insert(PART, format!("{}/{parts}", part + 1).as_str());
            headers.insert(DIGEST, Digest::of(whole).to_string().as_str());
            let [from, to] = [part, part + 1].map(|part| (part * size).min(whole.len()));
            message(headers, whole[from..to].to_vec())
        };
        (0..parts).map(part).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as parts, they are no whole or the one that the last of them names.
        #[test]
        fn hostile_parts(
            said in prop::collection::vec((spoilt(b"2/3".to_vec(), &PIECES), any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..5),
        ) {
            let all: Vec<u8> = said.iter().flat_map(|(_, _, payload)| payload.clone()).collect();
            let messages: Vec<StoredMessage> = said
                .into_iter()
                .map(|(part, is_whole, payload)| {
                    let mut headers = HeaderMap::new();
                    let part: String = String::from_utf8_lossy(&part).chars().filter(|one| !one.is_control()).collect();
                    headers.insert(PART, part.as_str());
                    let digest = Digest::of(if is_whole { &all } else { &payload });
                    headers.insert(DIGEST, digest.to_string().as_str());
                    message(headers, payload)
                })
                .collect();
            if let Ok(whole) = whole(&messages) {
                let last = messages.last().expect("a part");
                let digest = Digest::of(&whole).to_string();
                prop_assert_eq!(text(last, DIGEST), Some(digest.as_str()));
            }
        }

        #[test]
        fn a_whole_comes_back_in_whatever_parts(
            whole in prop::collection::vec(any::<u8>(), 0..200),
            parts in 1..6_usize,
            before in any::<bool>(),
        ) {
            let mut messages = completed(&whole, parts, &HeaderMap::new());
            if before {
                messages.insert(0, message(HeaderMap::new(), b"what was there before".to_vec()));
            }
            prop_assert_eq!(super::whole(&messages).expect("whole").to_vec(), whole);
            messages.pop();
            prop_assert!(super::whole(&messages).is_err());
        }
    }
}
