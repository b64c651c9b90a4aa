//! The outcomes that no event tells: refusals, and commands that had nothing to change.
//!
//! Like events they are on the disk before anybody hears of them, so a repeat gets the same answer after any failure.
//! Whoever holds the partition knows the ids of all of them, so a new command needs no question to the server.

use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::HeaderMap;
use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures::TryStreamExt;
use wanwright_nats::publish::{CheckedError, publish_expecting};
use wanwright_nats::topology::{VERDICT_TIME, VERDICTS};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::subjects;

use super::inventory::Gate;
use super::verdict::now_millis;
use super::{CLOCK_SKEW, outcomes};

/// How many ids are kept in memory for a partition; beyond it the server is asked.
const MOST: usize = 250_000;

/// The verdicts of one partition, as its holder knows them.
#[derive(Debug)]
pub(super) struct Verdicts {
    nats: Nats,
    known: Mutex<Known>,
    gate: Gate,
}

#[derive(Debug, Default)]
struct Known {
    /// When each was learnt, in milliseconds since 1970.
    ids: HashMap<Whose, u64>,
    order: VecDeque<Whose>,
    customers: RandomState,
    /// Whether some had to be left out.
    is_partial: bool,
}

/// A customer's command: another customer's may have the same id. The customer is a hash of its name, under keys that
/// nobody else knows.
type Whose = (u64, CommandId);

impl Known {
    fn whose(&self, customer: &CustomerId, id: CommandId) -> Whose {
        (self.customers.hash_one(customer), id)
    }

    fn note(&mut self, id: Whose, millis: u64) {
        if self.ids.insert(id, millis).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MOST {
            self.is_partial = true;
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.ids.remove(&id);
        }
    }

    fn forget_before(&mut self, millis: u64) {
        while self.order.front().and_then(|id| self.ids.get(id)).is_some_and(|learnt| *learnt < millis) {
            self.forget_oldest();
        }
    }
}

impl Verdicts {
    /// Reads the ids of a partition. Whoever holds its lease by now misses none.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub(super) async fn open(
        nats: &Nats,
        partition: u16,
        now_millis: u64,
        gate: Gate,
    ) -> Result<Self, NatsError> {
        let doing = || format!("reading the verdicts of partition {partition}");
        let stream = nats.js.get_stream_no_info(VERDICTS).await.map_err(NatsError::failed(doing()))?;
        let filter = subjects::verdicts_of_partition(partition);
        let mut subjects = stream.info_with_subjects(filter).await.map_err(NatsError::failed(doing()))?;
        let mut known = Known::default();
        while let Some((subject, _)) = subjects.try_next().await.map_err(NatsError::failed(doing()))? {
            if let Some((customer, id)) = subjects::command_of_verdict(&subject) {
                known.note(known.whose(&customer, id), now_millis);
                gate.note(id);
            }
        }
        Ok(Self { nats: nats.clone(), known: Mutex::new(known), gate })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first outcome of a command and the digest of what it said, if it is one of these.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked; [`NatsError::Malformed`], when the outcome is there and cannot be
    /// read, or was there and is too young to be gone.
    pub(super) async fn first(
        &self,
        customer: &CustomerId,
        command: CommandId,
        horizon_millis: u64,
    ) -> Result<Option<(Outcome, Option<Digest>)>, NatsError> {
        let is_known = {
            let mut known = self.known();
            known.forget_before(horizon_millis);
            let is_known = known.ids.contains_key(&known.whose(customer, command));
            if !known.is_partial && !is_known {
                return Ok(None);
            }
            is_known
        };
        let found = self.known_one(customer, command).await?;
        if found.is_none() && is_known && is_young(command, now_millis()) {
            return Err(gone(&subjects::verdict(customer, command, self.nats.partitions)));
        }
        Ok(found)
    }

    /// A verdict that should be there; none when it came to its age.
    async fn known_one(
        &self,
        customer: &CustomerId,
        command: CommandId,
    ) -> Result<Option<(Outcome, Option<Digest>)>, NatsError> {
        let found = read(&self.nats, customer, command).await?;
        if found.is_none() {
            // The server says of what it cannot read that it is not there, but counts it.
            let subject = subjects::verdict(customer, command, self.nats.partitions);
            let doing = || format!("reading {subject}");
            let stream = self.nats.js.get_stream_no_info(VERDICTS).await;
            let info = stream.map_err(NatsError::failed(doing()))?.info_with_subjects(subject.clone()).await;
            let mut counted = info.map_err(NatsError::failed(doing()))?;
            if counted.try_next().await.map_err(NatsError::failed(doing()))?.is_some() {
                return Err(unreadable(&subject));
            }
        }
        Ok(found)
    }

    /// Records an outcome where there is none yet. Answers the one that is there, if somebody was faster.
    ///
    /// # Errors
    /// [`NatsError`]: it may or may not be recorded.
    pub(super) async fn record(
        &self,
        customer: &CustomerId,
        command: CommandId,
        digest: Digest,
        outcome: &Outcome,
        now_millis: u64,
    ) -> Result<Option<(Outcome, Option<Digest>)>, NatsError> {
        let subject = subjects::verdict(customer, command, self.nats.partitions);
        let body = outcomes::write(&subject, outcome)?;
        let mut headers = HeaderMap::new();
        headers.insert(outcomes::BODY_HEADER, digest.to_string().as_str());
        let recorded = publish_expecting(&self.nats.js, subject, 0, headers, body).await;
        let first = match recorded {
            Ok(_) => None,
            Err(CheckedError::Conflict) => self.known_one(customer, command).await?,
            Err(CheckedError::Failed(error)) => return Err(error),
        };
        let mut known = self.known();
        let whose = known.whose(customer, command);
        known.note(whose, now_millis);
        drop(known);
        self.gate.note(command);
        Ok(first)
    }
}

/// The first outcome of a command and the digest of what it said, if it is a verdict. Asks the leader: a replica may be
/// behind what is known to be there.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(super) async fn read(
    nats: &Nats,
    customer: &CustomerId,
    command: CommandId,
) -> Result<Option<(Outcome, Option<Digest>)>, NatsError> {
    let subject = subjects::verdict(customer, command, nats.partitions);
    let doing = format!("reading {subject}");
    let stream = nats.js.get_stream_no_info(VERDICTS).await.map_err(NatsError::failed(doing.clone()))?;
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok(outcomes::read(&subject, &message.payload, &message.headers)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        // Where the server answered, what it answered with is no message.
        Err(error)
            if error.kind() == LastRawMessageErrorKind::Other
                && error.source().is_some_and(|source| !source.is::<RequestError>()) =>
        {
            Err(unreadable(&subject))
        }
        Err(error) => Err(NatsError::failed(doing)(error)),
    }
}

/// Whether the verdict of a command cannot have come to its age yet. Nothing tells the age of a foreign id.
fn is_young(command: CommandId, now_millis: u64) -> bool {
    let kept = u64::try_from((VERDICT_TIME - 2 * CLOCK_SKEW).as_millis()).unwrap_or_default();
    !command.is_foreign() && command.unix_millis() + kept > now_millis
}

fn gone(subject: &str) -> NatsError {
    let what = "it was there and is gone".to_owned();
    NatsError::Malformed { doing: format!("the verdict on {subject}"), what }
}

fn unreadable(subject: &str) -> NatsError {
    let what = "it is there and cannot be read".to_owned();
    NatsError::Malformed { doing: format!("the verdict on {subject}"), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_asked_for() {
        let id = |number: usize| (1, CommandId::of_message(7, number as u64));
        let mut known = Known::default();
        (0..MOST).for_each(|number| known.note(id(number), number as u64));
        assert!(!known.is_partial);
        known.forget_before(10);
        assert_eq!((known.ids.len(), known.order.len()), (MOST - 10, MOST - 10));
        (MOST..MOST + 10).for_each(|number| known.note(id(number), number as u64));
        assert!(!known.is_partial);
        known.note(id(1), MOST as u64);
        assert!(known.is_partial && known.ids.len() == MOST && !known.ids.contains_key(&id(10)));
        let [acme, globex] = ["acme", "globex"].map(|name| known.whose(&name.parse().unwrap(), id(1).1));
        assert_ne!(acme, globex, "another customer's command may have the same id");
    }
}
