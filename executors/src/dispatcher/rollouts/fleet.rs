//! How the stacks of a vendor are, customer by customer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use wanwright_commands::rollouts::{Reading, Tally, tally};
use wanwright_nats::Nats;
use wanwright_nats::evidence::Evidence;
use wanwright_schemas::rollout::Rollout;
use wanwright_schemas::{CustomerId, subjects};

use super::super::customers::Customers;
use super::super::{Stuck, sweep};

/// How long the whole fleet is believed. Whoever is being changed is read every time.
const BELIEVED: Duration = Duration::from_secs(30);

/// Pause before a customer comes again that could not be read, or did not answer.
const AGAIN: Duration = Duration::from_secs(10);

/// How many customers are read at once.
const AT_ONCE: usize = 16;

/// The stacks of a vendor.
pub(super) struct Fleet {
    nats: Nats,
    customers: Customers,
    known: Known,
}

impl Fleet {
    pub(super) fn new(nats: Nats, evidence: Option<Arc<Evidence>>) -> Self {
        let customers = Customers::new(nats.clone(), evidence);
        Self { nats, customers, known: Known::default() }
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.known.reading
    }

    /// Notes who is given the version now: what is known of them is over.
    pub(super) fn gives(&mut self, customer: &CustomerId) {
        self.known.given.insert(customer.clone());
    }

    /// Leaves a customer for a while to which nothing could be given: whoever comes after it does not wait for it.
    pub(super) fn leaves(&mut self, customer: &CustomerId) {
        self.known.given.remove(customer);
        self.known.is_unknown(customer.clone());
    }

    /// Reads whoever may be another one than when he was read last. Who cannot be read is noted and holds up nobody.
    pub(super) async fn read(&mut self, rollout: &Rollout) {
        self.known.begin(rollout.number);
        let whom = if self.known.is_old() {
            let listed = everybody(&self.nats).await;
            let (whom, partitions) = (listed.customers.clone(), self.nats.partitions);
            self.known.take_over(listed, partitions);
            whom
        } else {
            self.known.unsettled()
        };
        let (customers, now) = (&self.customers, Timestamp::now());
        let read: Vec<(CustomerId, Result<Tally, Stuck>)> = stream::iter(whom)
            .map(|customer| async move {
                let head = customers.load(&customer).await;
                let tallied = head.map(|(head, _)| tally(rollout, &head.state, now));
                (customer, tallied)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (customer, tallied) in read {
            match tallied {
                Ok(tally) => self.known.is_read(customer, tally),
                Err(stuck) => {
                    let error = &stuck as &dyn std::error::Error;
                    tracing::warn!(%customer, error, "a rollout waits for a customer that cannot be read");
                    self.known.is_unknown(customer);
                }
            }
        }
    }
}

/// The customers with a history, as far as they could be listed.
pub(super) struct Listed {
    pub(super) customers: Vec<CustomerId>,
    /// The partitions that could not be asked.
    pub(super) unlisted: BTreeSet<u16>,
}

/// Every customer with a history.
pub(super) async fn everybody(nats: &Nats) -> Listed {
    let mut all = Listed { customers: Vec::new(), unlisted: BTreeSet::new() };
    let mut answers = stream::iter(0..nats.partitions)
        .map(|partition| async move { (partition, sweep::customers(nats, partition).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((partition, listed)) = answers.next().await {
        match listed {
            Ok(customers) => all.customers.extend(customers),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(partition, error, "a rollout waits for the customers of a partition");
                all.unlisted.insert(partition);
            }
        }
    }
    all
}

/// What is known of a fleet for a rollout.
#[derive(Default)]
struct Known {
    number: u64,
    reading: Reading,
    /// Those that were given the version, and may have been changed since.
    given: BTreeSet<CustomerId>,
    /// When those come again of whom it is not known how they are.
    again: BTreeMap<CustomerId, Instant>,
    /// When everybody was read last.
    read_at: Option<Instant>,
}

impl Known {
    /// Forgets what was known for another rollout.
    fn begin(&mut self, number: u64) {
        if self.number != number {
            *self = Self { number, ..Self::default() };
        }
    }

    /// Whether everybody is to be read.
    fn is_old(&self) -> bool {
        let believed = if self.reading.is_partial { AGAIN } else { BELIEVED };
        self.read_at.is_none_or(|at| at.elapsed() >= believed)
    }

    /// Those that may be other ones than when they were read last.
    fn unsettled(&self) -> Vec<CustomerId> {
        let is_open = |tally: &Tally| tally.progressing + tally.held + tally.frozen > 0;
        let open = self.reading.tallies.iter().filter(|(_, tally)| is_open(tally));
        let open = open.map(|(customer, _)| customer).chain(&self.given);
        let open = open.filter(|customer| !self.reading.unread.contains(*customer));
        let now = Instant::now();
        let again = self.again.iter().filter(|(_, at)| **at <= now).map(|(customer, _)| customer);
        open.chain(again).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Takes over who is there. Of the partitions that could not be asked nothing is known but what was known before.
    fn take_over(&mut self, listed: Listed, partitions: u16) {
        let Listed { customers, unlisted } = listed;
        let there: BTreeSet<CustomerId> = customers.into_iter().collect();
        let lost = |customer: &CustomerId| unlisted.contains(&subjects::partition(customer, partitions));
        let reading = &mut self.reading;
        reading.tallies.retain(|customer, _| there.contains(customer) || lost(customer));
        reading.unread.retain(|customer| there.contains(customer) || lost(customer));
        reading.unread.extend(reading.tallies.keys().filter(|customer| lost(customer)).cloned());
        reading.is_partial = !unlisted.is_empty();
        // Those of a lost partition come again with it.
        self.again.retain(|customer, _| there.contains(customer));
        self.given.retain(|customer| there.contains(customer));
        self.read_at = Some(Instant::now());
    }

    fn is_read(&mut self, customer: CustomerId, tally: Tally) {
        self.given.remove(&customer);
        self.again.remove(&customer);
        self.reading.unread.remove(&customer);
        self.reading.tallies.insert(customer, tally);
    }

    fn is_unknown(&mut self, customer: CustomerId) {
        self.again.insert(customer.clone(), Instant::now() + AGAIN);
        self.reading.unread.insert(customer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> CustomerId {
        name.parse().expect("an id")
    }

    fn failed() -> Tally {
        Tally { failed: 1, ..Tally::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_read_counts_as_before_and_comes_again_after_a_while() {
        let mut known = Known::default();
        known.begin(1);
        known.is_read(id("acme"), failed());
        known.is_unknown(id("acme"));
        assert_eq!(known.reading.tallies[&id("acme")], failed(), "its failure still counts");
        assert!(known.reading.unread.contains(&id("acme")) && known.unsettled().is_empty());
        tokio::time::advance(AGAIN).await;
        assert_eq!(known.unsettled(), [id("acme")]);
        known.is_read(id("acme"), failed());
        assert!(known.reading.unread.is_empty() && known.unsettled().is_empty());
        known.begin(2);
        assert_eq!(known.reading, Reading::default(), "another rollout begins with nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_customers_of_a_lost_partition_stay_and_who_is_gone_goes() {
        let of = |partition| {
            let mut names = (0..).map(|number| id(&format!("c{number}")));
            names.find(|name| subjects::partition(name, 2) == partition).expect("one")
        };
        let (here, lost) = (of(0), of(1));
        let mut known = Known::default();
        assert!(known.is_old());
        let listed = |customers: &[&CustomerId], unlisted: &[u16]| Listed {
            customers: customers.iter().map(|name| (*name).clone()).collect(),
            unlisted: unlisted.iter().copied().collect(),
        };
        known.take_over(listed(&[&here, &lost], &[]), 2);
        for name in [&here, &lost] {
            known.is_read(name.clone(), failed());
        }
        known.take_over(listed(&[], &[1]), 2);
        assert_eq!(known.reading.tallies.keys().collect::<Vec<_>>(), [&lost]);
        assert!(known.reading.unread.contains(&lost) && known.reading.is_partial && !known.is_old());
        tokio::time::advance(AGAIN).await;
        assert!(known.is_old(), "the partition is asked again");
        known.take_over(listed(&[&lost], &[]), 2);
        known.is_read(lost, failed());
        assert!(known.reading.unread.is_empty() && !known.reading.is_partial);
    }
}
