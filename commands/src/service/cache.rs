//! The customers that were decided on lately, kept in memory up to a number of bytes.

use std::sync::Arc;

use quick_cache::sync::Cache as Quick;
use quick_cache::{OptionsBuilder, Weighter};
use wanwright_schemas::CustomerId;

use crate::head::Head;

/// How much memory a state takes for each byte of the messages it was made of, measured over fleets of devices.
const MEMORY_PER_BYTE: u64 = 4;

/// What a state takes at least.
const LEAST: u64 = 1024;

/// States of about this size are expected; it only sizes the tables.
const TYPICAL: u64 = 64 * 1024;

/// Which holding of a partition a state belongs to. Another process may have decided since an earlier one.
type Key = (u64, CustomerId);

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Head> for Bytes {
    fn weight(&self, _: &Key, head: &Head) -> u64 {
        LEAST + MEMORY_PER_BYTE * u64::try_from(head.weight).unwrap_or(u64::MAX / 8)
    }
}

/// The states of all partitions of this process, within one bound.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    states: Arc<Quick<Key, Head, Bytes>>,
}

impl Cache {
    /// A cache of at most this many bytes, as far as they can be told.
    pub(super) fn new(bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            // Few, so that a large customer finds room in one.
            .shards(4)
            .estimated_items_capacity(usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(16))
            .weight_capacity(bytes)
            .build();
        let states = match options {
            Ok(options) => Quick::with_options(
                options,
                Bytes,
                Default::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            Err(_) => Quick::with_weighter(16, bytes, Bytes),
        };
        Self { states: Arc::new(states) }
    }

    /// Takes a state out: whoever decides on it has the only one.
    pub(super) fn take(&self, holding: u64, customer: &CustomerId) -> Option<Head> {
        self.states.remove(&(holding, customer.clone())).map(|(_, head)| head)
    }

    /// Puts a state back.
    pub(super) fn keep(&self, holding: u64, customer: CustomerId, head: Head) {
        self.states.insert((holding, customer), head);
    }

    /// Forgets what belongs to a holding that ended.
    pub(super) fn forget(&self, holding: u64) {
        self.states.retain(|(of, _), _| *of != holding);
    }
}
