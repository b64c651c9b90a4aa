//! Decisions about a site.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::command::Ask;
use wanwright_schemas::event::Change;
use wanwright_schemas::ids::SiteId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::SiteSpec;

use crate::addresses;
use crate::customer::Customer;
use crate::decide::{self, Circumstances, absent, changed, live, patched, unchanged};

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
            Ok(vec![Change::Created { generation: 1, spec: checked(state, id, spec, facts)? }])
        }
        Ask::Change(patch) => {
            let site = live(present, &name)?;
            let Some(spec) = patched(&site.spec, patch)? else { return Ok(Vec::new()) };
            unchanged(&site.spec.vendor, &spec.vendor, "vendor")?;
            let spec = checked(state, id, &spec, facts)?;
            Ok(changed(site, spec))
        }
        Ask::Decommission => {
            let changes = decide::decommission(present, &name)?;
            if !changes.is_empty() {
                unused(state, id)?;
            }
            Ok(changes)
        }
        Ask::Retry => decide::retry(present, &name),
        Ask::CheckDrift => decide::check_drift(present, &name, facts),
        Ask::Report(_) => Ok(Vec::new()),
    }
}

fn checked(
    state: &Customer,
    id: &SiteId,
    spec: &SiteSpec,
    facts: Circumstances<'_>,
) -> Result<SiteSpec, Refusal> {
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
    let settings = decide::settings(vendor, "site", &spec.settings)?;
    Ok(SiteSpec { settings, ..spec.clone() })
}

/// A site goes only when nothing uses it any more.
fn unused(state: &Customer, id: &SiteId) -> Result<(), Refusal> {
    let tunnels = state.tunnels_of(id).chain(state.tunnels_to(id)).map(|(id, _)| format!("tunnel/{id}"));
    let devices = state.devices_of(id).map(|(id, _)| format!("device/{id}"));
    let users: Vec<String> = tunnels.chain(devices).collect();
    if users.is_empty() {
        return Ok(());
    }
    let shown = users.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = users.len().saturating_sub(5);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Refusal::new(Reason::SiteInUse, format!("site/{id} is used by {shown}{rest}")))
}
