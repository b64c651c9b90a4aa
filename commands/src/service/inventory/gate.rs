//! Nothing is decided before the streams were compared with what should be in them.
//!
//! What a server has on its disk it reads again when it starts, and then its clients connect again. So whoever decides asks
//! first whether the streams were compared since this connection was made: that is a look at a number, and a comparison
//! only behind a new connection. A comparison gives lost claims back before it ends.
//!
//! Which verdicts are lost nobody can tell, but whose they may be: those of commands whose ids were minted before the loss
//! was found. Such a command, if neither the history nor a verdict knows of it, is refused and not judged anew; until its
//! id is too old, or until an administrator says that the loss is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::inventory::Accepted;
use wanwright_nats::topology::VERDICT_TIME;
use wanwright_nats::{Keys, Nats, NatsError};
use wanwright_schemas::{CommandId, subjects};

use super::super::seen::Seen;
use super::super::verdict::now_millis;
use super::histories::{self, Compared};
use super::keys::{count_keys, read_keys};
use super::record::Record;
use super::streams;

/// How often the streams are compared again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many times that is until every key is read: at the start, and every hour.
const SELDOM: u64 = 60 * 60;

/// Since when it is in doubt which commands were refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// When the last loss was found, in milliseconds since 1970.
    found: u64,
    /// The verdicts of commands whose ids were minted up to then may be lost.
    until: u64,
}

impl Doubt {
    /// The doubt there is after a look, at which something was found to be lost or nothing was; `minted` is the youngest id
    /// that any verdict ever had.
    pub(super) fn after(said: Option<Self>, is_lost: bool, now: u64, minted: u64) -> Option<Self> {
        // Nothing tells the age of a foreign id, and a verdict is there for that long.
        let is_over = |doubt: &Self| doubt.until.saturating_add(super::millis(VERDICT_TIME)) < now;
        let said = said.filter(|doubt| !is_over(doubt));
        if !is_lost {
            return said;
        }
        Some(Self { found: now, until: now.max(minted) })
    }

    /// When the last loss was found.
    pub fn found(self) -> Timestamp {
        moment(self.found)
    }

    /// Up to when an id was minted whose verdict may be lost.
    pub fn until(self) -> Timestamp {
        moment(self.until)
    }

    /// What is left of it when somebody said at this time that the losses are known.
    pub(super) fn accepted(self, at: u64) -> Option<Self> {
        (self.found > at).then_some(self)
    }
}

pub(super) fn moment(millis: u64) -> Timestamp {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default()
}

/// The way to every decision of a process.
#[derive(Debug, Clone)]
pub(in super::super) struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nats: Nats,
    claims: Claims,
    keys: Option<Keys>,
    seen: Arc<Seen>,
    /// Which connection the streams were last compared over, and under whose lead: [`Gate::source`] as it was; 0 before the
    /// first time.
    compared: AtomicU64,
    /// How often a stream got another leader, or seemed to lack something.
    doubted: AtomicU64,
    /// Up to when the verdicts of ids may be lost; 0 when none is.
    doubtful: AtomicU64,
    /// When the youngest id of all verdicts was minted.
    minted: AtomicU64,
    /// How often a claim was found that may have been somebody's.
    doubtful_claims: AtomicU64,
    looking: Mutex<Looking>,
}

#[derive(Debug)]
struct Looking {
    of_streams: Record,
    of_keys: Record,
    of_histories: Record,
    histories: Compared,
    /// How far KEYS went when its customers were counted.
    counted: Option<u64>,
    /// How many of the claims that may have been somebody's were looked after.
    doubtful_claims: u64,
}

impl Looking {
    fn new() -> Self {
        let [of_streams, of_keys, of_histories] =
            [subjects::INVENTORY_OF_STREAMS, subjects::INVENTORY_OF_KEYS, subjects::INVENTORY_OF_HISTORIES]
                .map(Record::new);
        Self {
            of_streams,
            of_keys,
            of_histories,
            histories: Compared::default(),
            counted: None,
            doubtful_claims: 0,
        }
    }
}

impl Gate {
    /// A gate that is shut until the streams are compared.
    pub(in super::super) fn new(nats: Nats, claims: Claims, keys: Option<Keys>, seen: Arc<Seen>) -> Self {
        let [compared, doubted, doubtful, minted, doubtful_claims] = [(); 5].map(|()| AtomicU64::new(0));
        let looking = Mutex::new(Looking::new());
        Self {
            inner: Arc::new(Inner {
                nats,
                claims,
                keys,
                seen,
                compared,
                doubted,
                doubtful,
                minted,
                doubtful_claims,
                looking,
            }),
        }
    }

    /// A number that is another one when what the streams answer may come from elsewhere than before.
    fn source(&self) -> u64 {
        let connects = self.inner.nats.client.statistics().connects.load(Ordering::Acquire);
        connects + self.inner.doubted.load(Ordering::Acquire)
    }

    /// Has the streams compared before anything else is decided.
    fn doubt(&self) {
        self.inner.doubted.fetch_add(1, Ordering::AcqRel);
    }

    /// Goes through when the streams were compared over the present connection and under their present leaders, which is done
    /// here where it was not. Answers which those are.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked: then nothing may be decided.
    pub(in super::super) async fn pass(&self) -> Result<u64, NatsError> {
        let source = self.source();
        if self.inner.compared.load(Ordering::Acquire) == source {
            return Ok(source);
        }
        self.look(false).await
    }

    /// Has the claims given back to the devices that have them before anything else is decided: one was taken that may have
    /// been somebody's.
    pub(in super::super) fn doubt_claims(&self) {
        self.inner.doubtful_claims.fetch_add(1, Ordering::AcqRel);
        self.doubt();
    }

    /// Whether what was asked since then is still what the server has.
    pub(in super::super) fn is_open(&self, source: u64) -> bool {
        self.source() == source
    }

    /// Hears which streams got another leader.
    async fn elections(&self) -> Option<async_nats::Subscriber> {
        let heard = self.inner.nats.client.subscribe(wanwright_nats::accounts::LEADER_ELECTED).await;
        if let Err(error) = &heard {
            tracing::warn!(%error, "changes of a stream's leader are noticed by what it lacks only");
        }
        heard.ok()
    }

    /// Whether this command, of which nothing is known, may be one whose verdict is lost.
    pub(in super::super) fn doubts(&self, command: CommandId) -> bool {
        let until = self.inner.doubtful.load(Ordering::Acquire);
        until > 0 && (command.is_foreign() || command.unix_millis() <= until)
    }

    /// Notes the id of a verdict.
    pub(in super::super) fn note(&self, command: CommandId) {
        if !command.is_foreign() {
            self.inner.minted.fetch_max(command.unix_millis(), Ordering::Relaxed);
        }
    }

    async fn look(&self, is_due: bool) -> Result<u64, NatsError> {
        let mut looking = self.inner.looking.lock().await;
        let source = self.source();
        if !is_due && self.inner.compared.load(Ordering::Acquire) == source {
            return Ok(source);
        }
        let is_anew = self.inner.compared.load(Ordering::Acquire) != source;
        let looked = self.compare(&mut looking, is_anew).await;
        if looked.is_err() {
            // After an error another writer has to go on.
            *looking = Looking { doubtful_claims: looking.doubtful_claims, ..Looking::new() };
        }
        looked?;
        self.inner.compared.store(source, Ordering::Release);
        Ok(source)
    }

    async fn compare(&self, looking: &mut Looking, is_anew: bool) -> Result<(), NatsError> {
        let Inner { nats, claims, keys, seen, doubtful, minted, doubtful_claims, .. } = &*self.inner;
        let doubtful_claims = doubtful_claims.load(Ordering::Acquire);
        let are_doubtful = doubtful_claims != looking.doubtful_claims;
        let youngest = minted.load(Ordering::Relaxed);
        let claims = (claims, are_doubtful);
        let found = streams::look(nats, claims, &looking.of_streams, youngest, || self.doubt()).await?;
        looking.doubtful_claims = doubtful_claims;
        doubtful.store(found.doubt.map_or(0, |doubt| doubt.until), Ordering::Release);
        if let Some(keys) = keys
            && looking.counted != Some(found.keys)
        {
            count_keys(nats, keys, &looking.of_keys).await?;
            looking.counted = Some(found.keys);
        }
        histories::look(nats, &looking.of_histories, seen, &mut looking.histories, is_anew).await?;
        Ok(())
    }

    /// Waits until the streams are to be compared again: for a while, or until one of them has another leader.
    async fn pause(&self, elections: &mut Option<async_nats::Subscriber>) {
        let pause = Instant::now() + PAUSE;
        if let Some(elections) = elections {
            while let Ok(Some(elected)) = tokio::time::timeout_at(pause, elections.next()).await {
                if streams::is_compared(&elected.subject) {
                    self.doubt();
                    return;
                }
            }
        }
        tokio::time::sleep_until(pause).await;
    }

    /// Compares again and again until told to stop.
    pub(in super::super) async fn keep(self, stop: CancellationToken) -> &'static str {
        let mut times = 0_u64;
        let mut elections = self.elections().await;
        while stop.run_until_cancelled(self.pause(&mut elections)).await.is_some() {
            let looked = async {
                self.look(true).await?;
                if let Some(keys) = self.inner.keys.as_ref().filter(|_| times.is_multiple_of(SELDOM)) {
                    read_keys(&self.inner.nats, keys).await?;
                }
                times += 1;
                Ok::<_, NatsError>(())
            };
            if let Some(Err(error)) = stop.run_until_cancelled(looked).await {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(error, "whether the streams are whole cannot be told now");
            }
        }
        // Whoever comes next knows how far this one saw.
        let _ = tokio::time::timeout(PAUSE, self.look(true)).await;
        "the watch on the streams"
    }
}

/// When an administrator said last that what is lost is known; 0 when nobody did.
pub(super) async fn accepted(nats: &Nats) -> Result<u64, NatsError> {
    let said = Record::new(subjects::INVENTORY_ACCEPTED).read::<Accepted>(nats).await?.1;
    Ok(said.known().map_or(0, |said| said.at))
}

/// Says for an administrator that what the streams lost until now is known: commands that may have been refused before are
/// judged anew from then on.
///
/// # Errors
/// [`NatsError`], when that cannot be stored.
pub async fn accept_losses(nats: &Nats) -> Result<(), NatsError> {
    let accepted = Accepted { v: super::VERSION, at: now_millis() };
    Record::new(subjects::INVENTORY_ACCEPTED).write(nats, &accepted).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_grows_with_every_loss_and_ends_with_its_ids_or_a_word() {
        let day = 24 * 60 * 60 * 1000;
        let first = Doubt::after(None, true, day, 0);
        assert_eq!(first, Some(Doubt { found: day, until: day }));
        assert_eq!(Doubt::after(None, false, day, 0), None);
        // A sender's clock was ahead.
        let second = Doubt::after(first, true, day + 5, day + 60);
        assert_eq!(second, Some(Doubt { found: day + 5, until: day + 60 }));
        assert_eq!(Doubt::after(second, false, 3 * day + 60, 0), second);
        assert_eq!(Doubt::after(second, false, 3 * day + 61, 0), None);
        let second = second.expect("a doubt");
        assert_eq!(second.accepted(0), Some(second));
        assert_eq!(second.accepted(day + 4), Some(second), "a loss that was found behind the word");
        assert_eq!(second.accepted(day + 5), None);
    }
}
