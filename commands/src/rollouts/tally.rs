//! How the stacks of a customer are that a rollout is about.

use jiff::Timestamp;
use wanwright_schemas::ids::{CustomerId, SiteId};
use wanwright_schemas::order::{Order, Target};
use wanwright_schemas::rollout::Rollout;
use wanwright_schemas::spec::SiteSpec;
use wanwright_schemas::{Position, Template};
use wanwright_vendors::Vendor;

use crate::customer::Customer;
use crate::object::Object;
use crate::orders::{self, Gate};
use crate::plans;

/// How a customer's stacks are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that can be given the version.
    pub waiting: Vec<SiteId>,
    /// Those that cannot be given it because of a freeze.
    pub frozen: u32,
    /// Those that are being changed.
    pub progressing: u32,
    /// Those that have it: it was brought about there, whatever came afterwards.
    pub applied: u32,
    /// Those that were given it and failed before they had it.
    pub failed: u32,
    /// Those that were given it and are suspended, or wait for an approval, of their plan too, or a change window.
    pub held: u32,
    /// Those that were given it and have another version again.
    pub taken_back: u32,
    /// Those that are not given it, for something failed there that has nothing to do with versions: a change that the
    /// vendor refused would be tried again, and refused again, in the name of the rollout.
    pub failed_before: u32,
}

impl Tally {
    /// How many they are.
    pub fn stacks(&self) -> u32 {
        let Self { frozen, failed_before, .. } = self;
        self.given() + self.open() + frozen + failed_before
    }

    /// How many were given the version.
    pub(super) fn given(&self) -> u32 {
        let Self { progressing, applied, failed, held, taken_back, .. } = self;
        progressing + applied + failed + held + taken_back
    }

    /// How many can be given the version.
    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }
}

/// How a stack is that was given the version.
enum Given {
    Progressing,
    Applied,
    Failed,
    Held,
}

/// How the stacks of a customer are.
pub fn tally(rollout: &Rollout, state: &Customer, now: Timestamp) -> Tally {
    let is_frozen = state.own.freezes.values().any(|freeze| freeze.from <= now && now < freeze.to);
    let mut tally = Tally::default();
    for (id, site) in concerned(rollout, state) {
        let version = site.templates.version_at(site.generation);
        if site.templates.rollout() == rollout.number {
            match (version == rollout.to).then(|| given(state, id, site, now)) {
                None => tally.taken_back += 1,
                Some(Given::Progressing) => tally.progressing += 1,
                Some(Given::Applied) => tally.applied += 1,
                Some(Given::Failed) => tally.failed += 1,
                Some(Given::Held) => tally.held += 1,
            }
        } else if is_due(rollout, site) {
            match (has_failed_before(rollout, state, id, site), is_frozen) {
                (true, _) => tally.failed_before += 1,
                (false, true) => tally.frozen += 1,
                (false, false) => tally.waiting.push(id.clone()),
            }
        }
    }
    tally
}

/// The stacks at the vendor that stay.
fn concerned<'a>(
    rollout: &'a Rollout,
    state: &'a Customer,
) -> impl Iterator<Item = (&'a SiteId, &'a Object<SiteSpec>)> {
    state.sites.iter().filter(|(_, site)| site.spec.vendor == rollout.vendor && !site.leaving)
}

/// Whether a rollout is about a stack that it did not give anything yet. One that takes another one back is about what that
/// one gave, and not about whoever else has the same version.
fn is_due(rollout: &Rollout, site: &Object<SiteSpec>) -> bool {
    let last = site.templates.rollout();
    let listens = rollout.rolls_back.map_or(last < rollout.number, |number| last == number);
    listens && site.templates.version_at(site.generation) == rollout.from
}

/// Whether a stack has what it was given last: that was brought about once, whatever came afterwards.
fn has_its_version(site: &Object<SiteSpec>) -> bool {
    site.observed.as_ref().is_some_and(|at| site.templates.is_one(at.generation, site.generation))
}

/// Whether something failed in a stack for another reason than its version. Where a rollout gave it a version that never was
/// brought about, that may well be the reason, and the next version the way out; and whatever is taken back comes back.
fn has_failed_before(rollout: &Rollout, state: &Customer, id: &SiteId, site: &Object<SiteSpec>) -> bool {
    let has_failed =
        site.failure.is_some() || state.tunnels_of(id).any(|(_, tunnel)| tunnel.failure.is_some());
    let may_be_its_version = site.templates.rollout() > 0 && !has_its_version(site);
    rollout.rolls_back.is_none() && has_failed && !may_be_its_version
}

/// A stack is one thing: what fails in a part of it while it gets another version is its own failure, so nothing else is
/// asked of its parts.
fn given(state: &Customer, id: &SiteId, site: &Object<SiteSpec>, now: Timestamp) -> Given {
    let target = Target::Site(id.clone());
    if has_its_version(site) {
        return Given::Applied;
    }
    if site.failure.is_some() {
        return Given::Failed;
    }
    let is_held = orders::held(state, &target).is_some()
        || plans::waits(state, id, site, now)
        || matches!(orders::gate(state, &target, now), Gate::Shut(_));
    if is_held { Given::Held } else { Given::Progressing }
}

/// The orders that the customer's stacks would have with the version that they are to get: for what Terraform would do.
/// A stack that is held, or has no order because it cannot be read now, has none here either.
pub fn stacks_to_plan(
    rollout: &Rollout,
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    template: &Template,
) -> Vec<Order> {
    let nowhere = Position { stream: String::new(), sequence: 0 };
    let waits = concerned(rollout, state).filter(|(id, site)| {
        is_due(rollout, site) && site.observed.is_some() && !has_failed_before(rollout, state, id, site)
    });
    waits.filter_map(|(id, _)| orders::of_template(customer, state, vendor, id, &nowhere, template)).collect()
}
