//! Claims: a name that belongs to one owner in the whole fleet, such as a device's serial number.

mod certainty;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use jiff::Timestamp;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::{load_last, load_page};
use crate::publish::{CheckedError, publish_expecting};
use crate::topology::CLAIMS;
use crate::unreadable::is_unreadable;
use certainty::{Certainty, Free, Written};

pub use certainty::{Doubts, Whole};

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The name was free and is the owner's now, by the write of this revision.
    New(u64),
    /// It is the owner's now, but it may have been somebody else's: the server has lost claims, or cannot read the one that
    /// was there.
    Doubtful {
        /// The revision it had until now; none if it seemed free.
        was: Option<u64>,
        /// The revision of this write.
        now: u64,
    },
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

/// How many messages a key has with this one, claims and what ended them. A server counts more where it cannot read one that
/// is newer than the last one that it can.
const WRITES: &str = "Wan-Writes";

/// What is written under a key.
#[derive(Debug)]
struct Entry {
    revision: u64,
    /// Whether it is a claim, and not the end of one.
    is_put: bool,
    owner: Bytes,
    /// As [`WRITES`]; an older wanwright did not write it.
    writes: Option<u64>,
}

/// A message of a key that is about to be written.
#[derive(Debug)]
struct Next {
    /// The last message of the key (0: there is none).
    after: u64,
    /// As [`WRITES`].
    writes: u64,
}

impl Next {
    /// The first message of a key.
    const FIRST: Self = Self { after: 0, writes: 1 };
}

/// The claims on a server.
#[derive(Debug, Clone)]
pub struct Claims {
    nats: Nats,
    store: kv::Store,
    certainty: Arc<Certainty>,
}

impl Claims {
    /// Opens the claims.
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(CLAIMS).await.map_err(NatsError::failed("opening the claims"))?;
        Ok(Self { nats: nats.clone(), store, certainty: Arc::default() })
    }

    /// Claims a name for an owner, again if need be. [`NatsError::Malformed`] where there is a claim that cannot be read.
    /// Claiming again is a write, too: whoever is about to free the claim as he has seen it ([`Claims::release_seen`]) then
    /// finds it changed, and leaves it.
    ///
    /// The server is asked each time whether the name was free, also where it was this owner's: who claimed it may have died
    /// before he asked.
    pub async fn claim(&self, name: &str, owner: &str) -> Result<Claimed, NatsError> {
        let before = self.certainty.before();
        let (claimed, writes) = self.take(name, owner).await?;
        let (was, revision) = match claimed {
            Claimed::New(revision) => (None, revision),
            Claimed::Again { was, now } => (Some(was), now),
            Claimed::Doubtful { .. } | Claimed::Taken => return Ok(claimed),
        };
        let written = Written { revision, writes, before };
        let key = key(name);
        let Free::Doubtful { surplus } = self.certainty.was_free(&self.store, &key, written).await? else {
            return Ok(claimed);
        };
        if self.entry(&key).await?.is_none_or(|entry| entry.revision != revision) {
            // Then it was asked about more than this write.
            return Err(NatsError::failed(format!("claiming {name}"))("it was written again meanwhile"));
        }
        self.certainty.doubt(key, surplus);
        Ok(Claimed::Doubtful { was, now: revision })
    }

    /// Claims a name for an owner who has it by his history, where its claim is lost. What else the server may have lost is
    /// not asked: nobody but him can have had it.
    pub async fn claim_back(&self, name: &str, owner: &str) -> Result<Claimed, NatsError> {
        self.take(name, owner).await.map(|(claimed, _)| claimed)
    }

    /// Claims a name, and answers how many messages it has now, by those that can be read.
    async fn take(&self, name: &str, owner: &str) -> Result<(Claimed, u64), NatsError> {
        let doing = format!("claiming {name}");
        let key = key(name);
        let value = Bytes::copy_from_slice(owner.as_bytes());
        let mut next = Next::FIRST;
        for _ in 0..TRIES {
            match self.write(&key, value.clone(), &next).await {
                Ok(revision) => return Ok((Claimed::New(revision), next.writes)),
                Err(CheckedError::Conflict) => {}
                Err(CheckedError::Failed(error)) => return Err(error),
            }
            let Some(entry) = self.entry(&key).await? else {
                next = Next::FIRST;
                continue;
            };
            next = self.next(&key, &entry).await?;
            if !entry.is_put {
                continue;
            }
            if entry.owner != value {
                return Ok((Claimed::Taken, next.writes));
            }
            match self.write(&key, value.clone(), &next).await {
                Ok(now) => return Ok((Claimed::Again { was: entry.revision, now }, next.writes)),
                Err(CheckedError::Conflict) => next = Next::FIRST,
                Err(CheckedError::Failed(error)) => return Err(error),
            }
        }
        Err(NatsError::malformed(doing, "it is not free, and whose it is cannot be read"))
    }

    /// The message of a key that follows this one.
    async fn next(&self, key: &str, entry: &Entry) -> Result<Next, NatsError> {
        let writes = match entry.writes {
            Some(writes) => writes,
            // Of one that does not say it the server is believed.
            None => certainty::writes_of(&self.store, key).await?,
        };
        Ok(Next { after: entry.revision, writes: writes.saturating_add(1) })
    }

    /// Writes a claim.
    async fn write(&self, key: &str, owner: Bytes, next: &Next) -> Result<u64, CheckedError> {
        self.publish(key, HeaderMap::new(), owner, next).await
    }

    async fn publish(
        &self,
        key: &str,
        mut headers: HeaderMap,
        owner: Bytes,
        next: &Next,
    ) -> Result<u64, CheckedError> {
        headers.insert(WRITES, next.writes.to_string().as_str());
        let subject = format!("{}{key}", self.store.prefix);
        let revision = publish_expecting(&self.nats.js, subject, next.after, headers, owner).await?;
        self.certainty.heard_of(revision);
        Ok(revision)
    }

    /// What is written under a key, as the leader has it. It comes as JSON: a message whose headers are damaged ends the
    /// connection of whoever asks in the usual way.
    async fn entry(&self, key: &str) -> Result<Option<Entry>, NatsError> {
        let subject = format!("{}{key}", self.store.prefix);
        let doing = format!("reading the claim {subject}");
        match self.store.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                self.certainty.heard_of(message.sequence);
                Ok(Some(Entry {
                    revision: message.sequence,
                    is_put: message.headers.get(OPERATION).is_none(),
                    writes: message.headers.get(WRITES).and_then(|writes| writes.as_str().parse().ok()),
                    owner: message.payload,
                }))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) if is_unreadable(&error) => {
                Err(NatsError::malformed(doing, "it is there and cannot be read"))
            }
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }

    /// The names that may have been somebody else's when they were claimed, and were not looked after since.
    pub fn doubts(&self) -> Doubts {
        self.certainty.doubts()
    }

    /// Notes that the bucket is whole, and that those doubts were looked after: whoever has such a name by his history has its
    /// claim again. But for those `taken`: somebody else has them, and whether he may is in doubt from now on.
    pub fn note_known(&self, whole: Whole, doubts: &Doubts, taken: &[String]) {
        self.certainty.note_known(whole, doubts, taken.iter().map(|name| key(name)));
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
        let key = key(name);
        let entry = self.entry(&key).await?;
        let Some(entry) = entry.filter(|entry| entry.revision == revision) else { return Ok(false) };
        let next = self.next(&key, &entry).await?;
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        match self.publish(&key, headers, Bytes::new(), &next).await {
            Ok(_) => Ok(true),
            Err(CheckedError::Conflict) => Ok(false),
            Err(CheckedError::Failed(error)) => Err(error),
        }
    }

    /// Whether a name belongs to somebody else than this owner.
    pub async fn is_taken(&self, name: &str, owner: &str) -> Result<bool, NatsError> {
        let entry = self.entry(&key(name)).await?;
        Ok(entry.is_some_and(|entry| entry.is_put && entry.owner != owner.as_bytes()))
    }
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
