//! When enough failed for a rollout to stop.

use wanwright_schemas::rollout::{Counts, Rollout, WhenHeld};

use super::Tally;
use super::step::Member;

/// Why no other stack is given the version, if enough of them failed. One that its customer took back counts as well.
pub(super) fn too_much_failed(rollout: &Rollout, fleet: &[Member<'_>]) -> Option<String> {
    let Counts { failed, taken_back, stacks, .. } = rollout.counts;
    let held: u32 = match rollout.waves.when_held {
        WhenHeld::Fail => {
            let reached = fleet.iter().filter(|member| member.wave <= rollout.wave);
            reached.map(|member| member.tally.held + member.tally.frozen).sum()
        }
        WhenHeld::Wait | WhenHeld::Skip => 0,
    };
    let lost = failed + taken_back + held;
    let by_number = rollout.waves.max_failures.is_some_and(|most| lost >= most);
    let by_share = rollout.waves.max_failures_percent.is_some_and(|most| {
        let is_enough = u64::from(lost) * 100 >= u64::from(most) * u64::from(come_to(rollout, fleet));
        lost > 0 && (is_enough || all_of_the_wave_failed(rollout, fleet))
    });
    (by_number || by_share).then(|| {
        let mut parts = vec![format!("{failed} of {stacks} stacks failed")];
        parts.extend((taken_back > 0).then(|| format!("{taken_back} were taken back")));
        parts.extend((held > 0).then(|| format!("{held} are held")));
        parts.join(", ")
    })
}

/// The stacks of the waves so far, which a share of failures is one of: among those of the whole fleet a few canaries would
/// not count for anything. A stack that is left alone is none of them.
fn come_to(rollout: &Rollout, fleet: &[Member<'_>]) -> u32 {
    let of = |member: &Member<'_>| match member.wave <= rollout.wave {
        true => member.tally.stacks() - member.tally.failed_before,
        false => member.tally.given(),
    };
    fleet.iter().map(of).sum()
}

/// Whether the wave that a rollout is at failed as a whole.
fn all_of_the_wave_failed(rollout: &Rollout, fleet: &[Member<'_>]) -> bool {
    let wave = || fleet.iter().filter(|member| member.wave == rollout.wave).map(|member| member.tally);
    let lost = |tally: &Tally| match rollout.waves.when_held {
        WhenHeld::Fail => tally.failed + tally.taken_back + tally.held + tally.frozen,
        WhenHeld::Wait | WhenHeld::Skip => tally.failed + tally.taken_back,
    };
    let all: u32 = wave().map(|tally| tally.stacks() - tally.failed_before).sum();
    all > 0 && wave().map(lost).sum::<u32>() == all
}
