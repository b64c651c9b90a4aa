//! Taking down what depends on each other: a site with everything that uses it, a customer with everything it has.
//!
//! One command decides all of it, so either everything is asked to go or nothing. The order in which it goes is a
//! matter of the orders that follow (`orders::waits_for`), not of the events.

use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CustomerId, SiteId};
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;
use crate::object::Object;
use crate::plans;

/// How many names a refusal lists before it only counts.
const NAMED: usize = 50;

/// Asks a site and everything that uses it to go: its devices, its tunnels, and those of other sites that end there.
///
/// # Errors
/// [`Reason::Protected`], naming every object that is protected.
pub(crate) fn of_site(state: &Customer, id: &SiteId) -> Result<Vec<Event>, Refusal> {
    let mut going = Going::default();
    state
        .devices_of(id)
        .for_each(|(id, device)| going.take(device, false, |change| Event::Device(id.clone(), change)));
    state.tunnels_of(id).chain(state.tunnels_to(id)).for_each(|(id, tunnel)| {
        let rejected = plans::is_rejected(state, &tunnel.spec.site);
        going.take(tunnel, rejected, |change| Event::Tunnel(id.clone(), change));
    });
    if let Some(site) = state.sites.get(id) {
        going.take(site, plans::is_rejected(state, id), |change| Event::Site(id.clone(), change));
    }
    going.all(&format!("site/{id}"))
}

/// Asks everything the customer has to go.
///
/// # Errors
/// As [`of_site`].
pub(crate) fn of_customer(state: &Customer, customer: &CustomerId) -> Result<Vec<Event>, Refusal> {
    let mut going = Going::default();
    state
        .devices
        .iter()
        .for_each(|(id, device)| going.take(device, false, |change| Event::Device(id.clone(), change)));
    state.tunnels.iter().for_each(|(id, tunnel)| {
        let rejected = plans::is_rejected(state, &tunnel.spec.site);
        going.take(tunnel, rejected, |change| Event::Tunnel(id.clone(), change));
    });
    state.sites.iter().for_each(|(id, site)| {
        going.take(site, plans::is_rejected(state, id), |change| Event::Site(id.clone(), change));
    });
    going.all(&format!("customer/{customer}"))
}

/// The end of a customer, where these events take away the last of what it has.
pub(crate) fn end_of(state: &Customer, customer: &CustomerId, events: &[Event]) -> Option<Event> {
    let removed = events.iter().filter(|event| is_removal(event)).count();
    let there = state.sites.len() + state.tunnels.len() + state.devices.len();
    (state.own.leaving && there == removed)
        .then(|| Event::Customer(customer.clone(), CustomerChange::Removed {}))
}

fn is_removal(event: &Event) -> bool {
    matches!(
        event,
        Event::Site(_, Change::Removed { .. })
            | Event::Tunnel(_, Change::Removed { .. })
            | Event::Device(_, Change::Removed { .. })
    )
}

/// What goes, and what may not.
#[derive(Default)]
struct Going {
    events: Vec<Event>,
    protected: Vec<ObjectRef>,
}

impl Going {
    /// `rejected`: the plan of the object's stack was.
    fn take<S>(&mut self, object: &Object<S>, rejected: bool, event: impl FnOnce(Change<S>) -> Event) {
        if object.leaving && !object.is_rejected() && !rejected {
            return;
        }
        let event = event(Change::DecommissionRequested { generation: object.generation + 1 });
        if object.protected {
            self.protected.push(event.object());
        }
        self.events.push(event);
    }

    fn all(self, what: &str) -> Result<Vec<Event>, Refusal> {
        if self.protected.is_empty() {
            return Ok(self.events);
        }
        let message =
            format!("{what} cannot go, because of what is protected: {}", listed(&self.protected, NAMED));
        Err(Refusal::new(Reason::Protected, message))
    }
}

/// Names, the first of them only when there are many.
pub(crate) fn listed(objects: &[ObjectRef], most: usize) -> String {
    let shown: Vec<String> = objects.iter().take(most).map(ToString::to_string).collect();
    let more = objects.len().saturating_sub(most);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
