//! Judging a report: what an executor says becomes an event only where it is news about the object it means.
//!
//! Runs die, hang and are repeated, so a report may be about an order that nobody wants any more. Progress counts
//! whoever brought it about; what would undo something newer counts only from the order that is wanted now.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, CustomerId, DeviceId, OrderId, SiteId, TunnelId};
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs, Report, StateMark};
use wanwright_schemas::spec::{SiteSpec, TunnelSpec};
use wanwright_schemas::{ObjectRef, Position, Reason, Target};
use wanwright_vendors::Vendor;

use crate::customer::Customer;
use crate::decide::Circumstances;
use crate::object::Object;
use crate::orders::{self, Wanted};
use crate::plans;

/// A report about a site's stack: the site and the tunnels it owns.
pub(crate) fn of_stack(
    customer: &CustomerId,
    state: &Customer,
    site: &SiteId,
    report: &Report,
    facts: Circumstances<'_>,
) -> Vec<Event> {
    let Some(owner) = state.sites.get(site) else { return Vec::new() };
    let run = Run::read(customer, state, &Target::Site(site.clone()), report, facts, owner.check);
    let news = |found: &ObjectFinding| match &found.object {
        ObjectRef::Site(id) if id == site && owner.uid == found.uid => match &found.finding {
            Finding::Planned { plan } => {
                let made = plans::made(customer, state, site, report.order, plan, facts)?;
                Some(Event::Site(id.clone(), made))
            }
            Finding::PlanStale { plan, why } => {
                let stale = plans::stale(owner, run.wanted.change.as_ref(), report.order, *plan, *why)?;
                Some(Event::Site(id.clone(), stale))
            }
            _ => Some(Event::Site(id.clone(), run.news(owner, found, false)?)),
        },
        ObjectRef::Tunnel(id) => {
            let tunnel = state.tunnels.get(id).filter(|tunnel| &tunnel.spec.site == site)?;
            Some(Event::Tunnel(id.clone(), run.news(tunnel, found, run.moved(state, tunnel))?))
        }
        _ => None,
    };
    let mut events: Vec<Event> = first_of_each(report).filter_map(news).collect();
    run.as_a_whole(site, owner, report, &mut events);
    if keeps_something(state, site, &events) {
        events.retain(|event| !matches!(event, Event::Site(_, Change::Removed { .. })));
    }
    events.extend(run.left_undone(state, report, &events));
    let applied = run.applied_plan(owner, report).map(|change| Event::Site(site.clone(), change));
    let is_gone = events.iter().any(|event| matches!(event, Event::Site(_, Change::Removed { .. })));
    let stored = stored(site, owner, report).filter(|_| !is_gone);
    stored.into_iter().chain(applied).chain(events).collect()
}

/// That a newer version of the stack's state is stored. Whichever order that was for: it is known from then on.
fn stored(id: &SiteId, owner: &Object<SiteSpec>, report: &Report) -> Option<Event> {
    let is_of = |found: &ObjectFinding| {
        found.uid == owner.uid && matches!(&found.object, ObjectRef::Site(of) if of == id)
    };
    let is_news = |state: &StateMark| owner.state.is_none_or(|known| known.serial < state.serial);
    let state = report.state.filter(is_news).filter(|_| report.findings.iter().any(is_of))?;
    Some(Event::Site(id.clone(), Change::StateStored { order: report.order, state }))
}

/// Whether a site would be gone before what is there: then it is not gone, for nothing could be said any more about what
/// it leaves behind.
fn keeps_something(state: &Customer, site: &SiteId, events: &[Event]) -> bool {
    let is_gone = |id: &TunnelId| {
        events.iter().any(|event| matches!(event, Event::Tunnel(of, Change::Removed { .. }) if of == id))
    };
    state.devices_of(site).next().is_some() || state.tunnels_of(site).any(|(id, _)| !is_gone(id))
}

/// A report about a device.
pub(crate) fn of_device(
    customer: &CustomerId,
    state: &Customer,
    device: &DeviceId,
    report: &Report,
    facts: Circumstances<'_>,
) -> Vec<Event> {
    let Some(object) = state.devices.get(device) else { return Vec::new() };
    let run = Run::read(customer, state, &Target::Device(device.clone()), report, facts, object.check);
    let news = |found: &ObjectFinding| match &found.object {
        ObjectRef::Device(id) if id == device => {
            let moved = orders::device_moved(state, object);
            Some(Event::Device(id.clone(), run.news(object, found, moved)?))
        }
        _ => None,
    };
    first_of_each(report).filter_map(news).collect()
}

/// A report says one thing about each object; findings are judged against one state, so a second one is not heard.
fn first_of_each(report: &Report) -> impl Iterator<Item = &ObjectFinding> {
    let mut seen = BTreeSet::new();
    report.findings.iter().filter(move |found| seen.insert(&found.object))
}

/// The run a report is about, beside what is wanted as it arrives.
struct Run<'a> {
    order: OrderId,
    vendor: Option<&'a Vendor>,
    /// What is wanted, as if no plan were out of date: who began in time is heard.
    wanted: Wanted,
    /// The change that is wanted by the time of the report.
    due: Option<Order>,
    check: Option<CommandId>,
}

impl<'a> Run<'a> {
    fn read(
        customer: &CustomerId,
        state: &Customer,
        target: &Target,
        report: &Report,
        facts: Circumstances<'a>,
        check: Option<CommandId>,
    ) -> Self {
        let vendors = facts.vendors;
        let vendor = orders::vendor_of(state, target).and_then(|vendor| vendors.get(vendor.as_str()));
        // The position is no part of an order's identity.
        let nowhere = Position { stream: String::new(), sequence: 0 };
        let wanted = vendor.map(|vendor| orders::wanted(customer, state, vendor, target, &nowhere));
        let due = vendor.and_then(|vendor| {
            orders::wanted_at(customer, state, vendor, target, &nowhere, facts.received).change
        });
        Self { order: report.order, vendor, wanted: wanted.unwrap_or_default(), due, check }
    }

    /// The change that a finding is for an object, if it is news. `moved`: it was applied with other inputs.
    fn news<S>(&self, object: &Object<S>, found: &ObjectFinding, moved: bool) -> Option<Change<S>> {
        if object.uid != found.uid {
            return None;
        }
        let order = self.order;
        match &found.finding {
            Finding::Applied { generation, outputs } => self
                .applied(object, *generation, outputs)
                .then(|| Change::Applied { generation: *generation, order, outputs: outputs.clone() }),
            Finding::Failed { generation, code, message } => self
                .fails(object, *generation, moved)
                .then(|| failed(object.generation, order, *code, message)),
            Finding::Removed => object.leaving.then_some(Change::Removed { order }),
            Finding::Drifted { check, fields } if !fields.is_empty() => self
                .answers(object, *check)
                .then(|| Change::DriftFound { check: *check, fields: fields.clone() }),
            Finding::Drifted { check, .. } | Finding::InSync { check } => {
                self.answers(object, *check).then_some(Change::DriftNotFound { check: *check })
            }
            // They are about the stack as a whole.
            Finding::Planned { .. } | Finding::PlanStale { .. } => None,
        }
    }

    /// A version of the template that is given is brought about as a whole, the one that was applied last too where it
    /// comes back after another: where a part of the stack failed the site does not have it, also if that part is one of
    /// which nothing else was asked. So a failure is the site's, unless something newer is wanted, which then brings the
    /// version.
    fn as_a_whole(&self, id: &SiteId, owner: &Object<SiteSpec>, report: &Report, events: &mut Vec<Event>) {
        let Some(applied) = owner.observed.as_ref().map(|observed| observed.generation) else { return };
        let failure = first_of_each(report).find_map(|found| match &found.finding {
            Finding::Failed { code, message, .. } => Some((*code, format!("{}: {message}", found.object))),
            _ => None,
        });
        let Some((code, message)) = failure else { return };
        let brings_another = |event: &Event| match event {
            Event::Site(_, Change::Applied { generation, .. }) => {
                !owner.templates.is_one(*generation, applied)
            }
            _ => false,
        };
        let Some(at) = events.iter().position(brings_another) else { return };
        if self.is_wanted() {
            events[at] = Event::Site(id.clone(), failed(owner.generation, self.order, code, &message));
        } else {
            events.remove(at);
        }
    }

    /// The change that the report is about, where that is wanted now.
    fn change(&self) -> Option<&Order> {
        let both = [&self.wanted.change, &self.due];
        both.into_iter().flatten().find(|change| change.id == self.order)
    }

    /// Whether the report is about the change that is wanted now.
    fn is_wanted(&self) -> bool {
        self.change().is_some()
    }

    /// That a plan was applied to its end, which is the end of the plan as well.
    fn applied_plan(&self, site: &Object<SiteSpec>, report: &Report) -> Option<Change<SiteSpec>> {
        let change = self.wanted.change.as_ref().filter(|change| change.id == self.order)?;
        let is_done =
            |found: &ObjectFinding| matches!(found.finding, Finding::Applied { .. } | Finding::Removed);
        let whole = !report.findings.is_empty() && report.findings.iter().all(is_done);
        let plan = change.plan.as_ref().filter(|_| whole)?.hash;
        Some(Change::PlanApplied { generation: site.generation, order: self.order, plan })
    }

    fn applied<S>(&self, object: &Object<S>, generation: u64, outputs: &Outputs) -> bool {
        if !(1..=object.generation).contains(&generation) {
            return false;
        }
        let Some(known) = object.observed.as_ref() else { return true };
        let troubled = object.reapply || object.failure.is_some() || !object.drift.is_empty();
        match generation.cmp(&known.generation) {
            Ordering::Less => false,
            Ordering::Greater => true,
            // The run that brought this generation says nothing about what happened to it since.
            Ordering::Equal if generation == object.generation && troubled => self.is_wanted(),
            Ordering::Equal => &known.outputs != outputs,
        }
    }

    fn fails<S>(&self, object: &Object<S>, generation: u64, moved: bool) -> bool {
        let open = is_open(object, moved);
        let meant = generation == object.generation;
        if self.is_wanted() {
            // An order does not say which generation of a leaving tunnel is its absence; there is none after it.
            open && (meant || object.leaving)
        } else {
            // Somebody asked again since: a run from before must not answer that.
            open && meant && object.retries == 0
        }
    }

    /// A run that failed is over, and what it was to bring about and did not has failed with it. Otherwise its order
    /// would stay wanted though its row is gone, and what is left of it could not even be retried.
    fn left_undone(&self, state: &Customer, report: &Report, events: &[Event]) -> Vec<Event> {
        let failure = first_of_each(report).find_map(|found| match &found.finding {
            Finding::Failed { code, message, .. } => Some((*code, message)),
            _ => None,
        });
        let desired = self.change().map(|change| &change.desired);
        let (Some((code, message)), Some(Desired::Site { site, tunnels, leaving })) = (failure, desired)
        else {
            return Vec::new();
        };
        let silent = |object: &ObjectRef| !events.iter().any(|event| &event.object() == object);
        let message = format!("undone, for the run failed: {message}");
        let order = self.order;
        let of_site = state.sites.get(&site.id).filter(|owner| owner.pending());
        let of_site = of_site
            .map(|owner| Event::Site(site.id.clone(), failed(owner.generation, order, code, &message)));
        let of_tunnels = tunnels.keys().chain(leaving.keys()).filter_map(|id| {
            let tunnel = state.tunnels.get(id)?;
            // One that waits is in the order as it was, not as it is to be.
            let meant = tunnels.get(id).is_none_or(|wish| wish.generation == tunnel.generation);
            let open = meant && is_open(tunnel, self.moved(state, tunnel));
            open.then(|| Event::Tunnel(id.clone(), failed(tunnel.generation, order, code, &message)))
        });
        of_site.into_iter().chain(of_tunnels).filter(|event| silent(&event.object())).collect()
    }

    fn moved(&self, state: &Customer, tunnel: &Object<TunnelSpec>) -> bool {
        self.vendor.is_some_and(|vendor| orders::tunnel_moved(state, vendor, tunnel))
    }

    /// Whether a finding answers the look that is wanted now. A look from before the last change compared with a
    /// wish that is gone; a tunnel of the stack that waits was compared with a wish that is yet to come.
    fn answers<S>(&self, object: &Object<S>, check: CommandId) -> bool {
        let current = self.wanted.look.as_ref().is_some_and(|look| look.id == self.order);
        let asked = object.check == Some(check);
        let settled = object.observed.as_ref().is_some_and(|known| known.generation == object.generation);
        current && self.check == Some(check) && (asked || settled)
    }
}

/// Whether somebody should be at work on an object. `moved`: it was applied with other inputs.
fn is_open<S>(object: &Object<S>, moved: bool) -> bool {
    object.failure.is_none() && (object.behind() || moved)
}

fn failed<S>(generation: u64, order: OrderId, code: Reason, message: &str) -> Change<S> {
    Change::Failed { generation, order, code, message: message.to_owned() }
}
