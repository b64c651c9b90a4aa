//! The plan files of stacks: the newest of every stack, sealed, where any executor finds it.
//!
//! A plan file holds in clear what Terraform knows of a stack, so it is sealed as states are. The digest of what was
//! sealed is part of the seal: what is put in its place does not open.

use async_nats::HeaderMap;
use bytes::Bytes;
use wanwright_schemas::{Digest, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::keys::{KeyError, StateKeys, StatePlace};
use crate::parts::{self, Unusable, text};
use crate::publish::CheckedError;
use crate::topology::PLANS;

/// The digest of the plan file.
const HASH: &str = "Wan-Plan-Hash";
/// The serial of the state it was made from.
const SERIAL: &str = "Wan-Plan-Serial";
/// The lineage of that state.
const LINEAGE: &str = "Wan-Plan-Lineage";
/// The key that seals it.
const KEY: &str = "Wan-Plan-Key";

/// Which plan of which stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanPlace {
    /// The stack.
    pub stack: String,
    /// The digest of the file.
    pub hash: Digest,
    /// The serial of the state it was made from.
    pub serial: i64,
    /// The lineage of that state.
    pub lineage: String,
}

/// Why a plan file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is none of this stack, or it is another one.
    #[error("it is not kept")]
    Missing,
    /// What is kept is not what was put there.
    #[error("what is kept is not what was put there: {0}")]
    Damaged(String),
    /// The server could not be asked.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The keys cannot be read.
    #[error(transparent)]
    Key(KeyError),
}

/// The plan files on a server.
#[derive(Debug, Clone)]
pub struct PlanFiles {
    nats: Nats,
    keys: StateKeys,
}

impl PlanFiles {
    /// The plan files on this server, sealed with these keys.
    pub fn new(nats: Nats, keys: StateKeys) -> Self {
        Self { nats, keys }
    }

    /// Keeps a plan file instead of the one of its stack that was kept before.
    ///
    /// # Errors
    /// [`PlanError`]; what was kept before still is then.
    pub async fn put(&self, place: &PlanPlace, file: &[u8]) -> Result<(), PlanError> {
        let (key, sealed) =
            self.keys.seal(&sealed_as(place, &place.hash.to_string()), file).map_err(PlanError::Key)?;
        let mut headers = HeaderMap::new();
        headers.insert(HASH, place.hash.to_string().as_str());
        headers.insert(SERIAL, place.serial.to_string().as_str());
        headers.insert(LINEAGE, place.lineage.as_str());
        headers.insert(KEY, key.as_str());
        let subject = subjects::plan(&place.stack);
        match parts::put(&self.nats, PLANS, &subject, &headers, &Bytes::from(sealed), None).await {
            Ok(()) => Ok(()),
            Err(CheckedError::Failed(error)) => Err(error.into()),
            Err(conflict @ CheckedError::Conflict) => {
                let doing = format!("keeping the plan of stack {}", place.stack);
                Err(NatsError::failed(doing)(conflict).into())
            }
        }
    }

    /// The plan file that was put at this place.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn get(&self, place: &PlanPlace) -> Result<Vec<u8>, PlanError> {
        let messages = parts::newest(&self.nats, PLANS, &subjects::plan(&place.stack)).await?;
        let messages = messages.filter(|messages| !messages.is_empty()).ok_or(PlanError::Missing)?;
        let (key, body) = read(place, &messages)?;
        let hash = place.hash.to_string();
        let file = self.keys.open(&sealed_as(place, &hash), &key, &body).map_err(|error| match error {
            KeyError::StateChanged { .. } | KeyError::UnknownStateKey { .. } => {
                PlanError::Damaged(error.to_string())
            }
            other => PlanError::Key(other),
        })?;
        if Digest::of(&file) != place.hash {
            return Err(PlanError::Damaged("it has another digest".to_owned()));
        }
        Ok(file)
    }

    /// Forgets the plan file of a stack.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn forget(&self, stack: &str) -> Result<(), NatsError> {
        let subject = subjects::plan(stack);
        let doing = format!("removing {subject}");
        let stream = self.nats.js.get_stream_no_info(PLANS).await;
        let stream = stream.map_err(NatsError::failed(doing.clone()))?;
        stream.purge().filter(&subject).await.map(drop).map_err(NatsError::failed(doing))
    }
}

fn sealed_as<'a>(place: &'a PlanPlace, hash: &'a str) -> StatePlace<'a> {
    let PlanPlace { stack, serial, lineage, .. } = place;
    StatePlace { what: "plan", stack, serial: *serial, lineage, order: hash }
}

/// The key and the sealed bytes, where they say that they are the ones of this place.
fn read(place: &PlanPlace, messages: &[StoredMessage]) -> Result<(String, Bytes), PlanError> {
    let last = messages.last().ok_or(PlanError::Missing)?;
    if text(last, HASH) != Some(place.hash.to_string().as_str()) {
        return Err(PlanError::Missing);
    }
    let body = parts::whole(messages).map_err(|Unusable(why)| PlanError::Damaged(why))?;
    let key = text(last, KEY).ok_or_else(|| PlanError::Damaged("it names no key".to_owned()))?;
    Ok((key.to_owned(), body))
}
