//! Which orders a site and a device should have. Two orders are one where they say the same.

use super::{End, Kind, Model, Thing};

/// The address of the one hub there is.
const HUB: &str = "198.51.100.1";

/// What a thing is at its vendor, as far as somebody said so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AtVendor {
    pub id: Option<String>,
    pub address: Option<String>,
    /// What it took from another: a tunnel the address of its far end, a device the vendor's id of its site.
    pub with: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Intent {
    Apply,
    Remove,
    /// Answers the command of this number.
    Look(u64),
    /// Says what would be done, and keeps that plan.
    Plan {
        remove: bool,
        number: u64,
    },
}

/// What an order says about one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub kind: Kind,
    pub name: u8,
    born: u64,
    /// None for a tunnel that is to go: of that nothing else is said either.
    pub generation: Option<u64>,
    prefixes: Vec<usize>,
    session: Option<(usize, usize)>,
    hostname: bool,
    with: Option<String>,
}

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub intent: Intent,
    pub(super) retries: u64,
    pub parts: Vec<Part>,
    /// What is known of a device.
    pub(super) known: AtVendor,
    pub(super) account: Option<usize>,
    /// The version of a stack's template.
    pub(super) version: Option<u32>,
    /// The plan that is to be applied: which file, and until which minute.
    pub plan: Option<(usize, i64)>,
}

impl Model {
    /// What a tunnel takes from its far end, or a device from its site; none before there is anything to take.
    fn takes(&self, thing: &Thing) -> Option<String> {
        let site = |name: u8| self.find(Kind::Site, name).map(|at| &self.things[at].at_vendor);
        match (thing.kind, thing.end) {
            (Kind::Site, _) => None,
            (Kind::Device, _) => site(thing.site)?.id.clone(),
            (Kind::Tunnel, End::Site(far)) => site(far)?.address.clone(),
            (Kind::Tunnel, End::Hub) => Some(HUB.to_owned()),
            (Kind::Tunnel, End::NoHub) => None,
        }
    }

    /// Whether a thing was applied with something that is otherwise now.
    pub(super) fn moved(&self, thing: &Thing) -> bool {
        let (now, then) = (self.takes(thing), &thing.at_vendor.with);
        !thing.leaving && thing.failed.is_none() && now.is_some() && then.is_some() && now != *then
    }

    /// Whether nothing may be done about a site's stack or a device, not even a look.
    fn held(&self, thing: &Thing) -> bool {
        let stack = self.together(thing.kind, thing.name);
        let stays = |site: u8| self.find(Kind::Site, site).is_some_and(|at| !self.things[at].leaving);
        // A site goes after its devices, and after the tunnels that sites which stay have to it.
        let keeps = |other: &Thing| match other.kind {
            Kind::Site => false,
            Kind::Tunnel => other.end == End::Site(thing.name) && stays(other.site),
            Kind::Device => other.site == thing.name,
        };
        self.rests(thing)
            || stack.iter().any(|at| self.things[*at].waits.is_some())
            || (thing.kind == Kind::Site && thing.leaving && self.things.iter().any(keeps))
    }

    /// The change and the look that a site or a device should have at this minute; without one, as if no plan were too old.
    pub fn orders(&self, kind: Kind, name: u8, now: Option<i64>) -> (Option<Order>, Option<Order>) {
        let Some(at) = self.find(kind, name) else { return (None, None) };
        let thing = &self.things[at];
        match kind {
            _ if self.held(thing) => (None, None),
            Kind::Site => {
                let (change, look) = self.of_stack(thing);
                (change.and_then(|change| self.as_planned(thing, change, now)), look)
            }
            Kind::Device => self.of_device(thing),
            Kind::Tunnel => panic!("a tunnel is changed with its site"),
        }
    }

    /// What would bring a stack about if nothing had to be planned, whatever holds it; none where there is nothing to do.
    pub(super) fn wish(&self, site: &Thing) -> Option<Order> {
        self.of_stack(site).0
    }

    fn of_stack(&self, site: &Thing) -> (Option<Order>, Option<Order>) {
        let mut tunnels: Vec<&Thing> = self
            .things
            .iter()
            .filter(|thing| thing.kind == Kind::Tunnel && thing.site == site.name)
            .collect();
        tunnels.sort_by_key(|tunnel| (tunnel.leaving, tunnel.name));
        let (mut parts, mut retries) = (vec![site.part(site.generation, None)], site.retries);
        let mut is_behind = site.pending();
        for tunnel in tunnels {
            let part = match (self.takes(tunnel), tunnel.at_vendor.with.clone()) {
                _ if tunnel.leaving => {
                    is_behind |= tunnel.pending();
                    tunnel.end_of()
                }
                (Some(address), _) => {
                    is_behind |= tunnel.pending() || self.moved(tunnel);
                    tunnel.part(tunnel.generation, Some(address))
                }
                // Its far end has no address now: it stays as it is.
                (None, Some(address)) => tunnel.part(tunnel.observed, Some(address)),
                (None, None) => continue,
            };
            retries += tunnel.retries;
            parts.push(part);
        }
        let order = |intent| Order {
            intent,
            retries,
            parts: parts.clone(),
            known: AtVendor::default(),
            account: self.settings.accounts[site.vendor],
            version: site.version_at(site.generation),
            plan: None,
        };
        match (is_behind, site.leaving) {
            (true, true) => (Some(order(Intent::Remove)), None),
            (true, false) => (Some(order(Intent::Apply)), None),
            (false, _) => (None, site.check.map(|check| order(Intent::Look(check)))),
        }
    }

    fn of_device(&self, device: &Thing) -> (Option<Order>, Option<Order>) {
        let site = self.takes(device);
        let order = |intent| Order {
            intent,
            retries: device.retries,
            parts: vec![device.part(device.generation, site.clone())],
            known: device.at_vendor.clone(),
            account: self
                .find(Kind::Site, device.site)
                .and_then(|at| self.settings.accounts[self.things[at].vendor]),
            version: None,
            plan: None,
        };
        let is_behind = device.pending() || self.moved(device);
        match (is_behind, device.leaving, site.is_some()) {
            (true, true, _) => (Some(order(Intent::Remove)), None),
            (true, false, true) => (Some(order(Intent::Apply)), None),
            // There is nothing yet that it could be attached to.
            (_, _, false) => (None, None),
            (false, _, true) => (None, device.check.map(|check| order(Intent::Look(check)))),
        }
    }
}

impl Thing {
    fn part(&self, generation: u64, with: Option<String>) -> Part {
        let (generation, prefixes) = (Some(generation), self.prefixes.clone());
        let Self { kind, name, born, session, hostname, .. } = *self;
        Part { kind, name, born, generation, prefixes, session, hostname, with }
    }

    fn end_of(&self) -> Part {
        let Self { kind, name, born, .. } = *self;
        let (generation, prefixes, session) = (None, Vec::new(), None);
        Part { kind, name, born, generation, prefixes, session, hostname: false, with: None }
    }
}
