//! Orders: bring this target to this desired state. An order carries everything; an executor decides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::Digest;
use crate::ids::{CommandId, CustomerId, DeviceId, Kind, OrderId, SiteId, TunnelId, VendorId};
use crate::outcome::Position;
use crate::plan::BoundPlan;
use crate::policy::Account;
use crate::report::{Outputs, StateMark};
use crate::spec::Settings;
use crate::template::Template;

mod version;

pub use version::OrderVersion;

/// What an order is about: a site's stack (the site and the tunnels it owns), or a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum Target {
    /// A site with the tunnels it owns.
    Site(SiteId),
    /// A device.
    Device(DeviceId),
}

impl Target {
    /// The kind of the target.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Site(_) => Kind::Site,
            Self::Device(_) => Kind::Device,
        }
    }

    /// The id of the target.
    pub fn id(&self) -> &str {
        match self {
            Self::Site(id) => id.as_str(),
            Self::Device(id) => id.as_str(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind(), self.id())
    }
}

/// A site as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DesiredSite {
    /// The site.
    pub id: SiteId,
    /// The command that created it.
    pub uid: CommandId,
    /// The generation this is.
    pub generation: u64,
    /// Its name at the vendor.
    pub name: String,
    /// The networks behind it.
    pub lan: Vec<String>,
    /// Settings of the vendor.
    pub settings: Settings,
}

/// A tunnel as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DesiredTunnel {
    /// The command that created it.
    pub uid: CommandId,
    /// The generation this is.
    pub generation: u64,
    /// Its name at the vendor.
    pub name: String,
    /// The addresses inside.
    pub inside: String,
    /// The far end's public address.
    pub peer_address: String,
    /// The site's autonomous system number; 0 without BGP.
    pub local_asn: u32,
    /// The far end's autonomous system number; 0 without BGP.
    pub peer_asn: u32,
    /// Settings of the vendor.
    pub settings: Settings,
}

/// A device as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DesiredDevice {
    /// The device.
    pub id: DeviceId,
    /// The command that created it.
    pub uid: CommandId,
    /// The generation this is.
    pub generation: u64,
    /// Its name at the vendor.
    pub name: String,
    /// The serial number.
    pub serial: String,
    /// The model.
    pub model: String,
    /// Settings of the vendor.
    pub settings: Settings,
    /// What the device needs of others: `site_id`, the vendor's id of its site.
    pub inputs: Outputs,
    /// What is known of the device at the vendor; empty before it was first applied.
    pub known: Outputs,
}

/// The desired state of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "target", rename_all = "lowercase")]
pub enum Desired {
    /// A site's stack.
    Site {
        /// The site.
        site: DesiredSite,
        /// The tunnels that should be there.
        tunnels: BTreeMap<TunnelId, DesiredTunnel>,
        /// The tunnels that should go, with the commands that created them.
        leaving: BTreeMap<TunnelId, CommandId>,
    },
    /// A device.
    Device(DesiredDevice),
}

/// What to do about the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Intent {
    /// Make it so.
    Apply,
    /// Take the whole target down.
    Remove,
    /// Compare and report; change nothing.
    Observe {
        /// The command that asked.
        check: CommandId,
    },
    /// Say what would be done to bring it about, keep that plan, and change nothing.
    Plan {
        /// Whether it is the target's end that is planned.
        remove: bool,
        /// Which plan of the target this is to be, from 1: the same wish, planned again, is another order.
        number: u64,
    },
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Order {
    /// What whoever carries it out has to know.
    pub v: OrderVersion,
    /// The digest of everything below except the position.
    pub id: OrderId,
    /// Whose target it is.
    pub customer: CustomerId,
    /// At which vendor.
    pub vendor: VendorId,
    /// What to do.
    pub intent: Intent,
    /// How many times a person asked to try again: the same wish, asked again, is another order.
    pub retries: u64,
    /// What should be.
    pub desired: Desired,
    /// The position in the customer's history this was read at.
    pub position: Position,
    /// The customer's own account at the vendor, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Whether the target was applied before: then there is a state of its stack, or it was lost. No part of the id.
    #[serde(default, skip_serializing_if = "is_false")]
    pub applied: bool,
    /// The newest version of the stack's Terraform state that the customer's history tells of: a run does not begin with an
    /// older one. No part of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateMark>,
    /// The version of the vendor's template that brings it about; none for a stack that was never given one, which has
    /// the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// The plan that is applied, where the change was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<BoundPlan>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Order {
    /// The order for this wish.
    pub fn new(
        customer: CustomerId,
        vendor: VendorId,
        intent: Intent,
        retries: u64,
        desired: Desired,
        position: Position,
    ) -> Self {
        let wish = serde_json::json!([customer, vendor, intent, retries, desired]);
        let id = OrderId::of_digest(Digest::of(wish.to_string().as_bytes()).bytes());
        Self {
            v: OrderVersion::First,
            id,
            customer,
            vendor,
            intent,
            retries,
            desired,
            position,
            account: None,
            applied: false,
            state: None,
            template: None,
            plan: None,
        }
    }

    /// The same order, to be carried out as planned. It is another one than without a plan, or with another.
    pub fn bound(self, plan: Option<&BoundPlan>) -> Self {
        let Some(plan) = plan else { return self };
        let wish = serde_json::json!([self.id, plan]);
        let id = OrderId::of_digest(Digest::of(wish.to_string().as_bytes()).bytes());
        Self { id, plan: Some(plan.clone()), ..self }
    }

    /// The same order under an account. An order without one keeps the id it always had.
    pub fn under(self, account: Option<&Account>) -> Self {
        let Some(account) = account else { return self };
        let Self { customer, vendor, intent, retries, desired, .. } = &self;
        let wish = serde_json::json!([customer, vendor, intent, retries, desired, account]);
        let id = OrderId::of_digest(Digest::of(wish.to_string().as_bytes()).bytes());
        Self { id, account: Some(account.clone()), ..self }
    }

    /// The same order about a target that was applied before, or was not.
    pub fn of_applied(self, applied: bool) -> Self {
        Self { applied, ..self }
    }

    /// The same order about a stack of whose state this version is known.
    pub fn of_state(self, state: Option<StateMark>) -> Self {
        Self { state, ..self }
    }

    /// The same order by a version of the template. An order without one keeps the id it always had.
    pub fn by_template(self, template: Option<&Template>) -> Self {
        let Some(template) = template else { return self };
        let Self { customer, vendor, intent, retries, desired, account, .. } = &self;
        let wish = serde_json::json!([customer, vendor, intent, retries, desired, account, template]);
        let id = OrderId::of_digest(Digest::of(wish.to_string().as_bytes()).bytes());
        Self { v: OrderVersion::WithTemplate, id, template: Some(template.clone()), ..self }
    }

    /// What the order is about.
    pub fn target(&self) -> Target {
        match &self.desired {
            Desired::Site { site, .. } => Target::Site(site.id.clone()),
            Desired::Device(device) => Target::Device(device.id.clone()),
        }
    }

    /// Whether the order changes something at the vendor.
    pub fn changes(&self) -> bool {
        match self.intent {
            Intent::Apply | Intent::Remove => true,
            Intent::Observe { .. } | Intent::Plan { .. } => false,
        }
    }

    /// Whether the order only compares, about what was applied. One that plans is about what is to be.
    pub fn is_look(&self) -> bool {
        matches!(self.intent, Intent::Observe { .. })
    }

    /// The newest generation the order carries of the target itself.
    pub fn generation(&self) -> u64 {
        match &self.desired {
            Desired::Site { site, .. } => site.generation,
            Desired::Device(device) => device.generation,
        }
    }

    /// The desired state as JSON, for data-driven engines.
    pub fn desired_json(&self) -> Result<Value, serde_json::Error> {
        match &self.desired {
            Desired::Device(device) => serde_json::to_value(device),
            Desired::Site { .. } => serde_json::to_value(&self.desired),
        }
    }
}
