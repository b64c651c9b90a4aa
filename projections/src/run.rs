//! All readers, until told to stop.

use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, topology};
use wanwright_schemas::subjects;

use crate::audit::Signer;
use crate::prune::{Keep, prune};
use crate::reader::Reader;
use crate::readiness::{ReaderState, Readiness};

/// A read model: what is folded from a stream, by readers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadModel {
    /// `customers`, `sites`, `tunnels`, `devices`, `drift_reports`, `timeline`, and the `outcomes` of commands that
    /// decided something: one reader per partition.
    Events,
    /// `customer_overview`: one reader per partition.
    Overview,
    /// `operations` and `run_log`.
    Operations,
    /// The `outcomes` that no event tells: refusals, and commands that had nothing to change.
    Outcomes,
    /// `dead_letters`.
    DeadLetters,
    /// `controls`.
    Controls,
    /// `rollouts`.
    Rollouts,
    /// `budget_records`.
    Budgets,
    /// `audit_heads`: one reader per partition.
    Audit,
}

impl ReadModel {
    /// All read models.
    pub const ALL: [Self; 9] = [
        Self::Events,
        Self::Overview,
        Self::Operations,
        Self::Outcomes,
        Self::DeadLetters,
        Self::Controls,
        Self::Rollouts,
        Self::Budgets,
        Self::Audit,
    ];

    /// The name in `projection_status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Overview => "overview",
            Self::Operations => "operations",
            Self::Outcomes => "outcomes",
            Self::DeadLetters => "dead-letters",
            Self::Controls => "controls",
            Self::Rollouts => "rollouts",
            Self::Budgets => "budgets",
            Self::Audit => "audit",
        }
    }

    /// The read model of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    /// The streams it is folded from.
    pub fn streams(self, partitions: u16) -> Vec<String> {
        match self {
            Self::Events | Self::Overview | Self::Audit => {
                (0..partitions).map(subjects::events_stream).collect()
            }
            Self::Operations => vec![topology::RUNS.to_owned()],
            Self::Outcomes => vec![topology::VERDICTS.to_owned()],
            Self::DeadLetters => vec![topology::DEAD.to_owned()],
            Self::Controls => vec![format!("KV_{}", topology::CONTROLS)],
            Self::Rollouts => vec![format!("KV_{}", topology::ROLLOUTS)],
            Self::Budgets => vec![format!("KV_{}", topology::BUDGETS)],
        }
    }

    /// Whether its rows tell customers' histories, which are elsewhere under another partition count. The audit is about
    /// streams, whatever is in them.
    pub fn tells_histories(self) -> bool {
        matches!(self, Self::Events | Self::Overview)
    }

    /// How long it rests after each batch. Of a vendor's budget only the newest record counts, and there are many a second.
    /// Records of doing come one by one, and nobody waits for any of them: some at once cost much less.
    pub(crate) fn rest(self) -> Duration {
        match self {
            Self::Budgets => Duration::from_millis(500),
            Self::Operations => Duration::from_millis(50),
            _ => Duration::ZERO,
        }
    }

    /// Whether its streams keep every message for ever, so that a missing one is a damage.
    pub fn contiguous(self) -> bool {
        matches!(self, Self::Events | Self::Overview | Self::Audit)
    }
}

/// What the projections need.
#[derive(Debug, Clone)]
pub struct Config {
    /// Postgres, migrated.
    pub pool: PgPool,
    /// NATS.
    pub nats: Nats,
    /// Which read models to keep.
    pub models: Vec<ReadModel>,
    /// The most messages in one transaction.
    pub batch: usize,
    /// How often a reader without messages looks at its stream.
    pub idle: Duration,
    /// How often a stopped reader looks whether somebody has mended what stopped it.
    pub recheck: Duration,
    /// The longest pause between two tries while Postgres or NATS is away.
    pub max_backoff: Duration,
    /// How long records of doing are kept.
    pub keep: Keep,
    /// Who signs what the streams hold; nobody does without it.
    pub audit: Option<Signer>,
}

impl Config {
    /// All read models, with the usual times.
    pub fn new(pool: PgPool, nats: Nats) -> Self {
        Self {
            pool,
            nats,
            models: ReadModel::ALL.to_vec(),
            batch: 2_000,
            idle: Duration::from_secs(2),
            recheck: Duration::from_secs(10),
            max_backoff: Duration::from_secs(5),
            keep: Keep::default(),
            audit: None,
        }
    }
}

/// All readers.
#[derive(Debug)]
pub struct Projections {
    config: Config,
    readiness: watch::Sender<Readiness>,
}

impl Projections {
    /// Prepares the readers; nothing is read yet.
    pub fn new(config: Config) -> Self {
        let mut readiness = Readiness::default();
        for (model, stream) in readers(&config) {
            readiness.readers.insert(format!("{} {stream}", model.name()), ReaderState::Starting);
        }
        Self { config, readiness: watch::Sender::new(readiness) }
    }

    /// What the readers are doing, and when that changes.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Reads until told to stop. A transaction that has begun is finished or rolled back, never half done.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (model, stream) in readers(&self.config) {
            let reader = Reader::new(self.config.clone(), model, stream, self.readiness.clone());
            tasks.spawn(reader.run(shutdown.clone()));
        }
        tasks.spawn(keep_house(self.config.pool.clone(), self.config.keep, shutdown));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // A reader that panicked takes none of the others along; readiness shows that it stands still.
                tracing::error!(%error, "a projection reader ended");
            }
        }
    }
}

async fn keep_house(pool: PgPool, keep: Keep, shutdown: CancellationToken) {
    let mut hours = tokio::time::interval(Duration::from_secs(60 * 60));
    hours.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hours.tick() => {}
        }
        // Postgres may be away; the next hour is early enough.
        match prune(&pool, keep).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "old rows were deleted"),
            Err(error) => tracing::debug!(error = error.chain(), "old rows were not deleted"),
        }
    }
}

fn readers(config: &Config) -> Vec<(ReadModel, String)> {
    let partitions = config.nats.partitions;
    let streams = |model: &ReadModel| {
        let model = *model;
        model.streams(partitions).into_iter().map(move |stream| (model, stream))
    };
    let signs = |model: &&ReadModel| **model != ReadModel::Audit || config.audit.is_some();
    config.models.iter().filter(signs).flat_map(streams).collect()
}
