//! `tunnels`: one row per tunnel.

use serde::{Deserialize, Serialize};
use wanwright_schemas::spec::{Peer, TunnelSpec};
use wanwright_schemas::{CustomerId, Kind, SiteId, TunnelId, VendorId};

use super::lifecycle::Lifecycle;
use super::object::{ObjectKey, ObjectRow};
use crate::table::Table;

/// A row of `tunnels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunnelRow {
    /// The customer.
    pub customer: CustomerId,
    /// The tunnel.
    pub id: TunnelId,
    /// The site it starts from.
    pub site: SiteId,
    /// The vendor, taken from the site.
    pub vendor: Option<VendorId>,
    /// `site` or `hub`.
    pub peer_kind: String,
    /// The far end.
    pub peer: String,
    /// The addresses inside the tunnel.
    pub inside: String,
    /// The site's autonomous system number.
    pub local_asn: Option<u32>,
    /// The far end's autonomous system number.
    pub peer_asn: Option<u32>,
    /// What the tunnel should be.
    pub spec: TunnelSpec,
    /// The columns that all objects share.
    #[serde(flatten)]
    pub life: Lifecycle,
}

impl Table for TunnelRow {
    type Key = ObjectKey;
    const NAME: &'static str = "tunnels";
    const KEY: &'static [&'static str] = &["customer", "id"];
    fn key(&self) -> ObjectKey {
        ObjectKey { customer: self.customer.clone(), id: self.id.to_string() }
    }
}

impl ObjectRow for TunnelRow {
    type Id = TunnelId;
    type Spec = TunnelSpec;
    const KIND: Kind = Kind::Tunnel;

    fn created(
        customer: &CustomerId,
        id: &TunnelId,
        spec: &TunnelSpec,
        vendor: Option<VendorId>,
        life: Lifecycle,
    ) -> Self {
        let (peer_kind, peer) = far_end(spec);
        Self {
            customer: customer.clone(),
            id: id.clone(),
            site: spec.site.clone(),
            vendor,
            peer_kind,
            peer,
            inside: spec.inside.to_string(),
            local_asn: spec.bgp.map(|bgp| bgp.local_asn),
            peer_asn: spec.bgp.map(|bgp| bgp.peer_asn),
            spec: spec.clone(),
            life,
        }
    }

    fn respecify(&mut self, spec: &TunnelSpec) {
        (self.peer_kind, self.peer) = far_end(spec);
        self.inside = spec.inside.to_string();
        self.local_asn = spec.bgp.map(|bgp| bgp.local_asn);
        self.peer_asn = spec.bgp.map(|bgp| bgp.peer_asn);
        self.spec = spec.clone();
    }

    fn spec(&self) -> &TunnelSpec {
        &self.spec
    }

    fn life(&self) -> &Lifecycle {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Lifecycle {
        &mut self.life
    }
}

fn far_end(spec: &TunnelSpec) -> (String, String) {
    match &spec.peer {
        Peer::Site(site) => ("site".to_owned(), site.to_string()),
        Peer::Hub(hub) => ("hub".to_owned(), hub.clone()),
    }
}
