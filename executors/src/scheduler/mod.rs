//! The scheduler: watches the table of orders and has them carried out, one run per target, in turns by customer.

pub(crate) mod attempts;
mod attend;
mod backoff;
mod board;
mod breakers;
mod bury;
mod closing;
mod controls;
mod ending;
mod estimates;
mod holds;
mod lists;
mod presence;
mod share;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::lease::key_of_target;
use wanwright_nats::topology::{ORDERS, TIMERS};
use wanwright_nats::{Controls, Follower, Leases, Nats, NatsError, OrderTable, StoredMessage};
use wanwright_schemas::policy::Account;
use wanwright_schemas::subjects;
use wanwright_vendors::{Catalogue, Engine, Vendor, Vendors};

use crate::engine::Scans;
use crate::gateway::{AccountKey, Gateway, Priority};
use crate::preview;
use crate::terraform::TerraformEngine;
use attempts::Attempts;
use attend::Attendant;
use board::{Board, Ended, LaneKey, Place};
use closing::Closing;
use holds::Holds;
use lists::Asked;
use presence::Presence;
use share::Share;
use walk::{Heard, Step, Walker};

pub(crate) use controls::unpaused;

/// Most messages read from the table at once.
const BATCH: usize = 256;

/// How long runs may take to end after the process was told to stop.
const GRACE: Duration = Duration::from_secs(8);

/// How long after a run of a row began the next one begins at the earliest. What comes meanwhile is one run: a hundred
/// edits of one device in a second are two or three changes at its vendor, and the first one begins at once.
const REST: Duration = Duration::from_secs(1);

/// When an order is given up instead of being tried again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How many tries may fail at the vendor before the order fails for good.
    pub failures: u32,
    /// How long an order waits for its vendor's folder, from when it was written.
    pub no_vendor: Duration,
    /// How many runs of one order in a row may end with the death of their executor.
    pub deaths: u32,
    /// How many reports about one order may be refused.
    pub refusals: u32,
    /// How far apart the moments are at which runs end that were reported.
    pub ends: Duration,
}

impl Default for Patience {
    /// Eight failures, an hour, ten deaths, five refusals, half a second. An executor that dies takes all its runs along, most of them innocent: so many
    /// times in a row that is the order.
    fn default() -> Self {
        Self {
            failures: 8,
            no_vendor: Duration::from_secs(60 * 60),
            deaths: 10,
            refusals: 5,
            ends: Duration::from_millis(500),
        }
    }
}

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
    /// This process, as others see it in leases and records. No two that run may have the same name.
    pub executor: String,
    /// When orders are given up.
    pub patience: Patience,
}

/// How many Terraform runs this machine does well at once: one for each core, and at least two.
#[must_use]
pub fn usual_terraforms() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

/// How many runs of the API engine a lane has at once: they wait for the vendor.
const API_SLOTS: usize = 32;

/// Most of them where many changes go in one call.
const MOST_API_SLOTS: usize = 256;

/// How many runs a lane has at once. Each Terraform run has a core, which is free again while it reports. Where the vendor changes many objects in one call,
/// there are enough for a call under way, for the next one, and for as many that report or begin.
fn slots(vendor: Option<&Vendor>, engine: Engine, terraforms: usize) -> usize {
    if engine == Engine::Terraform {
        return terraforms + 1;
    }
    let bulks = vendor
        .into_iter()
        .flat_map(|vendor| vendor.api.values())
        .flat_map(|api| [&api.bulk.create, &api.bulk.update, &api.bulk.delete].into_iter().flatten());
    let most = bulks.filter(|bulk| bulk.used).map(|bulk| bulk.most_items).max();
    most.map_or(API_SLOTS, |most| (most * 4).clamp(API_SLOTS, MOST_API_SLOTS))
}

/// What happened, for the board.
enum News {
    Row(String, Place),
    Done(String),
    Due(String),
    Rested(String),
    Ended { row: String, lane: LaneKey, ended: Ended, began: Instant },
    Others(Vec<String>),
    Holds(Holds),
    Closed(AccountKey, bool),
    Walk(Step),
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
        scans: Scans::default(),
        together: crate::engine::Together::new(config.gateway.clone()),
        closing: Closing::new(config.patience.ends, stop.clone()),
    });
    let rows = Follower::open(nats.js.clone(), ORDERS, 1).await?;
    let due = subjects::TIMER_DUE_ALL.to_owned();
    let timers = Follower::open_filtered(nats.js.clone(), TIMERS, due, 1).await?;
    let previews = preview::open(&config).await?;
    let controls = Controls::open(nats).await?;
    let pauses = controls::Watch::open(&controls).await?;
    let mut board = Board::new(Share::new(config.executor.clone()));
    board.hold(pauses.holds());
    let presence = Presence::open(nats, config.executor.clone()).await?;
    let estimates = estimates::open(nats).await?;
    let (tell, mut news) = mpsc::channel(BATCH);
    let (vendors, terraforms) = (config.vendors.clone(), config.terraform.at_once());
    let mut watchers = JoinSet::new();
    let heard = Heard::default();
    let hears = heard.clone();
    let watch_rows = watch(rows, tell.clone(), stop.clone(), move |message| {
        hears.row(message.sequence);
        place(&vendors.snapshot(), message, terraforms)
    });
    let watch_timers = watch(timers, tell.clone(), stop.clone(), |message| {
        Some(News::Due(String::from_utf8_lossy(&message.payload).into_owned()))
    });
    watchers.spawn(watch_rows);
    watchers.spawn(watch_timers);
    watchers.spawn(pauses.keep(tell.clone(), stop.clone()));
    watchers.spawn(presence.keep(tell.clone(), stop.clone()));
    watchers.spawn(preview::serve(previews, config.clone(), controls.clone(), stop.clone()));
    watchers.spawn(estimates::serve(Arc::clone(&attendant), controls, estimates, stop.clone()));
    watchers.spawn(breakers::keep_all(config.gateway.clone(), tell.clone(), stop.clone()));
    ready();
    let mut runs = JoinSet::new();
    loop {
        let what = tokio::select! {
            // In this order: the watchers end when they are told to.
            biased;
            () = stop.cancelled() => break,
            what = news.recv() => what,
            _ = runs.join_next(), if !runs.is_empty() => continue,
            _ = watchers.join_next(), if !stop.is_cancelled() => {
                let source = "a task that watches the table, the timers or the others has ended".into();
                return Err(NatsError::Failed { doing: "scheduling orders".to_owned(), source });
            }
        };
        let Some(what) = what else { break };
        note(&mut board, &attendant.scans, what, &tell);
        while let Some(list) = board.next_walk() {
            let (attendant, heard) = (Arc::clone(&attendant), heard.clone());
            runs.spawn(Walker::new(attendant, heard, tell.clone(), list).walk(stop.clone()));
        }
        while let Some((row, place)) = board.next() {
            runs.spawn(attend(Arc::clone(&attendant), row, place, stop.clone(), tell.clone()));
        }
    }
    // Whoever still waits to say how a run ended must not wait for ever.
    drop(news);
    let finish = async { while runs.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::warn!("runs are left unfinished; whoever attends to them next finds out what they did");
    }
    // The others hear that this one leaves. Nothing that watches may keep it from ending.
    let leave = async { while watchers.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, leave).await.is_err() {
        tracing::warn!("a task that watches was told to end and did not");
    }
    Ok(())
}

/// Puts what happened on the board.
fn note(board: &mut Board, scans: &Scans, what: News, tell: &mpsc::Sender<News>) {
    match what {
        News::Row(row, place) => board.arrived(row, place),
        News::Done(row) => board.done(&row),
        News::Due(row) => board.due(&row),
        News::Rested(row) => board.rested(&row),
        News::Others(others) => board.others(others),
        News::Holds(holds) => board.hold(holds),
        News::Closed(account, closed) => board.close(account, closed),
        News::Walk(step) => step.note(board, scans),
        News::Ended { row, lane, ended, began } => {
            let until = began + REST;
            if board.ended(&row, &lane, ended, until > Instant::now()) {
                let tell = tell.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    // Nobody listens any more when the process stops.
                    let _ = tell.send(News::Rested(row)).await;
                });
            }
        }
    }
}

/// Attends to a row and says how that ended, whatever happens to the run.
async fn attend(
    attendant: Arc<Attendant>,
    row: String,
    place: Place,
    stop: CancellationToken,
    tell: mpsc::Sender<News>,
) {
    let began = Instant::now();
    let run = {
        let (row, lease, tell) = (row.clone(), place.lease, tell.clone());
        let stop = stop.clone();
        tokio::spawn(async move { attendant.attend(&row, &lease, &stop, &tell).await })
    };
    let ended = match run.await {
        Ok(ended) => ended,
        Err(error) => {
            // Its lease was not given back: whoever comes next finds a try that never ended, and looks what it did.
            tracing::error!(row, %error, "a run ended by itself");
            attend::wake(row.clone(), attend::TROUBLE, tell.clone(), stop);
            Ended::Parked
        }
    };
    // Nobody listens any more when the process stops.
    let _ = tell.send(News::Ended { row, lane: place.lane, ended, began }).await;
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

/// The customer's own account in an order. What cannot be read has none; whoever attends to it says why.
fn account_of(message: &StoredMessage) -> Option<Account> {
    #[derive(serde::Deserialize)]
    struct Part {
        account: Option<Account>,
    }
    serde_json::from_slice::<Part>(&message.payload).ok()?.account
}

/// Where a row of the table belongs. One that cannot be read belongs to whom its subject names.
fn place(vendors: &Catalogue, message: &StoredMessage, terraforms: usize) -> Option<News> {
    let row = message.subject.clone();
    if message.payload.is_empty() {
        return Some(News::Done(row));
    }
    let Some((vendor, customer, is_look, kind, id)) = subjects::parts_of_order(&row) else {
        tracing::error!(row, "a row of the table has a subject that no order has; it is left alone");
        return None;
    };
    let folder = vendors.get(vendor.as_str());
    let engine = folder.and_then(|folder| folder.engine(kind.as_str())).unwrap_or(Engine::Api);
    let slots = slots(folder, engine, terraforms);
    let lease = key_of_target(&vendor, &customer, kind, id);
    let lane = LaneKey::new(AccountKey::new(vendor, account_of(message).as_ref()), engine);
    let priority = if is_look { Priority::Drift } else { Priority::Intent };
    let api = is_look && engine == Engine::Api;
    let asked = folder.filter(|_| api).and_then(|folder| Asked::of(folder, kind.as_str(), message));
    Some(News::Row(row, Place { lane, slots, customer, priority, lease, asked }))
}
