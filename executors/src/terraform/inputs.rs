//! A stack's desired state as Terraform variables. Values reach HCL as JSON, never as text.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wanwright_schemas::TunnelId;
use wanwright_schemas::order::{DesiredSite, DesiredTunnel};

/// The variables of a stack.
pub(super) fn variables(site: &DesiredSite, tunnels: &BTreeMap<TunnelId, DesiredTunnel>) -> Value {
    let tunnels: BTreeMap<&str, Value> = tunnels
        .iter()
        .map(|(id, tunnel)| {
            let value = json!({
                "name": tunnel.name,
                "uid": tunnel.uid,
                "inside": tunnel.inside,
                "peer_address": tunnel.peer_address,
                "local_asn": tunnel.local_asn,
                "peer_asn": tunnel.peer_asn,
                "settings": tunnel.settings,
            });
            (id.as_str(), value)
        })
        .collect();
    json!({
        "site": { "name": site.name, "uid": site.uid, "lan": site.lan, "settings": site.settings },
        "tunnels": tunnels,
    })
}
