//! The sweep: compares every target with the table, again and again.
//!
//! Events bring most changes to the table at once. What an event cannot bring (an order that was lost, a vendor's folder
//! that has changed, a change window that opened while nobody watched) the sweep does: the table is right because it is
//! compared, not because nothing ever went wrong.

use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_commands::orders;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::order::Target;
use wanwright_schemas::{CustomerId, subjects};

use super::compare::Compare;
use super::{Stuck, causes};

/// Shortest pause between two sweeps.
const PAUSE: Duration = Duration::from_secs(30);

/// The pause is so many times as long as the sweep was: a large fleet is not read all the time.
const REST: u32 = 9;

/// Sweeps until told to stop.
pub(super) async fn run(compare: Compare, stop: CancellationToken) {
    loop {
        let began = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            () = sweep(&compare) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE.max(began.elapsed() * REST)) => {}
        }
    }
}

async fn sweep(compare: &Compare) {
    let nats = &compare.nats;
    for partition in 0..nats.partitions {
        // One partition, or one customer, that cannot be compared holds back no other.
        let customers = customers(nats, partition).await.unwrap_or_else(|error| {
            tracing::warn!(partition, error = &error as &dyn std::error::Error, "orders were not compared");
            Vec::new()
        });
        for customer in customers {
            if let Err(stuck) = of_customer(compare, &customer, None).await {
                tracing::warn!(%customer, error = &stuck as &dyn std::error::Error, "orders were not compared");
            }
        }
    }
}

/// Compares everything a customer has, or some of it.
pub(super) async fn of_customer(
    compare: &Compare,
    customer: &CustomerId,
    some: Option<Vec<Target>>,
) -> Result<(), Stuck> {
    let (mut head, happened) = compare.customers.load(customer).await?;
    let mut traces = causes::affected(&head.state, happened);
    let targets = some.unwrap_or_else(|| orders::targets(&head.state).collect());
    for target in targets {
        let trace = traces.remove(&target).flatten();
        compare.target(customer, &mut head, &target, trace).await?;
    }
    Ok(())
}

/// The customers with a history in a partition.
pub(super) async fn customers(nats: &Nats, partition: u16) -> Result<Vec<CustomerId>, NatsError> {
    let stream = subjects::events_stream(partition);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| NatsError::Failed {
        doing: format!("listing the customers of {stream}"),
        source,
    };
    let handle = nats.js.get_stream_no_info(&stream).await.map_err(|error| failed(error.into()))?;
    let subjects = handle
        .info_with_subjects(subjects::events_of_partition(partition))
        .await
        .map_err(|error| failed(error.into()))?;
    let subjects: Vec<(String, usize)> =
        subjects.try_collect().await.map_err(|error| failed(error.into()))?;
    let current = subjects.iter().filter(|(subject, _)| subjects::is_current(subject, nats.partitions));
    Ok(current.filter_map(|(subject, _)| subjects::customer_of_events(subject)).collect())
}
