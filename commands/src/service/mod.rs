//! The command service: takes commands from both doors, decides them, records the decision and answers.
//!
//! Every customer belongs to one partition, which one process holds by a lease, and there to one lane, which handles one
//! command at a time. The lease makes that fast and keeps the order of the inbox; the append check is the fence.

mod adapter;
mod append;
mod cache;
mod cancelling;
mod controls;
mod delivery;
mod discovery;
mod door;
mod former;
mod history;
mod inbox;
mod ingress;
mod intake;
mod inventory;
mod lane;
mod lookup;
mod oldest;
mod outcomes;
mod pages;
mod partition;
mod partitions;
mod personal;
mod previews;
mod queue;
mod quota;
mod requests;
mod rollouts;
mod sealing;
mod seen;
mod serials;
mod side_door;
mod store;
pub mod sweeper;
mod tasks;
mod turns;
mod unreadable;
mod verdict;
mod verdicts;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::evidence::Evidence;
use wanwright_nats::{Keys, Nats, NatsError};
use wanwright_schemas::CommandId;
use wanwright_vendors::Vendors;

pub use adapter::{Judged, Recorded};
pub use discovery::NAME;
pub use door::Asked;
pub use inventory::{Doubt, LostHistory, accept_losses, doubt, lost_histories};
pub use store::{CustomerStore, Loaded, key};

use discovery::{Counts, Discovery};
use inventory::Gate;
use partitions::Partitions;
use queue::Lanes;
use sealing::Sealing;
use store::Shared;

/// How far ahead of ours a sender's clock may be.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// How many durable commands a customer may have in the inbox: a hundredth of what it holds (`wanwright_nats::topology`).
const MOST_WAITING: u64 = 10_000;

/// What can be chosen about a command service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long command ids are remembered; at most 24 hours, which is how long the streams keep what it takes.
    pub window: Duration,
    /// How much memory the states of customers may take, in bytes.
    pub cache_bytes: u64,
    /// How many durable commands of one customer may be in the inbox before the ingress refuses more.
    pub most_waiting: u64,
    /// The file of the master keys, made at the first start. Without one personal data is refused.
    pub master_key: Option<PathBuf>,
    /// What is known of the streams besides what they say.
    pub evidence: Option<Evidence>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(24 * 60 * 60),
            cache_bytes: 512 << 20,
            most_waiting: MOST_WAITING,
            master_key: None,
            evidence: None,
        }
    }
}

/// What all partitions of a process work with.
struct Parts {
    nats: Nats,
    /// What comes from outside comes over a connection of its own: headers that are none end it.
    doors: Nats,
    vendors: Vendors,
    claims: Claims,
    counts: Arc<Counts>,
    sealing: Sealing,
    gate: Gate,
    shared: Shared,
    options: Options,
}

/// The keys of personal data, of which each can be opened.
async fn open_keys(nats: &Nats, options: &Options) -> Result<Option<Keys>, NatsError> {
    let doing = "looking whether personal data can be opened";
    let keys = options.master_key.as_ref().map(|path| Keys::new(nats.clone(), path));
    match &keys {
        Some(keys) => keys.check().await,
        None => Keys::none_without(nats).await,
    }
    .map_err(NatsError::failed(doing))?;
    Ok(keys)
}

/// Runs the command service until it is told to stop: it holds a fair share of the partitions, with whichever other
/// processes run it. `ready` is called once, when every partition is served by somebody.
///
/// # Errors
/// [`NatsError`] when the doors or the keys cannot be opened, or when a part of the service ends or panics: then the process should
/// end too and be started again. Trouble with NATS is waited out.
pub async fn run(
    nats: Nats,
    vendors: impl Into<Vendors>,
    options: Options,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let vendors = vendors.into();
    let claims = Claims::open(&nats).await?;
    let keys = open_keys(&nats, &options).await?;
    let sealing = Sealing::new(keys.clone());
    let shared = Shared::new(nats.clone(), options.cache_bytes, options.evidence.clone());
    let doors = nats.another("doors").await?;
    let unmapped = requests::open_unmapped(&doors).await?;
    let member = CommandId::mint().to_string();
    let counts = Arc::new(Counts::default());
    let discovery =
        Discovery::open(&doors, vendors.clone(), (Arc::clone(&counts), shared.cache.clone()), member.clone())
            .await?;
    let sweeps = sweeper::run(nats.clone(), claims.clone(), sweeper::Pace::default(), stop.clone());
    let most_waiting = options.most_waiting;
    let onlooker = shared.onlooker(&nats);
    let known = vendors.clone();
    let gate = Gate::new(nats.clone(), claims.clone(), keys, Arc::clone(&shared.seen));
    let parts = Parts {
        nats: nats.clone(),
        doors: doors.clone(),
        vendors,
        claims,
        counts,
        sealing,
        gate,
        shared,
        options,
    };
    let parts = Arc::new(parts);
    // Before anybody can claim what was lost, or hear otherwise than before.
    parts.gate.pass().await?;
    let watch = parts.gate.clone().keep(stop.clone());
    let partitions = Partitions::open(parts, member).await?;
    let mut others = JoinSet::new();
    others.spawn(discovery.serve(stop.clone()));
    side_door::open((&nats, &doors), onlooker, most_waiting, known, &stop, &mut others).await?;
    others.spawn(inventory::watch_replicas(nats.clone(), stop.clone()));
    others.spawn(requests::serve(unmapped, None, nats, stop.clone()));
    others.spawn(sweeps);
    others.spawn(watch);
    tokio::try_join!(partitions.keep(stop.clone(), ready), tasks::all(&mut others, &stop)).map(drop)
}
