//! What the command services write down about other streams, for whoever reads it; and whether a stream of events still has
//! what was seen of it.
//!
//! A stream whose newest block is damaged gives its sequences out again and looks healthy. Where no signed head vouches for
//! what it lost, only what was written down in the stream INVENTORY tells. So whoever reads a history compares its stream
//! with that: once over each connection, because what a server has on its disk it reads again when it starts, and under each
//! leader.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind};
use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use wanwright_schemas::{Digest, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::evidence::Unproven;
use crate::evidence::check::message;
use crate::follow::stream_info;
use crate::topology::INVENTORY;

/// How often a record is asked for, five seconds each time, before it counts as one that cannot be read: by a server that
/// answers something else each time.
const TRIES: u32 = 2;

/// How long the servers that keep a stream are given to agree on what is in it: one that has just begun to lead may not
/// have taken in yet all that was stored.
pub const AGREED: Duration = Duration::from_secs(6);

/// What somebody wrote down.
#[derive(Debug)]
pub enum Said<T> {
    /// Nobody wrote anything.
    Nothing,
    /// It is there and cannot be read, for this reason.
    Unreadable(String),
    /// This.
    This(T),
}

impl<T> Said<T> {
    /// What can be read.
    pub fn known(self) -> Option<T> {
        match self {
            Self::This(said) => Some(said),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }
}

/// The last message of a stream that anybody saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its sequence.
    pub sequence: u64,
    /// The digest of its body.
    pub body: Digest,
    /// When it was found to be lost, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// What is known of all streams of events, by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The version of this record.
    pub v: u8,
    /// The ends.
    pub ends: BTreeMap<u16, End>,
}

/// An administrator's word that what is lost is known.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Accepted {
    /// The version of this record.
    pub v: u8,
    /// When that was, in milliseconds since 1970.
    pub at: u64,
}

/// Over which connection each stream was compared last, and under whose lead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compared(Arc<Mutex<HashMap<String, (u64, String)>>>);

impl Compared {
    fn is(&self, stream: &str, connects: u64, leader: Option<&str>) -> bool {
        let compared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        compared
            .get(stream)
            .is_some_and(|(over, under)| *over == connects && leader.is_none_or(|leader| leader == under))
    }

    fn note(&self, stream: &str, connects: u64, leader: Option<&str>) {
        let now = (connects, leader.unwrap_or_default().to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.to_owned(), now);
    }
}

/// What anybody wrote down last about this, with its sequence.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked at all.
pub async fn read<T: DeserializeOwned>(nats: &Nats, of: &str) -> Result<(u64, Said<T>), NatsError> {
    let doing = format!("reading {of}");
    let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed(doing))?;
    let mut tries = 1;
    loop {
        let error = match stream.get_last_raw_message_by_subject(&subjects::inventory_by(of, "*")).await {
            Ok(message) => {
                let said = match serde_json::from_slice(&message.payload) {
                    Ok(said) => Said::This(said),
                    Err(error) => Said::Unreadable(error.to_string()),
                };
                return Ok((message.sequence, said));
            }
            Err(error) => error,
        };
        match error.kind() {
            // A stream that is not there is made before anybody starts, and then nothing is in it.
            _ if is_no_stream(&error) => return Ok((0, Said::Nothing)),
            // The server says the same of what it cannot read, but counts it.
            LastRawMessageErrorKind::NoMessageFound if !is_written(nats, of).await? => {
                return Ok((0, Said::Nothing));
            }
            LastRawMessageErrorKind::NoMessageFound => return Ok((0, Said::Unreadable(error.to_string()))),
            _ => {
                // A server that answers nothing at all has damaged nothing.
                stream_info(&nats.js, INVENTORY).await?;
                if tries == TRIES {
                    return Ok((0, Said::Unreadable(error.to_string())));
                }
                tries += 1;
            }
        }
    }
}

fn is_no_stream(error: &LastRawMessageError) -> bool {
    matches!(error.kind(), LastRawMessageErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

async fn is_written(nats: &Nats, of: &str) -> Result<bool, NatsError> {
    let doing = || format!("looking for {of}");
    let stream = nats.js.get_stream_no_info(INVENTORY).await.map_err(NatsError::failed(doing()))?;
    let info = stream.info_with_subjects(subjects::inventory_by(of, "*")).await;
    let mut found = info.map_err(NatsError::failed(doing()))?;
    Ok(found.try_next().await.map_err(NatsError::failed(doing()))?.is_some())
}

/// What a stream of events lacks of what was seen of it; none when it has that.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn lacks(nats: &Nats, stream: &str, end: &End) -> Result<Option<String>, NatsError> {
    let until = Instant::now() + AGREED;
    let mut info = stream_info(&nats.js, stream).await?;
    // Where it was found to be lost, that was waited for.
    while info.replicas > 1 && end.lost.is_none() && info.last < end.sequence && Instant::now() < until {
        tokio::time::sleep(AGREED / 20).await;
        info = stream_info(&nats.js, stream).await?;
    }
    if info.last < end.sequence {
        return Ok(Some(format!("it ends at {}, and was seen up to {}", info.last, end.sequence)));
    }
    Ok(match message(nats, stream, end.sequence).await? {
        Some(message) if Digest::of(&message.payload) == end.body => None,
        _ => Some(format!("message {} is missing or not the one that was seen", end.sequence)),
    })
}

/// Whether a stream of events has what was seen of it, or an administrator said that what it lost is known. That is asked
/// once over each connection, and under each leader where somebody knows who leads; and again as long as it has not.
///
/// # Errors
/// [`Unproven::Lost`] where it has not, and [`Unproven::Nats`].
pub async fn compare(nats: &Nats, stream: &str, leader: Option<&str>) -> Result<(), Unproven> {
    let connects = nats.client.statistics().connects.load(Ordering::Acquire);
    if nats.compared.is(stream, connects, leader) {
        return Ok(());
    }
    let Some(partition) = subjects::partition_of_events_stream(stream) else { return Ok(()) };
    // Before the stream is asked: what is written down is never newer than what it answers.
    let said = read::<Ends>(nats, subjects::INVENTORY_OF_HISTORIES).await?.1;
    if let Said::Unreadable(why) = &said {
        tracing::warn!(
            stream,
            why,
            "what was seen of a stream cannot be read, so it is not missed this time"
        );
    }
    let end = said.known().and_then(|mut said| said.ends.remove(&partition));
    if let Some(end) = end
        && let Some(why) = lacks(nats, stream, &end).await?
    {
        // Whoever serves the stream notes the loss before anybody can know of it.
        return match end.lost {
            Some(found) if found <= accepted(nats).await? => Ok(()),
            _ => Err(Unproven::Lost { stream: stream.to_owned(), why }),
        };
    }
    nats.compared.note(stream, connects, leader);
    Ok(())
}

/// When an administrator said last that what is lost is known; 0 when nobody did.
async fn accepted(nats: &Nats) -> Result<u64, NatsError> {
    let said = read::<Accepted>(nats, subjects::INVENTORY_ACCEPTED).await?.1;
    Ok(said.known().map_or(0, |said| said.at))
}
