//! The histories that move: listed, compared, copied.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use futures::{FutureExt, StreamExt, TryStreamExt};
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::{CustomerId, subjects};

use super::{Progress, RepartitionError};
use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::load::load_page;
use crate::partitions::Change;
use crate::publish::{CheckedError, publish_expecting};
use crate::topology::existing;

/// How many customers are copied at once: each waits for the disk with every message.
const AT_ONCE: usize = 64;

/// How often a history is begun anew because somebody else wrote, such as the last write of a run that was killed.
const TRIES: u32 = 3;

/// A page of a subject: so many messages, and about so many bytes.
const PAGE: (usize, usize) = (256, 4 << 20);

/// A history that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) customer: CustomerId,
    /// How many messages it has, by the stream's leader.
    pub(super) messages: u64,
    /// How many of them are at the new place.
    pub(super) present: u64,
}

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) messages: u64,
    pub(super) damaged: Vec<CustomerId>,
}

/// The histories that move.
pub(super) struct Histories<'a> {
    nats: &'a Nats,
    change: Change,
    tell: &'a (dyn Fn(Progress) + Sync),
    pub(super) customers: u64,
    pub(super) moves: Vec<Moving>,
}

impl<'a> Histories<'a> {
    /// Lists them, as the leaders of the streams know them.
    pub(super) async fn list(
        nats: &'a Nats,
        change: Change,
        tell: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, RepartitionError> {
        let Change { from, to } = change;
        let mut found = HashMap::new();
        for partition in 0..from.max(to) {
            found.extend(counts(nats, partition).await?);
        }
        let (mut customers, mut moves) = (0, Vec::new());
        for (subject, messages) in found.iter().filter(|(subject, _)| subjects::is_current(subject, from)) {
            let Some(customer) = subjects::customer_of_events(subject) else { continue };
            customers += 1;
            let target = subjects::events(&customer, to);
            if target != *subject {
                let present = found.get(&target).copied().unwrap_or_default();
                moves.push(Moving { customer, messages: *messages, present });
            }
        }
        moves.sort_by(|one, other| one.customer.as_str().cmp(other.customer.as_str()));
        Ok(Self { nats, change, tell, customers, moves })
    }

    /// Compares what is at the new places already.
    pub(super) async fn check(&self) -> Result<(), RepartitionError> {
        let there = self.moves.iter().filter(|history| history.present > 0);
        let checks: Vec<_> = there.map(|history| self.compare(history).boxed()).collect();
        futures::stream::iter(checks).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Copies what is missing.
    pub(super) async fn copy(&self) -> Result<Copied, RepartitionError> {
        let of = self.moves.iter().map(|history| history.messages).sum();
        let done = AtomicU64::new(0);
        let tell = |more: u64| {
            let done = done.fetch_add(more, Ordering::Relaxed) + more;
            (self.tell)(Progress { what: "histories, in messages", done, of });
        };
        let copies: Vec<_> = self.moves.iter().map(|history| self.bring(history, &tell).boxed()).collect();
        let mut copied = Copied::default();
        let mut running = futures::stream::iter(copies).buffer_unordered(AT_ONCE);
        while let Some((messages, damaged)) = running.try_next().await? {
            copied.messages += messages;
            copied.damaged.extend(damaged);
        }
        copied.damaged.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        Ok(copied)
    }

    /// Checks that every history is at its new place, by the count of the leaders.
    pub(super) fn all_there(&self) -> Result<(), RepartitionError> {
        match self.moves.iter().find(|history| history.messages != history.present) {
            None => Ok(()),
            Some(Moving { customer, messages, present }) => Err(RepartitionError::Incomplete {
                subject: subjects::events(customer, self.change.to),
                expected: *messages,
                found: *present,
            }),
        }
    }

    async fn compare(&self, history: &Moving) -> Result<(), RepartitionError> {
        let mut source = Pages::of(self.nats, &history.customer, self.change.from);
        let mut target = Pages::of(self.nats, &history.customer, self.change.to);
        while let Some(there) = target.next().await? {
            let own = source.next().await?;
            if !own.is_some_and(|own| is_same(&own, &there)) {
                return Err(foreign(history, there));
            }
        }
        Ok(())
    }

    async fn bring(
        &self,
        history: &Moving,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(u64, Option<CustomerId>), RepartitionError> {
        let mut tries = 0;
        loop {
            match self.try_bring(history, tell).await {
                Err(RepartitionError::Raced(_)) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn try_bring(
        &self,
        history: &Moving,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(u64, Option<CustomerId>), RepartitionError> {
        let mut source = Pages::of(self.nats, &history.customer, self.change.from);
        let mut target = Pages::of(self.nats, &history.customer, self.change.to);
        let (mut read, mut copied, mut last, mut chain) = (0, 0, 0, Chain::default());
        while let Some(message) = source.next().await? {
            read += 1;
            chain.follow(&message);
            match target.next().await? {
                Some(there) if is_same(&message, &there) => last = there.sequence,
                Some(there) => return Err(foreign(history, there)),
                None => {
                    let subject = target.subject.clone();
                    let (headers, payload) = (own_headers(&message.headers), message.payload);
                    let sent = publish_expecting(&self.nats.js, subject.clone(), last, headers, payload);
                    last = sent.await.map_err(|error| match error {
                        CheckedError::Conflict => RepartitionError::Raced(subject),
                        CheckedError::Failed(error) => error.into(),
                    })?;
                    copied += 1;
                }
            }
            tell(1);
        }
        if let Some(there) = target.next().await? {
            return Err(foreign(history, there));
        }
        if read != history.messages {
            let (subject, expected) = (source.subject, history.messages);
            return Err(RepartitionError::Incomplete { subject, expected, found: read });
        }
        Ok((copied, chain.is_broken.then(|| history.customer.clone())))
    }
}

/// How many messages each history of a partition's stream has; none where there is no such stream.
async fn counts(nats: &Nats, partition: u16) -> Result<Vec<(String, u64)>, NatsError> {
    let name = subjects::events_stream(partition);
    if existing(nats, &name).await?.is_none() {
        return Ok(Vec::new());
    }
    let doing = format!("listing the customers of {name}");
    let stream = nats.js.get_stream_no_info(&name).await.map_err(NatsError::failed(doing.clone()))?;
    let filter = subjects::events_of_partition(partition);
    let listed = stream.info_with_subjects(filter).await.map_err(NatsError::failed(doing.clone()))?;
    let listed: Vec<(String, usize)> = listed.try_collect().await.map_err(NatsError::failed(doing))?;
    Ok(listed.into_iter().map(|(subject, messages)| (subject, messages as u64)).collect())
}

fn foreign(history: &Moving, there: StoredMessage) -> RepartitionError {
    let customer = history.customer.clone();
    RepartitionError::Foreign { stream: there.stream, sequence: there.sequence, customer }
}

/// What the sender wrote: the rest is the server's, or belongs to the place where a message is stored.
pub(super) fn own_headers(headers: &HeaderMap) -> HeaderMap {
    let mut own = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
        values.iter().for_each(|value| own.append(name.clone(), value.clone()));
    }
    own
}

/// Whether two messages say the same.
pub(super) fn is_same(one: &StoredMessage, other: &StoredMessage) -> bool {
    one.payload == other.payload && own_headers(&one.headers) == own_headers(&other.headers)
}

/// Whether each message names the one before it.
#[derive(Default)]
struct Chain {
    last: Option<Digest>,
    is_broken: bool,
}

impl Chain {
    fn follow(&mut self, message: &StoredMessage) {
        let fits = Envelope::decode(&message.payload).is_ok_and(|envelope| envelope.prev == self.last);
        self.is_broken |= !fits;
        self.last = Some(Digest::of(&message.payload));
    }
}

/// The messages of a subject, read page by page.
struct Pages {
    nats: Nats,
    stream: String,
    subject: String,
    after: u64,
    more: bool,
    read: VecDeque<StoredMessage>,
}

impl Pages {
    /// A customer's history as it is under a count.
    fn of(nats: &Nats, customer: &CustomerId, partitions: u16) -> Self {
        let stream = subjects::events_stream(subjects::partition(customer, partitions));
        let subject = subjects::events(customer, partitions);
        Self { nats: nats.clone(), stream, subject, after: 0, more: true, read: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<StoredMessage>, NatsError> {
        if self.read.is_empty() && self.more {
            let (limit, bytes) = PAGE;
            let page = load_page(&self.nats, &self.stream, &self.subject, self.after, limit, bytes).await?;
            (self.read, self.more) = (page.0.into(), page.1);
        }
        let message = self.read.pop_front();
        self.after = message.as_ref().map_or(self.after, |message| message.sequence);
        Ok(message)
    }
}
