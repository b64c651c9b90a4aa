//! Change windows: what they postpone, and what need not wait for one.
//!
//! A window says when a vendor may be changed, so it is judged when something is to be done, not when it is asked for:
//! [`gate`] tells the dispatcher whether a change may begin now. A freeze that is in force keeps every window shut. What
//! decisions note of this (`Postponed`, `Due`) is for who reads, and holds nothing: a window that was missed is followed
//! by the next one, without anybody deciding that.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wanwright_schemas::Actor;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{DeviceId, SiteId};
use wanwright_schemas::order::Target;
use wanwright_schemas::policy::{CustomerChange, CustomerSpec, Name};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::window::{ReleaseBody, Window, WindowKind};

use crate::approvals;
use crate::calendar::{self, Calendar};
use crate::customer::Customer;
use crate::holds::{self, reason};
use crate::object::{Object, Postponement};

/// Most windows of one customer.
const MOST: usize = 16;

/// Whether a change may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may, until this moment; for as long as can be told where there is none.
    Open(Option<Timestamp>),
    /// It may not before this moment; none where no window opens as far as can be told.
    Shut(Option<Timestamp>),
}

/// Whether a change of a target may begin now, as far as its change windows go.
pub fn gate(state: &Customer, target: &Target, now: Timestamp) -> Gate {
    let (kind, is_released) = match target {
        Target::Site(id) => (WindowKind::Site, stack_is_released(state, id)),
        Target::Device(id) => {
            (WindowKind::Device, state.devices.get(id).is_some_and(|device| device.released))
        }
    };
    match Calendar::of(&state.own, kind) {
        Some(calendar) if !is_released => {
            if calendar.is_open(now) {
                Gate::Open(calendar.next(now, false))
            } else {
                Gate::Shut(calendar.next(now, true))
            }
        }
        _ => Gate::Open(None),
    }
}

/// A stack is brought about as a whole, so it need not wait only where nothing that is to be done in it has to.
fn stack_is_released(state: &Customer, id: &SiteId) -> bool {
    let site = state.sites.get(id).filter(|site| site.pending()).map(|site| site.released);
    let tunnels =
        state.tunnels_of(id).filter(|(_, tunnel)| tunnel.pending()).map(|(_, tunnel)| tunnel.released);
    let mut pending = site.into_iter().chain(tunnels).peekable();
    pending.peek().is_some() && pending.all(|released| released)
}

/// Refuses windows that never open, and more of them than a customer may have.
pub(crate) fn can_open(spec: &CustomerSpec) -> Result<(), Refusal> {
    if spec.windows.len() > MOST {
        let message = format!("a customer has at most {MOST} windows, not {}", spec.windows.len());
        return Err(Refusal::new(Reason::TooMany, message).field("windows"));
    }
    for (name, window) in &spec.windows {
        let of = |field: &str| format!("windows.{name}.{field}");
        calendar::zone_of(&window.zone).map_err(|refusal| refusal.field(of("zone")))?;
        for (field, is_empty) in [("days", window.days.is_empty()), ("kinds", window.kinds.is_empty())] {
            if is_empty {
                let message = format!("the window `{name}` has no {field}, so it would never open");
                return Err(Refusal::new(Reason::InvalidValue, message).field(of(field)));
            }
        }
    }
    Ok(())
}

/// Whether these windows are open for a kind when those were not, as far as can be told without a calendar: each has to
/// lie in one of those, in the same zone.
pub(crate) fn are_wider(
    before: &BTreeMap<Name, Window>,
    after: &BTreeMap<Name, Window>,
    kind: WindowKind,
) -> bool {
    let about = |windows: &'_ BTreeMap<Name, Window>| -> Vec<Window> {
        windows.values().filter(|window| window.kinds.contains(&kind)).cloned().collect()
    };
    let (before, after) = (about(before), about(after));
    let lies_in_one = |window: &Window| before.iter().any(|outer| lies_in(window, outer));
    !before.is_empty() && (after.is_empty() || !after.iter().all(lies_in_one))
}

fn lies_in(inner: &Window, outer: &Window) -> bool {
    let end = |window: &Window| (window.to <= window.from, window.to);
    inner.zone == outer.zone
        && inner.days.is_subset(&outer.days)
        && outer.from <= inner.from
        && end(inner) <= end(outer)
}

/// The events, with what change windows make of them behind.
pub(crate) fn with_postponements(state: &Customer, events: Vec<Event>, now: Timestamp) -> Vec<Event> {
    if events.iter().any(judges_anew) {
        let mut own = state.own.clone();
        for event in &events {
            if let Event::Customer(_, change) = event {
                own.evolve(change);
            }
        }
        let judged = [WindowKind::Site, WindowKind::Device].map(|kind| judge(Calendar::of(&own, kind), now));
        return events.into_iter().chain(anew(state, &judged)).collect();
    }
    if state.own.spec.windows.is_empty() {
        return events;
    }
    let judged =
        [WindowKind::Site, WindowKind::Device].map(|kind| judge(Calendar::of(&state.own, kind), now));
    let [of_site, of_device] = &judged;
    let mut all = Vec::with_capacity(events.len());
    let mut rest = events.into_iter().peekable();
    while let Some(event) = rest.next() {
        let waits = rest.peek().is_some_and(waits);
        let postponed = match &event {
            Event::Site(id, change) => {
                let generation = begins(state.sites.get(id), change, waits);
                generation.and_then(|at| postponed(at, of_site)).map(|change| Event::Site(id.clone(), change))
            }
            Event::Tunnel(id, change) => {
                let generation = begins(state.tunnels.get(id), change, waits);
                generation
                    .and_then(|at| postponed(at, of_site))
                    .map(|change| Event::Tunnel(id.clone(), change))
            }
            Event::Device(id, change) => {
                let generation = begins(state.devices.get(id), change, waits);
                generation
                    .and_then(|at| postponed(at, of_device))
                    .map(|change| Event::Device(id.clone(), change))
            }
            Event::Customer(..) => None,
        };
        all.push(event);
        all.extend(postponed);
    }
    all
}

/// Whether all that waits is to be judged anew: there are other windows or freezes, or something goes on that rested.
fn judges_anew(event: &Event) -> bool {
    matches!(
        event,
        Event::Customer(
            _,
            CustomerChange::Changed { .. }
                | CustomerChange::Frozen { .. }
                | CustomerChange::Unfrozen { .. }
                | CustomerChange::Resumed {}
        ) | Event::Site(_, Change::Resumed {})
            | Event::Device(_, Change::Resumed {})
    )
}

/// Whether an event says that another one before it waits, for an approval or a plan.
fn waits(event: &Event) -> bool {
    let plan = matches!(
        event,
        Event::Site(_, Change::PlanRequested { .. }) | Event::Tunnel(_, Change::PlanRequested { .. })
    );
    plan || approvals::is_request(event)
}

/// The postponement of what is asked for now, if it is postponed.
pub(crate) fn judge(calendar: Option<Calendar<'_>>, now: Timestamp) -> Option<Postponement> {
    let calendar = calendar.filter(|calendar| !calendar.is_open(now))?;
    let until = calendar.next(now, true);
    Some(Postponement { until, window: until.and_then(|until| calendar.window_at(until)).cloned() })
}

fn postponed<S>(generation: u64, judged: &Option<Postponement>) -> Option<Change<S>> {
    let Postponement { until, window } = judged.clone()?;
    Some(Change::Postponed { generation, until, window })
}

/// The generation that a change would have begun, were it not for windows. `waits`: it asks for approval.
fn begins<S>(object: Option<&Object<S>>, change: &Change<S>, waits: bool) -> Option<u64> {
    let approval = object.and_then(|object| object.approval.as_ref());
    match change {
        Change::Created { generation, .. }
        | Change::Changed { generation, .. }
        | Change::DecommissionRequested { generation } => (!waits).then_some(*generation),
        // A site that is created with a version begins with its creation.
        Change::TemplateAssigned { generation, .. } => (object.is_some() && !waits).then_some(*generation),
        Change::RetryRequested { .. } if approval.is_none() && !waits => {
            object.map(|object| object.generation)
        }
        Change::Approved { generation, plan: Some(_), .. } => {
            let planned = object.filter(|object| !object.released)?.plan.as_ref()?;
            let is_last = planned.approval.approved_by.len() + 1 >= planned.approval.needed();
            is_last.then_some(*generation)
        }
        Change::Approved { generation, plan: None, .. } if object.is_some_and(|object| !object.released) => {
            let is_last = approval.is_some_and(|waiting| waiting.approved_by.len() + 1 >= waiting.needed());
            is_last.then_some(*generation)
        }
        _ => None,
    }
}

/// What another judgement says of everything that waits, where it says something else.
fn anew(state: &Customer, [of_site, of_device]: &[Option<Postponement>; 2]) -> Vec<Event> {
    let sites = state.sites.iter();
    let sites = sites.filter_map(|(id, site)| Some(Event::Site(id.clone(), again(site, of_site)?)));
    let tunnels = state.tunnels.iter();
    let tunnels = tunnels.filter_map(|(id, tunnel)| Some(Event::Tunnel(id.clone(), again(tunnel, of_site)?)));
    let devices = state.devices.iter();
    let devices =
        devices.filter_map(|(id, device)| Some(Event::Device(id.clone(), again(device, of_device)?)));
    sites.chain(tunnels).chain(devices).collect()
}

pub(crate) fn again<S>(object: &Object<S>, judged: &Option<Postponement>) -> Option<Change<S>> {
    let waits = object.pending() && !object.released && object.approval.is_none();
    if !waits || object.postponed == *judged {
        return None;
    }
    Some(postponed(object.generation, judged).unwrap_or(Change::Due { generation: object.generation }))
}

/// Lets everything in a site's stack through that waits for a window.
pub(crate) fn release_stack(
    state: &Customer,
    id: &SiteId,
    body: &ReleaseBody,
    actor: &Actor,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let name = format!("site/{id}");
    let site = holds::present(state.sites.get(id), &name)?;
    is_shut(state, &Target::Site(id.clone()), &name, now)?;
    let of_site = released(site, body, actor)?.map(|change| Event::Site(id.clone(), change));
    let mut events = Vec::from_iter(of_site);
    for (id, tunnel) in state.tunnels_of(id) {
        events.extend(released(tunnel, body, actor)?.map(|change| Event::Tunnel(id.clone(), change)));
    }
    if events.is_empty() { Err(nothing(&name)) } else { Ok(events) }
}

/// Lets a device through that waits for a window.
pub(crate) fn release_device(
    state: &Customer,
    id: &DeviceId,
    body: &ReleaseBody,
    actor: &Actor,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let name = format!("device/{id}");
    let device = holds::present(state.devices.get(id), &name)?;
    is_shut(state, &Target::Device(id.clone()), &name, now)?;
    let change = released(device, body, actor)?.ok_or_else(|| nothing(&name))?;
    Ok(vec![Event::Device(id.clone(), change)])
}

fn is_shut(state: &Customer, target: &Target, name: &str, now: Timestamp) -> Result<(), Refusal> {
    match gate(state, target, now) {
        Gate::Shut(_) => Ok(()),
        Gate::Open(_) => Err(nothing(name)),
    }
}

fn released<S>(object: &Object<S>, body: &ReleaseBody, actor: &Actor) -> Result<Option<Change<S>>, Refusal> {
    let reason = reason(&body.reason)?.to_owned();
    let waits = object.pending() && !object.released && !object.is_rejected();
    let (generation, released_by) = (object.generation, actor.clone());
    Ok(waits.then_some(Change::Released { generation, released_by, reason }))
}

fn nothing(name: &str) -> Refusal {
    Refusal::new(Reason::NothingToRelease, format!("nothing about {name} waits for a change window"))
}
