//! How long a failed try waits for the next one.

use std::time::Duration;

use wanwright_schemas::OrderId;

/// How many tries an order has before it fails for good.
pub(super) const MAX_TRIES: u32 = 8;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);

/// The wait after a try: twice as long each time, spread by a quarter in both directions so that orders that failed
/// together do not come back together. The spread comes from the order's id: no randomness, same answer everywhere.
pub(super) fn wait(order: OrderId, tried: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(LONGEST);
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
        for tried in 1..=MAX_TRIES {
            let nominal = FIRST.saturating_mul(1 << (tried - 1)).min(LONGEST);
            let wait = wait(order, tried);
            assert!(wait >= nominal.mul_f64(0.75) && wait <= nominal.mul_f64(1.25), "{tried}: {wait:?}");
        }
        assert!(wait(order, 40) <= LONGEST.mul_f64(1.25));
    }
}
