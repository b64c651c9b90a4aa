//! Estimates: what Terraform would do to a stack, for a dispatcher that asks. Nothing of it is done.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::lease::key_of_target;
use wanwright_nats::{Controls, Nats, NatsError, chain};
use wanwright_schemas::Reason;
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::plan::PlanCounts;
use wanwright_schemas::rollout::{ESTIMATE_ALL, Estimated};
use wanwright_schemas::run::RunEvent;

use super::attend::Attendant;
use super::controls::unpaused;
use crate::engine::{Begun, Log, Measure, Run, Stored};
use crate::gateway::{Priority, RunContext};
use crate::questions::{self, Bounds, GROUP, Limit};
use crate::records::{self, Records};

/// How many questions an executor takes up at once.
const AT_ONCE: usize = 4;

/// How many it has, with those that wait; others are told so. The time is a little less than whoever asks waits.
const BOUNDS: Bounds = Bounds { most: 32, time: Duration::from_secs(110) };

/// How long is waited for a stack that somebody else is at.
const BUSY: Duration = Duration::from_secs(30);
/// How long between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Begins to hear the questions.
///
/// # Errors
/// [`NatsError`].
pub(super) async fn open(nats: &Nats) -> Result<Subscriber, NatsError> {
    let asked = nats.client.queue_subscribe(ESTIMATE_ALL, GROUP.to_owned()).await;
    asked.map_err(NatsError::failed("listening for what is to be estimated"))
}

/// Answers until told to stop.
pub(super) async fn serve(
    attendant: Arc<Attendant>,
    controls: Controls,
    asked: Subscriber,
    stop: CancellationToken,
) {
    let nats = attendant.config.nats.clone();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let answer = |body: Bytes, limit: Option<Limit>| {
        let (attendant, room, stop) = (Arc::clone(&attendant), Arc::clone(&room), stop.clone());
        let controls = controls.clone();
        async move {
            let estimated = match limit {
                Some(limit) => answer((&attendant, &controls), &body, &room, &limit, &stop).await,
                None => Err(format!("an executor has {} such questions already", BOUNDS.most)),
            };
            estimated.map_or_else(|message| Estimated::Failed { message }, Estimated::Planned)
        }
    };
    questions::serve(&nats, asked, BOUNDS, &stop, answer).await;
}

async fn answer(
    executor: (&Attendant, &Controls),
    body: &[u8],
    room: &Semaphore,
    limit: &Limit,
    stop: &CancellationToken,
) -> Result<PlanCounts, String> {
    let order: Order =
        serde_json::from_slice(body).map_err(|error| format!("the order cannot be read: {error}"))?;
    let _room = limit.within(room.acquire()).await?;
    estimate(executor, &order, limit, stop).await
}

/// What Terraform would do. Its calls come after those of changes, and it has the stack's lease while it looks, and not while
/// it waits for anything else. Where nothing may be asked of the vendor now, that is the answer: whoever asked has other
/// stacks to go on with, and a pause may be longer than anybody waits. What it takes is measured as a look's is: it is a Terraform run like any other to whoever
/// asks where the cores went.
async fn estimate(
    (attendant, controls): (&Attendant, &Controls),
    order: &Order,
    limit: &Limit,
    stop: &CancellationToken,
) -> Result<PlanCounts, String> {
    let config = &attendant.config;
    if !matches!(order.intent, Intent::Plan { .. }) {
        return Err("the order is not one that plans".to_owned());
    }
    let measure = Measure::begin();
    let vendors = config.vendors.snapshot();
    let vendor = vendors
        .get(order.vendor.as_str())
        .ok_or_else(|| format!("there is no folder for vendor {}", order.vendor))?;
    let context = RunContext { priority: Priority::Drift, ..records::context_of(order, None) };
    config.gateway.reaches(&context).map_err(|none| none.refusal().message.clone())?;
    let allowed = async || unpaused(controls, &context).await.map_err(|refusal| refusal.message);
    limit.within(allowed()).await??;
    let asked = Instant::now();
    let key = key_of_target(&order.vendor, &order.customer, order.target().kind(), order.target().id());
    let turn = || async {
        let expected = config.gateway.expected(&context, &order.intent);
        let admitted = config.gateway.admit(&context, expected).await;
        let admitted = admitted.ok_or("the gateway has no way to the vendor")?;
        let core = config.terraform.core(stop).await.ok_or("the executor stops")?;
        // It may have been paused meanwhile.
        allowed().await?;
        Ok((admitted, core))
    };
    let lease = || async { attendant.leases.take(&key).await.map_err(|error| chain(&error)) };
    let (_turn, lease) = limit.within(place(turn, lease)).await??;
    measure.waited(asked);
    let records = Records::new(config.nats.clone(), context.clone());
    records.add(RunEvent::Queued { intent: "plan".to_owned(), generation: order.generation() }).await;
    let executor = config.executor.clone();
    records.add(RunEvent::Started { attempt: 1, executor, replaced: None }).await;
    let opened = config.gateway.open_with(records.clone(), context.clone());
    let run = Run {
        order,
        vendor,
        gateway: &opened,
        observe_first: false,
        scans: &attendant.scans,
        together: &attendant.together,
        attempt: 0,
        unsettled: false,
        held: None,
        log: Log::new(&config.nats, &opened),
        measure: &measure,
        begun: &Begun::default(),
        stored: &Stored::default(),
    };
    let began = Instant::now();
    let estimated = tokio::select! {
        planned = limit.within(config.terraform.preview(&run, stop)) => match planned {
            Ok(planned) => planned.map(|plan| plan.counts).map_err(|refusal| refusal.message),
            Err(cut) => Err(cut),
        },
        () = lease.lost() => Err("the lease of the stack was lost".to_owned()),
    };
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ending = match &estimated {
        Ok(_) => RunEvent::Succeeded { calls: opened.calls(), millis, usage: None },
        Err(message) => RunEvent::failed(Reason::Internal, message),
    };
    // Before the records, which may take a while where NATS is away.
    if let Err(error) = lease.release_untold().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a lease runs out by itself");
    }
    records.add(ending.measured(measure.usage())).await;
    records.store().await;
    estimated
}

/// Waits for a turn, and takes the stack's lease then: whoever has it holds up the stack's own changes, and must not wait
/// behind others. Where somebody is at the stack the turn is given back until the next try.
async fn place<T, L, TurnTaken, LeaseTaken>(
    turn: impl Fn() -> TurnTaken,
    lease: impl Fn() -> LeaseTaken,
) -> Result<(T, L), String>
where
    TurnTaken: Future<Output = Result<T, String>>,
    LeaseTaken: Future<Output = Result<Option<L>, String>>,
{
    let mut busy_since = None;
    loop {
        let turn = turn().await?;
        if let Some(lease) = lease().await? {
            return Ok((turn, lease));
        }
        drop(turn);
        if busy_since.get_or_insert_with(Instant::now).elapsed() >= BUSY {
            return Err("somebody is at the stack".to_owned());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// One who waits behind a breaker has no lease, and no turn is kept from others while somebody is at the stack.
    #[tokio::test(start_paused = true)]
    async fn the_lease_is_taken_last_and_a_turn_is_not_kept_without_it() {
        let (room, leases, tries) = (Semaphore::new(1), Semaphore::new(1), Cell::new(0));
        let turn = || async { room.acquire().await.map_err(|error| error.to_string()) };
        let lease = || async {
            tries.set(tries.get() + 1);
            assert_eq!(room.available_permits(), 0, "it has its turn");
            Ok(leases.try_acquire().ok())
        };
        let others = room.acquire().await.expect("a turn");
        let held_back = tokio::time::timeout(Duration::from_secs(60), place(&turn, &lease)).await;
        assert!(held_back.is_err());
        assert_eq!((tries.get(), leases.available_permits()), (0, 1));
        drop(others);

        let change = leases.acquire().await.expect("a lease");
        let began = Instant::now();
        let (placed, free) = tokio::join!(place(&turn, &lease), async {
            tokio::time::sleep(AGAIN / 2).await;
            room.available_permits()
        });
        assert_eq!((placed.map(drop), free), (Err("somebody is at the stack".to_owned()), 1));
        assert!(began.elapsed() >= BUSY && began.elapsed() < 2 * BUSY);

        let (placed, ()) = tokio::join!(place(&turn, &lease), async {
            tokio::time::sleep(AGAIN * 3).await;
            drop(change);
        });
        let placed = placed.expect("a place");
        assert_eq!((room.available_permits(), leases.available_permits()), (0, 0));
        drop(placed);
    }
}
