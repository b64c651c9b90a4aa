//! What the back door answers. All of it can be read by tests with serde.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Limit;

/// `GET /_sim/stats`. Everything but `bucket.tokens` is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls of the API, over all kinds.
    pub totals: Totals,
    /// Per kind, such as `site`.
    pub kinds: BTreeMap<String, KindStats>,
    /// The call limit and what is left of it.
    pub bucket: Level,
}

/// Calls of the API. The back door is never counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Calls with the right token, those above the limit among them.
    pub calls: u64,
    /// Calls without the right token; they spend nothing.
    pub unauthorized: u64,
    /// Calls above the limit: the length of the log of violations.
    pub above_limit: u64,
    /// Calls that were within the limit but met a storm of 429.
    pub stormed: u64,
}

/// The objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStats {
    /// Objects there are now.
    pub objects: u64,
    /// List calls that were answered with a page.
    pub lists: u64,
    /// The sum over all names.
    pub totals: Counters,
    /// Per object name, deleted objects among them.
    pub names: BTreeMap<String, Counters>,
}

/// What happened to the objects of one kind and name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Times an object was really made.
    pub creations: u64,
    /// Times one was replaced.
    pub updates: u64,
    /// Times one was deleted.
    pub deletions: u64,
    /// Times one was read by its id.
    pub reads: u64,
    /// Creates answered with the object their idempotency key had made before.
    pub replays: u64,
    /// Creates answered with 4xx, by a rule of the vendor or of the test.
    pub refused_creations: u64,
    /// Creates that arrived while another create of this kind and name had no answer yet.
    pub concurrent_creations: u64,
    /// Changes and deletions through the back door; they are in no other counter.
    pub drifts: u64,
}

impl Counters {
    /// Adds another name's counters.
    pub fn add(&mut self, other: &Self) {
        self.creations += other.creations;
        self.updates += other.updates;
        self.deletions += other.deletions;
        self.reads += other.reads;
        self.replays += other.replays;
        self.refused_creations += other.refused_creations;
        self.concurrent_creations += other.concurrent_creations;
        self.drifts += other.drifts;
    }
}

/// The call limit and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Tokens in the bucket now.
    pub tokens: f64,
    /// The limit.
    pub limit: Limit,
}

impl Default for Level {
    fn default() -> Self {
        let limit = Limit { per_second: 0.0, burst: 0 };
        Self { tokens: 0.0, limit }
    }
}

/// A call above the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
}

/// `GET /_sim/violations`: every call above the limit since the data folder was new, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// The log.
    pub violations: Vec<Violation>,
}

/// A call of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Number of the call, from 1, in the order they ended.
    pub seq: u64,
    /// When it arrived: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// HTTP status that was answered, or would have been; 0 when the simulator was down.
    pub status: u16,
    /// What became of the answer.
    pub fate: Fate,
    /// The idempotency key it carried.
    pub key: Option<String>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Sent.
    Answered,
    /// Not sent: the connection was closed after the change was done.
    Lost,
    /// Sent in part.
    Cut,
    /// Not sent: the simulator was down and did nothing.
    Down,
}

/// `GET /_sim/calls?after=`: the latest calls with a greater number, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// The log; it holds as many calls as the configuration says.
    pub calls: Vec<Call>,
    /// Number of the latest call, to ask for what comes after it.
    pub last: u64,
}

/// `GET /_sim/objects/{kind}`: all objects of a kind, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    /// As the API shows them.
    pub items: Vec<Map<String, Value>>,
}

/// `GET /_sim/health`, which needs no token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok` when changes can be written to disk.
    pub status: String,
    /// The kinds of object there are.
    pub kinds: Vec<String>,
}
