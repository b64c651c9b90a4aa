//! Change windows that were missed: until when what waits for the next one is postponed.
//!
//! Nothing is decided when a window closes, so a postponement tells of a moment that is over once its window was missed,
//! because the vendor was slow or nobody worked. Whatever is decided next for the customer says anew when the next one
//! opens, a report included: reports are what comes behind a window in which not everything got through. Until then the
//! read side says that it was missed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wanwright_schemas::ObjectRef;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::window::WindowKind;

use crate::calendar::Calendar;
use crate::customer::Customer;
use crate::object::{Object, Postponement};
use crate::windows;

/// How many postponements one command renews. The others are for the next ones: a command must not grow with what waits
/// beside it.
const MOST: usize = 64;

/// The events, with a new postponement behind them of each object that has missed its window and that they are not about.
/// Where nothing was decided nothing is added, and what is about the customer itself judges what waits by itself.
pub(crate) fn with_renewals(state: &Customer, mut events: Vec<Event>, now: Timestamp) -> Vec<Event> {
    let is_own = events.iter().any(|event| matches!(event, Event::Customer(..)));
    if events.is_empty() || is_own || state.own.spec.windows.is_empty() {
        return events;
    }
    let judged = |kind| LazyCell::new(move || windows::judge(Calendar::of(&state.own, kind), now));
    let (of_site, of_device) = (judged(WindowKind::Site), judged(WindowKind::Device));
    let sites = missed(&state.sites, now, || &*of_site, Event::Site);
    let tunnels = missed(&state.tunnels, now, || &*of_site, Event::Tunnel);
    let devices = missed(&state.devices, now, || &*of_device, Event::Device);
    // As many objects may have missed their window as the events are about.
    let about: BTreeSet<ObjectRef> = events.iter().map(Event::object).collect();
    let is_other = |missed: &Event| !about.contains(&missed.object());
    let missed: Vec<Event> = sites.chain(tunnels).chain(devices).filter(is_other).take(MOST).collect();
    events.extend(missed);
    events
}

/// What is said of the objects whose postponement is over and that still wait. What waits for a window that is open now
/// begins in it.
fn missed<'a, I: Clone, S>(
    objects: &'a BTreeMap<I, Object<S>>,
    now: Timestamp,
    judged: impl Fn() -> &'a Option<Postponement>,
    event: impl Fn(I, Change<S>) -> Event,
) -> impl Iterator<Item = Event> {
    let is_over = move |object: &Object<S>| {
        object.postponed.as_ref().and_then(|postponed| postponed.until).is_some_and(|until| until <= now)
    };
    let anew = move |(id, object): (&I, &Object<S>)| {
        let next = Some(judged()).filter(|judged| judged.is_some())?;
        Some(event(id.clone(), windows::again(object, next)?))
    };
    objects.iter().filter(move |(_, object)| is_over(object)).filter_map(anew)
}
