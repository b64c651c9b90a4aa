//! What the writers of a race ask for: few names, few prefixes and few serial numbers, so that they are in each other's
//! way, and reports, so that what is to go does go.

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use wanwright_commands::{Customer, orders};
use wanwright_schemas::ids::{CustomerId, Kind};
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::{Command, ObjectRef, Position, Reason, Target};
use wanwright_vendors::Catalogue;

/// The vendor of all sites.
pub const VENDOR: &str = "simwan";
/// Sites there may be.
const SITES: u8 = 12;
/// Prefixes that their networks are chosen from.
const PREFIXES: u8 = 24;
/// Tunnels there may be.
const TUNNELS: u8 = 60;
/// Devices there may be, and the serial numbers for them: too few for all.
const DEVICES: u8 = 40;
const SERIALS: u8 = 25;
/// In hundred, how many commands are reports, and how many of those say that it failed.
const REPORTS: u8 = 25;
const FAILURES: u8 = 5;
/// In hundred, how many are for something that failed to be tried again: else all that is left at the end has failed.
const RETRIES: u8 = 5;

/// Makes commands of one customer.
pub struct Mix {
    customer: CustomerId,
    random: fastrand::Rng,
}

impl Mix {
    /// The same seed makes the same commands of the same states.
    pub fn new(customer: CustomerId, seed: u64) -> Self {
        Self { customer, random: fastrand::Rng::with_seed(seed) }
    }

    /// Something that the rules allow about as often as not, as far as one knows who saw the customer like this.
    pub fn command(&mut self, known: &Customer, vendors: &Catalogue) -> Result<Command> {
        if self.random.u8(..100) < REPORTS
            && let Some(report) = self.report(known, vendors)?
        {
            return Ok(report);
        }
        if self.random.u8(..100) < RETRIES
            && let Some((kind, id)) = self.random.choice(failed(known))
        {
            return self.parse("bench", kind, &id, "retry", &json!({}));
        }
        let (kind, id, verb, body) = self.wish();
        self.parse("bench", kind, &id, verb, &body)
    }

    fn parse(&self, actor: &str, kind: Kind, id: &str, verb: &str, body: &Value) -> Result<Command> {
        let object = ObjectRef::new(kind, id.parse()?).map_err(|refusal| anyhow!("{refusal}"))?;
        let body = body.to_string();
        Command::parse(self.customer.clone(), actor.parse()?, &object, verb, body.as_bytes())
            .map_err(|refusal| anyhow!("{refusal}"))
    }

    /// What a person might ask for.
    fn wish(&mut self) -> (Kind, String, &'static str, Value) {
        let random = &mut self.random;
        let (site, other) = (format!("site-{}", random.u8(..SITES)), format!("site-{}", random.u8(..SITES)));
        let tunnel = format!("tunnel-{}", random.u8(..TUNNELS));
        let device = format!("device-{}", random.u8(..DEVICES));
        let lan = json!([format!("10.{}.0.0/24", random.u8(..PREFIXES))]);
        let inside = format!("169.254.{}.{}/30", random.u8(..4), random.u8(..60) * 4);
        let peer = if random.bool() { json!({ "hub": "hub-eu" }) } else { json!({ "site": other }) };
        match random.u8(..30) {
            0..4 => (Kind::Site, site, "create", json!({ "vendor": VENDOR, "lan": lan })),
            4..7 => (Kind::Site, site, "change", json!({ "lan": lan })),
            7..12 => {
                let location = format!("room {}", random.u32(..));
                (Kind::Site, site, "change", json!({ "settings": { "location": location } }))
            }
            12 if random.bool() => (Kind::Site, site, "decommission", json!({ "cascade": true })),
            12..14 => (Kind::Site, site, "decommission", json!({})),
            14 => (Kind::Site, site, "retry", json!({})),
            15..19 => {
                let spec = json!({ "site": site, "peer": peer, "inside": inside });
                (Kind::Tunnel, tunnel, "create", spec)
            }
            19..21 => (Kind::Tunnel, tunnel, "change", json!({ "inside": inside })),
            21..23 => (Kind::Tunnel, tunnel, "change", json!({ "peer": peer })),
            23 => (Kind::Tunnel, tunnel, "decommission", json!({})),
            24..27 => {
                let serial = format!("SN-{:04}", random.u8(..SERIALS));
                let spec = json!({ "site": site, "model": "edge-100", "serial": serial });
                (Kind::Device, device, "create", spec)
            }
            27..29 => {
                (Kind::Device, device, "change", json!({ "settings": { "vlan": random.u16(2..4000) } }))
            }
            _ => (Kind::Device, device, "decommission", json!({})),
        }
    }

    /// What an executor says that carried out an order, if this customer has one to be carried out. What is to go is seen
    /// to first, or soon there would be nothing else.
    fn report(&mut self, known: &Customer, vendors: &Catalogue) -> Result<Option<Command>> {
        let sites = known.sites.iter().map(|(id, site)| (Target::Site(id.clone()), site.leaving));
        let devices = known.devices.iter().map(|(id, device)| (Target::Device(id.clone()), device.leaving));
        let all: Vec<(Target, bool)> = sites.chain(devices).collect();
        let going: Vec<_> = all.iter().filter(|(_, leaving)| *leaving).collect();
        let chosen = match self.random.choice(&going) {
            Some(going) if self.random.bool() => Some(*going),
            _ => self.random.choice(&all),
        };
        let Some((target, _)) = chosen else { return Ok(None) };
        let vendor = orders::vendor_of(known, target).and_then(|vendor| vendors.get(vendor.as_str()));
        let vendor = vendor.context("a target without a vendor")?;
        let nowhere = Position { stream: String::new(), sequence: 0 };
        let Some(order) = orders::wanted(&self.customer, known, vendor, target, &nowhere).change else {
            return Ok(None);
        };
        let failed = self.random.u8(..100) < FAILURES;
        let body = serde_json::to_value(said(&order, failed))?;
        self.parse("executor", target.kind(), target.id(), "report", &body).map(Some)
    }
}

/// What has failed of a customer.
fn failed(known: &Customer) -> Vec<(Kind, String)> {
    let sites = known.sites.iter().filter(|(_, site)| site.failure.is_some());
    let tunnels = known.tunnels.iter().filter(|(_, tunnel)| tunnel.failure.is_some());
    let devices = known.devices.iter().filter(|(_, device)| device.failure.is_some());
    let sites = sites.map(|(id, _)| (Kind::Site, id.to_string()));
    let tunnels = tunnels.map(|(id, _)| (Kind::Tunnel, id.to_string()));
    sites.chain(tunnels).chain(devices.map(|(id, _)| (Kind::Device, id.to_string()))).collect()
}

/// The report of a run that did everything, or nothing.
fn said(order: &Order, failed: bool) -> Report {
    let findings = objects(order).into_iter().map(|(object, uid, generation, outputs)| {
        let finding = match generation {
            _ if failed => Finding::Failed {
                generation: generation.unwrap_or_default(),
                code: Reason::VendorRefused,
                message: "no".to_owned(),
            },
            Some(generation) => Finding::Applied { generation, outputs },
            None => Finding::Removed,
        };
        ObjectFinding { object, uid, finding }
    });
    Report { order: order.id, findings: findings.collect(), state: None }
}

/// An object of an order: the command that created it, the generation that the order brings, none for what goes, and what
/// it is at the vendor then.
type Item = (ObjectRef, wanwright_schemas::CommandId, Option<u64>, Map<String, Value>);

fn objects(order: &Order) -> Vec<Item> {
    let goes = matches!(order.intent, Intent::Remove);
    let outputs = |value: Value| value.as_object().cloned().unwrap_or_default();
    match &order.desired {
        Desired::Site { site, tunnels, leaving } => {
            let address = json!({ "id": format!("st-{}", site.id), "address": "203.0.113.1" });
            let own = (
                ObjectRef::Site(site.id.clone()),
                site.uid,
                (!goes).then_some(site.generation),
                outputs(address),
            );
            let stay = tunnels.iter().map(|(id, tunnel)| {
                let inputs = orders::tunnel_inputs(&tunnel.peer_address);
                let at_vendor = outputs(json!({ "id": format!("tn-{id}"), "inputs": inputs }));
                (ObjectRef::Tunnel(id.clone()), tunnel.uid, Some(tunnel.generation), at_vendor)
            });
            let go = leaving.iter().map(|(id, uid)| (ObjectRef::Tunnel(id.clone()), *uid, None, Map::new()));
            std::iter::once(own).chain(stay).chain(go).collect()
        }
        Desired::Device(device) => {
            let at_vendor = outputs(json!({ "id": format!("dv-{}", device.id), "inputs": device.inputs }));
            let generation = (!goes).then_some(device.generation);
            vec![(ObjectRef::Device(device.id.clone()), device.uid, generation, at_vendor)]
        }
    }
}
