//! What follows from a customer's state: the orders that should be in the table.
//!
//! Orders are derived from the state at the head of the history, never from an event that passes by, so a replay issues
//! none: a change order exists if and only if desired and observed generation differ and nothing forbids it: a failure,
//! a suspension, an approval that is not given, or something that has to be gone first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wanwright_schemas::Template;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CustomerId, OrderId, SiteId, TunnelId};
use wanwright_schemas::order::{Desired, DesiredDevice, DesiredSite, DesiredTunnel, Intent, Order, Target};
use wanwright_schemas::outcome::Position;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::spec::{DeviceSpec, Peer, Settings, SiteSpec, TunnelSpec};
use wanwright_vendors::{Catalogue, Vendor};

use crate::customer::Customer;
use crate::object::Object;
pub use crate::plans::expiry;
use crate::plans::{self, Due};
use crate::settings;
pub use crate::waits::{Held, held, waits_for};
pub use crate::windows::{Gate, gate};

/// The orders a target should have: one that changes something, one that looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Bring it about or take it down.
    pub change: Option<Order>,
    /// Compare and report.
    pub look: Option<Order>,
    /// The digest of all that a stack should be, where it is not so yet: the id of the order that would bring it about if
    /// it needed no plan.
    pub wish: Option<OrderId>,
    /// Whether there is no change because a plan waits for approvals, or was rejected.
    pub plan_waits: bool,
}

/// The targets whose orders may differ after these events.
pub fn affected(state: &Customer, events: &[Event]) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    for event in events {
        match event {
            Event::Site(id, change) => {
                targets.insert(Target::Site(id.clone()));
                let devices = state.devices_of(id).map(|(id, _)| Target::Device(id.clone()));
                match change {
                    // Others wait for, or were applied with, what the site is at the vendor.
                    Change::Applied { .. } => {
                        targets.extend(devices);
                        targets.extend(
                            state.tunnels_to(id).map(|(_, tunnel)| Target::Site(tunnel.spec.site.clone())),
                        );
                    }
                    Change::Suspended { .. } | Change::Resumed {} => targets.extend(devices),
                    // Nobody waits any more for what goes with this site, or somebody does again, because it stays.
                    Change::DecommissionRequested { .. } | Change::Changed { .. } => {
                        targets.extend(leaving(state));
                    }
                    _ => {}
                }
            }
            Event::Tunnel(id, _) => match state.tunnels.get(id) {
                Some(tunnel) => targets.extend([Target::Site(tunnel.spec.site.clone())]),
                // It is gone, and whose it was went with it: a look that waited for this may be any site's.
                None => targets.extend(state.sites.keys().cloned().map(Target::Site)),
            },
            Event::Device(id, change) => {
                targets.insert(Target::Device(id.clone()));
                // Where it stood went with it, and that site may have waited for this.
                if change.is_end() {
                    targets.extend(leaving(state));
                }
            }
            Event::Customer(_, change) => {
                let concerns_all = matches!(
                    change,
                    CustomerChange::Changed { .. }
                        | CustomerChange::Suspended { .. }
                        | CustomerChange::Resumed {}
                        // They keep change windows shut.
                        | CustomerChange::Frozen { .. }
                        | CustomerChange::Unfrozen { .. }
                );
                if concerns_all {
                    targets.extend(self::targets(state));
                }
            }
        }
    }
    targets
}

/// The sites that are being taken down.
fn leaving(state: &Customer) -> impl Iterator<Item = Target> {
    let leaving = state.sites.iter().filter(|(_, site)| site.leaving);
    leaving.map(|(id, _)| Target::Site(id.clone()))
}

/// Every target the customer has.
pub fn targets(state: &Customer) -> impl Iterator<Item = Target> {
    let sites = state.sites.keys().cloned().map(Target::Site);
    sites.chain(state.devices.keys().cloned().map(Target::Device))
}

/// The orders that the targets of these events would have once they have happened: what the dispatcher would make now of
/// `state`, which is the state behind them.
pub fn that_would_follow(
    customer: &CustomerId,
    state: &Customer,
    events: &[Event],
    vendors: &Catalogue,
    now: Timestamp,
) -> Vec<Order> {
    // The position is no part of an order's identity, and a dry run has none.
    let nowhere = Position { stream: String::new(), sequence: 0 };
    let of_target = |target: Target| {
        let vendor = vendors.get(vendor_of(state, &target)?.as_str())?;
        let Wanted { change, look, .. } = wanted_at(customer, state, vendor, &target, &nowhere, now);
        let is_open = || matches!(gate(state, &target, now), Gate::Open(_));
        // What is only planned needs no window.
        let change = change.filter(|change| !change.changes() || is_open());
        Some(change.into_iter().chain(look))
    };
    affected(state, events).into_iter().filter_map(of_target).flatten().collect()
}

/// Whether something about a target was taken back before it began: a row that is left of it is nobody's wish.
pub fn was_cancelled(state: &Customer, target: &Target) -> bool {
    match target {
        Target::Site(id) => {
            state.sites.get(id).is_some_and(|site| site.cancelled)
                || state.tunnels_of(id).any(|(_, tunnel)| tunnel.cancelled)
        }
        Target::Device(id) => state.devices.get(id).is_some_and(|device| device.cancelled),
    }
}

/// The vendor of a target, if the target is there.
pub fn vendor_of<'a>(state: &'a Customer, target: &Target) -> Option<&'a wanwright_schemas::VendorId> {
    let site = match target {
        Target::Site(id) => id,
        Target::Device(id) => &state.devices.get(id)?.spec.site,
    };
    Some(&state.sites.get(site)?.spec.vendor)
}

/// The newest generation of a target that is known to have been carried out or to have failed; 0 when there is none.
pub fn tried_generation(state: &Customer, target: &Target) -> u64 {
    fn of<S>(object: &Object<S>) -> u64 {
        let observed = object.observed.as_ref().map_or(0, |observed| observed.generation);
        // A failure is always the present generation's: another one clears it.
        if object.failure.is_some() { object.generation } else { observed }
    }
    match target {
        Target::Site(id) => state.sites.get(id).map_or(0, of),
        Target::Device(id) => state.devices.get(id).map_or(0, of),
    }
}

/// The orders a target should have. `vendor` is the target's own. Whether a change may begin now is said by [`gate`]: what
/// comes of one that was begun is judged by this alone, and as if no plan were out of date.
pub fn wanted(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    target: &Target,
    position: &Position,
) -> Wanted {
    wanted_when(customer, state, vendor, target, position, None)
}

/// The orders a target should have at this moment: what is planned and out of date by then is planned anew.
pub fn wanted_at(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    target: &Target,
    position: &Position,
    now: Timestamp,
) -> Wanted {
    wanted_when(customer, state, vendor, target, position, Some(now))
}

/// The digest of all that a stack should be, whether or not anything may be done about it now; none where it is so, as
/// far as is known.
pub(crate) fn wish(customer: &CustomerId, state: &Customer, vendor: &Vendor, id: &SiteId) -> Option<OrderId> {
    let nowhere = Position { stream: String::new(), sequence: 0 };
    of_stack(customer, state, vendor, id, &nowhere, None)?.wish
}

fn wanted_when(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    target: &Target,
    position: &Position,
    now: Option<Timestamp>,
) -> Wanted {
    if held(state, target).is_some() {
        return Wanted::default();
    }
    match target {
        Target::Site(id) => of_stack(customer, state, vendor, id, position, now),
        Target::Device(id) => of_device(customer, state, vendor, id, position),
    }
    .unwrap_or_default()
}

/// Whether a stack is not as it should be, and the order about it for each intent.
fn stack_order<'a>(
    customer: &'a CustomerId,
    state: &'a Customer,
    vendor: &'a Vendor,
    id: &'a SiteId,
    position: &'a Position,
) -> Option<(bool, impl Fn(Intent) -> Order + use<'a>)> {
    let site = state.sites.get(id)?;
    let settings = settings::ordered(site, vendor)?;
    let stack = Stack::read(customer, state, vendor, id)?;
    let retries = site.retries + stack.retries;
    let behind = site.pending() || stack.pending;
    let order = move |intent: Intent| {
        let vendor = site.spec.vendor.clone();
        let desired = stack.desired(customer, id, site, &settings);
        let account = state.own.spec.accounts.get(&vendor);
        let order = Order::new(customer.clone(), vendor, intent, retries, desired, position.clone());
        let order = order.under(account).of_applied(site.observed.is_some()).of_state(site.state);
        order.by_template(site.templates.at(site.generation))
    };
    Some((behind, order))
}

/// What an executor would have to be asked to say what Terraform would do to the stacks that these events concern,
/// whatever holds them: `state` is the one behind the events.
pub fn previews(
    customer: &CustomerId,
    state: &Customer,
    events: &[Event],
    vendors: &Catalogue,
) -> Vec<Order> {
    let nowhere = Position { stream: String::new(), sequence: 0 };
    let of_target = |target: Target| {
        let Target::Site(id) = &target else { return None };
        let site = state.sites.get(id)?;
        let vendor = vendors.get(site.spec.vendor.as_str()).filter(|vendor| plans::can_plan(vendor))?;
        let (behind, order) = stack_order(customer, state, vendor, id, &nowhere)?;
        behind.then(|| order(Intent::Plan { remove: site.leaving, number: 0 }))
    };
    affected(state, events).into_iter().filter_map(of_target).collect()
}

fn of_stack(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    id: &SiteId,
    position: &Position,
    now: Option<Timestamp>,
) -> Option<Wanted> {
    let site = state.sites.get(id)?;
    let (behind, order) = stack_order(customer, state, vendor, id, position)?;
    if !behind {
        let look = site.check.map(|check| order(Intent::Observe { check }));
        return Some(Wanted { look, ..Wanted::default() });
    }
    // A look in the middle of a change would report the change itself as drift.
    let bare = order(if site.leaving { Intent::Remove } else { Intent::Apply });
    let wish = Some(bare.id);
    let change = match plans::due(state, vendor, id, site, bare.id, now) {
        Due::Bare => Some(bare),
        Due::Bound(plan) => Some(bare.bound(Some(&plan))),
        Due::Plan(number) => Some(order(Intent::Plan { remove: site.leaving, number })),
        Due::Nothing => None,
    };
    let plan_waits = change.is_none();
    Some(Wanted { change, look: None, wish, plan_waits })
}

/// The order that plans a stack by another version of its template, as the stack should be now: for what Terraform would
/// do. It is in no table.
pub(crate) fn of_template(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    id: &SiteId,
    position: &Position,
    template: &Template,
) -> Option<Order> {
    let (_, order) = stack_order(customer, state, vendor, id, position)?;
    Some(order(Intent::Plan { remove: false, number: 0 }).by_template(Some(template)))
}

/// The tunnels of a site as its stack should have them.
struct Stack {
    tunnels: BTreeMap<TunnelId, DesiredTunnel>,
    leaving: BTreeMap<TunnelId, wanwright_schemas::CommandId>,
    pending: bool,
    /// Of the tunnels above only: then a retry never brings an order back that there was before.
    retries: u64,
}

impl Stack {
    /// Nothing when one of them has settings that cannot be read now: an order without it would take it down.
    fn read(customer: &CustomerId, state: &Customer, vendor: &Vendor, site: &SiteId) -> Option<Self> {
        let mut stack =
            Self { tunnels: BTreeMap::new(), leaving: BTreeMap::new(), pending: false, retries: 0 };
        for (id, tunnel) in state.tunnels_of(site) {
            if tunnel.leaving {
                stack.leaving.insert(id.clone(), tunnel.uid);
                stack.pending |= tunnel.pending();
            } else if let Some(address) = peer_address(state, vendor, &tunnel.spec.peer) {
                stack.pending |= tunnel.pending() || tunnel_moved(state, vendor, tunnel);
                let settings = settings::ordered(tunnel, vendor)?;
                let desired = desired_tunnel(customer, id, tunnel, tunnel.generation, address, settings);
                stack.tunnels.insert(id.clone(), desired);
            } else if let Some((generation, address)) = applied_address(tunnel) {
                // What the vendor has is not taken down because its far end, or its next one, has no address now.
                let settings = settings::ordered(tunnel, vendor)?;
                let desired = desired_tunnel(customer, id, tunnel, generation, address, settings);
                stack.tunnels.insert(id.clone(), desired);
            } else {
                // It waits for its far end, whose `Applied` brings it back here.
                continue;
            }
            stack.retries += tunnel.retries;
        }
        Some(stack)
    }

    fn desired(
        &self,
        customer: &CustomerId,
        id: &SiteId,
        site: &Object<SiteSpec>,
        settings: &Settings,
    ) -> Desired {
        Desired::Site {
            site: DesiredSite {
                id: id.clone(),
                uid: site.uid,
                generation: site.generation,
                name: format!("{customer}.{id}"),
                lan: site.spec.lan.iter().map(ToString::to_string).collect(),
                settings: settings.clone(),
            },
            tunnels: self.tunnels.clone(),
            leaving: self.leaving.clone(),
        }
    }
}

fn desired_tunnel(
    customer: &CustomerId,
    id: &TunnelId,
    tunnel: &Object<TunnelSpec>,
    generation: u64,
    peer_address: String,
    settings: Settings,
) -> DesiredTunnel {
    let spec = &tunnel.spec;
    DesiredTunnel {
        uid: tunnel.uid,
        generation,
        name: format!("{customer}.{id}"),
        inside: spec.inside.to_string(),
        peer_address,
        local_asn: spec.bgp.map_or(0, |bgp| bgp.local_asn),
        peer_asn: spec.bgp.map_or(0, |bgp| bgp.peer_asn),
        settings,
    }
}

/// The values a tunnel takes from others, as its executor echoes them in the outputs.
pub fn tunnel_inputs(peer_address: &str) -> Map<String, Value> {
    Map::from_iter([("peer_address".to_owned(), json!(peer_address))])
}

fn peer_address(state: &Customer, vendor: &Vendor, peer: &Peer) -> Option<String> {
    match peer {
        Peer::Hub(hub) => vendor.hubs.get(hub).map(ToString::to_string),
        Peer::Site(site) => state.sites.get(site)?.output("address")?.as_str().map(str::to_owned),
    }
}

/// The address a tunnel was last applied with, and the generation that was.
fn applied_address(tunnel: &Object<TunnelSpec>) -> Option<(u64, String)> {
    let address = tunnel.output("inputs")?.get("peer_address")?.as_str()?;
    Some((tunnel.observed.as_ref()?.generation, address.to_owned()))
}

/// Whether a tunnel has to be applied again because its far end has another address.
pub(crate) fn tunnel_moved(state: &Customer, vendor: &Vendor, tunnel: &Object<TunnelSpec>) -> bool {
    !tunnel.leaving
        && tunnel.failure.is_none()
        && peer_address(state, vendor, &tunnel.spec.peer)
            .is_some_and(|address| tunnel.inputs_differ(&tunnel_inputs(&address)))
}

/// Whether a device has to be applied again because its site is another one at the vendor.
pub(crate) fn device_moved(state: &Customer, device: &Object<DeviceSpec>) -> bool {
    let inputs = device_inputs(state, device);
    let waits = inputs.is_empty();
    !device.leaving && !waits && device.failure.is_none() && device.inputs_differ(&inputs)
}

/// The values a device takes from its site, as its executor echoes them in the outputs.
fn device_inputs(state: &Customer, device: &Object<DeviceSpec>) -> Map<String, Value> {
    let site_id = state.sites.get(&device.spec.site).and_then(|site| site.output("id"));
    site_id.map(|value| ("site_id".to_owned(), value.clone())).into_iter().collect()
}

fn of_device(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    id: &wanwright_schemas::DeviceId,
    position: &Position,
) -> Option<Wanted> {
    let device = state.devices.get(id)?;
    let settings = settings::ordered(device, vendor)?;
    let site = state.sites.get(&device.spec.site)?;
    // Until the site is at the vendor there is nothing to attach the device to; its `Applied` brings us back here.
    let inputs = device_inputs(state, device);
    let order = |intent: Intent| {
        let desired = Desired::Device(DesiredDevice {
            id: id.clone(),
            uid: device.uid,
            generation: device.generation,
            name: format!("{customer}.{id}"),
            serial: device.spec.serial.clone(),
            model: device.spec.model.clone(),
            settings: settings.clone(),
            inputs: inputs.clone(),
            known: device.observed.as_ref().map(|observed| observed.outputs.clone()).unwrap_or_default(),
        });
        let vendor = site.spec.vendor.clone();
        let account = state.own.spec.accounts.get(&vendor);
        let retries = device.retries;
        let order = Order::new(customer.clone(), vendor, intent, retries, desired, position.clone());
        order.under(account).of_applied(device.observed.is_some())
    };
    let change = match (device.pending() || device_moved(state, device), device.leaving) {
        (true, true) => Some(order(Intent::Remove)),
        (true, false) if !inputs.is_empty() => Some(order(Intent::Apply)),
        _ => None,
    };
    let look = device
        .check
        .filter(|_| change.is_none() && !inputs.is_empty())
        .map(|check| order(Intent::Observe { check }));
    Some(Wanted { change, look, ..Wanted::default() })
}
