//! What a customer says an object should be.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::contact::{self, Contact};
use crate::ids::{SiteId, VendorId};

/// Vendor-specific settings, checked against the structural schema in the vendor's folder.
pub type Settings = Map<String, Value>;

/// A site: a place with networks behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SiteSpec {
    /// Whose equipment the site has. Cannot be changed.
    pub vendor: VendorId,
    /// The networks at the site, in CIDR notation without host bits; disjoint within the customer.
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<crate::json::Prefix>"))]
    pub lan: Vec<Ipv4Net>,
    /// Settings of the vendor.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Settings,
    /// Who to talk to about it; never sent to the vendor.
    #[serde(default, deserialize_with = "contact::read", skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
}

/// The far end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", try_from = "Ends")]
pub enum Peer {
    /// Another site of the same customer.
    Site(SiteId),
    /// A hub that the vendor's folder names.
    Hub(String),
}

/// A far end as people type it.
#[derive(Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "json-schema", schemars(extend("oneOf" = crate::json::one_of(["site", "hub"]))))]
#[serde(deny_unknown_fields)]
struct Ends {
    #[serde(default)]
    site: Option<SiteId>,
    #[serde(default)]
    hub: Option<String>,
}

impl TryFrom<Ends> for Peer {
    type Error = &'static str;

    fn try_from(ends: Ends) -> Result<Self, Self::Error> {
        match (ends.site, ends.hub) {
            (Some(site), None) => Ok(Self::Site(site)),
            (None, Some(hub)) => Ok(Self::Hub(hub)),
            (None, None) => Err("a tunnel has one far end: give `hub` or `site`"),
            (Some(_), Some(_)) => {
                Err("a tunnel has one far end: give `hub` or `site`, and set the other to null")
            }
        }
    }
}

/// A BGP session inside a tunnel. It has no addresses of its own: they are the two of the tunnel's `inside`, so a peer
/// outside of the tunnel cannot be said. Which end has which is for the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bgp {
    /// The site's autonomous system number.
    pub local_asn: u32,
    /// The far end's autonomous system number.
    pub peer_asn: u32,
}

/// A tunnel from a site to a hub or another site. It belongs to the site it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TunnelSpec {
    /// The site the tunnel starts from. Cannot be changed.
    pub site: SiteId,
    /// The far end.
    pub peer: Peer,
    /// The addresses inside the tunnel: a /30 or /31, disjoint from every other prefix of the customer.
    #[cfg_attr(feature = "json-schema", schemars(with = "crate::json::Prefix"))]
    pub inside: Ipv4Net,
    /// The BGP session, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Bgp>,
    /// Settings of the vendor.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Settings,
}

/// A device at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// The site the device stands at. Cannot be changed.
    pub site: SiteId,
    /// The serial number, 4 to 40 characters of A-Z, 0-9 and -; unique in the whole fleet. Cannot be changed.
    pub serial: String,
    /// The model, one of those the vendor's folder names. Cannot be changed.
    pub model: String,
    /// Settings of the vendor.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Settings,
    /// Who to talk to about it; never sent to the vendor.
    #[serde(default, deserialize_with = "contact::read", skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
}
