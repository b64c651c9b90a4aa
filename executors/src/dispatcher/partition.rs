//! The reader of a partition: gives each customer whose events came a turn, so that one with thousands of changes does
//! not keep another's single one waiting. Changes go before looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use futures::StreamExt;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use wanwright_nats::NatsError;
use wanwright_schemas::{CustomerId, subjects};

use super::compare::Compare;
use super::desk::{Arrived, Desk};
use super::{Consumer, open};
use crate::gateway::Priority;
use crate::gateway::fair::FairQueue;

const PAUSE: Duration = Duration::from_secs(1);

/// How many customers of a partition are attended to at once.
const AT_ONCE: usize = 4;

/// How many customers a partition keeps in memory.
const CACHED: usize = 4096;

/// How many bytes of messages wait for their customer's turn before no more are taken.
const MAX_BYTES: usize = 64 << 20;

/// A customer of the partition.
#[derive(Default)]
struct Place {
    /// What came since the last turn began.
    arrived: Vec<Arrived>,
    /// The rest; away while its turn lasts.
    desk: Option<Desk>,
    /// Whether a turn is under way.
    served: bool,
    /// What a turn is waited for at best, while one is.
    queued: Option<Priority>,
}

impl Place {
    /// Whether nothing is left to do.
    fn is_idle(&self) -> bool {
        !self.served && self.queued.is_none()
    }
}

/// A partition.
pub(super) struct Partition {
    compare: Arc<Compare>,
    number: u16,
    places: HashMap<CustomerId, Place>,
    /// Who waits for a turn. One that waited for looks and has a change now is there twice.
    ready: FairQueue<Priority, CustomerId, CustomerId>,
    turns: JoinSet<Desk>,
    whose: HashMap<task::Id, CustomerId>,
    waiting_bytes: usize,
}

impl Partition {
    pub(super) fn new(compare: Compare, number: u16) -> Self {
        Self {
            compare: Arc::new(compare),
            number,
            places: HashMap::new(),
            ready: FairQueue::new(),
            turns: JoinSet::new(),
            whose: HashMap::new(),
            waiting_bytes: 0,
        }
    }

    pub(super) async fn run(mut self, consumer: Consumer, stop: CancellationToken) {
        let mut consumer = Some(consumer);
        loop {
            let opened = match consumer.take() {
                Some(consumer) => Ok(consumer),
                None => open(&self.compare.nats, self.number).await,
            };
            let error = match opened {
                Ok(opened) => tokio::select! {
                    () = stop.cancelled() => return,
                    error = self.drain(&opened) => error,
                },
                Err(error) => error,
            };
            let partition = self.number;
            tracing::warn!(partition, error = &error as &dyn std::error::Error, "the dispatcher reads again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn drain(&mut self, consumer: &Consumer) -> NatsError {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| NatsError::Failed {
            doing: "reading events for the dispatcher".to_owned(),
            source,
        };
        let mut messages = match consumer.messages().await {
            Ok(messages) => messages,
            Err(error) => return broken(error.into()),
        };
        loop {
            self.begin_turns();
            tokio::select! {
                Some(ended) = self.turns.join_next_with_id() => self.ended(ended),
                message = messages.next(), if self.waiting_bytes < MAX_BYTES => match message {
                    Some(Ok(message)) => self.arrived(message).await,
                    Some(Err(error)) => return broken(error.into()),
                    None => return broken("the consumer ended".into()),
                },
            }
        }
    }

    async fn arrived(&mut self, message: async_nats::jetstream::Message) {
        if !subjects::is_current(&message.subject, self.compare.nats.partitions) {
            // The customer's history is elsewhere since the number of partitions has changed.
            let _ = message.ack().await;
            return;
        }
        let Some(customer) = subjects::customer_of_events(&message.subject) else {
            tracing::error!(subject = %message.subject, "an event has no customer; it is left alone");
            let _ = message.ack_with(AckKind::Term).await;
            return;
        };
        let arrived = Arrived::new(message);
        self.waiting_bytes += arrived.bytes();
        let priority = arrived.priority();
        let place = self.places.entry(customer.clone()).or_default();
        place.arrived.push(arrived);
        if !place.served {
            self.queue(customer, priority);
        }
    }

    /// Has a customer wait for a turn, unless it waits for as good a one.
    fn queue(&mut self, customer: CustomerId, priority: Priority) {
        let place = self.places.entry(customer.clone()).or_default();
        if place.queued.is_none_or(|queued| priority < queued) {
            place.queued = Some(priority);
            self.ready.push(priority, customer.clone(), customer);
        }
    }

    fn begin_turns(&mut self) {
        while self.turns.len() < AT_ONCE
            && let Some(customer) = self.ready.pop()
        {
            // The other one of two places has been served.
            let waits = |place: &&mut Place| place.queued.is_some() && !place.served;
            let Some(place) = self.places.get_mut(&customer).filter(waits) else { continue };
            (place.queued, place.served) = (None, true);
            let arrived = std::mem::take(&mut place.arrived);
            self.waiting_bytes -= arrived.iter().map(Arrived::bytes).sum::<usize>();
            let (desk, compare) = (place.desk.take().unwrap_or_default(), Arc::clone(&self.compare));
            let of = customer.clone();
            let turn = self.turns.spawn(async move { desk.turn(&compare, &of, arrived).await });
            self.whose.insert(turn.id(), customer);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, Desk), task::JoinError>) {
        let (id, desk) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a comparison ended by itself; its events come again");
            (error.id(), Desk::default())
        });
        let Some(customer) = self.whose.remove(&id) else { return };
        let place = self.places.entry(customer.clone()).or_default();
        let next = place.arrived.iter().map(Arrived::priority).chain(desk.left()).min();
        place.served = false;
        place.desk = Some(desk);
        if let Some(priority) = next {
            self.queue(customer, priority);
        }
        if self.places.len() > CACHED
            && let Some(idle) =
                self.places.iter().find(|(_, place)| place.is_idle()).map(|(id, _)| id.clone())
        {
            self.places.remove(&idle);
        }
    }
}
