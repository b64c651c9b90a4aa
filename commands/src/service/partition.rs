//! A partition that this process holds: its doors, its lanes, and what it knows as long as nobody else decides.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Lease, NatsError};
use wanwright_schemas::{CustomerId, subjects};

use super::lane::Lane;
use super::oldest::Oldest;
use super::previews::Previews;
use super::queue::{self, Lanes};
use super::store::CustomerStore;
use super::verdicts::Verdicts;
use super::{Parts, inbox, requests, tasks, verdict};

/// Serves a partition as long as its lease is held. `open` is told when both doors are open.
///
/// # Errors
/// [`NatsError`], when a part of it ends or panics: then the process should end too. Whatever else goes wrong gives the
/// partition back.
pub(super) async fn hold(
    parts: Arc<Parts>,
    number: u16,
    holding: u64,
    lease: Lease,
    stop: CancellationToken,
    open: impl FnOnce(),
) -> Result<(), NatsError> {
    let lease = Arc::new(lease);
    let mut tasks = JoinSet::new();
    let result = match serve(&parts, number, holding, &lease, &stop, &mut tasks).await {
        Ok(()) => {
            open();
            tokio::select! {
                result = tasks::all(&mut tasks, &stop) => result,
                () = lease.lost() => {
                    tracing::warn!(partition = number, "the partition is lost; somebody else takes it");
                    stop.cancel();
                    tasks::all(&mut tasks, &stop).await
                }
            }
        }
        // Nobody waits for this to change: the process has to ask for the count again.
        Err(error @ (NatsError::Repartitioning { .. } | NatsError::OtherPartitions { .. })) => Err(error),
        Err(error) => {
            tracing::warn!(
                partition = number,
                error = &error as &dyn std::error::Error,
                "the partition cannot be served now"
            );
            stop.cancel();
            tasks::all(&mut tasks, &stop).await
        }
    };
    parts.shared.forget(holding);
    if let Some(lease) = Arc::into_inner(lease).filter(Lease::is_held)
        && let Err(error) = lease.release().await
    {
        let error = wanwright_nats::chain(&error);
        tracing::warn!(
            partition = number,
            error,
            "the partition could not be given back; it runs out by itself"
        );
    }
    result
}

async fn serve(
    parts: &Parts,
    number: u16,
    holding: u64,
    lease: &Arc<Lease>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<&'static str>,
) -> Result<(), NatsError> {
    let nats = &parts.nats;
    // Asked while the lease is held, which keeps the count from being changed until it is given back.
    nats.check_partitions().await?;
    let verdicts = Verdicts::open(nats, number, verdict::now_millis(), parts.gate.clone()).await?;
    let oldest = Oldest::of(nats, number).await?;
    let lane = Lane {
        nats: nats.clone(),
        store: CustomerStore::new(nats.clone(), holding, parts.shared.clone()),
        verdicts: Arc::new(verdicts),
        vendors: parts.vendors.clone(),
        counts: Arc::clone(&parts.counts),
        claims: parts.claims.clone(),
        sealing: parts.sealing.clone(),
        gate: parts.gate.clone(),
        lease: Arc::clone(lease),
        window: parts.options.window,
        oldest: oldest.clone(),
        previews: Previews::new(nats.clone()),
    };
    let is_own = |customer: &CustomerId| subjects::partition(customer, nats.partitions) == number;
    lane.sealing.finish(&lane.store, is_own).await?;
    let (lanes, queues) = Lanes::new();
    for queue in queues {
        tasks.spawn(queue::work(lane.clone(), queue, stop.clone()));
    }
    let inbox = inbox::open(nats, number).await?;
    let requests = requests::open(&parts.doors, number).await?;
    let own = Some((number, lanes.clone()));
    tasks.spawn(requests::serve(requests, own, nats.clone(), stop.clone()));
    tasks.spawn(oldest.keep(parts.options.window, stop.clone()));
    tasks.spawn(inbox::serve(inbox, number, nats.clone(), lanes, stop.clone()));
    Ok(())
}
