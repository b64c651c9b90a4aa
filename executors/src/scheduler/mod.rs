//! The scheduler: watches the table of orders and has them carried out, one run per target, in turns by customer.

mod attempts;
mod attend;
mod backoff;
mod board;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::topology::{ORDERS, TIMERS};
use wanwright_nats::{Follower, Leases, Nats, NatsError, OrderTable, StoredMessage};
use wanwright_schemas::order::Order;
use wanwright_schemas::subjects;
use wanwright_vendors::{Catalogue, Engine, Vendors};

use crate::gateway::Gateway;
use crate::records;
use crate::terraform::TerraformEngine;
use attempts::Attempts;
use attend::Attendant;
use board::{Board, Ended, LaneKey, Place};

/// Most messages read from the table at once.
const BATCH: usize = 256;

/// How long runs may take to end after the process was told to stop.
const GRACE: Duration = Duration::from_secs(8);

/// What the scheduler needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The connection.
    pub nats: Nats,
    /// The vendors.
    pub vendors: Vendors,
    /// The way to the vendors.
    pub gateway: Gateway,
    /// The Terraform engine.
    pub terraform: Arc<TerraformEngine>,
    /// This process, as others see it in leases and records.
    pub executor: String,
}

/// How many runs a lane has at once: API runs wait for the vendor, Terraform runs need a core each.
fn slots(lane: &LaneKey) -> usize {
    if lane.terraform {
        std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
    } else {
        32
    }
}

/// What happened, for the board.
enum News {
    Row(String, Place),
    Due(String),
    Ended(String, LaneKey, Ended),
}

/// Runs the scheduler until it is told to stop. `ready` is called once, when the table is being watched.
///
/// # Errors
/// [`NatsError`] when the first opening fails. Later trouble is waited out.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let nats = &config.nats;
    let attendant = Arc::new(Attendant {
        leases: Leases::open(nats, &config.executor).await?,
        table: OrderTable::new(nats.clone()),
        attempts: Attempts::open(nats).await?,
        config: config.clone(),
        scans: crate::engine::Scans::default(),
    });
    let rows = Follower::open(nats.js.clone(), ORDERS, 1).await?;
    let due = subjects::TIMER_DUE_ALL.to_owned();
    let timers = Follower::open_filtered(nats.js.clone(), TIMERS, due, 1).await?;
    let (tell, mut news) = mpsc::channel(BATCH);
    let vendors = config.vendors.clone();
    let mut watchers = JoinSet::new();
    let watch_rows =
        watch(rows, tell.clone(), stop.clone(), move |message| place(&vendors.snapshot(), message));
    let watch_timers = watch(timers, tell.clone(), stop.clone(), |message| {
        Some(News::Due(String::from_utf8_lossy(&message.payload).into_owned()))
    });
    watchers.spawn(watch_rows);
    watchers.spawn(watch_timers);
    ready();
    let mut board = Board::new(slots);
    let mut runs = JoinSet::new();
    loop {
        let what = tokio::select! {
            // In this order: the watchers end when they are told to.
            biased;
            () = stop.cancelled() => break,
            what = news.recv() => what,
            _ = runs.join_next(), if !runs.is_empty() => continue,
            _ = watchers.join_next(), if !stop.is_cancelled() => {
                let source = "a task that watches the table or the timers has ended".into();
                return Err(NatsError::Failed { doing: "scheduling orders".to_owned(), source });
            }
        };
        match what {
            Some(News::Row(row, place)) => board.arrived(row, place),
            Some(News::Due(row)) => board.due(&row),
            Some(News::Ended(row, lane, ended)) => board.ended(&row, &lane, ended),
            None => break,
        }
        while let Some((row, place)) = board.next() {
            runs.spawn(attend(Arc::clone(&attendant), row, place, stop.clone(), tell.clone()));
        }
    }
    // Whoever still waits to say how a run ended must not wait for ever.
    drop(news);
    let finish = async { while runs.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::warn!("runs are left unfinished; the next start finds out what they did");
    }
    Ok(())
}

/// Attends to a row and says how that ended, whatever happens to the run.
async fn attend(
    attendant: Arc<Attendant>,
    row: String,
    place: Place,
    stop: CancellationToken,
    tell: mpsc::Sender<News>,
) {
    let run = {
        let (row, lease, tell) = (row.clone(), place.lease, tell.clone());
        tokio::spawn(async move { attendant.attend(&row, &lease, &stop, &tell).await })
    };
    let ended = run.await.unwrap_or_else(|error| {
        tracing::error!(row, %error, "a run ended by itself; the next start finds out what it did");
        Ended::Parked
    });
    // Nobody listens any more when the process stops.
    let _ = tell.send(News::Ended(row, place.lane, ended)).await;
}

async fn watch(
    mut follower: Follower,
    tell: mpsc::Sender<News>,
    stop: CancellationToken,
    read: impl Fn(&StoredMessage) -> Option<News>,
) {
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = follower.next_batch(BATCH, Duration::from_secs(5)) => batch,
        };
        match batch {
            Ok(batch) => {
                for news in batch.iter().filter_map(&read) {
                    if tell.send(news).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "watching again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Where a row of the table belongs; nowhere if it is done.
fn place(vendors: &Catalogue, message: &StoredMessage) -> Option<News> {
    if message.payload.is_empty() {
        return None;
    }
    let order: Order = match serde_json::from_slice(&message.payload) {
        Ok(order) => order,
        Err(error) => {
            tracing::error!(row = %message.subject, %error, "a row of the table is no order; it is left alone");
            return None;
        }
    };
    let kind = order.target().kind();
    let engine = vendors.get(order.vendor.as_str()).and_then(|vendor| vendor.engine(kind.as_str()));
    let lane = LaneKey::new(order.vendor.clone(), engine.unwrap_or(Engine::Api));
    let priority = records::context_of(&order, None).priority;
    let target = order.target();
    let lease = format!("target.{}.{}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
    Some(News::Row(message.subject.clone(), Place { lane, customer: order.customer, priority, lease }))
}
