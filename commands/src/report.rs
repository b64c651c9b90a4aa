//! Judging a report: what an executor says becomes an event only where it is news about the object it means.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, DeviceId, OrderId, SiteId};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};

use crate::customer::Customer;
use crate::object::Object;

/// A report about a site's stack: the site and the tunnels it owns.
pub(crate) fn of_stack(state: &Customer, site: &SiteId, report: &Report) -> Vec<Event> {
    let check = state.sites.get(site).and_then(|site| site.check);
    let news = |found: &ObjectFinding| match &found.object {
        ObjectRef::Site(id) if id == site => {
            let change = news(state.sites.get(id)?, found, report.order, check)?;
            Some(Event::Site(id.clone(), change))
        }
        ObjectRef::Tunnel(id) => {
            let tunnel = state.tunnels.get(id).filter(|tunnel| &tunnel.spec.site == site)?;
            Some(Event::Tunnel(id.clone(), news(tunnel, found, report.order, check)?))
        }
        _ => None,
    };
    report.findings.iter().filter_map(news).collect()
}

/// A report about a device.
pub(crate) fn of_device(state: &Customer, device: &DeviceId, report: &Report) -> Vec<Event> {
    let news = |found: &ObjectFinding| {
        let ObjectRef::Device(id) = &found.object else { return None };
        let object = state.devices.get(id).filter(|_| id == device)?;
        Some(Event::Device(id.clone(), news(object, found, report.order, object.check)?))
    };
    report.findings.iter().filter_map(news).collect()
}

/// The change that a finding is for an object, if it is news. `check` is the look that was asked for.
fn news<S>(
    object: &Object<S>,
    found: &ObjectFinding,
    order: OrderId,
    check: Option<CommandId>,
) -> Option<Change<S>> {
    if object.uid != found.uid {
        return None;
    }
    match &found.finding {
        Finding::Applied { generation, outputs } => {
            let known = object.observed.as_ref();
            let newer = known.is_none_or(|known| known.generation < *generation || &known.outputs != outputs);
            let repairs = object.reapply || object.failure.is_some() || !object.drift.is_empty();
            let plausible =
                *generation <= object.generation && known.is_none_or(|known| known.generation <= *generation);
            (plausible && (newer || repairs)).then(|| Change::Applied {
                generation: *generation,
                order,
                outputs: outputs.clone(),
            })
        }
        Finding::Failed { generation, code, message } => (*generation == object.generation
            && object.pending())
        .then(|| Change::Failed { generation: *generation, order, code: *code, message: message.clone() }),
        Finding::Removed => object.leaving.then_some(Change::Removed { order }),
        Finding::Drifted { check: answered, fields } => (check == Some(*answered))
            .then(|| Change::DriftFound { check: *answered, fields: fields.clone() }),
        Finding::InSync { check: answered } => {
            (check == Some(*answered)).then_some(Change::DriftNotFound { check: *answered })
        }
    }
}
