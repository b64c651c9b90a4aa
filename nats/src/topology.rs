//! Every stream and bucket, as data. A mismatch with the server stops the start; nothing is changed behind anybody's
//! back.

mod compare;
mod replicas;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType, SubjectTransform,
};
use async_nats::jetstream::{ErrorCode, kv};
use tokio::time::Instant;
use wanwright_schemas::subjects;

use crate::connect::Nats;
use crate::error::NatsError;
use compare::{Compared, compare};
use replicas::refusal;
pub use replicas::{ReplicasChanged, behind, change_replicas, replicas, wait_for_replicas};

/// The version of this layout, recorded in every stream.
pub const LAYOUT: &str = "2";
/// The durable inbox of commands.
pub const COMMANDS: &str = "COMMANDS";
/// The outcomes of commands.
pub const OUTCOMES: &str = "OUTCOMES";
/// The outcomes that no event tells: refusals, and commands that had nothing to change.
pub const VERDICTS: &str = "VERDICTS";
/// The snapshots of customers' states.
pub const SNAPSHOTS: &str = "SNAPSHOTS";
/// The keys of personal data. No bucket: a bucket forbids the deleting that overwrites a message on the disk.
pub const KEYS: &str = "KEYS";
/// The table of orders.
pub const ORDERS: &str = "ORDERS";
/// The run records.
pub const RUNS: &str = "RUNS";
/// The effect journal.
pub const EFFECTS: &str = "EFFECTS";
/// The second copies of Terraform's states.
pub const STATES: &str = "STATES";
/// The plan files of stacks.
pub const PLANS: &str = "PLANS";
/// The timers.
pub const TIMERS: &str = "TIMERS";
/// What should be in other streams.
pub const INVENTORY: &str = "INVENTORY";
/// The dead letters.
pub const DEAD: &str = "DEAD";
/// The bucket of leases.
pub const LEASES: &str = "leases";
/// The bucket of leases on partitions.
pub const PARTITIONS: &str = "partitions";
/// The bucket of claims.
pub const CLAIMS: &str = "claims";
/// How many messages of a claim its bucket keeps: all of them, as servers count. Nothing is ever replaced there, so whatever
/// is missing between its first and its last message is a damage, at any moment and beside any number of new claims.
pub const CLAIMS_KEPT: i64 = 1_000_000_000;
/// The bucket in which executors remember which try an order is at.
pub const ATTEMPTS: &str = "attempts";
/// The bucket of what is left of the vendors' budgets.
pub const BUDGETS: &str = "budgets";
/// The bucket of what operators have paused and resumed.
pub const CONTROLS: &str = "controls";
/// The bucket of how new versions of vendors' templates are given out.
pub const ROLLOUTS: &str = "rollouts";

/// The subject on which every server tells the roles how it stores what it acknowledges.
pub const SERVERS: &str = "wan.servers";
/// How long a lease lives without renewal.
pub const LEASE_TIME: Duration = Duration::from_secs(9);

/// How long a lease on a partition lives without renewal: as long as its customers may have to wait when its holder dies.
pub const PARTITION_LEASE_TIME: Duration = Duration::from_secs(4);

/// How often is asked about a stream, five seconds each time. When the server that leads it has died, the others take up
/// to ten to choose another, and until then nobody answers.
const ASKED: u32 = 3;

/// How long servers that have just started are given to be what they were configured to be.
const FORMED: Duration = Duration::from_secs(5);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long verdicts are kept: as long as ids are remembered by the events, which is twice the window.
pub const VERDICT_TIME: Duration = Duration::from_secs(2 * 24 * 60 * 60);
const LAYOUT_KEY: &str = "wanwright-layout";
pub(crate) const PARTITIONS_KEY: &str = "wanwright-partitions";

/// A stream as it should be.
fn stream(name: &str, subjects: &[&str], partitions: u16, replicas: usize) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        storage: StorageType::File,
        num_replicas: replicas,
        allow_direct: true,
        metadata: HashMap::from([
            (LAYOUT_KEY.to_owned(), LAYOUT.to_owned()),
            (PARTITIONS_KEY.to_owned(), partitions.to_string()),
        ]),
        ..Config::default()
    }
}

/// What a loss of power may take the last moments of, because it is made again from the events. Replicas keep it anyway:
/// the server has no such mode for them.
fn rebuildable(replicas: usize) -> Option<PersistenceMode> {
    (replicas == 1).then_some(PersistenceMode::Async)
}

/// Every stream, as it should be on the server.
pub fn streams(partitions: u16, replicas: usize) -> Vec<Config> {
    let new = |name: &str, subjects: &[&str]| stream(name, subjects, partitions, replicas);
    let mut streams: Vec<Config> = (0..partitions)
        .map(|partition| Config {
            // A history is never shortened. Neither flag can be unset, which is the point.
            deny_delete: true,
            deny_purge: true,
            ..new(&subjects::events_stream(partition), &[&subjects::events_of_partition(partition)])
        })
        .collect();
    let (taken, stored) = subjects::inbox_transform(partitions);
    streams.extend([
        Config {
            // A full inbox refuses the newest command, loudly, instead of dropping the oldest in silence.
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_messages: 1_000_000,
            max_bytes: 4 << 30,
            subject_transform: Some(SubjectTransform { source: taken.to_owned(), destination: stored }),
            ..new(COMMANDS, &[subjects::CMD_ALL])
        },
        Config {
            max_age: DAY,
            max_messages_per_subject: 1,
            persist_mode: rebuildable(replicas),
            ..new(OUTCOMES, &[subjects::OUT_ALL])
        },
        Config {
            max_age: VERDICT_TIME,
            max_messages_per_subject: 1,
            ..new(VERDICTS, &[subjects::VERDICT_ALL])
        },
        Config { persist_mode: rebuildable(replicas), ..new(SNAPSHOTS, &[subjects::SNAPSHOT_ALL]) },
        Config { max_messages_per_subject: 1, ..new(KEYS, &[subjects::KEY_ALL]) },
        Config { max_messages_per_subject: 1, ..new(ORDERS, &[subjects::ORDER_ALL]) },
        Config { max_age: 30 * DAY, ..new(RUNS, &[subjects::RUN_ALL]) },
        new(EFFECTS, &[subjects::EFFECT_ALL]),
        new(STATES, &[subjects::STATE_ALL]),
        // No plan is valid for longer than 30 days.
        Config { max_age: 31 * DAY, ..new(PLANS, &[subjects::PLAN_ALL]) },
        Config {
            max_messages_per_subject: 1,
            allow_message_schedules: true,
            allow_message_ttl: true,
            allow_rollup: true,
            ..new(TIMERS, &[subjects::TIMER_ALL])
        },
        Config { max_messages_per_subject: 1, ..new(INVENTORY, &[subjects::INVENTORY_ALL]) },
        Config { max_age: 90 * DAY, ..new(DEAD, &[subjects::DEAD_ALL]) },
    ]);
    streams
}

/// The streams whose last moments a loss of power may take, because they are made again from others.
pub fn rebuilt_streams(partitions: u16, replicas: usize) -> Vec<String> {
    let unsynced = |config: &Config| config.persist_mode == Some(PersistenceMode::Async);
    streams(partitions, replicas).into_iter().filter(unsynced).map(|config| config.name).collect()
}

/// Every bucket, as it should be on the server.
pub fn buckets(replicas: usize) -> Vec<kv::Config> {
    let bucket = |name: &str, max_age| kv::Config {
        bucket: name.to_owned(),
        history: 1,
        max_age,
        num_replicas: replicas,
        storage: StorageType::File,
        ..kv::Config::default()
    };
    vec![
        bucket(LEASES, LEASE_TIME),
        bucket(PARTITIONS, PARTITION_LEASE_TIME),
        kv::Config { history: CLAIMS_KEPT, ..bucket(CLAIMS, Duration::ZERO) },
        bucket(ATTEMPTS, 30 * DAY),
        bucket(BUDGETS, Duration::ZERO),
        bucket(CONTROLS, Duration::ZERO),
        bucket(ROLLOUTS, Duration::ZERO),
    ]
}

/// What [`apply`] would do, and what it will not do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Streams and buckets that are missing.
    pub create: Vec<String>,
    /// Where an existing one differs, a line each: a person has to decide.
    pub differences: Vec<String>,
}

/// Compares the server with the layout at so many replicas; those it has are what [`replicas`] says.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn plan(nats: &Nats, replicas: usize) -> Result<Plan, NatsError> {
    let mut plan = Plan::default();
    for Compared { name, found, differences } in compare(nats, replicas).await? {
        if found.is_none() {
            plan.create.push(name);
        }
        plan.differences.extend(differences.iter().map(ToString::to_string));
    }
    Ok(plan)
}

pub(crate) async fn existing(nats: &Nats, name: &str) -> Result<Option<Config>, NatsError> {
    Ok(existing_info(nats, name).await?.map(|info| info.config))
}

async fn existing_info(nats: &Nats, name: &str) -> Result<Option<Info>, NatsError> {
    let (mut asked, formed) = (1, Instant::now() + FORMED);
    loop {
        match nats.js.get_stream(name).await {
            Ok(stream) => return Ok(Some(stream.cached_info().clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    return Ok(None);
                }
                // Servers that have just started may not know the account yet, or who leads them.
                GetStreamErrorKind::JetStream(cause)
                    if matches!(
                        cause.error_code(),
                        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::CLUSTER_NOT_AVAILABLE
                    ) && Instant::now() < formed =>
                {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                GetStreamErrorKind::Request if asked < ASKED && timed_out(&error) => asked += 1,
                _ => return Err(NatsError::failed(format!("asking about stream {name}"))(error)),
            },
        }
    }
}

fn timed_out(error: &GetStreamError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<RequestError>());
    cause.is_some_and(|cause| cause.kind() == RequestErrorKind::TimedOut)
}

/// How long a server may take to create a stream: it makes files for it, on a disk that others may keep busy.
const CREATED: Duration = Duration::from_secs(30);

/// Has the bucket of claims forget nothing any more, where it is one that an older wanwright made.
async fn keep_claims(nats: &Nats) -> Result<(), NatsError> {
    let name = format!("KV_{CLAIMS}");
    let Some(found) = existing(nats, &name).await? else { return Ok(()) };
    if found.max_messages_per_subject >= CLAIMS_KEPT {
        return Ok(());
    }
    let wanted = Config { max_messages_per_subject: CLAIMS_KEPT, ..found };
    let updated = nats.js.update_stream(wanted).await;
    updated.map(drop).map_err(NatsError::failed(format!("having {name} keep every claim")))
}

/// Creates what is missing. Differences are not touched: they are an error that prints them.
///
/// # Errors
/// [`NatsError::Topology`], and [`NatsError::Replicas`] where the server cannot keep so many; others when it cannot be
/// asked.
pub async fn apply(nats: &Nats, replicas: usize) -> Result<Plan, NatsError> {
    keep_claims(nats).await?;
    let plan = plan(nats, replicas).await?;
    if !plan.differences.is_empty() {
        return Err(NatsError::Topology(plan.differences.join("\n")));
    }
    let mut js = nats.js.clone();
    js.set_timeout(CREATED);
    for config in streams(nats.partitions, replicas) {
        if plan.create.contains(&config.name) {
            let doing = format!("creating stream {}", config.name);
            js.create_stream(config).await.map_err(refusal(doing, replicas))?;
        }
    }
    for config in buckets(replicas) {
        if plan.create.contains(&format!("KV_{}", config.bucket)) {
            let doing = format!("creating bucket {}", config.bucket);
            // No client asks for more than 64 of a key; a server keeps as many as it is told to.
            let config = kv::Config { history: config.history.min(64), ..config };
            js.create_key_value(config).await.map_err(NatsError::failed(doing))?;
        }
    }
    keep_claims(nats).await?;
    Ok(plan)
}
