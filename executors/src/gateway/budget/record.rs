//! The record that all processes share: when each limit has room again, who takes from it, whether the account's
//! breaker is open. Pure: times are the NATS server's, in microseconds since 1970, and come in.
//!
//! Each limit is one number, the time at which its next call would be due if all kept the pace (GCRA). A slot is taken
//! by moving that number. Slots need not be taken in the order of their times: whatever the order, in any stretch of
//! time there are never more than the burst and one for each interval, because every slot moved the number by at least
//! an interval and none lies further before it than the tolerance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::breaker::Open;
use super::pace::Pace;
use super::share::Waiting;

/// The record's version. A reader that knows only older ones hands out nothing.
pub const RECORD_VERSION: u64 = 1;

/// Furthest that a slot lies ahead when it is taken: what everybody who comes later may have to wait for.
pub(in crate::gateway) const LEAD: i64 = 500_000;

/// Longest that a vendor's wish to be left alone is believed: there are limits that count calls by the hour.
pub(in crate::gateway) const LONGEST_PENALTY: i64 = 3_600_000_000;

/// The same where the server's clock was set since, and how much of it is left is not known.
const LONGEST_UNSURE: i64 = 300_000_000;

/// How differently two processes may see the time before one of them takes a number for nonsense.
const SLACK: i64 = 2_000_000;

/// How long a process counts as one that takes slots after it took one.
const ACTIVE: i64 = 2_000_000;

/// With more limits than this, those of accounts that call nothing are forgotten.
const MANY: usize = 256;

/// What is left of one vendor account's budget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The record's version.
    pub v: u64,
    /// The limits, by name; those that each operation has of its own as `<name>/<operation>`.
    pub limits: BTreeMap<String, Level>,
    /// How often the server's clock was found to have been set: a process that sees another number than before asks what
    /// time it is before it reads the times here.
    #[serde(default)]
    pub steps: u64,
    /// Which processes took slots lately, and when.
    pub takers: BTreeMap<String, i64>,
    /// How many customers' calls waited there when they did, by their priority.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, Waiting>,
    /// Why calls are held back, while they are.
    pub breaker: Option<Open>,
    /// When the breaker was closed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<i64>,
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// When the next call is due at an even pace: ahead of now by what was used of the burst.
    pub due: i64,
    /// The pace it was counted with: microseconds between calls.
    pub interval: i64,
    /// And calls at once.
    pub burst: i64,
    /// Until when the vendor wants to be left alone, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<i64>,
}

impl Record {
    /// The limit of this name with this pace, at a time that is not before now. One that nobody counted until now starts
    /// empty: who called before is not known.
    fn level(&mut self, name: &str, pace: &Pace, latest: i64) -> &mut Level {
        let empty = latest + pace.tolerance();
        let new = Level { due: empty, interval: pace.interval, burst: pace.burst, blocked: None };
        let level = self.limits.entry(name.to_owned()).or_insert(new);
        if (level.interval, level.burst) != (pace.interval, pace.burst) {
            *level = Level { due: level.due.max(empty), blocked: level.blocked, ..new };
        }
        level
    }

    /// Takes back what cannot be: the server's clock was set back, and the times lie in a future that nobody reserved.
    pub(in crate::gateway) fn sanitize(&mut self, latest: i64, longest_open: i64) {
        self.limits.values_mut().for_each(|level| level.cut(latest, LONGEST_PENALTY));
        self.takers.retain(|_, at| (latest - ACTIVE..=latest + LEAD + SLACK).contains(at));
        self.waiting.retain(|process, _| self.takers.contains_key(process));
        if let Some(open) = &mut self.breaker {
            open.sanitize(latest, longest_open + SLACK);
        }
    }

    /// Forgets limits of single operations that are full again, and of single accounts where there are many. Used anew they
    /// start without their burst, which is less.
    pub(in crate::gateway) fn forget_full(&mut self, earliest: i64) {
        let many = self.limits.len() > MANY;
        let narrow = |name: &str| name.contains('/') || many && name.contains('@');
        self.limits.retain(|name, level| !narrow(name) || level.due > earliest - ACTIVE);
    }

    /// The first time, not before `from`, at which there is room in all these limits.
    pub(in crate::gateway) fn first<'a>(
        &mut self,
        limits: impl IntoIterator<Item = (&'a str, &'a Pace)>,
        from: i64,
        latest: i64,
    ) -> i64 {
        limits.into_iter().fold(from, |at, (name, pace)| {
            let level = self.level(name, pace, latest);
            at.max(level.due - pace.tolerance()).max(level.blocked.unwrap_or(at))
        })
    }

    /// Whether so many slots leave at least half of every burst.
    pub(in crate::gateway) fn is_roomy<'a>(
        &self,
        limits: impl IntoIterator<Item = (&'a str, &'a Pace)>,
        slots: usize,
        earliest: i64,
    ) -> bool {
        let slots = i64::try_from(slots).unwrap_or(i64::MAX / 1_000_000_000_000);
        limits.into_iter().all(|(name, pace)| {
            let taken = |level: &Level| level.due + slots * pace.interval;
            self.limits.get(name).is_some_and(|level| taken(level) <= earliest + pace.tolerance() / 2)
        })
    }

    /// Takes a slot at a time that [`Record::first`] said.
    pub(in crate::gateway) fn take<'a>(
        &mut self,
        limits: impl IntoIterator<Item = (&'a str, &'a Pace)>,
        at: i64,
        latest: i64,
    ) {
        for (name, pace) in limits {
            let level = self.level(name, pace, latest);
            level.due = level.due.max(at) + pace.interval;
        }
    }

    /// Leaves a limit alone until then. Afterwards it has no burst: the vendor has none either.
    pub(in crate::gateway) fn block(&mut self, name: &str, pace: &Pace, until: i64, latest: i64) {
        let level = self.level(name, pace, latest);
        let until = until.min(latest + LONGEST_PENALTY);
        level.blocked = Some(level.blocked.unwrap_or(until).max(until));
        level.due = level.due.max(until + pace.tolerance());
    }

    /// Takes back that limits of these names are to be left alone, and answers until when they were. Their burst is taken for
    /// used up: what was is not known any more.
    pub(in crate::gateway) fn unblock(
        &mut self,
        latest: i64,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<(String, i64)> {
        let mut taken_back = Vec::new();
        for (name, level) in &mut self.limits {
            if let Some(until) = level.blocked.filter(|until| *until > latest && is_meant(name)) {
                level.blocked = None;
                level.cut(latest, 0);
                taken_back.push((name.clone(), until));
            }
        }
        taken_back
    }

    /// Takes every limit for as used as it can be: the clock was set, and what is left is not known.
    pub(in crate::gateway) fn empty(&mut self, latest: i64) {
        self.steps = self.steps.wrapping_add(1);
        for level in self.limits.values_mut() {
            level.cut(latest, LONGEST_UNSURE);
            level.due = level.due.max(latest + LEAD + level.interval * level.burst);
        }
    }

    /// Notes who takes slots, and who waits there.
    pub(in crate::gateway) fn taken_by(&mut self, taker: &str, at: i64, waiting: Waiting) {
        self.takers.insert(taker.to_owned(), at);
        self.waiting.insert(taker.to_owned(), waiting);
    }

    /// How many take slots, the one who asks among them.
    pub(in crate::gateway) fn takers(&self, asking: &str) -> usize {
        self.takers.len() + usize::from(!self.takers.contains_key(asking))
    }
}

impl Level {
    /// From when a call has room.
    pub fn free(&self) -> i64 {
        (self.due - self.interval * (self.burst - 1)).max(self.blocked.unwrap_or(i64::MIN))
    }

    /// Takes back what lies further ahead than anybody blocks or takes it.
    fn cut(&mut self, latest: i64, longest: i64) {
        let blocked = self.blocked.filter(|until| *until > latest);
        self.blocked = blocked.map(|until| until.min(latest + longest + SLACK));
        let from = self.blocked.unwrap_or(latest).max(latest + LEAD);
        self.due = self.due.min(from + self.interval * self.burst + SLACK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;
    /// Any time of the server's.
    const NOW: i64 = 1_000_000_000 * SECOND;

    /// A record whose limit the vendor wants to be left alone for so long, and its pace.
    fn blocked(time: i64) -> (Record, Pace) {
        let pace = Pace { interval: SECOND, burst: 2, grace: 0 };
        let mut record = Record::default();
        record.block("calls", &pace, NOW + time, NOW);
        (record, pace)
    }

    #[test]
    fn a_vendor_is_left_alone_for_an_hour_if_it_says_so_and_no_longer() {
        for (wish, kept) in [(SECOND, SECOND), (HOUR, HOUR), (24 * HOUR, HOUR)] {
            let (mut record, pace) = blocked(wish);
            for now in [NOW, NOW + kept / 2] {
                record.sanitize(now, 0);
                assert_eq!(record.limits["calls"].blocked, Some(NOW + kept));
                assert!(record.first([("calls", &pace)], now, now) >= NOW + kept);
            }
            record.sanitize(NOW + kept, 0);
            assert_eq!(record.limits["calls"].blocked, None);
        }
    }

    #[test]
    fn a_wish_that_is_taken_back_gives_no_call_that_was_made_before_it_again() {
        let pace = Pace { interval: SECOND, burst: 3, grace: 0 };
        let limits = || [("calls", &pace)];
        let mut record = Record::default();
        // It has its burst, and takes it with what can be taken ahead.
        let mut at = record.first(limits(), NOW, NOW).max(NOW + 10 * SECOND);
        let now = at;
        while at <= now + LEAD {
            record.take(limits(), at, now);
            at = record.first(limits(), now, now);
        }
        let used = record.limits["calls"].due;
        record.block("calls", &pace, now + HOUR, now);
        record.block("other", &pace, now + HOUR, now);
        let mut later = record.clone();
        assert_eq!(record.unblock(now, |name| name == "calls"), [("calls".to_owned(), now + HOUR)]);
        let level = record.limits["calls"];
        assert_eq!((level.blocked, record.limits["other"].blocked), (None, Some(now + HOUR)));
        assert!(level.due >= used, "{} of {used} are left", level.due);
        assert!(record.first(limits(), now, now) <= now + 5 * SECOND);
        assert_eq!(record.unblock(now, |name| name == "calls"), []);
        // Nor has it all of the burst that it might have had since.
        later.unblock(now + HOUR / 2, |_| true);
        assert!(later.first(limits(), now + HOUR / 2, now + HOUR / 2) > now + HOUR / 2);
        assert_eq!(later.unblock(now + 2 * HOUR, |_| true), []);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_wish_longer_than_five_minutes() {
        let (mut record, pace) = blocked(10 * SECOND);
        let earlier = NOW - 2 * HOUR;
        record.sanitize(earlier, 0);
        record.empty(earlier);
        let first = record.first([("calls", &pace)], earlier, earlier);
        assert!((300 * SECOND..310 * SECOND).contains(&(first - earlier)), "{}", first - earlier);
        // One that is shorter stays as it was.
        let (mut record, pace) = blocked(10 * SECOND);
        record.empty(NOW);
        let first = record.first([("calls", &pace)], NOW, NOW);
        assert!((10 * SECOND..15 * SECOND).contains(&(first - NOW)), "{}", first - NOW);
    }
}
