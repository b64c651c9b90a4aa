//! Rollouts of a vendor's template: pure, and by level.
//!
//! [`judge`] says what a record becomes that an operator asks something of, [`tally`] how a customer's stacks are,
//! [`step`] what is to be done next. What was done is read from the customers' histories every time, never counted along:
//! whoever goes on after a crash finds the same and does the same, and a stack that was given a version is never given it
//! again ([`crate::templates`]).

mod judge;
mod limits;
mod step;
mod tally;

pub use judge::judge;
pub use step::{Reading, Step, step};
pub use tally::{Tally, stacks_to_plan, tally};

use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::rollout::Rollout;

/// Hundredths of a percent.
const WHOLE: u16 = 10_000;

/// The place of a customer among all, in hundredths of a percent: always the same for one version of one vendor, and another
/// one for the next, so that it is not always the same customers who go first.
fn place(rollout: &Rollout, customer: &CustomerId) -> u16 {
    let Rollout { vendor, from, to, .. } = rollout;
    let version = from.max(to);
    let digest = Digest::of(format!("{vendor} {version} {customer}").as_bytes()).bytes();
    let number = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    u16::try_from(number % u64::from(WHOLE)).unwrap_or_default()
}

/// The wave of a customer: 0 for the canaries.
pub fn wave_of(rollout: &Rollout, customer: &CustomerId) -> u32 {
    if rollout.waves.canaries.contains(customer) {
        return 0;
    }
    let place = place(rollout, customer);
    let before = rollout.waves.steps.iter().filter(|step| u16::from(**step) * 100 <= place).count();
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1).min(last_wave(rollout))
}

/// The last wave.
pub fn last_wave(rollout: &Rollout) -> u32 {
    u32::try_from(rollout.waves.steps.len()).unwrap_or(u32::MAX)
}
