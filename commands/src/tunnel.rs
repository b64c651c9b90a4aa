//! Decisions about a tunnel.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::command::Ask;
use wanwright_schemas::event::Change;
use wanwright_schemas::ids::{SiteId, TunnelId};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::{Peer, TunnelSpec};
use wanwright_vendors::Vendor;

use crate::addresses;
use crate::cancel;
use crate::customer::Customer;
use crate::decide::{self, Circumstances, absent, changed, live, patched, unchanged};
use crate::object::Object;
use crate::plans;
use crate::revert;
use crate::settings;

pub(crate) fn decide(
    state: &Customer,
    id: &TunnelId,
    ask: &Ask<TunnelSpec>,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<TunnelSpec>>, Refusal> {
    let name = format!("tunnel/{id}");
    let present = state.tunnels.get(id);
    let rejected = present.is_some_and(|tunnel| plans::is_rejected(state, &tunnel.spec.site));
    match ask {
        Ask::Create(spec) => {
            absent(present, &name)?;
            let vendor = vendor_of(state, &spec.site, facts)?;
            room(state, id, &spec.site, vendor, "site")?;
            let spec = checked(state, id, spec, None, vendor, facts)?;
            room_at_peer(state, id, &spec.peer, vendor)?;
            Ok(vec![Change::Created {
                generation: 1,
                spec,
                schema: settings::reference::<TunnelSpec>(vendor),
            }])
        }
        Ask::Change(patch) => {
            let tunnel = live(present, &name)?;
            let vendor = settings::vendor_at(state, &tunnel.spec.site, facts);
            let before = settings::as_spoken(tunnel, vendor, &name, facts)?;
            let Some(spec) = patched(&before, patch)? else { return Ok(Vec::new()) };
            unchanged(&tunnel.spec.site, &spec.site, "site")?;
            let vendor = vendor_of(state, &spec.site, facts)?;
            let spec = checked(state, id, &spec, Some(tunnel), vendor, facts)?;
            // Where a tunnel is already, it has its room.
            if spec.peer != tunnel.spec.peer {
                room_at_peer(state, id, &spec.peer, vendor)?;
            }
            Ok(changed(tunnel, spec, vendor))
        }
        Ask::Revert(body) => {
            let tunnel = revert::revertible(present, &name, body, rejected)?;
            let vendor = vendor_of(state, &tunnel.spec.site, facts)?;
            let spec = revert::former(tunnel, &name, body, vendor, facts)?;
            let spec = checked(state, id, &spec, Some(tunnel), vendor, revert::as_stored(facts))?;
            if spec.peer != tunnel.spec.peer {
                room_at_peer(state, id, &spec.peer, vendor)?;
            }
            Ok(revert::reverted(tunnel, spec, body, vendor))
        }
        Ask::Cancel => {
            let tunnel = cancel::cancellable(present, &name, facts)?;
            let Some(former) = cancel::former(tunnel) else {
                return cancel::never_applied(tunnel, &name, facts);
            };
            let vendor = vendor_of(state, &tunnel.spec.site, facts)?;
            let spec = revert::former(tunnel, &name, &former, vendor, facts)?;
            let spec = checked(state, id, &spec, Some(tunnel), vendor, revert::as_stored(facts))?;
            if spec.peer != tunnel.spec.peer {
                room_at_peer(state, id, &spec.peer, vendor)?;
            }
            Ok(cancel::restored(tunnel, spec, &former, vendor, facts))
        }
        Ask::Decommission(_) => decide::decommission(present, &name, rejected),
        Ask::Retry => decide::retry(present, &name, plans::tunnel_is_stuck(state, present, facts)),
        // A tunnel is looked at, reported about, suspended and released with its site.
        Ask::CheckDrift
        | Ask::Report(_)
        | Ask::Suspend(_)
        | Ask::Resume
        | Ask::Protect
        | Ask::Unprotect
        | Ask::Approve(_)
        | Ask::Reject(_)
        | Ask::Release(_)
        | Ask::AssignTemplate(_)
        | Ask::Note(_)
        | Ask::Acknowledge(_) => {
            Err(Refusal::new(Reason::UnknownVerb, format!("`{}` is not a verb of a tunnel", ask.verb())))
        }
    }
}

/// The vendor of a site that has to be there, and to stay.
pub(crate) fn vendor_of<'a>(
    state: &Customer,
    site: &SiteId,
    facts: Circumstances<'a>,
) -> Result<&'a Vendor, Refusal> {
    let vendor = match live(state.sites.get(site), &format!("site/{site}")) {
        Ok(site) => &site.spec.vendor,
        Err(refusal) => return Err(Refusal::new(Reason::SiteMissing, refusal.message).field("site")),
    };
    decide::vendor(facts, vendor)
}

fn checked(
    state: &Customer,
    id: &TunnelId,
    spec: &TunnelSpec,
    present: Option<&Object<TunnelSpec>>,
    vendor: &Vendor,
    facts: Circumstances<'_>,
) -> Result<TunnelSpec, Refusal> {
    match &spec.peer {
        Peer::Site(peer) if peer == &spec.site => {
            let message = format!("a tunnel of site/{peer} cannot end at the same site");
            return Err(Refusal::new(Reason::InvalidValue, message).field("peer.site"));
        }
        Peer::Site(peer) => {
            if let Err(refusal) = live(state.sites.get(peer), &format!("site/{peer}")) {
                return Err(Refusal::new(Reason::SiteMissing, refusal.message).field("peer.site"));
            }
        }
        Peer::Hub(hub) if !vendor.hubs.contains_key(hub) => {
            let known: Vec<&str> = vendor.hubs.keys().map(String::as_str).collect();
            let message = format!("{} has no hub `{hub}`; it has {}", vendor.title, known.join(", "));
            return Err(Refusal::new(Reason::UnknownHub, message).field("peer.hub"));
        }
        Peer::Hub(_) => {}
    }
    if !matches!(spec.inside.prefix_len(), 30 | 31) {
        let message = format!("{} is not a /30 or /31", spec.inside);
        return Err(Refusal::new(Reason::InvalidValue, message).field("inside"));
    }
    addresses::well_formed(spec.inside, "inside")?;
    addresses::free(state, spec.inside, &ObjectRef::Tunnel(id.clone()), "inside")?;
    if let Some(bgp) = spec.bgp {
        assigned(bgp.local_asn, "bgp.local_asn")?;
        assigned(bgp.peer_asn, "bgp.peer_asn")?;
    }
    settings::read(spec, present, vendor, facts)
}

/// The same rule for the far end, if it is a site of the same vendor. Two vendors count each their own end, and the far
/// one knows nothing of this tunnel.
fn room_at_peer(state: &Customer, id: &TunnelId, peer: &Peer, vendor: &Vendor) -> Result<(), Refusal> {
    let Peer::Site(peer) = peer else { return Ok(()) };
    let same = state.sites.get(peer).is_some_and(|peer| peer.spec.vendor.as_str() == vendor.name);
    if same { room(state, id, peer, vendor, "peer.site") } else { Ok(()) }
}

/// Refuses a tunnel at a site that has as many as its vendor allows: those that start there, and those of the same vendor
/// that end there.
fn room(state: &Customer, id: &TunnelId, site: &SiteId, vendor: &Vendor, field: &str) -> Result<(), Refusal> {
    let limit = usize::try_from(vendor.limits.tunnels_per_site).unwrap_or(usize::MAX);
    let same = |tunnel: &Object<TunnelSpec>| {
        let owner = state.sites.get(&tunnel.spec.site);
        owner.is_some_and(|owner| owner.spec.vendor.as_str() == vendor.name)
    };
    let starting = state.tunnels_of(site);
    let ending = state.tunnels_to(site).filter(|(_, tunnel)| same(tunnel));
    if starting.chain(ending).filter(|(other, _)| *other != id).count() < limit {
        return Ok(());
    }
    let message = format!("site/{site} has {limit} tunnels, as many as {} allows", vendor.title);
    Err(Refusal::new(Reason::TunnelLimitReached, message).field(field))
}

/// Refuses the autonomous system numbers that nobody may use: 0 (RFC 7607), 23456 (RFC 6793), the last of 16 bits and
/// of 32 bits (RFC 7300), and those kept for documentation (RFC 5398).
fn assigned(asn: u32, field: &str) -> Result<(), Refusal> {
    if matches!(asn, 0 | 23456 | 64496..=64511 | 65535 | 65536..=65551 | u32::MAX) {
        let message = format!("{asn} is reserved and no usable autonomous system number");
        return Err(Refusal::new(Reason::InvalidValue, message).field(field));
    }
    Ok(())
}
