//! The customers that were decided on lately, kept in memory up to a number of bytes.

use std::sync::Arc;

use quick_cache::sync::Cache as Quick;
use quick_cache::{OptionsBuilder, Weighter};
use serde_json::{Value, json};
use wanwright_schemas::CustomerId;

use crate::head::Head;

/// How much memory a state takes for each byte that it takes frozen, measured over fleets of devices.
const MEMORY_PER_BYTE: u64 = 4;

/// What a state takes at least.
const LEAST: u64 = 1024;

/// States of about this size are expected; it only sizes the tables.
const TYPICAL: u64 = 64 * 1024;

/// Which holding of a partition a state belongs to. Another process may have decided since an earlier one.
type Key = (u64, CustomerId);

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Box<Head>> for Bytes {
    fn weight(&self, _: &Key, head: &Box<Head>) -> u64 {
        LEAST + MEMORY_PER_BYTE * u64::try_from(head.weight()).unwrap_or(u64::MAX / 8)
    }
}

/// The states of all partitions of this process, within one bound.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    states: Arc<Quick<Key, Box<Head>, Bytes>>,
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
    pub(super) fn take(&self, holding: u64, customer: &CustomerId) -> Option<Box<Head>> {
        let (_, mut head) = self.states.remove(&(holding, customer.clone()))?;
        head.weigh();
        Some(head)
    }

    /// Puts a state back. One that is heavier than its part of the cache, a quarter of all, is not kept: it is loaded each
    /// time it is needed, from its snapshot.
    pub(super) fn keep(&self, holding: u64, customer: CustomerId, head: Box<Head>) {
        self.states.insert((holding, customer), head);
    }

    /// What is kept, as NATS services say it beside their counts: so many states, of so many bytes of those there is room for.
    pub(super) fn stats(&self) -> Value {
        json!({ "states": self.states.len(), "bytes": self.states.weight(), "room": self.states.capacity() })
    }

    /// Forgets what belongs to a holding that ended.
    pub(super) fn forget(&self, holding: u64) {
        self.states.retain(|(of, _), _| *of != holding);
    }
}

#[cfg(test)]
mod tests {
    use wanwright_schemas::{CommandId, Digest, Envelope, Event};

    use super::*;

    /// A head that this many bytes of messages were folded into.
    fn weighing(bytes: usize) -> Box<Head> {
        let envelope = Envelope {
            v: 1,
            command: CommandId::of_message(5, 5),
            body_sha256: Digest::of(b"a body"),
            actor: "demo".parse().expect("an actor"),
            cause: None,
            correlation: None,
            time: jiff::Timestamp::UNIX_EPOCH,
            prev: None,
            key: None,
            events: Vec::<Event>::new(),
        };
        let mut head = Head::default();
        head.appended(1, &vec![b' '; bytes], &envelope);
        Box::new(head)
    }

    fn customer(number: usize) -> CustomerId {
        format!("customer-{number}").parse().expect("an id")
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_the_newest_is_among_it() {
        const BOUND: u64 = 8 << 20;
        let cache = Cache::new(BOUND);
        let mut kept = 0;
        for number in 0..1000 {
            // From nothing to 100 KiB, so 50 MiB altogether and four times as much in memory.
            cache.keep(1, customer(number), weighing(number % 100 * 1024));
            assert!(cache.states.weight() <= BOUND, "{} behind {number}", cache.states.weight());
            let newest = cache.take(1, &customer(number)).expect("the one that was kept last");
            cache.keep(1, customer(number), newest);
            kept = kept.max(cache.states.len());
        }
        // What is counted is what is there.
        let all = (0..1000).filter_map(|number| cache.take(1, &customer(number)));
        let weights: Vec<u64> = all.map(|head| Bytes.weight(&(1, customer(0)), &head)).collect();
        let sum: u64 = weights.iter().sum();
        assert!(sum <= BOUND && sum > BOUND / 2, "{} states of {sum} bytes", weights.len());
        assert_eq!(cache.states.weight(), 0);
        assert!(kept > 20, "{kept}");
    }

    #[test]
    fn what_is_heavier_than_its_part_of_the_cache_pushes_nobody_out() {
        let cache = Cache::new(8 << 20);
        for number in 0..20 {
            cache.keep(1, customer(number), weighing(1024));
        }
        let before = cache.states.weight();
        cache.keep(1, customer(99), weighing(600 << 10));
        assert!(cache.take(1, &customer(99)).is_none());
        assert_eq!((cache.states.len(), cache.states.weight()), (20, before));
        // The one that grew too large is gone as it was before, too.
        let grown = cache.take(1, &customer(3)).expect("one that was kept");
        assert_eq!(grown.weight(), 1024);
        cache.keep(1, customer(3), weighing(600 << 10));
        assert!(cache.take(1, &customer(3)).is_none());
        cache.keep(1, customer(3), weighing(400 << 10));
        assert!(cache.take(1, &customer(3)).is_some(), "a fifth of the cache fits");
    }
}
