//! Everything the simulator remembers, and the only ways it changes.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bucket::Fill;
use crate::index::Index;
use crate::report::{Call, Counters, KindStats, Totals, Violation};
use crate::vendor::{NAME, Vendor};

pub(crate) type Object = Map<String, Value>;

/// One change. The journal is a list of these; applying them in order gives the same world again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// A call took a token; this is left.
    Charged {
        fill: Fill,
    },
    /// A call found no token.
    Violated(Violation),
    Unauthorized,
    Stormed,
    Created {
        kind: String,
        number: u64,
        object: Object,
        key: Option<String>,
    },
    Updated {
        kind: String,
        number: u64,
        object: Object,
    },
    Deleted {
        kind: String,
        number: u64,
    },
    /// Changed or, without an object, deleted through the back door.
    Drifted {
        kind: String,
        number: u64,
        object: Option<Object>,
    },
    Listed {
        kind: String,
    },
    Read {
        kind: String,
        name: String,
    },
    Replayed {
        kind: String,
        name: String,
    },
    Refused {
        kind: String,
        name: String,
    },
    Concurrent {
        kind: String,
        name: String,
    },
    /// A call ended. Its number is given when this is applied.
    Called(Call),
}

impl Effect {
    /// Whether a caller changed an object.
    pub(crate) fn is_change(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Updated { .. } | Self::Deleted { .. })
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct World {
    /// `None` until the first call: a new bucket is full.
    pub(crate) fill: Option<Fill>,
    pub(crate) totals: Totals,
    pub(crate) kinds: BTreeMap<String, Objects>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) calls: VecDeque<Call>,
    pub(crate) last_call: u64,
    #[serde(skip)]
    calls_kept: usize,
}

/// The objects of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Objects {
    /// Number of the latest object ever made.
    pub(crate) last: u64,
    pub(crate) objects: BTreeMap<u64, Object>,
    /// Idempotency key to the object it made, deleted ones among them.
    pub(crate) keys: BTreeMap<String, u64>,
    lists: u64,
    names: BTreeMap<String, Counters>,
    #[serde(skip)]
    pub(crate) index: Index,
}

impl World {
    /// Sets up what is not written to disk. Needed before the first effect, and after reading a snapshot.
    pub(crate) fn prepare(&mut self, vendor: &Vendor, calls_kept: usize) {
        self.calls_kept = calls_kept;
        for (name, kind) in &vendor.kinds {
            let objects = self.kinds.entry(name.clone()).or_default();
            objects.index = Index::new(kind.indexed());
            for (number, object) in &objects.objects {
                objects.index.add(*number, object);
            }
        }
    }

    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Charged { fill } => {
                self.fill = Some(*fill);
                self.totals.calls += 1;
            }
            Effect::Violated(violation) => {
                self.violations.push(violation.clone());
                self.totals.calls += 1;
                self.totals.above_limit += 1;
            }
            Effect::Unauthorized => self.totals.unauthorized += 1,
            Effect::Stormed => self.totals.stormed += 1,
            Effect::Created { kind, number, object, key } => {
                let objects = self.kind(kind);
                objects.last = objects.last.max(*number);
                if let Some(key) = key {
                    objects.keys.insert(key.clone(), *number);
                }
                objects.put(*number, object).creations += 1;
            }
            Effect::Updated { kind, number, object } => self.kind(kind).put(*number, object).updates += 1,
            Effect::Deleted { kind, number } => self.kind(kind).remove(*number).deletions += 1,
            Effect::Drifted { kind, number, object: Some(object) } => {
                self.kind(kind).put(*number, object).drifts += 1
            }
            Effect::Drifted { kind, number, object: None } => self.kind(kind).remove(*number).drifts += 1,
            Effect::Listed { kind } => self.kind(kind).lists += 1,
            Effect::Read { kind, name } => self.kind(kind).count(name).reads += 1,
            Effect::Replayed { kind, name } => self.kind(kind).count(name).replays += 1,
            Effect::Refused { kind, name } => self.kind(kind).count(name).refused_creations += 1,
            Effect::Concurrent { kind, name } => self.kind(kind).count(name).concurrent_creations += 1,
            Effect::Called(call) => self.called(call),
        }
    }

    fn called(&mut self, call: &Call) {
        self.last_call += 1;
        self.calls.push_back(Call { seq: self.last_call, ..call.clone() });
        while self.calls.len() > self.calls_kept {
            self.calls.pop_front();
        }
    }

    fn kind(&mut self, kind: &str) -> &mut Objects {
        self.kinds.entry(kind.to_owned()).or_default()
    }

    pub(crate) fn stats(&self) -> BTreeMap<String, KindStats> {
        self.kinds.iter().map(|(kind, objects)| (kind.clone(), objects.stats())).collect()
    }
}

impl Objects {
    fn put(&mut self, number: u64, object: &Object) -> &mut Counters {
        if let Some(old) = self.objects.insert(number, object.clone()) {
            self.index.remove(number, &old);
        }
        self.index.add(number, object);
        self.count(name(object))
    }

    fn remove(&mut self, number: u64) -> &mut Counters {
        let old = self.objects.remove(&number).unwrap_or_default();
        self.index.remove(number, &old);
        self.count(name(&old))
    }

    fn count(&mut self, name: &str) -> &mut Counters {
        self.names.entry(name.to_owned()).or_default()
    }

    fn stats(&self) -> KindStats {
        let mut totals = Counters::default();
        self.names.values().for_each(|counters| totals.add(counters));
        KindStats { objects: self.objects.len() as u64, lists: self.lists, totals, names: self.names.clone() }
    }
}

/// The name of an object; drift can leave one without.
pub(crate) fn name(object: &Object) -> &str {
    object.get(NAME).and_then(Value::as_str).unwrap_or_default()
}
