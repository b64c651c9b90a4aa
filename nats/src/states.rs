//! The second copies of Terraform's states: the newest version of every stack, sealed.
//!
//! No stream can make a state again. Postgres has every version; this has the newest, so that neither store alone can
//! lose it, or bring back an older one unnoticed.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::TryStreamExt;
use wanwright_schemas::subjects;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::parts::{self, Unusable, text};
use crate::publish::CheckedError;
use crate::topology::STATES;

/// The serial of the version.
const SERIAL: &str = "Wan-State-Serial";
/// The lineage of the stack.
const LINEAGE: &str = "Wan-State-Lineage";
/// The order in whose run the version was written.
const ORDER: &str = "Wan-State-Order";
/// The key that seals it.
const KEY: &str = "Wan-State-Key";

/// How often a copy is tried to be put behind another one that came at the same time.
const TRIES: usize = 5;

/// A version of a stack's state, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedState {
    /// The stack.
    pub stack: String,
    /// The serial Terraform gave the version.
    pub serial: i64,
    /// The lineage Terraform gave the stack.
    pub lineage: String,
    /// The order in whose run it was written.
    pub order: String,
    /// The id of the key that seals it.
    pub key: String,
    /// The sealed bytes.
    pub body: Bytes,
}

/// The copies on a server.
#[derive(Debug, Clone)]
pub struct StateCopies {
    nats: Nats,
}

impl StateCopies {
    /// The copies on this server.
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Keeps a version instead of an older one of its stack. Nothing happens when there is a newer one.
    ///
    /// # Errors
    /// [`NatsError`]; an older version is still there then.
    pub async fn put(&self, version: &SealedState) -> Result<(), NatsError> {
        self.put_where(version, |present| present.serial >= version.serial).await
    }

    /// Keeps a version instead of whatever version of its stack is there, unless that one is newer.
    ///
    /// # Errors
    /// [`NatsError`]; what was there still is then.
    pub async fn replace(&self, version: &SealedState) -> Result<(), NatsError> {
        self.put_where(version, |present| present.serial > version.serial).await
    }

    async fn put_where(
        &self,
        version: &SealedState,
        stays: impl Fn(&SealedState) -> bool,
    ) -> Result<(), NatsError> {
        let subject = subjects::state(&version.stack);
        let mut headers = HeaderMap::new();
        headers.insert(SERIAL, version.serial.to_string().as_str());
        headers.insert(LINEAGE, version.lineage.as_str());
        headers.insert(ORDER, version.order.as_str());
        headers.insert(KEY, version.key.as_str());
        let mut tries = 1;
        loop {
            let messages = parts::newest(&self.nats, STATES, &subject).await?.unwrap_or_default();
            if read(&version.stack, &messages).is_ok_and(|present| stays(&present)) {
                return Ok(());
            }
            let last = messages.last().map_or(0, |last| last.sequence);
            match parts::put(&self.nats, STATES, &subject, &headers, &version.body, Some(last)).await {
                Ok(()) => return Ok(()),
                // A direct get may be answered by a replica that lags behind.
                Err(CheckedError::Conflict) if tries < TRIES => tries += 1,
                Err(conflict @ CheckedError::Conflict) => {
                    return Err(NatsError::failed(format!("copying the state of stack {}", version.stack))(
                        conflict,
                    ));
                }
                Err(CheckedError::Failed(error)) => return Err(error),
            }
        }
    }

    /// The copy of a stack's state, if there is one that is whole.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn get(&self, stack: &str) -> Result<Option<SealedState>, NatsError> {
        let Some(messages) = parts::newest(&self.nats, STATES, &subjects::state(stack)).await? else {
            return Ok(None);
        };
        match read(stack, &messages) {
            Ok(version) => Ok(Some(version)),
            Err(error) => {
                tracing::warn!(stack, %error, "the second copy of a state cannot be used");
                Ok(None)
            }
        }
    }

    /// The stacks that have a copy.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn stacks(&self) -> Result<Vec<String>, NatsError> {
        let doing = || "listing the copies of states";
        let stream = self.nats.js.get_stream_no_info(STATES).await.map_err(NatsError::failed(doing()))?;
        let info = stream.info_with_subjects(subjects::STATE_ALL).await;
        let mut named = info.map_err(NatsError::failed(doing()))?;
        let mut stacks = Vec::new();
        while let Some((subject, _)) = named.try_next().await.map_err(NatsError::failed(doing()))? {
            stacks.extend(subjects::stack_of_state(&subject).map(str::to_owned));
        }
        stacks.sort();
        Ok(stacks)
    }
}

fn read(stack: &str, messages: &[StoredMessage]) -> Result<SealedState, Unusable> {
    let body = parts::whole(messages)?;
    let last = messages.last().ok_or_else(|| Unusable("it is gone".to_owned()))?;
    let header = |name: &str| {
        let missing = || Unusable(format!("it lacks the header {name}"));
        text(last, name).map(str::to_owned).ok_or_else(missing)
    };
    let serial = header(SERIAL)?.parse().map_err(|_| Unusable("its serial is no number".to_owned()))?;
    Ok(SealedState {
        stack: stack.to_owned(),
        serial,
        lineage: header(LINEAGE)?,
        order: header(ORDER)?,
        key: header(KEY)?,
        body,
    })
}
