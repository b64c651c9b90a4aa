//! What a rollout does next.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::rollout::{Counts, Rollout, RolloutState, WhenHeld};

use super::{Tally, last_wave, limits, wave_of};

/// A fleet, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// How the stacks of each customer were when they were read last.
    pub tallies: BTreeMap<CustomerId, Tally>,
    /// The customers of whom it is not known how they are now. What was known of them before still counts.
    pub unread: BTreeSet<CustomerId>,
    /// Whether there may be customers that are not even known of.
    pub is_partial: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The record as it is now.
    pub rollout: Rollout,
    /// The customers whose waiting stacks are to be given the version.
    pub give: Vec<CustomerId>,
}

/// A customer with stacks that a rollout is about.
pub(super) struct Member<'a> {
    pub(super) customer: &'a CustomerId,
    pub(super) tally: &'a Tally,
    pub(super) wave: u32,
}

/// What a rollout does next, when its fleet is like this. The time of the record is left to whoever writes it.
///
/// A customer that could not be read is given nothing, and a wave with one is not over: it may be the one that fails.
pub fn step(rollout: &Rollout, reading: &Reading, now: Timestamp) -> Step {
    let mut next = Rollout { counts: count(reading), ..rollout.clone() };
    if rollout.state != RolloutState::Running {
        return Step { rollout: next, give: Vec::new() };
    }
    let fleet: Vec<Member<'_>> = reading
        .tallies
        .iter()
        .filter(|(_, tally)| tally.stacks() > 0)
        .map(|(customer, tally)| Member { customer, tally, wave: wave_of(rollout, customer) })
        .collect();
    let unread = reading.unread.iter().map(|customer| wave_of(rollout, customer)).min();
    let first_unread = if reading.is_partial { Some(0) } else { unread };
    let give = loop {
        if let Some(why) = limits::too_much_failed(&next, &fleet) {
            (next.state, next.why) = (RolloutState::Stopped, Some(why));
            break Vec::new();
        }
        let members = || fleet.iter().filter(|member| member.wave <= next.wave);
        let is_busy = |member: &&Member<'_>| is_busy(member.tally, rollout.waves.when_held);
        let busy = members().filter(is_busy).count();
        let idle = members().filter(|member| !is_busy(member));
        let is_open = |member: &&Member<'_>| {
            !member.tally.waiting.is_empty() && !reading.unread.contains(member.customer)
        };
        let open: Vec<&CustomerId> = idle.filter(is_open).map(|member| member.customer).collect();
        if !open.is_empty() || busy > 0 {
            let room = usize::try_from(rollout.waves.at_once).unwrap_or(usize::MAX).saturating_sub(busy);
            break open.into_iter().take(room).cloned().collect();
        }
        if first_unread.is_some_and(|wave| wave <= next.wave) {
            break Vec::new();
        }
        if next.wave >= last_wave(rollout) {
            // Whoever is frozen was given nothing yet, and nobody would come back for it.
            if fleet.iter().all(|member| member.tally.frozen == 0) {
                (next.state, next.why) = (RolloutState::Done, None);
            }
            break Vec::new();
        }
        if !is_rested(&mut next, &fleet, now) {
            break Vec::new();
        }
        next.wave += 1;
        next.wave_ended = None;
    };
    Step { rollout: next, give }
}

/// Whether the pause after the wave is over. There is none after a wave without anybody in it.
fn is_rested(rollout: &mut Rollout, fleet: &[Member<'_>], now: Timestamp) -> bool {
    if !fleet.iter().any(|member| member.wave == rollout.wave) {
        return true;
    }
    let ended = *rollout.wave_ended.get_or_insert(now);
    now >= ended + SignedDuration::from_secs(i64::from(rollout.waves.pause_seconds))
}

/// Whether a wave waits for a customer.
fn is_busy(tally: &Tally, when_held: WhenHeld) -> bool {
    tally.progressing > 0 || (when_held == WhenHeld::Wait && tally.held + tally.frozen > 0)
}

fn count(reading: &Reading) -> Counts {
    let unread = u32::try_from(reading.unread.len()).unwrap_or(u32::MAX);
    let mut counts = Counts { unread, ..Counts::default() };
    for tally in reading.tallies.values().filter(|tally| tally.stacks() > 0) {
        counts.customers += 1;
        counts.stacks += tally.stacks();
        counts.waiting += tally.open();
        counts.progressing += tally.progressing;
        counts.applied += tally.applied;
        counts.failed += tally.failed;
        counts.held += tally.held + tally.frozen;
        counts.taken_back += tally.taken_back;
        counts.failed_before += tally.failed_before;
    }
    counts
}
