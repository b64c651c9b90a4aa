//! The dispatcher: keeps the table of orders equal to what the customers' states ask for.
//!
//! It reads every partition's events and, for each target they may concern, compares the state at the head of the
//! history with the table. It never acts on an event itself, so reading one twice, or all of them again, issues nothing.

mod causes;
mod compare;
mod customers;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_commands::Head;
use wanwright_nats::evidence::{Evidence, Unproven};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::{CustomerId, VendorId, subjects};
use wanwright_vendors::Vendors;

use causes::Happened;
use compare::Compare;

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
    vendors: impl Into<Vendors>,
    evidence: Option<Evidence>,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let (vendors, evidence) = (vendors.into(), evidence.map(Arc::new));
    let mut partitions = JoinSet::new();
    for partition in 0..nats.partitions {
        let consumer = open(&nats, partition).await?;
        let reader = Partition {
            compare: Compare::new(nats.clone(), vendors.clone(), evidence.clone()),
            heads: HashMap::new(),
        };
        partitions.spawn(reader.run(partition, consumer, stop.clone()));
    }
    partitions.spawn(sweep::run(nats, vendors, evidence, stop.clone()));
    ready();
    while let Some(ended) = partitions.join_next().await {
        if !stop.is_cancelled() {
            let source = ended.err().map_or_else(|| "a task ended by itself".into(), Into::into);
            return Err(NatsError::Failed { doing: "dispatching orders".to_owned(), source });
        }
    }
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
        ack_wait: Duration::from_secs(120),
        max_ack_pending: 64,
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
    #[error("customer {0}: the history is not the one that is known")]
    Unproven(CustomerId, #[source] Unproven),
    #[error("customer {0}: a replica is behind; the event comes again")]
    Behind(CustomerId),
    #[error("there is no folder for vendor {0}; its orders wait for one")]
    NoVendor(VendorId),
    #[error("an order could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

struct Partition {
    compare: Compare,
    heads: HashMap<CustomerId, Head>,
}

impl Partition {
    async fn run(mut self, partition: u16, consumer: Consumer, stop: CancellationToken) {
        let mut consumer = Some(consumer);
        loop {
            let opened = match consumer.take() {
                Some(consumer) => Ok(consumer),
                None => open(&self.compare.nats, partition).await,
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
            if !subjects::is_current(&message.subject, self.compare.nats.partitions) {
                // The customer's history is elsewhere since the number of partitions has changed.
                let _ = message.ack().await;
                continue;
            }
            let Some(customer) = subjects::customer_of_events(&message.subject) else {
                tracing::error!(subject = %message.subject, "an event has no customer; it is left alone");
                let _ = message.ack_with(AckKind::Term).await;
                continue;
            };
            match self.work(&customer, sequence, &message).await {
                Ok(()) => {
                    if let Err(error) = message.ack().await {
                        tracing::warn!(%error, "an event will be dispatched again, which changes nothing");
                    }
                }
                Err(stuck) => {
                    self.heads.remove(&customer);
                    tracing::error!(%customer, error = &stuck as &dyn std::error::Error, "an event cannot be dispatched");
                    // What waits for a person must not hold up the partition: the sweep compares this customer again
                    // and again. What passes comes again.
                    let again = match stuck {
                        Stuck::History(..) | Stuck::Unproven(..) | Stuck::NoVendor(_) => AckKind::Ack,
                        Stuck::Nats(_) | Stuck::Behind(_) | Stuck::Json(_) => AckKind::Nak(Some(PAUSE * 5)),
                    };
                    let _ = message.ack_with(again).await;
                }
            }
        }
        broken("the consumer ended".into())
    }

    async fn work(
        &mut self,
        customer: &CustomerId,
        sequence: u64,
        message: &async_nats::Message,
    ) -> Result<(), Stuck> {
        let customers = &self.compare.customers;
        let (mut head, mut happened) = match self.heads.remove(customer) {
            Some(head) if head.sequence >= sequence => (head, Vec::new()),
            Some(mut head) => {
                let happened = customers.go_on(customer, &mut head).await?;
                (head, happened)
            }
            None => customers.load(customer).await?,
        };
        if head.sequence < sequence {
            return Err(Stuck::Behind(customer.clone()));
        }
        // The state may have been past this message already; what it concerned is compared all the same.
        let envelope = Envelope::decode(&message.payload).map_err(|source| {
            let unreadable = wanwright_commands::BrokenHistory::Unreadable { sequence, source };
            Stuck::History(customer.clone(), unreadable)
        })?;
        let trace = message.headers.as_ref().and_then(wanwright_nats::trace::read);
        happened.push(Happened { sequence, events: envelope.events, trace });
        for (target, trace) in causes::affected(&head.state, happened) {
            self.compare.target(customer, &mut head, &target, trace).await?;
        }
        if self.heads.len() >= CACHED
            && let Some(victim) = self.heads.keys().next().cloned()
        {
            self.heads.remove(&victim);
        }
        self.heads.insert(customer.clone(), head);
        Ok(())
    }
}
