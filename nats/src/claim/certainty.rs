//! Whether a name that was just claimed was free: a server with a damaged file takes a claim that it cannot read for none.
//!
//! It goes on counting such a claim, or finds out when it is asked, and counts one less from then on. So after each claim it
//! is asked what it counts.

use std::collections::BTreeMap;
use std::sync::Mutex as Held;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::State;
use futures::TryStreamExt;
use tokio::sync::Mutex;

use crate::error::NatsError;

/// Nobody has counted.
const UNKNOWN: i64 = i64::MIN;

/// Names that may have been somebody else's when they were claimed, by key: how many messages of each cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts(BTreeMap<String, u64>);

impl Doubts {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without these names.
    #[must_use]
    pub fn without<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.0.remove(&super::key(name));
        }
        self
    }

    /// How many messages of a name are known not to be readable.
    fn hidden(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or_default()
    }
}

/// What the server counts of the bucket.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// Messages that were written and are not there.
    missing: u64,
    /// Writes to names that had one before. It does not change when messages are lost: the server goes on counting the names
    /// of those, so that a loss does not make up for a claim that it hides. Where its end was lost it is less than none.
    again: i64,
}

/// What was known of the bucket before a claim was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Messages that it lacked when it was known to be whole.
    missing: u64,
    /// As [`Count::again`].
    again: i64,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
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
        /// How many of its messages cannot be read.
        hidden: u64,
    },
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
    /// How often a count was wanted.
    wanted: AtomicU64,
    last: Mutex<Last>,
    doubts: Held<OfNames>,
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
            wanted: AtomicU64::new(0),
            last: Mutex::default(),
            doubts: Held::default(),
        }
    }
}

impl Certainty {
    pub(super) fn before(&self) -> Before {
        Before { missing: self.missing.load(Ordering::Acquire), again: self.again.load(Ordering::Acquire) }
    }

    pub(super) fn doubts(&self) -> Doubts {
        self.of_names().new.clone()
    }

    pub(super) fn note_known(&self, missing: u64, doubts: &Doubts) {
        let mut names = self.of_names();
        for (key, hidden) in &doubts.0 {
            if names.new.0.get(key) == Some(hidden) {
                names.new.0.remove(key);
            }
            if *hidden > 0 {
                names.known.0.insert(key.clone(), *hidden);
            }
        }
        drop(names);
        self.missing.store(missing, Ordering::Release);
    }

    fn of_names(&self) -> std::sync::MutexGuard<'_, OfNames> {
        self.doubts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether a name was free, or its owner's, that was just claimed; else how many of its messages cannot be read.
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
        let Written { writes, before } = written;
        if writes == 1 {
            let count = self.count(bucket, key).await?;
            if count.missing <= before.missing && count.again == before.again {
                return Ok(Free::Certain);
            }
        }
        let (counted, missing) = messages_of(bucket, key).await?;
        let hidden = counted.saturating_sub(writes);
        let names = self.of_names();
        let is_known = hidden <= names.known.hidden(key) && !names.new.0.contains_key(key);
        let is_certain = missing <= before.missing && is_known;
        Ok(if is_certain { Free::Certain } else { Free::Doubtful { hidden } })
    }

    /// Keeps a doubt until it is looked after.
    pub(super) fn doubt(&self, key: String, hidden: u64) {
        self.of_names().new.0.insert(key, hidden);
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
        let counted = bucket.stream.get_info().await.map(|info| {
            let [written, names] = [info.state.last_sequence, info.state.subjects_count]
                .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
            Count { missing: missing(&info.state), again: written - names }
        });
        let count = counted.as_ref().ok().copied();
        if let Some(count) = count {
            self.again.store(count.again, Ordering::Release);
        }
        *last = Last { asked_after, count };
        counted.map_err(NatsError::failed(looking(key)))
    }
}

/// How many messages the server counts of one key, claims and what ended them, and how many it is missing of all. It may
/// find out by this very question that it cannot read one.
pub(super) async fn messages_of(bucket: &kv::Store, key: &str) -> Result<(u64, u64), NatsError> {
    let subject = format!("{}{key}", bucket.prefix);
    let info = bucket.stream.info_with_subjects(subject).await;
    let mut counted = info.map_err(NatsError::failed(looking(key)))?;
    let mut messages = 0;
    while let Some((_, count)) = counted.try_next().await.map_err(NatsError::failed(looking(key)))? {
        messages += u64::try_from(count).unwrap_or(u64::MAX);
    }
    Ok((messages, missing(&counted.info.state)))
}

/// How many messages were written to the bucket and are not there.
fn missing(bucket: &State) -> u64 {
    bucket.last_sequence.saturating_sub(bucket.messages)
}

fn looking(key: &str) -> String {
    format!("looking whether {key} was free")
}
