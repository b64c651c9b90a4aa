//! Judging a report: what an executor says becomes an event only where it is news about the object it means.
//!
//! Runs die, hang and are repeated, so a report may be about an order that nobody wants any more. Progress counts
//! whoever brought it about; what would undo something newer counts only from the order that is wanted now.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, CustomerId, DeviceId, OrderId, SiteId};
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs, Report};
use wanwright_schemas::{ObjectRef, Position, Target};
use wanwright_vendors::{Catalogue, Vendor};

use crate::customer::Customer;
use crate::object::Object;
use crate::orders::{self, Wanted};

/// A report about a site's stack: the site and the tunnels it owns.
pub(crate) fn of_stack(
    customer: &CustomerId,
    state: &Customer,
    site: &SiteId,
    report: &Report,
    vendors: &Catalogue,
) -> Vec<Event> {
    let Some(owner) = state.sites.get(site) else { return Vec::new() };
    let run = Run::read(customer, state, &Target::Site(site.clone()), report, vendors, owner.check);
    let news = |found: &ObjectFinding| match &found.object {
        ObjectRef::Site(id) if id == site => Some(Event::Site(id.clone(), run.news(owner, found, false)?)),
        ObjectRef::Tunnel(id) => {
            let tunnel = state.tunnels.get(id).filter(|tunnel| &tunnel.spec.site == site)?;
            let moved = run.vendor.is_some_and(|vendor| orders::tunnel_moved(state, vendor, tunnel));
            Some(Event::Tunnel(id.clone(), run.news(tunnel, found, moved)?))
        }
        _ => None,
    };
    first_of_each(report).filter_map(news).collect()
}

/// A report about a device.
pub(crate) fn of_device(
    customer: &CustomerId,
    state: &Customer,
    device: &DeviceId,
    report: &Report,
    vendors: &Catalogue,
) -> Vec<Event> {
    let Some(object) = state.devices.get(device) else { return Vec::new() };
    let run = Run::read(customer, state, &Target::Device(device.clone()), report, vendors, object.check);
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
    wanted: Wanted,
    check: Option<CommandId>,
}

impl<'a> Run<'a> {
    fn read(
        customer: &CustomerId,
        state: &Customer,
        target: &Target,
        report: &Report,
        vendors: &'a Catalogue,
        check: Option<CommandId>,
    ) -> Self {
        let vendor = orders::vendor_of(state, target).and_then(|vendor| vendors.get(vendor.as_str()));
        // The position is no part of an order's identity.
        let nowhere = Position { stream: String::new(), sequence: 0 };
        let wanted = vendor.map(|vendor| orders::wanted(customer, state, vendor, target, &nowhere));
        Self { order: report.order, vendor, wanted: wanted.unwrap_or_default(), check }
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
            Finding::Failed { generation, code, message } => {
                self.failed(object, *generation, moved).then(|| Change::Failed {
                    generation: object.generation,
                    order,
                    code: *code,
                    message: message.clone(),
                })
            }
            Finding::Removed => object.leaving.then_some(Change::Removed { order }),
            Finding::Drifted { check, fields } if !fields.is_empty() => self
                .answers(object, *check)
                .then(|| Change::DriftFound { check: *check, fields: fields.clone() }),
            Finding::Drifted { check, .. } | Finding::InSync { check } => {
                self.answers(object, *check).then_some(Change::DriftNotFound { check: *check })
            }
        }
    }

    /// Whether the report is about the change that is wanted now.
    fn is_wanted(&self) -> bool {
        self.wanted.change.as_ref().is_some_and(|change| change.id == self.order)
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

    fn failed<S>(&self, object: &Object<S>, generation: u64, moved: bool) -> bool {
        let open = object.failure.is_none() && (object.behind() || moved);
        let meant = generation == object.generation;
        if self.is_wanted() {
            // An order does not say which generation of a leaving tunnel is its absence; there is none after it.
            open && (meant || object.leaving)
        } else {
            // Somebody asked again since: a run from before must not answer that.
            open && meant && object.retries == 0
        }
    }

    /// Whether a finding answers the look that is wanted now. A look from before the last change compared with a
    /// wish that is gone; a tunnel of the stack that waits was compared with a wish that is yet to come.
    fn answers<S>(&self, object: &Object<S>, check: CommandId) -> bool {
        let current = self.wanted.look.as_ref().is_some_and(|look| look.id == self.order);
        let asked = object.check == Some(check);
        let settled = object.observed.as_ref().is_some_and(|known| known.generation == object.generation);
        current && self.check == Some(check) && (asked || (settled && !object.leaving))
    }
}
