//! The rules once more, as simply as they can be said: lists, ranges, flags. It shares no code with what it judges.

use wanwright_schemas::Reason::{self, *};
use wanwright_schemas::event::{Change, Event};

/// Prefixes to choose from, with their first and last address; some overlap, one has host bits.
pub const PREFIXES: [(&str, u32, u32); 12] = [
    ("10.0.0.0/8", 0x0a00_0000, 0x0aff_ffff),
    ("10.1.0.0/16", 0x0a01_0000, 0x0a01_ffff),
    ("10.1.2.0/24", 0x0a01_0200, 0x0a01_02ff),
    ("10.2.0.0/16", 0x0a02_0000, 0x0a02_ffff),
    ("10.3.0.0/16", 0x0a03_0000, 0x0a03_ffff),
    ("192.168.0.0/24", 0xc0a8_0000, 0xc0a8_00ff),
    ("10.2.0.4/30", 0x0a02_0004, 0x0a02_0007),
    ("169.254.0.0/30", 0xa9fe_0000, 0xa9fe_0003),
    ("169.254.0.2/31", 0xa9fe_0002, 0xa9fe_0003),
    ("169.254.0.4/30", 0xa9fe_0004, 0xa9fe_0007),
    ("169.254.0.8/31", 0xa9fe_0008, 0xa9fe_0009),
    ("169.254.0.1/30", 0, 0),
];
pub const HOST_BITS: usize = 11;
/// Which of them fit into a tunnel.
const NARROW: [usize; 5] = [6, 7, 8, 9, 10];

pub const VENDORS: [&str; 2] = ["northwan", "barewan"];
const TUNNELS: [usize; 2] = [2, 1];
pub const MODELS: [&str; 3] = ["edge-1", "edge-2", "bare-1"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Site,
    Tunnel,
    Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Site(u8),
    Hub,
    NoHub,
}

#[derive(Clone, Debug)]
pub enum Ask {
    CreateSite { site: u8, vendor: usize, lan: Vec<usize> },
    ChangeSite { site: u8, lan: Vec<usize> },
    CreateTunnel { tunnel: u8, site: u8, end: End, inside: usize },
    ChangeTunnel { tunnel: u8, end: End, inside: usize },
    CreateDevice { device: u8, site: u8, serial: u8, model: usize },
    ChangeDevice { device: u8, hostname: bool },
    Decommission(Kind, u8),
    Retry(Kind, u8),
    Check(Kind, u8),
    CheckAll,
}

/// Anything: a site has networks, a tunnel a site, an end and an inside, a device a site and a serial number.
#[derive(Clone, Debug)]
struct Thing {
    kind: Kind,
    name: u8,
    vendor: usize,
    prefixes: Vec<usize>,
    site: u8,
    end: End,
    serial: u8,
    hostname: bool,
    generation: u64,
    observed: u64,
    leaving: bool,
    failed: bool,
    drifted: bool,
    again: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    things: Vec<Thing>,
}

type Answer = Result<(), Reason>;

fn overlap(a: usize, b: usize) -> bool {
    PREFIXES[a].1 <= PREFIXES[b].2 && PREFIXES[b].1 <= PREFIXES[a].2
}

impl Model {
    fn find(&self, kind: Kind, name: u8) -> Option<usize> {
        self.things.iter().position(|thing| thing.kind == kind && thing.name == name)
    }

    fn absent(&self, kind: Kind, name: u8) -> Answer {
        match self.find(kind, name) {
            None => Ok(()),
            Some(at) if self.things[at].leaving => Err(BeingRemoved),
            Some(_) => Err(AlreadyExists),
        }
    }

    fn there(&self, kind: Kind, name: u8) -> Result<usize, Reason> {
        let at = self.find(kind, name).ok_or(NotFound)?;
        if self.things[at].leaving { Err(BeingRemoved) } else { Ok(at) }
    }

    fn vendor_of(&self, site: u8) -> Result<usize, Reason> {
        self.there(Kind::Site, site).map(|at| self.things[at].vendor).map_err(|_| SiteMissing)
    }

    fn taken(&self, prefix: usize, but: (Kind, u8)) -> bool {
        let others = self.things.iter().filter(|thing| (thing.kind, thing.name) != but);
        others.flat_map(|thing| &thing.prefixes).any(|other| overlap(*other, prefix))
    }

    fn lan(&self, site: u8, lan: &[usize]) -> Answer {
        if lan.is_empty() {
            return Err(InvalidValue);
        }
        for prefix in lan {
            if *prefix == HOST_BITS {
                return Err(InvalidValue);
            }
            if self.taken(*prefix, (Kind::Site, site)) {
                return Err(PrefixOverlap);
            }
        }
        let pairs = (0..lan.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        if pairs.into_iter().any(|(a, b)| overlap(lan[a], lan[b])) { Err(PrefixOverlap) } else { Ok(()) }
    }

    fn tunnel(&self, tunnel: u8, site: u8, vendor: usize, end: End, inside: usize) -> Answer {
        match end {
            End::Site(peer) if peer == site => return Err(InvalidValue),
            End::Site(peer) if self.there(Kind::Site, peer).is_err() => return Err(SiteMissing),
            End::NoHub => return Err(UnknownHub),
            End::Hub if vendor == 1 => return Err(UnknownHub),
            End::Site(_) | End::Hub => {}
        }
        if !NARROW.contains(&inside) {
            return Err(InvalidValue);
        }
        if self.taken(inside, (Kind::Tunnel, tunnel)) { Err(PrefixOverlap) } else { Ok(()) }
    }

    fn create(&mut self, kind: Kind, name: u8, with: impl FnOnce(&mut Thing)) -> Answer {
        let mut thing = Thing {
            kind,
            name,
            vendor: 0,
            prefixes: Vec::new(),
            site: u8::MAX,
            end: End::NoHub,
            serial: u8::MAX,
            hostname: false,
            generation: 1,
            observed: 0,
            leaving: false,
            failed: false,
            drifted: false,
            again: false,
        };
        with(&mut thing);
        self.things.push(thing);
        Ok(())
    }

    fn change(&mut self, at: usize) {
        self.things[at].generation += 1;
        self.things[at].failed = false;
    }

    /// What becomes of a command of a person.
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        match ask.clone() {
            Ask::CreateSite { site, vendor, lan } => {
                self.absent(Kind::Site, site)?;
                self.lan(site, &lan)?;
                self.create(Kind::Site, site, |thing| (thing.vendor, thing.prefixes) = (vendor, lan))
            }
            Ask::ChangeSite { site, lan } => {
                let at = self.there(Kind::Site, site)?;
                if self.things[at].prefixes != lan {
                    self.lan(site, &lan)?;
                    self.things[at].prefixes = lan;
                    self.change(at);
                }
                Ok(())
            }
            Ask::CreateTunnel { tunnel, site, end, inside } => {
                self.absent(Kind::Tunnel, tunnel)?;
                let vendor = self.vendor_of(site)?;
                let there =
                    self.things.iter().filter(|thing| thing.kind == Kind::Tunnel && thing.site == site);
                if there.count() >= TUNNELS[vendor] {
                    return Err(TunnelLimitReached);
                }
                self.tunnel(tunnel, site, vendor, end, inside)?;
                self.create(Kind::Tunnel, tunnel, |thing| {
                    (thing.site, thing.end, thing.prefixes) = (site, end, vec![inside]);
                })
            }
            Ask::ChangeTunnel { tunnel, end, inside } => {
                let at = self.there(Kind::Tunnel, tunnel)?;
                if self.things[at].end != end || self.things[at].prefixes != [inside] {
                    let site = self.things[at].site;
                    self.tunnel(tunnel, site, self.vendor_of(site)?, end, inside)?;
                    (self.things[at].end, self.things[at].prefixes) = (end, vec![inside]);
                    self.change(at);
                }
                Ok(())
            }
            Ask::CreateDevice { device, site, serial, model } => {
                self.absent(Kind::Device, device)?;
                let vendor = self.vendor_of(site)?;
                if (model == 2) != (vendor == 1) {
                    return Err(UnknownModel);
                }
                if self.things.iter().any(|thing| thing.serial == serial) {
                    return Err(SerialTaken);
                }
                self.create(Kind::Device, device, |thing| (thing.site, thing.serial) = (site, serial))
            }
            Ask::ChangeDevice { device, hostname } => {
                let at = self.there(Kind::Device, device)?;
                let vendor = self.vendor_of(self.things[at].site)?;
                if vendor == 1 && hostname {
                    return Err(UnknownField);
                }
                if self.things[at].hostname != hostname {
                    self.things[at].hostname = hostname;
                    self.change(at);
                }
                Ok(())
            }
            Ask::Decommission(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                if !self.things[at].leaving {
                    let uses = |thing: &Thing| thing.site == name || thing.end == End::Site(name);
                    if kind == Kind::Site && self.things.iter().any(uses) {
                        return Err(SiteInUse);
                    }
                    self.things[at].leaving = true;
                    self.change(at);
                }
                Ok(())
            }
            Ask::Retry(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                let thing = &mut self.things[at];
                let busy = thing.leaving || thing.again || thing.observed != thing.generation;
                if !thing.failed && (busy || !thing.drifted) {
                    return Err(NothingToRetry);
                }
                thing.failed = false;
                thing.again = thing.drifted;
                Ok(())
            }
            Ask::Check(Kind::Tunnel, _) => Err(UnknownVerb),
            Ask::Check(kind, name) => {
                let at = self.there(kind, name)?;
                if self.things[at].observed == 0 { Err(NothingToCheck) } else { Ok(()) }
            }
            Ask::CheckAll => {
                let seen = |thing: &Thing| thing.kind != Kind::Tunnel && thing.observed > 0 && !thing.leaving;
                if self.things.iter().any(seen) { Ok(()) } else { Err(NothingToCheck) }
            }
        }
    }

    /// Learns what became of a report.
    pub fn learn(&mut self, event: &Event) {
        match event {
            Event::Site(id, change) => self.learn_of(Kind::Site, id.as_str(), change),
            Event::Tunnel(id, change) => self.learn_of(Kind::Tunnel, id.as_str(), change),
            Event::Device(id, change) => self.learn_of(Kind::Device, id.as_str(), change),
            Event::Customer(..) => panic!("no report says that"),
        }
    }

    fn learn_of<S>(&mut self, kind: Kind, id: &str, change: &Change<S>) {
        let name: u8 = id[1..].parse().expect("a number");
        let at = self.find(kind, name).expect("reports are about what is there");
        let thing = &mut self.things[at];
        match change {
            Change::Applied { generation, .. } => {
                assert!(thing.observed <= *generation && *generation <= thing.generation);
                thing.observed = *generation;
                if *generation == thing.generation {
                    (thing.failed, thing.drifted, thing.again) = (false, false, false);
                }
            }
            Change::Failed { generation, .. } => {
                assert!(*generation == thing.generation && !thing.failed);
                thing.failed = true;
            }
            Change::Removed { .. } => {
                assert!(thing.leaving);
                self.things.remove(at);
            }
            Change::DriftFound { .. } => thing.drifted = true,
            Change::DriftNotFound { .. } => thing.drifted = false,
            Change::Created { .. }
            | Change::Changed { .. }
            | Change::DecommissionRequested { .. }
            | Change::RetryRequested { .. }
            | Change::DriftCheckRequested { .. }
            | Change::ContactChanged { .. } => panic!("no report says that"),
        }
    }

    /// What there is: kind and name, generation, observed generation, leaving, failed, drifted.
    pub fn summary(&self) -> Vec<(String, u64, u64, bool, bool, bool)> {
        let mut all: Vec<_> = self
            .things
            .iter()
            .map(|thing| {
                let name = format!("{:?} {}", thing.kind, thing.name).to_lowercase();
                (name, thing.generation, thing.observed, thing.leaving, thing.failed, thing.drifted)
            })
            .collect();
        all.sort();
        all
    }
}
