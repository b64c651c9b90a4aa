//! Why a target has no orders though there is something to do: it is held, or it waits for others.

use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::ids::SiteId;
use wanwright_schemas::order::Target;

use crate::customer::Customer;

/// Why nothing is done about a target, not even a look: a look in the middle of a change would report it as drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The target, its site or its customer is suspended.
    Suspended,
    /// Something in the target waits for approval. An order brings a whole stack, so a stack waits as a whole.
    Unapproved,
    /// The site is being taken down, and something else has to be gone first.
    InUse,
}

/// Whether a target is held. Orders of a held target are withdrawn.
pub fn held(state: &Customer, target: &Target) -> Option<Held> {
    let device = match target {
        Target::Site(_) => None,
        Target::Device(id) => Some(state.devices.get(id)?),
    };
    let site_id = match (target, device) {
        (Target::Site(id), _) => id,
        (Target::Device(_), device) => &device?.spec.site,
    };
    let site = state.sites.get(site_id)?;
    let suspended = [&state.own.suspended, &site.suspended].into_iter();
    if suspended.chain(device.map(|device| &device.suspended)).any(Option::is_some) {
        return Some(Held::Suspended);
    }
    let waiting = match device {
        Some(device) => device.approval.is_some(),
        None => {
            let mut tunnels = state.tunnels_of(site_id);
            site.approval.is_some() || tunnels.any(|(_, tunnel)| tunnel.approval.is_some())
        }
    };
    if waiting {
        return Some(Held::Unapproved);
    }
    (device.is_none() && site.leaving && !waits_for(state, site_id).is_empty()).then_some(Held::InUse)
}

/// What has to be gone before a site that is being taken down can go: its devices, and the tunnels that end there.
///
/// Its own tunnels go with it, in one stack, which knows their order. A tunnel of another site that is being taken down
/// goes with that site: were both to wait for each other's tunnels, two sites with tunnels in both directions would never
/// go. So whoever waits here waits for devices, which wait for nobody, or for stacks that stay, which do not either.
pub fn waits_for(state: &Customer, site: &SiteId) -> Vec<ObjectRef> {
    let devices = state.devices_of(site).map(|(id, _)| ObjectRef::Device(id.clone()));
    let stays = |owner: &SiteId| state.sites.get(owner).is_some_and(|owner| !owner.leaving);
    let tunnels = state.tunnels_to(site).filter(|(_, tunnel)| stays(&tunnel.spec.site));
    devices.chain(tunnels.map(|(id, _)| ObjectRef::Tunnel(id.clone()))).collect()
}
