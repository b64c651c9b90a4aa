//! The customer: the consistency boundary, with all its sites, tunnels and devices.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wanwright_schemas::ObjectRef;
use wanwright_schemas::contact::{HasContact, KeyId};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, DeviceId, SiteId, TunnelId};
use wanwright_schemas::policy::{CustomerChange, CustomerSpec, Freeze, Name};
use wanwright_schemas::spec::{DeviceSpec, Peer, SiteSpec, TunnelSpec};

use crate::object::{self, Approval, Object};

/// Everything that is decided together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The sites.
    pub sites: BTreeMap<SiteId, Object<SiteSpec>>,
    /// The tunnels.
    pub tunnels: BTreeMap<TunnelId, Object<TunnelSpec>>,
    /// The devices.
    pub devices: BTreeMap<DeviceId, Object<DeviceSpec>>,
    /// The keys of personal data that are destroyed, or are to be where that is still outstanding.
    pub erased: BTreeSet<KeyId>,
    /// The customer's own settings.
    pub own: Own,
}

/// What a customer says about itself. Nobody has to create a customer: until it says something, all of this is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The generation of the settings that were asked for last; 0 before they were first changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Accounts, policy, groups and change windows.
    pub spec: CustomerSpec,
    /// Other settings that wait for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The freezes that were not taken back, by name; some may be over.
    pub freezes: BTreeMap<Name, Freeze>,
    /// Why nothing is to be done at the customer's vendors, if that is so.
    pub suspended: Option<String>,
    /// Whether everything should go.
    pub leaving: bool,
}

/// Settings of a customer that wait for approval, because they make a rule weaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The approval they wait for.
    pub approval: Approval,
    /// What it would say about itself, whole.
    pub spec: CustomerSpec,
}

impl Customer {
    /// Folds an event; `by` is the command that decided it.
    pub fn evolve(&mut self, event: &Event, by: CommandId) {
        match event {
            Event::Site(id, change) => fold(&mut self.sites, id, change, by),
            Event::Tunnel(id, change) => {
                fold(&mut self.tunnels, id, change, by);
                if matches!(change, Change::PlanRequested { .. })
                    && let Some(tunnel) = self.tunnels.get(id)
                    && let Some(site) = self.sites.get_mut(&tunnel.spec.site)
                {
                    site.forget_rejected_plan();
                }
            }
            Event::Device(id, change) => fold(&mut self.devices, id, change, by),
            Event::Customer(_, CustomerChange::Removed {}) => self.own = Own::default(),
            Event::Customer(_, CustomerChange::Erased { key }) => {
                self.erased.insert(*key);
            }
            Event::Customer(_, change) => self.own.evolve(change),
        }
    }

    /// Whether the customer has no object.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty() && self.tunnels.is_empty() && self.devices.is_empty()
    }

    /// The tunnels that a site owns, leaving ones included.
    pub fn tunnels_of<'a>(
        &'a self,
        site: &'a SiteId,
    ) -> impl Iterator<Item = (&'a TunnelId, &'a Object<TunnelSpec>)> + 'a {
        self.tunnels.iter().filter(move |(_, tunnel)| &tunnel.spec.site == site)
    }

    /// The tunnels of other sites that end at this one.
    pub fn tunnels_to<'a>(
        &'a self,
        site: &'a SiteId,
    ) -> impl Iterator<Item = (&'a TunnelId, &'a Object<TunnelSpec>)> + 'a {
        self.tunnels
            .iter()
            .filter(move |(_, tunnel)| matches!(&tunnel.spec.peer, Peer::Site(peer) if peer == site))
    }

    /// The devices at a site, leaving ones included.
    pub fn devices_of<'a>(
        &'a self,
        site: &'a SiteId,
    ) -> impl Iterator<Item = (&'a DeviceId, &'a Object<DeviceSpec>)> + 'a {
        self.devices.iter().filter(move |(_, device)| &device.spec.site == site)
    }

    /// The generation of an object, if there is one.
    pub fn generation(&self, object: &ObjectRef) -> Option<u64> {
        match object {
            ObjectRef::Customer(_) => Some(self.own.generation).filter(|generation| *generation > 0),
            ObjectRef::Site(id) => self.sites.get(id).map(|site| site.generation),
            ObjectRef::Tunnel(id) => self.tunnels.get(id).map(|tunnel| tunnel.generation),
            ObjectRef::Device(id) => self.devices.get(id).map(|device| device.generation),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Own {
    pub(crate) fn evolve(&mut self, change: &CustomerChange) {
        match change {
            CustomerChange::Changed { generation, spec } => {
                self.generation = *generation;
                self.spec = spec.clone();
                self.waiting = None;
            }
            CustomerChange::ApprovalRequested { generation, spec, requested_by, approvals } => {
                self.generation = *generation;
                let approval = Approval::new(*generation, vec![requested_by.clone()], approvals.clone());
                self.waiting = Some(Waiting { approval, spec: spec.clone() });
            }
            CustomerChange::Approved { approved_by, .. } => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.approval.approved_by.push(approved_by.clone());
                }
            }
            CustomerChange::Rejected { .. } => self.waiting = None,
            CustomerChange::DecommissionRequested {} => self.leaving = true,
            CustomerChange::Suspended { reason } => self.suspended = Some(reason.clone()),
            CustomerChange::Resumed {} => self.suspended = None,
            CustomerChange::Frozen { freeze } => {
                self.freezes.insert(freeze.name.clone(), freeze.clone());
            }
            CustomerChange::Unfrozen { name } => {
                self.freezes.remove(name);
            }
            // Only whoever decides on an older state has to notice it, and the append check makes him.
            CustomerChange::ClaimAbandoned { .. } => {}
            // It is for people to read.
            CustomerChange::Noted { .. } => {}
            // These are about more than the settings.
            CustomerChange::Removed {} | CustomerChange::Erased { .. } => {}
        }
    }
}

fn fold<I: Ord + Clone, S: Clone + HasContact>(
    objects: &mut BTreeMap<I, Object<S>>,
    id: &I,
    change: &Change<S>,
    by: CommandId,
) {
    if let Some(object) = object::created(change, by) {
        objects.insert(id.clone(), object);
    } else if let Some(object) = objects.get_mut(id)
        && !object::evolve(object, change)
    {
        objects.remove(id);
    }
}
