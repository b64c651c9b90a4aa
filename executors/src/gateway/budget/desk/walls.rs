//! The process's own wall: whatever the shared record says, no process alone calls faster than the vendor's whole rate.

use std::collections::HashMap;
use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use wanwright_vendors::RateLimit;

use super::super::class::{Class, Limits, limit_name};
use super::super::pace::Pace;

/// A limiter for each limit of the record that this process called within.
#[derive(Default)]
pub(super) struct Walls {
    limiters: HashMap<String, DefaultDirectRateLimiter>,
    /// They read a clock of their own, which a test that plays time has to do without.
    #[cfg(test)]
    pub(super) are_open: bool,
}

impl Walls {
    /// Whether a call of this class may leave now. It counts as one that did.
    pub(super) fn passes(&mut self, limits: &Limits, class: &Class) -> bool {
        #[cfg(test)]
        if self.are_open {
            return true;
        }
        if self.limiters.len() > 4 * limits.all().len().max(64) {
            // Those of single operations: there may be any number.
            self.limiters.retain(|name, _| !name.contains('/'));
        }
        limits.of(class).all(|(name, pace)| {
            let limit = limits.all().iter().find(|limit| limit.name == limit_name(name));
            let Some(limit) = limit else { return true };
            let passes =
                self.limiters.entry(name.to_owned()).or_insert_with(|| wall(limit, pace)).check().is_ok();
            if !passes {
                tracing::error!(
                    limit = name,
                    "a slot is given up: with it, this process alone would exceed the limit"
                );
            }
            passes
        })
    }
}

/// The vendor's own rate and burst; a count is taken for a bucket that is one call larger than ours.
fn wall(limit: &RateLimit, pace: &Pace) -> DefaultDirectRateLimiter {
    let ours = u32::try_from(pace.burst + 1).ok().and_then(NonZeroU32::new);
    let burst = limit.burst.or(ours).unwrap_or(NonZeroU32::MIN);
    let period = limit.window / limit.calls.get();
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(limit.calls));
    RateLimiter::direct(quota.allow_burst(burst))
}
