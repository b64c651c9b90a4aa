//! The dispatcher: keeps the table of orders equal to what the customers' states ask for.
//!
//! It reads every partition's events and, for each target they may concern, compares the state at the head of the
//! history with the table. It never acts on an event itself, so reading one twice, or all of them again, issues nothing.

mod alarms;
mod causes;
mod compare;
mod customers;
mod desk;
mod died;
mod looks;
mod partition;
mod rollouts;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::evidence::{Evidence, Unproven};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::{CustomerId, VendorId, subjects};
use wanwright_vendors::Vendors;

use alarms::Alarms;
use compare::Compare;
use died::Deaths;
use partition::Partition;

const CONSUMER: &str = "dispatcher";

/// How long the server waits before it gives a message to another dispatcher, or to the next one after this has died.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// How many messages of a partition are under way at once: so many of one customer do not keep another's from being seen.
const MAX_UNDER_WAY: i64 = 16_384;

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
    let alarms = Arc::new(Alarms::default());
    let compare = || Compare::new(nats.clone(), vendors.clone(), evidence.clone(), Arc::clone(&alarms));
    let mut partitions = JoinSet::new();
    for partition in 0..nats.partitions {
        let consumer = open(&nats, partition).await?;
        partitions.spawn(Partition::new(compare(), partition).run(consumer, stop.clone()));
    }
    partitions.spawn(sweep::run(compare().with(Deaths::open(&nats).await?), stop.clone()));
    partitions.spawn(alarms::run(compare(), stop.clone()));
    partitions.spawn(rollouts::run(nats.clone(), vendors.clone(), evidence.clone(), stop.clone()));
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
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_UNDER_WAY,
        ..Default::default()
    };
    // One that an earlier version made is brought up to date.
    handle.create_consumer(config).await.map_err(|error| failed(error.into()))
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

impl Stuck {
    /// Whether trying again may help without anybody doing something about it.
    fn passes(&self) -> bool {
        match self {
            Self::History(..) | Self::Unproven(..) | Self::NoVendor(_) => false,
            Self::Nats(_) | Self::Behind(_) | Self::Json(_) => true,
        }
    }
}
