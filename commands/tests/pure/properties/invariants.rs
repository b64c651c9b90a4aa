//! What must be true of a customer at any time, whatever came before.

use std::collections::BTreeSet;

use serde_json::json;
use wanwright_commands::orders::Gate;
use wanwright_commands::{Object, orders};
use wanwright_schemas::order::Intent;
use wanwright_schemas::spec::Peer;

use super::target;
use crate::harness::{World, target_of};

/// What must be true of a customer at any time.
pub fn invariants(world: &World) {
    let state = &world.state;
    let mut prefixes: Vec<_> = state.sites.values().flat_map(|site| site.spec.lan.clone()).collect();
    prefixes.extend(state.tunnels.values().map(|tunnel| tunnel.spec.inside));
    prefixes.sort_by_key(|prefix| (prefix.network(), prefix.broadcast()));
    for pair in prefixes.windows(2) {
        assert!(pair[0].broadcast() < pair[1].network(), "{} overlaps {}", pair[0], pair[1]);
    }
    for tunnel in state.tunnels.values() {
        let site = &state.sites[&tunnel.spec.site];
        assert!(tunnel.leaving || !site.leaving);
        if let Peer::Site(peer) = &tunnel.spec.peer {
            assert!(tunnel.leaving || !state.sites[peer].leaving);
        }
    }
    for device in state.devices.values() {
        assert!(device.leaving || !state.sites[&device.spec.site].leaving);
    }
    for (id, site) in &state.sites {
        let limit = if site.spec.vendor.as_str() == "northwan" { 2 } else { 1 };
        let ends = |tunnel: &wanwright_schemas::spec::TunnelSpec| {
            let same = state.sites[&tunnel.site].spec.vendor == site.spec.vendor;
            &tunnel.site == id || (same && tunnel.peer == Peer::Site(id.clone()))
        };
        assert!(state.tunnels.values().filter(|tunnel| ends(&tunnel.spec)).count() <= limit, "site {id}");
    }
    fn held_well<S>(object: &Object<S>) {
        assert!(!(object.protected && object.leaving), "what is protected does not go");
        assert!(object.approval.as_ref().is_none_or(|waiting| waiting.generation == object.generation));
    }
    state.sites.values().for_each(held_well);
    state.tunnels.values().for_each(held_well);
    state.devices.values().for_each(held_well);
    if state.own.leaving {
        assert!(!state.is_empty(), "a customer that goes is gone with the last of what it has");
        assert!(state.sites.values().all(|site| site.leaving));
        assert!(state.tunnels.values().all(|tunnel| tunnel.leaving));
        assert!(state.devices.values().all(|device| device.leaving));
    }
    for (id, site) in &state.sites {
        let can_plan = site.spec.vendor.as_str() == "northwan";
        let wanted = world.wanted_by_now(&format!("site.{id}"));
        let plans = wanted.change.is_some_and(|change| matches!(change.intent, Intent::Plan { .. }));
        assert!(can_plan || !(plans || wanted.plan_waits), "site {id} cannot be planned");
    }
    let serials: BTreeSet<&str> = state.devices.values().map(|device| device.spec.serial.as_str()).collect();
    assert_eq!(serials.len(), state.devices.len());
}

/// A change order exists exactly while something is behind, has not failed, is not held and waits for nobody.
pub fn orders_follow(world: &World) {
    fn due<S>(object: &Object<S>) -> bool {
        let done = object.observed.as_ref().is_some_and(|observed| observed.generation == object.generation);
        object.failure.is_none() && (object.leaving || object.reapply || !done)
    }
    let state = &world.state;
    let inputs = |outputs: Option<&serde_json::Map<String, serde_json::Value>>, name: &str| {
        outputs.and_then(|outputs| outputs.get("inputs")?.get(name).cloned())
    };
    let address = |peer: &Peer| match peer {
        Peer::Hub(_) => Some(json!("198.51.100.1")),
        Peer::Site(site) => {
            state.sites.get(site)?.observed.as_ref().and_then(|seen| seen.outputs.get("address").cloned())
        }
    };
    for (id, site) in &state.sites {
        let tunnels = state.tunnels.values().filter(|tunnel| &tunnel.spec.site == id).any(|tunnel| {
            let now = address(&tunnel.spec.peer);
            let then = inputs(tunnel.observed.as_ref().map(|seen| &seen.outputs), "peer_address");
            let moved = tunnel.failure.is_none() && then.is_some() && now != then;
            (tunnel.leaving && due(tunnel)) || (now.is_some() && (due(tunnel) || moved))
        });
        let unapproved = site.approval.is_some()
            || state.tunnels.values().any(|tunnel| &tunnel.spec.site == id && tunnel.approval.is_some());
        let held = state.own.suspended.is_some() || site.suspended.is_some() || unapproved;
        // A site goes after its devices and after the tunnels that stacks which stay have to it.
        let used = state.devices.values().any(|device| &device.spec.site == id)
            || state.tunnels.values().any(|tunnel| {
                tunnel.spec.peer == Peer::Site(id.clone()) && !state.sites[&tunnel.spec.site].leaving
            });
        let wanted = world.wanted(&format!("site.{id}"));
        let expected = !held && (due(site) || tunnels) && !(site.leaving && used);
        // A plan that waits keeps back the change, and the look as well.
        let change = wanted.change.is_some() || wanted.plan_waits;
        assert_eq!(change, expected, "site {id}");
        let look = !held && site.check.is_some() && !change;
        assert_eq!(wanted.look.is_some(), look, "site {id}");
    }
    for (id, device) in &state.devices {
        let now =
            state.sites[&device.spec.site].observed.as_ref().and_then(|seen| seen.outputs.get("id").cloned());
        let then = inputs(device.observed.as_ref().map(|seen| &seen.outputs), "site_id");
        let moved = device.failure.is_none() && then.is_some() && now != then;
        let wanted = world.wanted(&format!("device.{id}"));
        let held = state.own.suspended.is_some()
            || state.sites[&device.spec.site].suspended.is_some()
            || device.suspended.is_some()
            || device.approval.is_some();
        let expected = if device.leaving { due(device) } else { now.is_some() && (due(device) || moved) };
        assert_eq!(wanted.change.is_some(), !held && expected, "device {id}");
        let look = !held && device.check.is_some() && wanted.change.is_none() && now.is_some();
        assert_eq!(wanted.look.is_some(), look, "device {id}");
    }
}

/// Whatever changed in the table of orders is among the targets that were said to be affected, and a generation
/// grows by one.
pub fn nothing_is_missed(before: &World, after: &World) {
    let news = &after.history[before.history.len()..];
    let events: Vec<_> = news.iter().flat_map(|(_, events)| events.clone()).collect();
    let affected = orders::affected(&after.state, &events);
    for number in 0..6 {
        let name = target(number);
        let ids = |world: &World| {
            let wanted = world.wanted_by(&name, after.now);
            let gate = orders::gate(&world.state, &target_of(&name), after.now);
            let is_open = wanted.change.as_ref().map(|_| matches!(gate, Gate::Open(_)));
            (wanted.change.map(|order| order.id), wanted.look.map(|order| order.id), is_open)
        };
        let target = target_of(&name);
        let gone = orders::vendor_of(&after.state, &target).is_none();
        assert!(gone || ids(before) == ids(after) || affected.contains(&target), "{target} was missed");
    }
    for (id, site) in &after.state.sites {
        let old =
            before.state.sites.get(id).filter(|old| old.uid == site.uid).map_or(0, |old| old.generation);
        assert!((old..=old + 1).contains(&site.generation));
    }
}
