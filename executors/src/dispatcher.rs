//! The dispatcher: keeps the table of orders equal to what the customers' states ask for.
//!
//! It reads every partition's events and, for each target they may concern, compares the state at the head of the
//! history with the table. It never acts on an event itself, so reading one twice, or all of them again, issues nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_commands::{Head, orders};
use wanwright_nats::publish::CheckedError;
use wanwright_nats::{History, Nats, NatsError, OrderTable};
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::order::{Intent, Order, Target};
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::{CustomerId, subjects};
use wanwright_vendors::Catalogue;

use crate::records;

const CONSUMER: &str = "dispatcher";
const PAUSE: Duration = Duration::from_secs(1);

/// How many customers a partition keeps in memory.
const CACHED: usize = 4096;

/// Runs the dispatcher until it is told to stop. `ready` is called once, when every partition is being read.
///
/// # Errors
/// [`NatsError`] when the first opening fails. Later trouble is waited out.
pub async fn run(
    nats: Nats,
    vendors: Arc<Catalogue>,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let mut partitions = JoinSet::new();
    for partition in 0..nats.partitions {
        let consumer = open(&nats, partition).await?;
        let reader = Partition {
            nats: nats.clone(),
            history: History::new(nats.clone()),
            table: OrderTable::new(nats.clone()),
            vendors: Arc::clone(&vendors),
            heads: HashMap::new(),
        };
        partitions.spawn(reader.run(partition, consumer, stop.clone()));
    }
    ready();
    while partitions.join_next().await.is_some() {}
    Ok(())
}

type Consumer = consumer::Consumer<consumer::pull::Config>;

async fn open(nats: &Nats, partition: u16) -> Result<Consumer, NatsError> {
    let stream = subjects::events_stream(partition);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| NatsError::Failed {
        doing: format!("opening the dispatcher's consumer of {stream}"),
        source,
    };
    let handle = nats.js.get_stream_no_info(&stream).await.map_err(|error| failed(error.into()))?;
    let config = consumer::pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 512,
        ..Default::default()
    };
    handle.get_or_create_consumer(CONSUMER, config).await.map_err(|error| failed(error.into()))
}

/// Why a message was not worked off.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("customer {0}: the history is damaged")]
    History(CustomerId, #[source] wanwright_commands::BrokenHistory),
    #[error("an order could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

struct Partition {
    nats: Nats,
    history: History,
    table: OrderTable,
    vendors: Arc<Catalogue>,
    heads: HashMap<CustomerId, Head>,
}

impl Partition {
    async fn run(mut self, partition: u16, consumer: Consumer, stop: CancellationToken) {
        let mut consumer = Some(consumer);
        loop {
            let opened = match consumer.take() {
                Some(consumer) => Ok(consumer),
                None => open(&self.nats, partition).await,
            };
            let error = match opened {
                Ok(opened) => tokio::select! {
                    () = stop.cancelled() => return,
                    error = self.drain(&opened) => error,
                },
                Err(error) => error,
            };
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
        while let Some(message) = messages.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return broken(error.into()),
            };
            let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
            let Some(customer) = subjects::customer_of_events(&message.subject) else {
                tracing::error!(subject = %message.subject, "an event has no customer; it is left alone");
                let _ = message.ack_with(AckKind::Term).await;
                continue;
            };
            match self.work(&customer, sequence, &message.payload).await {
                Ok(()) => {
                    if let Err(error) = message.ack().await {
                        tracing::warn!(%error, "an event will be dispatched again, which changes nothing");
                    }
                }
                Err(stuck) => {
                    // Nothing is skipped: the message comes again after the pause, and the log names the customer.
                    self.heads.remove(&customer);
                    tracing::error!(%customer, error = &stuck as &dyn std::error::Error, "an event cannot be dispatched");
                    let _ = message.ack_with(AckKind::Nak(Some(PAUSE * 5))).await;
                }
            }
        }
        broken("the consumer ended".into())
    }

    async fn work(&mut self, customer: &CustomerId, sequence: u64, payload: &[u8]) -> Result<(), Stuck> {
        let broken = |error| Stuck::History(customer.clone(), error);
        let mut head = self.heads.remove(customer).unwrap_or_default();
        let mut events = Vec::new();
        if head.sequence < sequence {
            for message in self.history.load(customer, head.sequence).await? {
                let envelope = head.fold(message.sequence, &message.payload).map_err(broken)?;
                events.extend(envelope.events);
            }
        }
        if events.is_empty() {
            // The state is past this message already; what it concerned is compared once more.
            let envelope = Envelope::decode(payload).map_err(|source| {
                broken(wanwright_commands::BrokenHistory::Unreadable { sequence, source })
            })?;
            events = envelope.events;
        }
        // The dispatcher repeats no commands: ids are of no use to it.
        head.recent.clear();
        for target in orders::affected(&head.state, &events) {
            self.compare(customer, &head, &target).await?;
        }
        if self.heads.len() >= CACHED
            && let Some(victim) = self.heads.keys().next().cloned()
        {
            self.heads.remove(&victim);
        }
        self.heads.insert(customer.clone(), head);
        Ok(())
    }

    /// Brings a target's two rows in line with its state.
    async fn compare(&self, customer: &CustomerId, head: &Head, target: &Target) -> Result<(), Stuck> {
        let Some(id) = orders::vendor_of(&head.state, target) else { return Ok(()) };
        let Some(vendor) = self.vendors.get(id.as_str()) else {
            tracing::error!(%customer, %target, vendor = %id, "no folder for this vendor: its orders wait");
            return Ok(());
        };
        let position = self.history.position(customer, head.sequence);
        let wanted = orders::wanted(customer, &head.state, vendor, target, &position);
        let [change_row, look_row] = subjects::orders_of_target(id, customer, target);
        // A look in the middle of a change would report the change as drift.
        match (&wanted.look, &wanted.change) {
            (Some(look), _) => self.put(look_row, look).await?,
            (None, Some(_)) => self.withdraw(&look_row).await?,
            (None, None) => {}
        }
        // A change that is done is removed by whoever carried it out.
        match &wanted.change {
            Some(change) => self.put(change_row, change).await,
            None => Ok(()),
        }
    }

    /// Writes a row unless it says the same already. An older order that still waits is superseded.
    async fn put(&self, row: String, order: &Order) -> Result<(), Stuck> {
        loop {
            let present = self.table.get(&row).await?;
            let sequence = present.as_ref().map_or(0, |present| present.sequence);
            let older: Option<Order> =
                present.and_then(|present| serde_json::from_slice(&present.payload).ok());
            if older.as_ref().is_some_and(|older| older.id == order.id) {
                return Ok(());
            }
            let body = serde_json::to_vec(order)?;
            match self.table.put(row.clone(), sequence, body.into()).await {
                Ok(_) => {
                    if let Some(older) = older {
                        let superseded = RunEvent::Superseded { by: order.id };
                        records::write(&self.nats, &records::context_of(&older), superseded).await;
                    }
                    let queued = RunEvent::Queued {
                        intent: word(&order.intent).to_owned(),
                        generation: order.generation(),
                    };
                    records::write(&self.nats, &records::context_of(order), queued).await;
                    return Ok(());
                }
                Err(CheckedError::Conflict) => {}
                Err(CheckedError::Failed(error)) => return Err(error.into()),
            }
        }
    }

    async fn withdraw(&self, row: &str) -> Result<(), Stuck> {
        let Some(present) = self.table.get(row).await? else { return Ok(()) };
        self.table.remove(row, present.sequence).await?;
        if let Ok(order) = serde_json::from_slice::<Order>(&present.payload) {
            records::write(&self.nats, &records::context_of(&order), RunEvent::Withdrawn).await;
        }
        Ok(())
    }
}

fn word(intent: &Intent) -> &'static str {
    match intent {
        Intent::Apply => "apply",
        Intent::Remove => "remove",
        Intent::Observe { .. } => "observe",
    }
}
