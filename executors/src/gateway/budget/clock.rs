//! The server's clock, as far as it is known here. Our own wall clock is never read: it may jump.

use tokio::time::Instant;
use wanwright_nats::budgets::Moment;

use super::pace::micros;

/// How much faster or slower than the server's our clock may run, in millionths. Time servers correct by at most 500.
const DRIFT: i64 = 600;

/// Two moments that contradict each other by more than this are a clock that was set.
const STEP: i64 = 1_000;

/// Between which bounds the server's clock is, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Now {
    pub(in crate::gateway) earliest: i64,
    pub(in crate::gateway) latest: i64,
}

impl Now {
    /// By how much the two bounds differ.
    pub(in crate::gateway) fn error(&self) -> i64 {
        self.latest - self.earliest
    }
}

/// What the server's clock is ahead of ours, between two bounds that grow apart until the next moment is known.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    least: i64,
    most: i64,
    /// When that was, by our clock.
    at: i64,
}

/// The estimate.
#[derive(Debug)]
pub(in crate::gateway) struct ServerClock {
    start: Instant,
    ahead: Option<Ahead>,
}

impl ServerClock {
    pub(in crate::gateway) fn new() -> Self {
        Self { start: Instant::now(), ahead: None }
    }

    /// Our clock: it never jumps and knows no date.
    fn ours(&self, moment: Instant) -> i64 {
        micros(moment.saturating_duration_since(self.start))
    }

    /// Learns a moment. `true`: the server's clock was set since the last one, or another server answers.
    pub(in crate::gateway) fn learn(&mut self, moment: &Moment) -> bool {
        let (after, before) = (self.ours(moment.after), self.ours(moment.before));
        let told = Ahead { least: moment.server - before, most: moment.server - after, at: before };
        let Some(known) = self.ahead else {
            self.ahead = Some(told);
            return false;
        };
        let known = known.later(before.max(known.at));
        let both =
            Ahead { least: known.least.max(told.least), most: known.most.min(told.most), at: known.at };
        let stepped = both.least > both.most + STEP;
        self.ahead = Some(match both.least <= both.most {
            true => both,
            false if stepped => told,
            // As good as the same: believe the newer one.
            false => Ahead { at: known.at, ..told },
        });
        stepped
    }

    /// Forgets what was known: the server's clock was set.
    pub(in crate::gateway) fn forget(&mut self) {
        self.ahead = None;
    }

    /// What time it is for the server; nothing until it said so once.
    pub(in crate::gateway) fn now(&self) -> Option<Now> {
        self.at(Instant::now())
    }

    fn at(&self, moment: Instant) -> Option<Now> {
        let ours = self.ours(moment);
        let ahead = self.ahead?.later(ours);
        Some(Now { earliest: ours + ahead.least, latest: ours + ahead.most })
    }

    /// When, by our clock, the server's is surely there.
    pub(in crate::gateway) fn when(&self, server: i64) -> Option<Instant> {
        let now = self.now()?;
        let wait = u64::try_from(server - now.earliest).unwrap_or_default();
        Some(Instant::now() + std::time::Duration::from_micros(wait))
    }
}

impl Ahead {
    fn later(self, ours: i64) -> Self {
        let drift = (ours - self.at).max(0) * DRIFT / 1_000_000;
        Self { least: self.least - drift, most: self.most + drift, at: ours.max(self.at) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(clock: &ServerClock, after: u64, before: u64, server: i64) -> Moment {
        let at = |micros| clock.start + Duration::from_micros(micros);
        Moment { after: at(after), before: at(before), server }
    }

    #[test]
    fn bounds_narrow_with_each_moment_and_widen_with_time() {
        let mut clock = ServerClock::new();
        assert_eq!(clock.at(clock.start), None);
        // The server's clock is 1,000,000 ahead.
        assert!(!clock.learn(&moment(&clock, 0, 9_000, 1_002_000)));
        let now = clock.at(clock.start + Duration::from_millis(9)).unwrap();
        assert_eq!((now.earliest, now.latest), (1_002_000, 1_011_000));
        assert!(!clock.learn(&moment(&clock, 10_000, 12_000, 1_011_500)));
        let now = clock.at(clock.start + Duration::from_millis(12)).unwrap();
        assert!(now.earliest <= 1_012_000 && 1_012_000 <= now.latest && now.error() <= 2_010, "{now:?}");
        let later = clock.at(clock.start + Duration::from_secs(60)).unwrap();
        assert!(later.error() > 60_000, "{later:?}");
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_and_followed() {
        let mut clock = ServerClock::new();
        clock.learn(&moment(&clock, 0, 1_000, 5_000_000));
        for server in [3_605_000_000, 5_100_000] {
            let moment = moment(&clock, 100_000, 101_000, server);
            assert!(clock.learn(&moment));
            let now = clock.at(moment.before).unwrap();
            assert!(now.earliest <= server + 1_000 && server <= now.latest, "{now:?}");
        }
    }
}
