//! Claims: a name that belongs to one owner in the whole fleet, such as a device's serial number.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{RawMessageErrorKind, State};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::{load_last, load_page};
use crate::publish::{CheckedError, publish_expecting};
use crate::topology::CLAIMS;
use crate::unreadable::is_unreadable;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The name was free and is the owner's now, by the write of this revision.
    New(u64),
    /// The same, but it may have been somebody's: the server has lost claims, or cannot read the one that is there.
    Doubtful(u64),
    /// It was the owner's already.
    Again {
        /// The revision it had until now.
        was: u64,
        /// The revision of this write.
        now: u64,
    },
    /// It belongs to somebody else.
    Taken,
}

/// A claim as it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The name.
    pub name: String,
    /// Its owner; not all bytes are text.
    pub owner: String,
    /// The write that says so: the first one, or the last one that claimed it again.
    pub revision: u64,
    /// When that was, by the server's clock.
    pub time: Timestamp,
}

/// How often a claim is tried that somebody else is giving back or claiming again at the same moment.
const TRIES: u32 = 16;

/// How many claims one look at the bucket is about.
const PAGE: usize = 256;

/// How many bytes of claims.
const PAGE_BYTES: usize = 1 << 20;

/// What says that a key was deleted.
const OPERATION: &str = "KV-Operation";

/// What is written under a key.
#[derive(Debug)]
struct Entry {
    revision: u64,
    /// Whether it is a claim, and not the end of one.
    is_put: bool,
    owner: Bytes,
}

/// The claims on a server.
#[derive(Debug, Clone)]
pub struct Claims {
    nats: Nats,
    store: kv::Store,
    /// How many messages the bucket lacked when it was known to be whole; it forgets none.
    missing: Arc<AtomicU64>,
    counts: Arc<Counts>,
}

/// What the server counted of the bucket.
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
struct Before {
    /// Messages that it lacked when it was known to be whole.
    missing: u64,
    /// As [`Counts::again`].
    again: i64,
}

/// Counts that are shared by all who want one at the same time.
#[derive(Debug)]
struct Counts {
    /// How often one was wanted.
    wanted: AtomicU64,
    /// The last one, and up to which wish it was asked after.
    last: Mutex<(u64, Option<Count>)>,
    /// Writes to names that had one before, by the last count.
    again: AtomicI64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { wanted: AtomicU64::new(0), last: Mutex::default(), again: AtomicI64::new(UNKNOWN) }
    }
}

/// Nobody has counted.
const UNKNOWN: i64 = i64::MIN;

impl Claims {
    /// Opens the claims.
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(CLAIMS).await.map_err(NatsError::failed("opening the claims"))?;
        Ok(Self {
            nats: nats.clone(),
            store,
            missing: Arc::new(AtomicU64::new(u64::MAX)),
            counts: Arc::default(),
        })
    }

    /// Claims a name for an owner, again if need be. [`NatsError::Malformed`] where there is a claim that cannot be read.
    /// Claiming again is a write, too: whoever is about to free the claim as he has seen it ([`Claims::release_seen`]) then
    /// finds it changed, and leaves it.
    pub async fn claim(&self, name: &str, owner: &str) -> Result<Claimed, NatsError> {
        let doing = format!("claiming {name}");
        let key = key(name);
        let value = Bytes::copy_from_slice(owner.as_bytes());
        let mut free = 0;
        for _ in 0..TRIES {
            let before = Before {
                missing: self.missing.load(Ordering::Acquire),
                again: self.counts.again.load(Ordering::Acquire),
            };
            match self.write(&key, value.clone(), free).await {
                Ok(revision) => {
                    let is_certain = self.was_free(&key, free, before).await?;
                    return Ok(if is_certain { Claimed::New(revision) } else { Claimed::Doubtful(revision) });
                }
                Err(CheckedError::Conflict) => {}
                Err(CheckedError::Failed(error)) => return Err(error),
            }
            let entry = self.entry(&key).await?;
            free = entry.as_ref().map_or(0, |entry| entry.revision);
            let Some(entry) = entry.filter(|entry| entry.is_put) else { continue };
            if entry.owner != value {
                return Ok(Claimed::Taken);
            }
            match self.write(&key, value.clone(), entry.revision).await {
                Ok(now) => return Ok(Claimed::Again { was: entry.revision, now }),
                Err(CheckedError::Conflict) => free = 0,
                Err(CheckedError::Failed(error)) => return Err(error),
            }
        }
        Err(NatsError::malformed(doing, "it is not free, and whose it is cannot be read"))
    }

    /// Writes where the last message of a key has this revision (0: there is none).
    async fn write(&self, key: &str, owner: Bytes, expected: u64) -> Result<u64, CheckedError> {
        let subject = format!("{}{key}", self.store.prefix);
        publish_expecting(&self.nats.js, subject, expected, HeaderMap::new(), owner).await
    }

    /// What is written under a key, as the leader has it. It comes as JSON: a message whose headers are damaged ends the
    /// connection of whoever asks in the usual way.
    async fn entry(&self, key: &str) -> Result<Option<Entry>, NatsError> {
        let subject = format!("{}{key}", self.store.prefix);
        let doing = format!("reading the claim {subject}");
        match self.store.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(Entry {
                revision: message.sequence,
                is_put: message.headers.get(OPERATION).is_none(),
                owner: message.payload,
            })),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) if is_unreadable(&error) => {
                Err(NatsError::malformed(doing, "it is there and cannot be read"))
            }
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// Notes that the bucket is whole, with so many messages less than were ever written to it.
    pub fn note_missing(&self, missing: u64) {
        self.missing.store(missing, Ordering::Release);
    }

    /// Whether a name was free that was just claimed where its last message was this one (0: none). A server with a damaged
    /// file takes a claim that it cannot read for none, though it counts it; or it finds out when it is asked for the claim,
    /// and counts one less from then on.
    ///
    /// A name that had no message adds nothing to what was written again. As long as that is as much as `before` the claim
    /// was written, and no more is missing, no claim of that time met one that was hidden, and one question answers for all
    /// of them. Else it is asked for the name.
    async fn was_free(&self, key: &str, last: u64, before: Before) -> Result<bool, NatsError> {
        let count = self.count(key).await?;
        if count.missing > before.missing {
            return Ok(false);
        }
        if last > 0 || count.again == before.again {
            return Ok(true);
        }
        let (of_key, missing) = self.messages_of(key).await?;
        Ok(of_key <= 1 && missing <= before.missing)
    }

    /// What the server counts of the bucket, asked after the call. It is asked one question at a time, for all who wait.
    async fn count(&self, key: &str) -> Result<Count, NatsError> {
        let counts = &self.counts;
        let wish = counts.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        let mut last = counts.last.lock().await;
        if let (asked_after, Some(count)) = *last
            && asked_after >= wish
        {
            return Ok(count);
        }
        let asked_after = counts.wanted.load(Ordering::Acquire);
        let info = self.store.stream.get_info().await.map_err(NatsError::failed(looking(key)))?;
        let [written, names] = [info.state.last_sequence, info.state.subjects_count]
            .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let again = written - names;
        let count = Count { missing: missing(&info.state), again };
        counts.again.store(count.again, Ordering::Release);
        *last = (asked_after, Some(count));
        Ok(count)
    }

    /// How many messages the server counts of one key, claims and what ended them, and how many it is missing of all. It
    /// may find out by this very question that it cannot read one.
    async fn messages_of(&self, key: &str) -> Result<(u64, u64), NatsError> {
        let subject = format!("{}{key}", self.store.prefix);
        let info = self.store.stream.info_with_subjects(subject).await;
        let mut counted = info.map_err(NatsError::failed(looking(key)))?;
        let mut messages = 0;
        while let Some((_, count)) = counted.try_next().await.map_err(NatsError::failed(looking(key)))? {
            messages += u64::try_from(count).unwrap_or(u64::MAX);
        }
        Ok((messages, missing(&counted.info.state)))
    }

    /// The first claims after a revision, oldest first, and the revision to go on from; none when there are no more.
    pub async fn page(&self, after: u64) -> Result<(Vec<Held>, Option<u64>), NatsError> {
        let (stream, prefix) = (format!("KV_{CLAIMS}"), format!("$KV.{CLAIMS}."));
        let all = format!("{prefix}>");
        let (messages, more) = load_page(&self.nats, &stream, &all, after, PAGE, PAGE_BYTES).await?;
        let next = messages.last().map(|last| last.sequence).filter(|_| more);
        // A claim that was given back leaves a mark.
        let is_put = |message: &StoredMessage| message.headers.get(OPERATION).is_none();
        let put: BTreeSet<&str> = messages
            .iter()
            .filter(|message| is_put(message))
            .map(|message| message.subject.as_str())
            .collect();
        let put: Vec<&str> = put.into_iter().collect();
        // What was given back or claimed again since is still there.
        let newest = load_last(&self.nats, &stream, &all, &put).await?;
        let newest: BTreeSet<u64> = newest.iter().map(|message| message.sequence).collect();
        let held = messages.iter().filter(|message| is_put(message) && newest.contains(&message.sequence));
        let held = held.filter_map(|message| {
            let name = name(message.subject.strip_prefix(&prefix)?)?;
            let owner = String::from_utf8_lossy(&message.payload).into_owned();
            Some(Held { name, owner, revision: message.sequence, time: message.time })
        });
        Ok((held.collect(), next))
    }

    /// The revision of an owner's claim to a name; none when the name is not this owner's.
    pub async fn seen(&self, name: &str, owner: &str) -> Result<Option<u64>, NatsError> {
        let entry = self.entry(&key(name)).await?;
        let own = entry.filter(|entry| entry.is_put && entry.owner == owner.as_bytes());
        Ok(own.map(|entry| entry.revision))
    }

    /// Gives a name back if its claim is still the one that was seen, and says whether it was.
    pub async fn release_seen(&self, name: &str, revision: u64) -> Result<bool, NatsError> {
        let doing = format!("releasing {name}");
        let key = key(name);
        let Err(error) = self.store.delete_expect_revision(&key, Some(revision)).await else {
            return Ok(true);
        };
        match self.entry(&key).await? {
            Some(entry) if entry.revision == revision => Err(NatsError::failed(doing)(error)),
            _ => Ok(false),
        }
    }

    /// Whether a name belongs to somebody else than this owner.
    pub async fn is_taken(&self, name: &str, owner: &str) -> Result<bool, NatsError> {
        let entry = self.entry(&key(name)).await?;
        Ok(entry.is_some_and(|entry| entry.is_put && entry.owner != owner.as_bytes()))
    }
}

/// How many messages were written to the bucket and are not there.
fn missing(bucket: &State) -> u64 {
    bucket.last_sequence.saturating_sub(bucket.messages)
}

fn looking(key: &str) -> String {
    format!("looking whether {key} was free")
}

/// A name as a key: every byte that a key may not have is written as `=` and two hexadecimal digits.
fn key(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold(String::new(), |mut key, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => key.push(char::from(byte)),
            other => {
                let _ = write!(key, "={other:02x}");
            }
        }
        key
    })
}

/// The name that a key stands for.
fn name(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{key, name};

    #[test]
    fn every_name_is_a_key_of_its_own() {
        assert_eq!(key("serial/SN-1"), "serial/SN-1");
        assert_eq!(key("a b.*"), "a=20b=2e=2a");
        for text in ["serial/SN-1", "a b.*", "=", "ü", ""] {
            assert_eq!(name(&key(text)).as_deref(), Some(text));
        }
        assert_eq!(name("=4"), None);
        assert_eq!(name("=zz"), None);
    }
}
