//! What should be in the streams that nothing else tells of: which durable commands wait, how many verdicts and claims
//! there are. A damaged file takes messages away without a word; only who wrote down that they were there can tell.
//!
//! The records are messages of their own in the stream INVENTORY, the newest per subject. They are written behind what they
//! tell of, by moments; what is lost within those moments is not missed by them.

mod inbox;
mod keys;
mod streams;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wanwright_nats::publish::{CheckedError, publish, publish_expecting};
use wanwright_nats::topology::INVENTORY;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::{headers, subjects};

pub(super) use inbox::{Book, Handled, Written};
pub(super) use streams::{keep, look};

/// The version of these records.
const VERSION: u8 = 1;

/// How often a record is asked for. The server does not answer for a message that it cannot read.
const TRIES: u32 = 3;

/// What was written down last, with the sequence to go on from; nothing where that is damaged itself: then nothing is
/// missed this time, which the log says, and everything else goes on.
async fn read<T: DeserializeOwned>(nats: &Nats, subject: &str) -> Result<(u64, Option<T>), NatsError> {
    let doing = format!("reading {subject}");
    let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed(doing))?;
    let unreadable = |why: &dyn std::fmt::Display| {
        tracing::error!(subject, why = %why, "what should be in a stream cannot be read, so nothing is missed");
    };
    let mut tries = 1;
    loop {
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let said = serde_json::from_slice(&message.payload);
                if let Err(error) = &said {
                    unreadable(error);
                }
                return Ok((message.sequence, said.ok()));
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok((0, None)),
            Err(_) if tries < TRIES => tries += 1,
            Err(error) => {
                unreadable(&error);
                return Ok((0, None));
            }
        }
    }
}

/// Writes down what there is, where nobody else has done so since it was read. A record that could not be read is
/// replaced.
async fn write<T: Serialize>(
    nats: &Nats,
    subject: String,
    revision: u64,
    there_is: &T,
) -> Result<u64, CheckedError> {
    let body = serde_json::to_vec(there_is).map_err(NatsError::failed(format!("writing {subject}")))?;
    let written =
        publish_expecting(&nats.js, subject.clone(), revision, HeaderMap::new(), body.clone().into()).await;
    match written {
        // Where the last record cannot be read the server does not even answer what depends on it.
        Err(_) if revision == 0 => Ok(publish(&nats.js, subject, HeaderMap::new(), body.into()).await?),
        written => written,
    }
}

/// Says that something is gone: in the log, and among the dead letters, where it stays.
async fn report<T: Serialize>(nats: &Nats, what: &str, why: &str, gone: &T) -> Result<(), NatsError> {
    tracing::error!(what, why, "storage is damaged");
    let mut head = HeaderMap::new();
    head.insert(headers::DEAD_REASON, Reason::StorageDamaged.code());
    head.insert(headers::DEAD_MESSAGE, why);
    let body = serde_json::to_vec(gone).map_err(NatsError::failed("reporting a damage"))?;
    publish(&nats.js, subjects::dead(what, Reason::StorageDamaged), head, body.into()).await.map(drop)
}
