//! Whether a name that was just claimed was free: a server with a damaged file takes a claim that it cannot read for none.
//!
//! It goes on counting the messages of the name, or finds out when it is asked, and counts one less of all from then on; or it
//! cuts off its end, and stores the next message where the lost one was. So it is asked after each claim what it counts.

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::State;
use futures::TryStreamExt;
use tokio::sync::Mutex;

use crate::error::NatsError;

/// Nobody has counted.
const UNKNOWN: i64 = i64::MIN;

/// Names that may have been somebody else's when they were claimed, by key: how many messages more the server counts of each
/// than can be read, or fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts(BTreeMap<String, i64>);

/// What the server counts of the bucket.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// Messages that were written and are not there.
    missing: u64,
    /// Writes to names that had one before. A message that is lost does not change it, as long as the server goes on counting
    /// its name, so that a loss does not make up for a claim that is hidden. Where its end was lost it is less than none.
    again: i64,
    /// The sequence of the last message.
    last: u64,
}

impl Count {
    fn of(bucket: &State) -> Self {
        let [written, names] = [bucket.last_sequence, bucket.subjects_count]
            .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let missing = bucket.last_sequence.saturating_sub(bucket.messages);
        Self { missing, again: written - names, last: bucket.last_sequence }
    }

    /// Whether it was counted behind this message.
    fn is_behind(&self, revision: u64, key: &str) -> Result<(), NatsError> {
        if self.last >= revision {
            return Ok(());
        }
        Err(NatsError::failed(looking(key))("a server answered that does not have the claim yet"))
    }
}

/// What was known of the bucket before a claim was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Messages that it lacked when it was known to be whole.
    missing: u64,
    /// As [`Count::again`].
    again: i64,
    /// The newest message that was heard of.
    last: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The sequence of the message.
    pub(super) revision: u64,
    /// How many messages the name has, by those of them that can be read.
    pub(super) writes: u64,
    /// What was known before.
    pub(super) before: Before,
}

/// Whether a name was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Free {
    /// It was, or its owner's.
    Certain,
    /// It may have been somebody else's.
    Doubtful {
        /// As in [`Doubts`].
        surplus: i64,
    },
}

/// What a bucket has that is known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// How many messages less than were ever written to it.
    pub missing: u64,
    /// The sequence of its last message.
    pub last: u64,
}

/// The last count, for all who want one at the same time.
#[derive(Debug, Default)]
struct Last {
    /// Up to which wish it was asked after.
    asked_after: u64,
    /// None where the server did not answer.
    count: Option<Count>,
}

/// What is known of the losses of the bucket.
#[derive(Debug)]
pub(super) struct Certainty {
    /// How many messages the bucket lacked when it was known to be whole; it forgets none.
    missing: AtomicU64,
    /// Writes to names that had one before, by the last count.
    again: AtomicI64,
    /// The newest message of the bucket that was heard of.
    newest: AtomicU64,
    /// How often a count was wanted.
    wanted: AtomicU64,
    last: Mutex<Last>,
    doubts: StdMutex<OfNames>,
}

#[derive(Debug, Default)]
struct OfNames {
    /// Those that were looked after: their devices have their claims again.
    known: Doubts,
    new: Doubts,
}

impl Default for Certainty {
    fn default() -> Self {
        Self {
            missing: AtomicU64::new(u64::MAX),
            again: AtomicI64::new(UNKNOWN),
            newest: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            last: Mutex::default(),
            doubts: StdMutex::default(),
        }
    }
}

impl Certainty {
    pub(super) fn before(&self) -> Before {
        Before {
            missing: self.missing.load(Ordering::Acquire),
            again: self.again.load(Ordering::Acquire),
            last: self.newest.load(Ordering::Acquire),
        }
    }

    pub(super) fn doubts(&self) -> Doubts {
        self.of_names().new.clone()
    }

    pub(super) fn note_known(&self, whole: Whole, doubts: &Doubts, taken: impl Iterator<Item = String>) {
        let mut names = self.of_names();
        for (key, surplus) in &doubts.0 {
            if names.new.0.get(key) == Some(surplus) {
                names.new.0.remove(key);
            }
            match surplus {
                0 => names.known.0.remove(key),
                surplus => names.known.0.insert(key.clone(), *surplus),
            };
        }
        for key in taken {
            names.new.0.entry(key).or_default();
        }
        drop(names);
        self.missing.store(whole.missing, Ordering::Release);
        // One that was made anew begins at its beginning.
        self.newest.store(whole.last, Ordering::Release);
    }

    fn of_names(&self) -> std::sync::MutexGuard<'_, OfNames> {
        self.doubts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether a name was free, or its owner's, that was just claimed.
    ///
    /// The first message of a name adds nothing to what was written again. As long as that is as much as before, and no more
    /// is missing, no claim of that time met one that was hidden, and one question answers for all of them. Else it is asked
    /// for the name.
    pub(super) async fn was_free(
        &self,
        bucket: &kv::Store,
        key: &str,
        written: Written,
    ) -> Result<Free, NatsError> {
        let Written { revision, writes, before } = written;
        // Where it is not newer than what was there, that was cut off.
        let is_newer = revision > before.last;
        if writes == 1 && is_newer {
            let count = self.count(bucket, key).await?;
            count.is_behind(revision, key)?;
            if count.missing <= before.missing && count.again == before.again {
                return Ok(Free::Certain);
            }
        }
        let (counted, count) = messages_of(bucket, key).await?;
        count.is_behind(revision, key)?;
        let [counted, writes] = [counted, writes].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let surplus = counted - writes;
        let names = self.of_names();
        let known = names.known.0.get(key).copied().unwrap_or_default();
        let is_known = surplus == known && !names.new.0.contains_key(key);
        let is_certain = is_newer && count.missing <= before.missing && is_known;
        Ok(if is_certain { Free::Certain } else { Free::Doubtful { surplus } })
    }

    /// Keeps a doubt until it is looked after.
    pub(super) fn doubt(&self, key: String, surplus: i64) {
        self.of_names().new.0.insert(key, surplus);
    }

    /// Notes a message that the bucket has.
    pub(super) fn heard_of(&self, revision: u64) {
        self.newest.fetch_max(revision, Ordering::AcqRel);
    }

    /// What the server counts of the bucket, asked after the call. It is asked one question at a time, for all who wait; they
    /// share also that it did not answer.
    async fn count(&self, bucket: &kv::Store, key: &str) -> Result<Count, NatsError> {
        let wish = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        let mut last = self.last.lock().await;
        if last.asked_after >= wish {
            return last.count.ok_or_else(|| NatsError::failed(looking(key))("others have asked in vain"));
        }
        let asked_after = self.wanted.load(Ordering::Acquire);
        let counted = bucket.stream.get_info().await.map(|info| Count::of(&info.state));
        let count = counted.as_ref().ok().copied();
        if let Some(count) = count {
            self.again.store(count.again, Ordering::Release);
        }
        *last = Last { asked_after, count };
        counted.map_err(NatsError::failed(looking(key)))
    }
}

/// How many messages the server counts of one key, claims and what ended them.
pub(super) async fn writes_of(bucket: &kv::Store, key: &str) -> Result<u64, NatsError> {
    messages_of(bucket, key).await.map(|(writes, _)| writes)
}

/// The same, and what it counts of all. It may find out by this very question that it cannot read one.
async fn messages_of(bucket: &kv::Store, key: &str) -> Result<(u64, Count), NatsError> {
    let subject = format!("{}{key}", bucket.prefix);
    let info = bucket.stream.info_with_subjects(subject).await;
    let mut counted = info.map_err(NatsError::failed(looking(key)))?;
    let mut messages = 0;
    while let Some((_, count)) = counted.try_next().await.map_err(NatsError::failed(looking(key)))? {
        messages += u64::try_from(count).unwrap_or(u64::MAX);
    }
    Ok((messages, Count::of(&counted.info.state)))
}

fn looking(key: &str) -> String {
    format!("looking whether {key} was free")
}
