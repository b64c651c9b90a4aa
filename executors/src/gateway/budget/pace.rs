//! How fast calls may leave so that a limit is kept where they arrive.

use std::time::Duration;

use wanwright_vendors::RateLimit;

/// Part of a limit's rate that we use, in thousandths. The rest absorbs that two clocks do not run equally fast.
const RATE_SHARE: u64 = 995;

/// A rate of leaving: one call in each interval, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Pace {
    /// Microseconds between calls.
    pub(in crate::gateway) interval: i64,
    /// Calls at once.
    pub(in crate::gateway) burst: i64,
    /// How late after its time a slot may still be used, in microseconds.
    pub(in crate::gateway) grace: i64,
}

impl Pace {
    /// The pace that keeps a limit, although the ways of two calls to the vendor differ by up to `jitter`.
    pub(in crate::gateway) fn of(limit: &RateLimit, jitter: Duration) -> Self {
        let (window, jitter) = (micros(limit.window), micros(jitter));
        let calls = i64::from(limit.calls.get());
        match limit.burst {
            Some(burst) => Self::of_bucket(window, calls, burst.get().into(), jitter),
            None => Self::of_window(window, calls, jitter),
        }
    }

    /// Below a token bucket. Of its burst half is used at most: the other half is for calls that arrive bunched, and for
    /// one jump of the clock. What a small burst has no room for is left between the calls.
    fn of_bucket(window: i64, calls: i64, burst: i64, jitter: i64) -> Self {
        let theirs = (window / calls).max(1);
        let bunched = (jitter + theirs - 1) / theirs;
        let ours = ((burst + 1) / 2).min(burst - bunched).max(1);
        let room = (burst - 1) * theirs;
        let apart = if ours == 1 { (jitter - room).max(0) } else { 0 };
        let grace = (((burst - ours) * theirs).max(jitter)) / 2;
        Self { interval: slower(theirs) + apart, burst: ours, grace }
    }

    /// Below a count: in no stretch as long as the window, and the jitter longer, leave more than `calls`. In such a
    /// stretch leave the burst and one for each whole interval.
    fn of_window(window: i64, calls: i64, jitter: i64) -> Self {
        let burst = (calls / 10).max(1);
        let others = calls - burst + 1;
        Self { interval: slower((window + jitter) / others + 1), burst, grace: jitter / 2 }
    }

    /// How far the time of the next call may be ahead of a call's own.
    pub(in crate::gateway) fn tolerance(&self) -> i64 {
        (self.burst - 1) * self.interval
    }
}

fn slower(interval: i64) -> i64 {
    (interval * 1000 + 994) / i64::try_from(RATE_SHARE).unwrap_or(1000)
}

/// Microseconds, as the records have them.
pub(in crate::gateway) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(calls: u32, seconds: u64, burst: Option<u32>) -> RateLimit {
        RateLimit {
            name: "calls".to_owned(),
            calls: NonZeroU32::new(calls).unwrap(),
            window: Duration::from_secs(seconds),
            burst: burst.map(|burst| NonZeroU32::new(burst).unwrap()),
            scope: wanwright_vendors::Scope::Account,
            counts: wanwright_vendors::Counted::default(),
            each_operation: false,
        }
    }

    const JITTER: Duration = Duration::from_millis(100);

    #[test]
    fn a_large_bucket_is_used_to_more_than_98_percent() {
        let pace = Pace::of(&limit(50, 1, Some(50)), JITTER);
        assert_eq!((pace.burst, pace.grace), (25, 250_000));
        assert!(1_000_000 * 100 / pace.interval >= 49 * 100, "{pace:?}");
    }

    /// The first calls leave as late as they may and the others as early: that is when most arrive together.
    #[test]
    fn what_arrives_bunched_fits_every_bucket_and_window() {
        let jitter = micros(JITTER);
        for (calls, seconds, burst) in [
            (50, 1, Some(50)),
            (50, 1, Some(1)),
            (50, 1, Some(2)),
            (10, 1, Some(5)),
            (1000, 1, Some(100)),
            (120, 60, None),
            (3, 60, None),
            (20, 3600, None),
            (1, 1, None),
            (2, 1, None),
            (120, 60, Some(10)),
        ] {
            let limit = limit(calls, seconds, burst);
            let pace = Pace::of(&limit, JITTER);
            let (window, calls) = (micros(limit.window), i64::from(calls));
            for n in 1..500_i64 {
                // The n-th call of a burst leaves no sooner than this after the first.
                let apart = ((n - 1) * pace.interval - pace.tolerance()).max(0);
                let arrived = (apart - jitter).max(0);
                match burst {
                    Some(burst) => {
                        let allowed = i64::from(burst) * window + arrived * calls;
                        assert!(n * window <= allowed, "{n} within {arrived} µs: {limit:?} {pace:?}");
                    }
                    None => {
                        assert!(n <= calls || arrived > window, "{n} within {arrived} µs: {limit:?} {pace:?}")
                    }
                }
            }
        }
    }
}
