//! Which partitions this process holds: its share of them, by leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Subscriber;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wanwright_nats::members::{BEAT, Beat, Members};
use wanwright_nats::{Lease, Leases, NatsError};
use wanwright_schemas::subjects;

use super::{Parts, partition};

/// A partition that is held.
struct Held {
    stop: CancellationToken,
    is_open: Arc<AtomicBool>,
}

/// The partitions of this process.
pub(super) struct Partitions {
    parts: Arc<Parts>,
    member: String,
    leases: Leases,
    beats: Subscriber,
    members: Members,
    held: BTreeMap<u16, Held>,
    running: JoinSet<(u16, Result<(), NatsError>)>,
    holdings: u64,
}

impl Partitions {
    /// Begins to listen to the other services.
    ///
    /// # Errors
    /// [`NatsError`], when the leases or the beats cannot be opened.
    pub(super) async fn open(parts: Arc<Parts>, member: String) -> Result<Self, NatsError> {
        let leases = Leases::of_partitions(&parts.nats, &member).await?;
        let beats = parts.nats.client.subscribe(subjects::MEMBERS).await;
        let beats = beats.map_err(NatsError::failed("listening to the other command services"))?;
        let (members, held) = (Members::default(), BTreeMap::new());
        Ok(Self { parts, member, leases, beats, members, held, running: JoinSet::new(), holdings: 0 })
    }

    /// Holds a fair share of the partitions until told to stop. `ready` is called once, when each of them is served,
    /// here or elsewhere.
    ///
    /// # Errors
    /// [`NatsError`], when a part of the service ends or panics.
    pub(super) async fn keep(
        mut self,
        stop: CancellationToken,
        ready: impl FnOnce() + Send,
    ) -> Result<(), NatsError> {
        let mut ready = Some(ready);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.end().await,
                _ = beat.tick() => {
                    self.balance().await;
                    self.say(false).await;
                }
                Some(message) = self.beats.next() => {
                    if let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload)
                        && beat.member != self.member
                    {
                        self.members.heard(beat, Instant::now());
                    }
                }
                Some(ended) = self.running.join_next() => self.ended(ended)?,
            }
            if ready.is_some()
                && self.all_served()
                && let Some(ready) = ready.take()
            {
                ready();
            }
        }
    }

    fn all_served(&self) -> bool {
        let is_served = |partition: u16| match self.held.get(&partition) {
            Some(held) => held.is_open.load(Ordering::Acquire),
            None => self.members.hold(partition),
        };
        (0..self.parts.nats.partitions).all(is_served)
    }

    /// Gives up what is more than the share, and takes what nobody has.
    async fn balance(&mut self) {
        self.members.forget(Instant::now());
        let partitions = self.parts.nats.partitions;
        let share = self.members.share(partitions);
        let staying = self.held.values().filter(|held| !held.stop.is_cancelled()).count();
        for held in self
            .held
            .values()
            .rev()
            .filter(|held| !held.stop.is_cancelled())
            .take(staying.saturating_sub(share))
        {
            held.stop.cancel();
        }
        for number in 0..partitions {
            if self.held.len() >= share || self.held.contains_key(&number) || self.members.hold(number) {
                continue;
            }
            match self.leases.take(&number.to_string()).await {
                Ok(Some(lease)) => self.hold(number, lease),
                // The lease of one that was killed still has to run out.
                Ok(None) => {}
                Err(error) => {
                    let error = wanwright_nats::chain(&error);
                    tracing::warn!(partition = number, error, "the partition cannot be taken now");
                    return;
                }
            }
        }
    }

    fn hold(&mut self, number: u16, lease: Lease) {
        self.holdings += 1;
        let (parts, holding, stop) = (Arc::clone(&self.parts), self.holdings, CancellationToken::new());
        let is_open = Arc::new(AtomicBool::new(false));
        self.held.insert(number, Held { stop: stop.clone(), is_open: Arc::clone(&is_open) });
        self.running.spawn(async move {
            let open = || is_open.store(true, Ordering::Release);
            (number, partition::hold(parts, number, holding, lease, stop, open).await)
        });
    }

    fn ended(
        &mut self,
        ended: Result<(u16, Result<(), NatsError>), tokio::task::JoinError>,
    ) -> Result<(), NatsError> {
        let (number, result) = ended.map_err(NatsError::failed("serving a partition"))?;
        self.held.remove(&number);
        result
    }

    async fn say(&self, is_leaving: bool) {
        let partitions = self.held.keys().copied().collect();
        let beat = Beat { member: self.member.clone(), partitions, is_leaving };
        let Ok(body) = serde_json::to_vec(&beat) else { return };
        if let Err(error) = self.parts.nats.client.publish(subjects::MEMBERS, body.into()).await {
            tracing::debug!(%error, "the other command services do not hear of this one");
        }
    }

    /// Finishes what is in the lanes and gives the partitions back.
    async fn end(mut self) -> Result<(), NatsError> {
        for held in self.held.values() {
            held.stop.cancel();
        }
        let mut result = Ok(());
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = self.ended(ended) {
                result = Err(error);
            }
        }
        self.say(true).await;
        let _ = self.parts.nats.client.flush().await;
        result
    }
}
