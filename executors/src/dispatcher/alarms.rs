//! When targets have to be compared again, because a change window opens or closes.
//!
//! It is kept in memory: the sweep compares everything anyhow, and so sets all alarms again after a restart. They only
//! make the table right at the moment, not when the sweep comes by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wanwright_schemas::CustomerId;
use wanwright_schemas::order::Target;

use super::compare::Compare;
use super::sweep;

/// How long is slept at most: a clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(30);

/// How many customers are compared beside each other: windows of many open at the same time.
const AT_ONCE: usize = 4;

/// When what failed in passing is compared again.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The next moment at which each target has to be compared again.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    times: Mutex<Times>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Times {
    of: HashMap<(CustomerId, Target), Timestamp>,
    in_order: BTreeSet<(Timestamp, CustomerId, Target)>,
}

impl Alarms {
    /// Compares a target again at this moment, or before.
    pub(super) fn set(&self, customer: &CustomerId, target: &Target, at: Timestamp) {
        let mut times = self.times();
        let key = (customer.clone(), target.clone());
        match times.of.get(&key).copied() {
            Some(set) if set <= at => return,
            Some(set) => drop(times.in_order.remove(&(set, customer.clone(), target.clone()))),
            None => {}
        }
        let is_first = times.in_order.first().is_none_or(|(first, ..)| at < *first);
        times.in_order.insert((at, customer.clone(), target.clone()));
        times.of.insert(key, at);
        drop(times);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes out the targets whose time has come, by customer.
    fn due(&self, now: Timestamp) -> BTreeMap<CustomerId, Vec<Target>> {
        let mut times = self.times();
        let mut due: BTreeMap<CustomerId, Vec<Target>> = BTreeMap::new();
        while times.in_order.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, customer, target)) = times.in_order.pop_first()
        {
            times.of.remove(&(customer.clone(), target.clone()));
            due.entry(customer).or_default().push(target);
        }
        due
    }

    fn next(&self) -> Option<Timestamp> {
        self.times().in_order.first().map(|(at, ..)| *at)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares targets when their time comes, until told to stop.
pub(super) async fn run(compare: Compare, stop: CancellationToken) {
    loop {
        let due = compare.alarms.due(Timestamp::now());
        let compared = stream::iter(due)
            .map(|(customer, targets)| compare_again(&compare, customer, targets))
            .buffer_unordered(AT_ONCE)
            .for_each(|()| std::future::ready(()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = compared => {}
        }
        let until =
            |at: Timestamp| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
        let pause = compare.alarms.next().map_or(LONGEST, |at| until(at).min(LONGEST));
        tokio::select! {
            () = stop.cancelled() => return,
            () = compare.alarms.earlier.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn compare_again(compare: &Compare, customer: CustomerId, targets: Vec<Target>) {
    let Err(stuck) = sweep::of_customer(compare, &customer, Some(targets.clone())).await else { return };
    tracing::warn!(%customer, error = &stuck as &dyn std::error::Error, "orders were not compared");
    if stuck.passes() {
        let again = Timestamp::now() + AGAIN;
        targets.iter().for_each(|target| compare.alarms.set(&customer, target, again));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_alarm_the_earliest() {
        let (alarms, acme): (_, CustomerId) = (Alarms::default(), "acme".parse().expect("an id"));
        let site = |id: &str| Target::Site(id.parse().expect("an id"));
        let at = |second| Timestamp::from_second(second).expect("a moment");
        for second in [20, 10, 30] {
            alarms.set(&acme, &site("oslo"), at(second));
        }
        alarms.set(&acme, &site("bergen"), at(15));
        assert_eq!((alarms.next(), alarms.due(at(9)).len()), (Some(at(10)), 0));
        let due = |targets: &[&str]| {
            BTreeMap::from([(acme.clone(), targets.iter().map(|id| site(id)).collect::<Vec<_>>())])
        };
        assert_eq!((alarms.due(at(10)), alarms.next()), (due(&["oslo"]), Some(at(15))));
        alarms.set(&acme, &site("oslo"), at(15));
        assert_eq!((alarms.due(at(60)), alarms.next()), (due(&["bergen", "oslo"]), None));
    }
}
