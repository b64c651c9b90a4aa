//! The rules as anybody could say them who never saw how they are decided: about a state, and about two that follow each
//! other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use wanwright_commands::{Customer, Object};
use wanwright_schemas::SiteId;
use wanwright_schemas::spec::{Peer, TunnelSpec};

/// Every rule that a state breaks, in a sentence each. `most` is how many tunnels the vendor allows at a site.
pub fn broken(state: &Customer, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    prefixes(state, &mut found);
    ends(state, most, &mut found);
    serials(state, &mut found);
    state.sites.iter().for_each(|(id, site)| known(id, site, &mut found));
    state.tunnels.iter().for_each(|(id, tunnel)| known(id, tunnel, &mut found));
    state.devices.iter().for_each(|(id, device)| known(id, device, &mut found));
    found
}

/// Every rule that is broken between a state and the next one.
pub fn leapt(before: &Customer, after: &Customer) -> Vec<String> {
    let mut found = Vec::new();
    steps(&before.sites, &after.sites, &mut found);
    steps(&before.tunnels, &after.tunnels, &mut found);
    steps(&before.devices, &after.devices, &mut found);
    found
}

/// No two networks share an address, whether they are of sites or inside of tunnels.
fn prefixes(state: &Customer, found: &mut Vec<String>) {
    let of_sites =
        state.sites.iter().flat_map(|(id, site)| site.spec.lan.iter().map(move |lan| (lan, id.as_str())));
    let inside = state.tunnels.iter().map(|(id, tunnel)| (&tunnel.spec.inside, id.as_str()));
    let mut all: Vec<_> = of_sites
        .chain(inside)
        .map(|(net, whose)| (u32::from(net.network()), u32::from(net.broadcast()), net, whose))
        .collect();
    all.sort();
    for pair in all.windows(2) {
        let ((_, last, net, whose), (first, _, other, whose_other)) = (pair[0], pair[1]);
        if first <= last {
            found.push(format!("{net} of {whose} overlaps {other} of {whose_other}"));
        }
    }
}

/// Whatever is there is at a site that is there, and what stays at one that stays; no site has more tunnels than its vendor
/// allows. Only where both sites of a tunnel go, one may be gone before the other's stack is.
fn ends(state: &Customer, most: usize, found: &mut Vec<String>) {
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    let mut end = |what: &str, leaving: bool, site: &SiteId, may_be_gone: bool| match state.sites.get(site) {
        None if !may_be_gone => found.push(format!("{what} is at {site}, which is not there")),
        Some(end) if end.leaving && !leaving => found.push(format!("{what} stays at {site}, which goes")),
        None | Some(_) => {}
    };
    for (id, tunnel) in &state.tunnels {
        let (what, own) = (format!("tunnel {id}"), &tunnel.spec.site);
        end(&what, tunnel.leaving, own, false);
        *at.entry(own.as_str()).or_default() += 1;
        if let Peer::Site(peer) = &tunnel.spec.peer {
            let both_go = tunnel.leaving && state.sites.get(own).is_some_and(|site| site.leaving);
            end(&what, tunnel.leaving, peer, both_go);
            *at.entry(peer.as_str()).or_default() += 1;
        }
    }
    for (id, device) in &state.devices {
        end(&format!("device {id}"), device.leaving, &device.spec.site, false);
    }
    let leads_back = |tunnel: &TunnelSpec| tunnel.peer == Peer::Site(tunnel.site.clone());
    let own = state.tunnels.iter().filter(|(_, tunnel)| leads_back(&tunnel.spec));
    found.extend(own.map(|(id, _)| format!("tunnel {id} leads to where it begins")));
    let over = at.into_iter().filter(|(_, count)| *count > most);
    found.extend(over.map(|(site, count)| format!("site {site} has {count} tunnels of {most}")));
}

/// No serial number is there twice.
fn serials(state: &Customer, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (id, device) in &state.devices {
        if !seen.insert(device.spec.serial.as_str()) {
            found.push(format!("device {id} has the serial number {} of another", device.spec.serial));
        }
    }
}

/// Nothing is at the vendor that was never asked for.
fn known<S>(id: &impl Display, object: &Object<S>, found: &mut Vec<String>) {
    let observed = object.observed.as_ref().map_or(0, |observed| observed.generation);
    if object.generation == 0 || observed > object.generation {
        found.push(format!("{id} was asked for in generation {} and is in {observed}", object.generation));
    }
}

/// A generation follows the one before, and what goes does not come back; only a namesake begins anew.
fn steps<I: Ord + Display, S>(
    before: &BTreeMap<I, Object<S>>,
    after: &BTreeMap<I, Object<S>>,
    found: &mut Vec<String>,
) {
    for (id, now) in after {
        let Some(was) = before.get(id).filter(|was| was.uid == now.uid) else { continue };
        if !(was.generation..=was.generation + 1).contains(&now.generation) {
            found.push(format!("{id} leapt from generation {} to {}", was.generation, now.generation));
        }
        if was.leaving && !now.leaving {
            found.push(format!("{id} was going and stays"));
        }
    }
}
