//! Snapshots: states that are made again from a history, kept so that a load need not read all of it.
//!
//! A snapshot is one message, or several when it is larger than a message should be. The last one completes it; one that
//! was not completed, was damaged, or was written by another version of the state is as good as none.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use wanwright_schemas::{CustomerId, Digest, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::load_subject;
use crate::publish::publish;
use crate::topology::SNAPSHOTS;

/// The most one message of a snapshot holds.
const CHUNK: usize = 512 * 1024;

/// The largest state that is read back: a header can claim any size.
const LARGEST: usize = 1 << 30;

/// The version of the state.
const VERSION: &str = "Wan-State-Version";
/// The history's sequence that the state is at.
const SEQUENCE: &str = "Wan-Sequence";
/// How many messages the state was made of.
const MESSAGES: &str = "Wan-Messages";
/// When the history's stream was created.
const INCARNATION: &str = "Wan-Incarnation";
/// Which message of how many this is, as `2/3`.
const PART: &str = "Wan-Part";
/// The digest of the whole, compressed.
const DIGEST: &str = "Wan-Sha256";
/// The sequence of the first of several messages, in every later one.
const FIRST: &str = "Wan-First";

/// A state at a place of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The version of the state: another version reads the history instead.
    pub version: u32,
    /// The sequence of the last message that the state contains.
    pub sequence: u64,
    /// How many messages it was made of.
    pub messages: u64,
    /// When the stream was created that they were read from.
    pub incarnation: Timestamp,
    /// The state.
    pub state: Bytes,
}

/// The snapshots on a server.
#[derive(Debug, Clone)]
pub struct Snapshots {
    nats: Nats,
}

/// Why a stored snapshot is none.
#[derive(Debug, thiserror::Error)]
#[error("a snapshot cannot be used: {0}")]
struct Unusable(String);

impl Snapshots {
    /// The snapshots on this server.
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Keeps a snapshot of a customer's state, instead of the one before.
    ///
    /// # Errors
    /// [`NatsError`]; the one before is still there then.
    pub async fn put(&self, customer: &CustomerId, snapshot: &Snapshot) -> Result<(), NatsError> {
        let subject = subjects::snapshot(customer);
        let packed = Bytes::from(lz4_flex::compress_prepend_size(&snapshot.state));
        let digest = Digest::of(&packed).to_string();
        let parts = packed.len().div_ceil(CHUNK).max(1);
        let mut first = None;
        for part in 0..parts {
            let mut headers = HeaderMap::new();
            headers.insert(VERSION, snapshot.version.to_string().as_str());
            headers.insert(SEQUENCE, snapshot.sequence.to_string().as_str());
            headers.insert(MESSAGES, snapshot.messages.to_string().as_str());
            headers.insert(INCARNATION, snapshot.incarnation.to_string().as_str());
            headers.insert(PART, format!("{}/{parts}", part + 1).as_str());
            headers.insert(DIGEST, digest.as_str());
            if let Some(first) = first {
                headers.insert(FIRST, u64::to_string(&first).as_str());
            }
            let chunk = packed.slice(part * CHUNK..packed.len().min((part + 1) * CHUNK));
            let sequence = publish(&self.nats.js, subject.clone(), headers, chunk).await?;
            first.get_or_insert(sequence);
        }
        self.forget_before(customer, first.unwrap_or_default()).await
    }

    async fn forget_before(&self, customer: &CustomerId, sequence: u64) -> Result<(), NatsError> {
        let doing = format!("removing the older snapshots of {customer}");
        let stream = self.nats.js.get_stream_no_info(SNAPSHOTS).await;
        let stream = stream.map_err(NatsError::failed(doing.clone()))?;
        let purged = stream.purge().filter(subjects::snapshot(customer)).sequence(sequence).await;
        purged.map(drop).map_err(NatsError::failed(doing))
    }

    /// The newest snapshot of a customer's state, if there is one of this version that is whole.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn get(&self, customer: &CustomerId, version: u32) -> Result<Option<Snapshot>, NatsError> {
        let Some(last) = self.last(customer).await? else { return Ok(None) };
        let messages = match number(&last, FIRST) {
            None => vec![last],
            Some(first) => {
                let subject = subjects::snapshot(customer);
                load_subject(&self.nats, SNAPSHOTS, &subject, first.saturating_sub(1)).await?
            }
        };
        match assembled(&messages, version) {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => {
                tracing::warn!(%customer, %error, "the history is read instead");
                Ok(None)
            }
        }
    }

    async fn last(&self, customer: &CustomerId) -> Result<Option<StoredMessage>, NatsError> {
        let doing = format!("reading the snapshot of {customer}");
        let stream = self.nats.js.get_stream_no_info(SNAPSHOTS).await;
        let stream = stream.map_err(NatsError::failed(doing.clone()))?;
        match stream.direct_get_last_for_subject(subjects::snapshot(customer)).await {
            Ok(message) => Ok(Some(StoredMessage::read(SNAPSHOTS, message))),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }
}

fn text<'a>(message: &'a StoredMessage, header: &str) -> Option<&'a str> {
    message.headers.get(header).map(async_nats::HeaderValue::as_str)
}

fn number(message: &StoredMessage, header: &str) -> Option<u64> {
    text(message, header)?.parse().ok()
}

/// The snapshot that the last of these messages completes.
fn assembled(messages: &[StoredMessage], version: u32) -> Result<Option<Snapshot>, Unusable> {
    let unusable = |what: &str| Unusable(what.to_owned());
    let last = messages.last().ok_or_else(|| unusable("it is gone"))?;
    if number(last, VERSION) != Some(u64::from(version)) {
        return Ok(None);
    }
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
    let packed = own.iter().fold(BytesMut::new(), |mut whole, message| {
        whole.extend_from_slice(&message.payload);
        whole
    });
    if digest != Some(Digest::of(&packed).to_string().as_str()) {
        return Err(unusable("it is damaged"));
    }
    let (size, packed) =
        lz4_flex::block::uncompressed_size(&packed).map_err(|error| Unusable(error.to_string()))?;
    if size > LARGEST {
        return Err(unusable("it claims to be larger than any state"));
    }
    let state = lz4_flex::decompress(packed, size).map_err(|error| Unusable(error.to_string()))?;
    let sequence = number(last, SEQUENCE).ok_or_else(|| unusable("it does not say where it is"))?;
    let messages =
        number(last, MESSAGES).ok_or_else(|| unusable("it does not say how many messages it was made of"))?;
    let incarnation = text(last, INCARNATION).and_then(|text| text.parse().ok());
    let incarnation = incarnation.ok_or_else(|| unusable("it does not say which stream it was made of"))?;
    Ok(Some(Snapshot { version, sequence, messages, incarnation, state: state.into() }))
}
