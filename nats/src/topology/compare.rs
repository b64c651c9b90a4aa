//! The layout beside what the server has.

use std::collections::BTreeMap;
use std::fmt;

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::Config;

use super::{LAYOUT_KEY, PARTITIONS_KEY, buckets, existing, streams};
use crate::connect::Nats;
use crate::error::NatsError;

/// How many servers keep a stream.
pub(super) const REPLICAS: &str = "replicas";
/// Whether a message is on the disk when it is acknowledged.
pub(super) const PERSISTENCE: &str = "persistence";

/// Facts by name, as a person reads them.
type Facts = BTreeMap<&'static str, String>;

/// A fact that is not as it should be.
#[derive(Debug)]
pub(super) struct Difference {
    stream: String,
    /// Its name.
    pub fact: &'static str,
    found: String,
    wanted: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, fact, found, wanted } = self;
        write!(f, "  {stream}: {fact} is {found:?}, should be {wanted:?}")
    }
}

/// A stream of the layout, or the stream that one of its buckets is, beside the one on the server.
#[derive(Debug)]
pub(super) struct Compared {
    /// Its name.
    pub name: String,
    /// As it is on the server, if it is there.
    pub found: Option<Config>,
    /// What is not as it should be.
    pub differences: Vec<Difference>,
}

/// Compares everything, the streams of events first.
pub(super) async fn compare(nats: &Nats, replicas: usize) -> Result<Vec<Compared>, NatsError> {
    let mut compared = Vec::new();
    for wanted in streams(nats.partitions, replicas) {
        let found = existing(nats, &wanted.name).await?;
        let differences = found.as_ref().map(|found| differing(&wanted.name, &facts(&wanted), &facts(found)));
        compared.push(Compared { name: wanted.name, differences: differences.unwrap_or_default(), found });
    }
    for wanted in buckets(replicas) {
        let name = format!("KV_{}", wanted.bucket);
        let found = existing(nats, &name).await?;
        let differences =
            found.as_ref().map(|found| differing(&name, &bucket_facts(&wanted), &bucket_stream_facts(found)));
        compared.push(Compared { name, differences: differences.unwrap_or_default(), found });
    }
    Ok(compared)
}

/// The facts of a stream that the layout states.
fn facts(config: &Config) -> Facts {
    let tag = |key: &str| config.metadata.get(key).cloned().unwrap_or_default();
    let transform = config.subject_transform.as_ref();
    BTreeMap::from([
        ("subjects", config.subjects.join(" ")),
        ("stored as", transform.map(|to| to.destination.clone()).unwrap_or_default()),
        (PERSISTENCE, format!("{:?}", config.persist_mode.unwrap_or_default())),
        ("retention", format!("{:?}", config.retention)),
        ("discard", format!("{:?}", config.discard)),
        ("storage", format!("{:?}", config.storage)),
        (REPLICAS, config.num_replicas.to_string()),
        ("max age", format!("{:?}", config.max_age)),
        ("max messages", unlimited(config.max_messages)),
        ("max bytes", unlimited(config.max_bytes)),
        ("max messages per subject", unlimited(config.max_messages_per_subject)),
        ("deny delete", config.deny_delete.to_string()),
        ("deny purge", config.deny_purge.to_string()),
        ("schedules", config.allow_message_schedules.to_string()),
        ("layout", tag(LAYOUT_KEY)),
        ("partitions", tag(PARTITIONS_KEY)),
    ])
}

/// The facts of a bucket that the layout states.
fn bucket_facts(config: &kv::Config) -> Facts {
    BTreeMap::from([
        ("history", config.history.to_string()),
        ("max age", format!("{:?}", config.max_age)),
        (REPLICAS, config.num_replicas.to_string()),
        ("storage", format!("{:?}", config.storage)),
    ])
}

/// The same facts of the stream that a bucket is on the server.
fn bucket_stream_facts(config: &Config) -> Facts {
    BTreeMap::from([
        ("history", config.max_messages_per_subject.to_string()),
        ("max age", format!("{:?}", config.max_age)),
        (REPLICAS, config.num_replicas.to_string()),
        ("storage", format!("{:?}", config.storage)),
    ])
}

/// Each fact that is not as it should be.
fn differing(stream: &str, wanted: &Facts, found: &Facts) -> Vec<Difference> {
    let differing = wanted.iter().filter_map(|(fact, wanted)| {
        let found = found.get(fact).cloned().unwrap_or_default();
        (found != *wanted).then(|| Difference {
            stream: stream.to_owned(),
            fact,
            found,
            wanted: wanted.clone(),
        })
    });
    differing.collect()
}

/// The server answers -1 where nothing was asked for.
fn unlimited(limit: i64) -> String {
    if limit <= 0 { "unlimited".to_owned() } else { limit.to_string() }
}
