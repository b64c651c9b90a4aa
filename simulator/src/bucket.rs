use serde::{Deserialize, Serialize};

use crate::config::Limit;
use crate::error::Error;

/// One token in the bucket's smallest unit. A millionth of a token per second, for a microsecond, is exactly one unit,
/// so filling never rounds and the limit is exact however often it is asked.
const TOKEN: u64 = 1_000_000_000_000;

/// How long a caller is told to wait when the bucket is never refilled, in seconds.
const NEVER: u64 = 86_400;

/// What the bucket holds at a time; this is what the journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fill {
    units: u64,
    at_us: u64,
}

impl Fill {
    pub(crate) fn tokens(self) -> f64 {
        self.units as f64 / TOKEN as f64
    }
}

/// The rules of filling and taking; the level itself is kept by the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Millionths of a token per second.
    rate: u64,
    capacity: u64,
}

impl Bucket {
    pub(crate) fn new(limit: Limit) -> Result<Self, Error> {
        if !(0.0..=1_000_000.0).contains(&limit.per_second) {
            return Err(Error::Config("limit.per_second must be from 0 to 1000000".into()));
        }
        if !(1..=10_000_000).contains(&limit.burst) {
            return Err(Error::Config("limit.burst must be from 1 to 10000000".into()));
        }
        Ok(Self { rate: (limit.per_second * 1e6).round() as u64, capacity: u64::from(limit.burst) * TOKEN })
    }

    pub(crate) fn full(&self, at_us: u64) -> Fill {
        Fill { units: self.capacity, at_us }
    }

    /// The level at a later time. A time before the level's own changes nothing.
    pub(crate) fn at(&self, fill: Fill, now_us: u64) -> Fill {
        let elapsed = u128::from(now_us.saturating_sub(fill.at_us));
        let units = u128::from(fill.units) + elapsed * u128::from(self.rate);
        Fill { units: units.min(u128::from(self.capacity)) as u64, at_us: fill.at_us.max(now_us) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// Whole seconds, at least 1, after which a token is there.
    pub(crate) fn take(&self, fill: Fill, now_us: u64) -> Result<Fill, u64> {
        let filled = self.at(fill, now_us);
        match filled.units.checked_sub(TOKEN) {
            Some(units) => Ok(Fill { units, ..filled }),
            None if self.rate == 0 => Err(NEVER),
            None => Err((TOKEN - filled.units).div_ceil(self.rate * 1_000_000).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: f64, burst: u32) -> Bucket {
        Bucket::new(Limit { per_second, burst }).unwrap()
    }

    #[test]
    fn never_gives_more_than_burst_plus_rate_times_time() {
        let bucket = bucket(7.3, 5);
        let mut fill = bucket.full(0);
        let mut taken = 0u64;
        // Asked at every microsecond step of an odd length, which would gather rounding errors if there were any.
        for now_us in (0..10_000_000).step_by(137) {
            if let Ok(next) = bucket.take(fill, now_us) {
                fill = next;
                taken += 1;
            }
            assert!(taken * 10_000_000 <= 50_000_000 + 73 * now_us, "at {now_us}: {taken}");
        }
        assert_eq!(taken, 77, "5 + floor(7.3 * 10 s), less the token that comes at the very end");
    }

    #[test]
    fn says_when_the_next_token_is_there() {
        let bucket = bucket(0.4, 1);
        let fill = bucket.take(bucket.full(0), 0).unwrap();
        assert_eq!(bucket.take(fill, 0), Err(3));
        assert_eq!(bucket.take(fill, 1_000_000), Err(2));
        assert!(bucket.take(fill, 2_500_000).is_ok());
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let bucket = bucket(1000.0, 1);
        let fill = bucket.take(bucket.full(5_000_000), 5_000_000).unwrap();
        let back = bucket.at(fill, 1_000_000);
        assert_eq!(back, fill);
        assert_eq!(bucket.take(back, 5_000_000), Err(1));
    }

    #[test]
    fn refuses_limits_out_of_range() {
        for (per_second, burst) in [(-1.0, 1), (f64::NAN, 1), (1.0, 0)] {
            assert!(Bucket::new(Limit { per_second, burst }).is_err());
        }
        assert_eq!(bucket(0.0, 1).take(Fill { units: 0, at_us: 0 }, 9), Err(NEVER));
    }
}
