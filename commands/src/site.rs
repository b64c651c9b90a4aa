//! Decisions about a site.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::command::Ask;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::SiteId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::SiteSpec;
use wanwright_vendors::Vendor;

use crate::customer::Customer;
use crate::decide::{self, Circumstances, absent, changed, live, patched, unchanged};
use crate::object::Object;
use crate::{addresses, cancel, cascade, holds, plans, revert, settings, templates};

/// Most networks behind one site.
const MAX_LANS: usize = 256;

pub(crate) fn decide(
    state: &Customer,
    id: &SiteId,
    ask: &Ask<SiteSpec>,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<SiteSpec>>, Refusal> {
    let name = format!("site/{id}");
    let present = state.sites.get(id);
    match ask {
        Ask::Create(spec) => {
            absent(present, &name)?;
            let (spec, vendor) = checked(state, id, spec, None, facts)?;
            plans::can_be_made(state, vendor)?;
            let created =
                Change::Created { generation: 1, spec, schema: settings::reference::<SiteSpec>(vendor) };
            Ok(std::iter::once(created).chain(templates::of_new(vendor)).collect())
        }
        Ask::Change(patch) => {
            let site = live(present, &name)?;
            let before =
                settings::as_spoken(site, facts.vendors.get(site.spec.vendor.as_str()), &name, facts)?;
            let Some(spec) = patched(&before, patch)? else { return Ok(Vec::new()) };
            unchanged(&site.spec.vendor, &spec.vendor, "vendor")?;
            let (spec, vendor) = checked(state, id, &spec, Some(site), facts)?;
            Ok(changed(site, spec, vendor))
        }
        Ask::Revert(body) => {
            let site = revert::revertible(present, &name, body, plans::is_rejected(state, id))?;
            let vendor = decide::vendor(facts, &site.spec.vendor)?;
            let spec = revert::former(site, &name, body, vendor, facts)?;
            let (spec, vendor) = checked(state, id, &spec, Some(site), revert::as_stored(facts))?;
            Ok(revert::reverted(site, spec, body, vendor))
        }
        Ask::Cancel => {
            let site = cancel::cancellable(present, &name, facts)?;
            let Some(former) = cancel::former(site) else {
                unused(state, id)?;
                return cancel::never_applied(site, &name, facts);
            };
            let vendor = decide::vendor(facts, &site.spec.vendor)?;
            let spec = revert::former(site, &name, &former, vendor, facts)?;
            let (spec, vendor) = checked(state, id, &spec, Some(site), revert::as_stored(facts))?;
            Ok(cancel::restored(site, spec, &former, vendor, facts))
        }
        Ask::Decommission(_) => {
            let changes = decide::decommission(present, &name, plans::is_rejected(state, id))?;
            if !changes.is_empty() {
                unused(state, id)?;
            }
            Ok(changes)
        }
        Ask::Retry => decide::retry(present, &name, plans::stack_is_stuck(state, id, facts)),
        Ask::CheckDrift => {
            let look = decide::check_drift(present, &name, facts)?;
            holds::site_goes_on(state, id)?;
            Ok(look)
        }
        Ask::AssignTemplate(body) => templates::assign(present, &name, body, facts),
        Ask::Report(_)
        | Ask::Suspend(_)
        | Ask::Resume
        | Ask::Protect
        | Ask::Unprotect
        | Ask::Approve(_)
        | Ask::Reject(_)
        | Ask::Release(_)
        | Ask::Note(_)
        | Ask::Acknowledge(_) => Ok(Vec::new()),
    }
}

fn checked<'a>(
    state: &Customer,
    id: &SiteId,
    spec: &SiteSpec,
    present: Option<&Object<SiteSpec>>,
    facts: Circumstances<'a>,
) -> Result<(SiteSpec, &'a Vendor), Refusal> {
    let vendor = decide::vendor(facts, &spec.vendor)?;
    if spec.lan.is_empty() || spec.lan.len() > MAX_LANS {
        let message = format!("a site has 1 to {MAX_LANS} networks, not {}", spec.lan.len());
        return Err(Refusal::new(Reason::InvalidValue, message).field("lan"));
    }
    let besides = ObjectRef::Site(id.clone());
    for (index, prefix) in spec.lan.iter().enumerate() {
        let field = format!("lan[{index}]");
        addresses::well_formed(*prefix, &field)?;
        addresses::free(state, *prefix, &besides, &field)?;
    }
    addresses::disjoint(&spec.lan, "lan")?;
    Ok((settings::read(spec, present, vendor, facts)?, vendor))
}

/// A site goes only when nothing uses it any more.
fn unused(state: &Customer, id: &SiteId) -> Result<(), Refusal> {
    let tunnels = state.tunnels_of(id).chain(state.tunnels_to(id));
    let tunnels = tunnels.map(|(id, _)| ObjectRef::Tunnel(id.clone()));
    let devices = state.devices_of(id).map(|(id, _)| ObjectRef::Device(id.clone()));
    let users: Vec<ObjectRef> = tunnels.chain(devices).collect();
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("site/{id} is used by {}", cascade::listed(&users, 5));
    Err(Refusal::new(Reason::SiteInUse, message))
}

/// Asks a site and everything that uses it to go. Asked twice, the second time says nothing, unless the
/// first was rejected.
pub(crate) fn decommission_all(state: &Customer, id: &SiteId) -> Result<Vec<Event>, Refusal> {
    match state.sites.get(id) {
        None => Err(Refusal::new(Reason::NotFound, format!("there is no site/{id}"))),
        Some(site) if site.leaving && !site.is_rejected() && !plans::is_rejected(state, id) => Ok(Vec::new()),
        Some(_) => cascade::of_site(state, id),
    }
}
