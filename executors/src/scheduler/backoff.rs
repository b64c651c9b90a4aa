//! How long a failed try waits for the next one.

use std::time::Duration;

use wanwright_schemas::OrderId;

const FIRST: Duration = Duration::from_secs(1);

/// Longest wait after a failure at the vendor.
const LONGEST: Duration = Duration::from_secs(120);

/// Longest wait after a failure of our own: a part of wanwright that is away comes back soon, and nothing is given up.
const LONGEST_OURS: Duration = Duration::from_secs(15);

/// The wait after a try: twice as long each time, spread by a quarter in both directions so that orders that failed
/// together do not come back together. The spread comes from the order's id: no randomness, same answer everywhere.
pub(super) fn wait(order: OrderId, tried: u32, ours: bool) -> Duration {
    let longest = if ours { LONGEST_OURS } else { LONGEST };
    let doubled = FIRST.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(longest);
    let bytes = order.uuid().into_bytes();
    let turn = usize::try_from(tried).unwrap_or_default() % bytes.len();
    let spread = f64::from(bytes[turn]) / 255.0;
    doubled.mul_f64(0.75 + spread / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_spread_and_end() {
        let order = OrderId::of_digest([7; 32]);
        for tried in 1..=8 {
            let nominal = FIRST.saturating_mul(1 << (tried - 1)).min(LONGEST);
            let wait = wait(order, tried, false);
            assert!(wait >= nominal.mul_f64(0.75) && wait <= nominal.mul_f64(1.25), "{tried}: {wait:?}");
        }
        assert!(wait(order, 40, false) <= LONGEST.mul_f64(1.25));
        assert!(wait(order, 40, true) <= LONGEST_OURS.mul_f64(1.25));
    }
}
