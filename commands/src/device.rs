//! Decisions about a device.

use wanwright_schemas::command::Ask;
use wanwright_schemas::event::Change;
use wanwright_schemas::ids::DeviceId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::DeviceSpec;
use wanwright_vendors::Vendor;

use crate::cancel;
use crate::customer::Customer;
use crate::decide::{self, Circumstances, absent, changed, live, patched, unchanged};
use crate::holds;
use crate::object::Object;
use crate::revert;
use crate::settings;
use crate::tunnel::vendor_of;

pub(crate) fn decide(
    state: &Customer,
    id: &DeviceId,
    ask: &Ask<DeviceSpec>,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<DeviceSpec>>, Refusal> {
    let name = format!("device/{id}");
    let present = state.devices.get(id);
    match ask {
        Ask::Create(spec) => {
            absent(present, &name)?;
            let (spec, vendor) = checked(state, id, spec, None, facts)?;
            Ok(vec![Change::Created {
                generation: 1,
                spec,
                schema: settings::reference::<DeviceSpec>(vendor),
            }])
        }
        Ask::Change(patch) => {
            let device = live(present, &name)?;
            let vendor = settings::vendor_at(state, &device.spec.site, facts);
            let before = settings::as_spoken(device, vendor, &name, facts)?;
            let Some(spec) = patched(&before, patch)? else { return Ok(Vec::new()) };
            unchanged(&device.spec.site, &spec.site, "site")?;
            unchanged(&device.spec.serial, &spec.serial, "serial")?;
            unchanged(&device.spec.model, &spec.model, "model")?;
            let (spec, vendor) = checked(state, id, &spec, Some(device), facts)?;
            Ok(changed(device, spec, vendor))
        }
        Ask::Revert(body) => {
            let device = revert::revertible(present, &name, body, false)?;
            let vendor = vendor_of(state, &device.spec.site, facts)?;
            let spec = revert::former(device, &name, body, vendor, facts)?;
            let (spec, vendor) = checked(state, id, &spec, Some(device), revert::as_stored(facts))?;
            Ok(revert::reverted(device, spec, body, vendor))
        }
        Ask::Cancel => {
            let device = cancel::cancellable(present, &name, facts)?;
            let Some(former) = cancel::former(device) else {
                return cancel::never_applied(device, &name, facts);
            };
            let vendor = vendor_of(state, &device.spec.site, facts)?;
            let spec = revert::former(device, &name, &former, vendor, facts)?;
            let (spec, vendor) = checked(state, id, &spec, Some(device), revert::as_stored(facts))?;
            Ok(cancel::restored(device, spec, &former, vendor, facts))
        }
        Ask::Decommission(_) => decide::decommission(present, &name, false),
        Ask::Retry => decide::retry(present, &name, false),
        Ask::CheckDrift => {
            let look = decide::check_drift(present, &name, facts)?;
            holds::device_goes_on(state, id)?;
            Ok(look)
        }
        Ask::Report(_)
        | Ask::Suspend(_)
        | Ask::Resume
        | Ask::Protect
        | Ask::Unprotect
        | Ask::Approve(_)
        | Ask::Reject(_)
        | Ask::Release(_)
        | Ask::AssignTemplate(_)
        | Ask::Note(_)
        | Ask::Acknowledge(_) => Ok(Vec::new()),
    }
}

fn checked<'a>(
    state: &Customer,
    id: &DeviceId,
    spec: &DeviceSpec,
    present: Option<&Object<DeviceSpec>>,
    facts: Circumstances<'a>,
) -> Result<(DeviceSpec, &'a Vendor), Refusal> {
    let vendor = vendor_of(state, &spec.site, facts)?;
    if !vendor.models.contains(&spec.model) {
        let message =
            format!("{} has no model `{}`; it has {}", vendor.title, spec.model, vendor.models.join(", "));
        return Err(Refusal::new(Reason::UnknownModel, message).field("model"));
    }
    let well_formed = (4..=40).contains(&spec.serial.len())
        && spec.serial.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-'));
    if !well_formed {
        let message = "a serial number is 4 to 40 characters of A-Z, 0-9 and -";
        return Err(Refusal::new(Reason::InvalidValue, message).field("serial"));
    }
    if let Some((other, _)) =
        state.devices.iter().find(|(other, device)| *other != id && device.spec.serial == spec.serial)
    {
        let message = format!("serial number {} belongs to device/{other}", spec.serial);
        return Err(Refusal::new(Reason::SerialTaken, message).field("serial"));
    }
    Ok((settings::read(spec, present, vendor, facts)?, vendor))
}
