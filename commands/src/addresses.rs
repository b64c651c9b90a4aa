//! Prefixes of one customer never overlap: LANs, tunnels, all of them together.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use wanwright_schemas::ObjectRef;
use wanwright_schemas::reason::{Reason, Refusal};

use crate::customer::Customer;

/// Whether two prefixes share an address.
fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Addresses that no host can have: "this network" (RFC 791), loopback (RFC 1122), multicast (RFC 5771) and what is
/// reserved (RFC 1112), the broadcast address among it.
const NEVER: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Refuses a prefix with host bits, for `10.7.0.1/24` is a typing error more often than a wish, and one that holds
/// addresses no host can have.
pub(crate) fn well_formed(prefix: Ipv4Net, field: &str) -> Result<(), Refusal> {
    let message = if prefix.trunc() != prefix {
        format!("{prefix} has host bits set; the prefix is {}", prefix.trunc())
    } else if let Some(never) = NEVER.into_iter().find(|never| overlap(*never, prefix)) {
        format!("{prefix} overlaps {never}, which no network can have")
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::InvalidValue, message).field(field))
}

/// Refuses a prefix that shares an address with one of the customer's, those of `besides` excepted.
pub(crate) fn free(
    state: &Customer,
    prefix: Ipv4Net,
    besides: &ObjectRef,
    field: &str,
) -> Result<(), Refusal> {
    let of_sites = state
        .sites
        .iter()
        .flat_map(|(id, site)| site.spec.lan.iter().map(move |lan| (*lan, ObjectRef::Site(id.clone()))));
    let of_tunnels =
        state.tunnels.iter().map(|(id, tunnel)| (tunnel.spec.inside, ObjectRef::Tunnel(id.clone())));
    match of_sites.chain(of_tunnels).find(|(taken, owner)| owner != besides && overlap(*taken, prefix)) {
        None => Ok(()),
        Some((taken, owner)) => {
            let message = format!("{prefix} overlaps {taken} of {owner}");
            Err(Refusal::new(Reason::PrefixOverlap, message).field(field))
        }
    }
}

/// Refuses prefixes that overlap among themselves.
pub(crate) fn disjoint(prefixes: &[Ipv4Net], field: &str) -> Result<(), Refusal> {
    for (index, prefix) in prefixes.iter().enumerate() {
        if let Some(other) = prefixes[..index].iter().find(|other| overlap(**other, *prefix)) {
            let message = format!("{prefix} overlaps {other} of the same list");
            return Err(Refusal::new(Reason::PrefixOverlap, message).field(format!("{field}[{index}]")));
        }
    }
    Ok(())
}
