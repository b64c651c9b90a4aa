//! The breaker of a vendor account: what only fails is not asked again and again by everybody.
//!
//! It is part of the shared record. Each process counts its own failures in a row; the one that has counted enough opens
//! the breaker for all. When its time is over, one process may try one call, and that call's outcome closes it or opens
//! it again for longer. Pure: times are the server's and come in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::micros;

/// How long the call that is tried may take before another process may try one. Longer than a call can.
const TRIAL: i64 = 60_000_000;

/// A breaker that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Since when.
    pub since: i64,
    /// Until when no call is made.
    pub until: i64,
    /// What failed last.
    pub reason: String,
    /// How often it was opened since it was closed.
    pub times: u32,
    /// Who tries a call, since its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A call that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// By which process.
    pub by: String,
    /// Until when nobody else tries one.
    pub until: i64,
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Gate {
    /// It may go on.
    Closed,
    /// No call until then.
    Open(i64),
    /// One call may be tried, and nobody does so yet.
    Trial,
}

impl Open {
    pub(in crate::gateway) fn now(
        before: Option<&Self>,
        rules: &wanwright_vendors::Breaker,
        reason: &str,
        latest: i64,
    ) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let longer = 2_u32.saturating_pow(times.saturating_sub(1).min(16));
        let pause = rules.pause.saturating_mul(longer).min(rules.longest);
        let since = before.map_or(latest, |before| before.since);
        Self { since, until: latest + micros(pause), reason: reason.to_owned(), times, trial: None }
    }

    /// What a call meets at this time.
    pub(in crate::gateway) fn gate(&self, earliest: i64) -> Gate {
        match &self.trial {
            _ if earliest < self.until => Gate::Open(self.until),
            Some(trial) if earliest < trial.until => Gate::Open(trial.until),
            _ => Gate::Trial,
        }
    }

    pub(in crate::gateway) fn try_by(&mut self, process: &str, latest: i64) {
        self.trial = Some(Trial { by: process.to_owned(), until: latest + TRIAL });
    }

    pub(in crate::gateway) fn is_tried_by(&self, process: &str) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.by == process)
    }

    /// Takes back times that the rules cannot have made.
    pub(super) fn sanitize(&mut self, latest: i64, longest: i64) {
        self.since = self.since.min(latest);
        self.until = self.until.min(latest + longest);
        if let Some(trial) = &mut self.trial {
            trial.until = trial.until.min(latest + TRIAL);
        }
    }
}

/// Failures in a row, as one process sees them.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Failures(u32);

impl Failures {
    /// Counts a call that failed; `true`: that is enough.
    pub(in crate::gateway) fn failed(&mut self, rules: &wanwright_vendors::Breaker) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 >= rules.failures.get()
    }

    pub(in crate::gateway) fn worked(&mut self) {
        self.0 = 0;
    }
}

/// The longest that an open breaker lies in the future, in microseconds.
pub(in crate::gateway) fn longest(rules: &wanwright_vendors::Breaker) -> i64 {
    micros(rules.longest.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_for_longer_each_time_and_one_process_tries() {
        let rules = wanwright_vendors::Breaker::default();
        let mut open = Open::now(None, &rules, "no answer", 0);
        assert_eq!((open.until, open.gate(4_999_999)), (5_000_000, Gate::Open(5_000_000)));
        assert_eq!(open.gate(5_000_000), Gate::Trial);
        open.try_by("one", 5_000_000);
        assert_eq!(open.gate(5_000_001), Gate::Open(65_000_000), "others wait for the outcome");
        assert_eq!(
            open.gate(65_000_000),
            Gate::Trial,
            "or for its time to be over, should the process have died"
        );
        let again = Open::now(Some(&open), &rules, "500", 6_000_000);
        assert_eq!((again.until, again.since, again.times), (16_000_000, 0, 2));
        let last = (0..40).fold(again, |open, _| Open::now(Some(&open), &rules, "500", 0));
        assert_eq!(last.until, 30_000_000);
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let rules = wanwright_vendors::Breaker::default();
        let mut failures = Failures::default();
        for _ in 0..3 {
            assert!((0..9).all(|_| !failures.failed(&rules)));
            failures.worked();
        }
        assert!((0..9).all(|_| !failures.failed(&rules)) && failures.failed(&rules));
    }
}
