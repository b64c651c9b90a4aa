//! Whatever several processes do with the shared record, and in whatever order: what arrives at the vendor keeps every
//! limit. The vendor is a token bucket and a count of its own, written the plain way.

use std::time::Duration;

use proptest::prelude::*;
use wanwright_vendors::{Counted, RateLimit, Scope};

use super::pace::{Pace, micros};
use super::record::Record;

/// What a limit leaves room for: half of it for slots that are used late, the error of the clocks, and the rest for the
/// way to the vendor.
const JITTER: i64 = 100_000;

/// Largest error of a clock, in either direction.
const ERROR: i64 = 10_000;

/// What one process does.
#[derive(Debug, Clone)]
struct Step {
    /// Time since the step before, in microseconds.
    after: i64,
    /// How many slots it wants.
    wants: u8,
    /// Of which class: whether the narrow limit counts the calls as well.
    narrow: bool,
    /// By how much its clock is behind and ahead of the server's at most.
    error: (i64, i64),
    /// Whether it dies before it uses them.
    dies: bool,
    /// Whether its write comes too late, or it does not hear that it was stored.
    lost: bool,
    /// By how much the server's clock was set just before.
    set: i64,
    /// How late it uses each slot, and how long that call is under way, in thousandths of what is allowed.
    late: Vec<(u16, u16)>,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![3 => 0..30_000_i64, 2 => 0..400_000_i64, 1 => 0..5_000_000_i64];
    let set = prop_oneof![30 => Just(0_i64), 1 => Just(3_600_000_000), 1 => Just(-3_600_000_000), 1 => -50_000..50_000_i64];
    let late = prop::collection::vec((0..=1000_u16, 0..=1000_u16), 40);
    let rare = || prop::bool::weighted(0.1);
    (after, 1..40_u8, any::<bool>(), (0..ERROR, 0..ERROR), rare(), rare(), set, late).prop_map(
        |(after, wants, narrow, error, dies, lost, set, late)| Step {
            after,
            wants,
            narrow,
            error,
            dies,
            lost,
            set,
            late,
        },
    )
}

fn limit(calls: u32, seconds: u64, burst: Option<u32>) -> RateLimit {
    RateLimit {
        name: "limit".to_owned(),
        calls: calls.try_into().unwrap(),
        window: Duration::from_secs(seconds),
        burst: burst.map(|burst| burst.try_into().unwrap()),
        scope: Scope::Account,
        counts: Counted::default(),
        each_operation: false,
    }
}

/// When calls arrive at the vendor, by a clock that is never set.
fn arrivals(steps: &[Step], wide: &Pace, narrow: &Pace) -> Vec<(i64, bool)> {
    let mut record = Record::default();
    let (mut now, mut set, mut unheard) = (1_000_000_000_000_i64, 0_i64, false);
    let mut arrived = Vec::new();
    for step in steps {
        now += step.after;
        set += step.set;
        // The server's clock, and what this process takes it for.
        let server = now + set;
        let (earliest, latest) = (server - step.error.0, server + step.error.1);
        let mut next = record.clone();
        next.sanitize(latest, 0);
        unheard |= step.set != 0;
        if unheard {
            // Whoever learns the new time empties the limits, until it is stored that somebody has.
            next.empty(latest);
        }
        let limits =
            if step.narrow { vec![("wide", wide), ("narrow", narrow)] } else { vec![("wide", wide)] };
        let grace = if step.narrow { wide.grace.min(narrow.grace) } else { wide.grace };
        let mut slots = Vec::new();
        for _ in 0..step.wants {
            let first = next.first(limits.iter().copied(), earliest, latest);
            if first > earliest + super::record::LEAD {
                break;
            }
            next.take(limits.iter().copied(), first, latest);
            slots.push(first);
        }
        let stored = serde_json::to_vec(&next).unwrap();
        if step.lost && step.dies {
            continue;
        }
        record = serde_json::from_slice(&stored).unwrap();
        unheard = false;
        if step.dies || step.lost {
            continue;
        }
        for (slot, (late, way)) in slots.into_iter().zip(&step.late) {
            // It leaves when the time has surely come, at most its grace later by its own clock, and is under way.
            let earliest = (slot - set).max(now);
            let latest = (slot - set + grace + step.error.0 + step.error.1).max(earliest);
            let left = earliest + i64::from(*late) * (latest - earliest) / 1000;
            arrived.push((left + i64::from(*way) * (JITTER / 2 - 2 * ERROR) / 1000, step.narrow));
        }
    }
    arrived.sort_unstable();
    arrived
}

/// Calls above a limit, as the vendor counts them.
fn above(limit: &RateLimit, arrived: impl Iterator<Item = i64>) -> usize {
    let (window, calls) = (micros(limit.window), i64::from(limit.calls.get()));
    match limit.burst {
        Some(burst) => {
            // Tokens in parts of one for each microsecond of the window.
            let full = i64::from(burst.get()) * window;
            let (mut tokens, mut at, mut above) = (full, 0, 0);
            for time in arrived {
                tokens = full.min(tokens.saturating_add((time - at).saturating_mul(calls)));
                at = time;
                if tokens >= window { tokens -= window } else { above += 1 }
            }
            above
        }
        None => {
            let times: Vec<i64> = arrived.collect();
            let many = usize::try_from(calls).unwrap();
            times.windows(many + 1).filter(|some| some[many] - some[0] < window).count()
        }
    }
}

proptest! {
    #[test]
    fn no_interleaving_exceeds_a_limit(
        steps in prop::collection::vec(step(), 1..120),
        wide in prop_oneof![Just((50, 1, Some(50))), Just((10, 1, Some(5))), Just((50, 1, Some(1))), Just((1000, 1, Some(200)))],
        narrow in prop_oneof![Just((3, 60, None)), Just((120, 60, None)), Just((20, 3600, None)), Just((5, 1, Some(2)))],
    ) {
        let (wide, narrow) = (limit(wide.0, wide.1, wide.2), limit(narrow.0, narrow.1, narrow.2));
        let jitter = Duration::from_micros(JITTER.unsigned_abs());
        let (fast, slow) = (Pace::of(&wide, jitter), Pace::of(&narrow, jitter));
        let arrived = arrivals(&steps, &fast, &slow);
        prop_assert_eq!(above(&wide, arrived.iter().map(|(time, _)| *time)), 0);
        prop_assert_eq!(above(&narrow, arrived.iter().filter(|(_, narrow)| *narrow).map(|(time, _)| *time)), 0);
    }
}

/// The reference can tell: the same calls with twice the pace are too many.
#[test]
fn the_reference_notices_a_pace_that_is_too_fast() {
    let wide = limit(50, 1, Some(50));
    let pace = Pace::of(&wide, Duration::from_micros(JITTER.unsigned_abs()));
    let fast = Pace { interval: pace.interval / 2, burst: pace.burst * 2, ..pace };
    let step = Step {
        after: 100_000,
        wants: 40,
        narrow: false,
        error: (0, 0),
        dies: false,
        lost: false,
        set: 0,
        late: vec![(0, 0); 40],
    };
    let arrived = |pace| arrivals(&vec![step.clone(); 100], pace, pace);
    assert!(above(&wide, arrived(&fast).into_iter().map(|(time, _)| time)) > 100);
    let kept = arrived(&pace);
    assert_eq!(above(&wide, kept.iter().map(|(time, _)| *time)), 0);
    // 10 s at 50 calls a second.
    assert!(kept.len() >= 490, "{}", kept.len());
}
