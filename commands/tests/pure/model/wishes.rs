//! What things are to be: networks, ends of tunnels, devices, and the generations before.

use wanwright_schemas::Reason::{self, *};

use super::{Answer, AtVendor, End, Kind, Model, Thing, Wish};

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

/// Numbers of autonomous systems, and whether anybody may use them.
pub const ASNS: [(u32, bool); 5] =
    [(65_001, true), (4_200_000_001, true), (64_500, false), (0, false), (65_535, false)];

/// What is said of a BGP session: nothing, that there is none, the numbers of both ends, or of the near one only.
#[derive(Clone, Copy, Debug)]
pub enum Session {
    Silent,
    None,
    Both(usize, usize),
    Near(usize),
}

fn overlap(a: usize, b: usize) -> bool {
    PREFIXES[a].1 <= PREFIXES[b].2 && PREFIXES[b].1 <= PREFIXES[a].2
}

/// The far end of a tunnel, its inside, and its session.
type Tunnel = (End, usize, Option<(usize, usize)>);

impl Session {
    /// The session of a tunnel that had this one.
    fn beside(self, before: Option<(usize, usize)>) -> Result<Option<(usize, usize)>, Reason> {
        match (self, before) {
            (Self::Silent, before) => Ok(before),
            (Self::None, _) => Ok(None),
            (Self::Both(near, far), _) | (Self::Near(near), Some((_, far))) => Ok(Some((near, far))),
            (Self::Near(_), None) => Err(MissingField),
        }
    }
}

impl Thing {
    fn is_to_be(&mut self, wish: &Wish) {
        (self.prefixes, self.end) = (wish.prefixes.clone(), wish.end);
        (self.session, self.hostname) = (wish.session, wish.hostname);
        self.leaving = false;
    }
}

impl Model {
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

    fn tunnel(&self, tunnel: u8, site: u8, vendor: usize, (end, inside, session): Tunnel) -> Answer {
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
        if self.taken(inside, (Kind::Tunnel, tunnel)) {
            return Err(PrefixOverlap);
        }
        let is_fine = session.is_none_or(|(near, far)| ASNS[near].1 && ASNS[far].1);
        if is_fine { Ok(()) } else { Err(InvalidValue) }
    }

    /// Whether a site has as many tunnels as its vendor allows, but for this one: those that start there, and those
    /// from sites of the same vendor that end there.
    fn full(&self, site: u8, vendor: usize, but: u8) -> bool {
        let same = |name: u8| self.find(Kind::Site, name).is_some_and(|at| self.things[at].vendor == vendor);
        let there = self.things.iter().filter(|thing| thing.kind == Kind::Tunnel && thing.name != but);
        let there =
            there.filter(|thing| thing.site == site || (thing.end == End::Site(site) && same(thing.site)));
        there.count() >= TUNNELS[vendor]
    }

    fn full_at_end(&self, end: End, vendor: usize, but: u8) -> bool {
        let End::Site(peer) = end else { return false };
        let same = self.find(Kind::Site, peer).is_some_and(|at| self.things[at].vendor == vendor);
        same && self.full(peer, vendor, but)
    }

    fn create(&mut self, kind: Kind, name: u8, with: impl FnOnce(&mut Thing)) -> Answer {
        let mut thing = Thing {
            kind,
            name,
            born: self.told,
            vendor: 0,
            prefixes: Vec::new(),
            site: u8::MAX,
            end: End::NoHub,
            session: None,
            serial: u8::MAX,
            hostname: false,
            generation: 1,
            observed: 0,
            at_vendor: AtVendor::default(),
            leaving: false,
            failed: None,
            retries: 0,
            drifted: false,
            again: false,
            tried: false,
            check: None,
            suspended: false,
            protected: false,
            waits: None,
            planning: None,
            plan: None,
            plans: 0,
            versions: Vec::new(),
            rollout: 0,
            late: None,
            released: false,
            known: None,
            past: Vec::new(),
        };
        with(&mut thing);
        thing.past.push((1, thing.wish()));
        self.things.push(thing);
        Ok(())
    }

    pub(super) fn create_site(&mut self, site: u8, vendor: usize, lan: Vec<usize>) -> Answer {
        self.absent(Kind::Site, site)?;
        self.lan(site, &lan)?;
        if self.rule(Kind::Site).plans() && vendor == 1 {
            return Err(NotPlannable);
        }
        self.create(Kind::Site, site, |thing| (thing.vendor, thing.prefixes) = (vendor, lan))
    }

    pub(super) fn change_site(&mut self, site: u8, lan: Vec<usize>, who: &'static str, now: i64) -> Answer {
        let at = self.there(Kind::Site, site)?;
        if self.things[at].prefixes != lan {
            self.lan(site, &lan)?;
            self.things[at].prefixes = lan;
            self.change(at, who, now);
        }
        Ok(())
    }

    pub(super) fn create_tunnel(
        &mut self,
        tunnel: u8,
        site: u8,
        (end, inside, session): (End, usize, Session),
    ) -> Answer {
        self.absent(Kind::Tunnel, tunnel)?;
        let vendor = self.vendor_of(site)?;
        if self.full(site, vendor, tunnel) {
            return Err(TunnelLimitReached);
        }
        let session = session.beside(None)?;
        self.tunnel(tunnel, site, vendor, (end, inside, session))?;
        if self.full_at_end(end, vendor, tunnel) {
            return Err(TunnelLimitReached);
        }
        self.create(Kind::Tunnel, tunnel, |thing| {
            (thing.site, thing.end, thing.prefixes, thing.session) = (site, end, vec![inside], session);
        })
    }

    pub(super) fn change_tunnel(
        &mut self,
        tunnel: u8,
        (end, inside, session): (End, usize, Session),
        who: &'static str,
        now: i64,
    ) -> Answer {
        let at = self.there(Kind::Tunnel, tunnel)?;
        let session = session.beside(self.things[at].session)?;
        let present = &self.things[at];
        if present.end != end || present.prefixes != [inside] || present.session != session {
            let site = present.site;
            let vendor = self.vendor_of(site)?;
            self.tunnel(tunnel, site, vendor, (end, inside, session))?;
            if self.things[at].end != end && self.full_at_end(end, vendor, tunnel) {
                return Err(TunnelLimitReached);
            }
            let thing = &mut self.things[at];
            (thing.end, thing.prefixes, thing.session) = (end, vec![inside], session);
            self.change(at, who, now);
        }
        Ok(())
    }

    pub(super) fn create_device(&mut self, device: u8, site: u8, serial: u8, model: usize) -> Answer {
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

    pub(super) fn change_device(
        &mut self,
        device: u8,
        hostname: bool,
        who: &'static str,
        now: i64,
    ) -> Answer {
        let at = self.there(Kind::Device, device)?;
        let vendor = self.vendor_of(self.things[at].site)?;
        if vendor == 1 && hostname {
            return Err(UnknownField);
        }
        if self.things[at].hostname != hostname {
            self.things[at].hostname = hostname;
            self.change(at, who, now);
        }
        Ok(())
    }

    pub(super) fn revert(&mut self, kind: Kind, name: u8, back: i64, who: &'static str, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let thing = self.things[at].clone();
        if self.goes(at) {
            return Err(BeingRemoved);
        }
        let to = thing.generation.saturating_add_signed(-back);
        if to == thing.generation {
            return Err(PresentGeneration);
        }
        let vendor = if kind == Kind::Site { thing.vendor } else { self.vendor_of(thing.site)? };
        let Some((_, wish)) = thing.past.iter().find(|(generation, _)| *generation == to) else {
            let was = self.gone.contains(&(kind, name, to));
            return Err(if was { FormerObject } else { UnknownGeneration });
        };
        self.fits(&thing, wish, vendor)?;
        if thing.leaving || *wish != thing.wish() {
            let thing = &mut self.things[at];
            thing.is_to_be(wish);
            self.change(at, who, now);
        }
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        kind: Kind,
        name: u8,
        tried: bool,
        who: &'static str,
        now: i64,
    ) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let thing = self.things[at].clone();
        if thing.failed.is_some() || (!thing.leaving && thing.observed == thing.generation) {
            return Err(NothingToCancel);
        }
        let tried = tried || thing.tried;
        if thing.observed == 0 {
            let uses = |thing: &Thing| thing.site == name || thing.end == End::Site(name);
            if kind == Kind::Site && self.things.iter().any(uses) {
                return Err(SiteInUse);
            }
            if thing.protected {
                return Err(Protected);
            }
            if tried && self.in_freeze(now) {
                return Err(Frozen);
            }
            if !tried {
                let past = thing.past.into_iter();
                self.gone.extend(past.map(|(generation, _)| (kind, name, generation)));
                self.things.remove(at);
                return Ok(());
            }
            self.things[at].goes_from_now();
        } else {
            let vendor = if kind == Kind::Site { thing.vendor } else { self.vendor_of(thing.site)? };
            // An executor may say that it applied the generation that takes the thing down: that is as the one before.
            let (_, wish) =
                thing.past.iter().rev().find(|(at, _)| *at <= thing.observed).expect("what was applied");
            self.fits(&thing, wish, vendor)?;
            if tried && self.in_freeze(now) {
                return Err(Frozen);
            }
            let thing = &mut self.things[at];
            thing.is_to_be(wish);
            if tried && thing.versions.iter().any(|(from, _)| *from > thing.observed) {
                // It comes back after another, of which the vendor may have anything.
                thing.versions.push((thing.generation + 1, thing.version_at(thing.observed)));
            } else {
                thing.versions.retain(|(from, _)| *from <= thing.observed);
            }
        }
        let thing = &mut self.things[at];
        thing.generation += 1;
        (thing.known, thing.waits, thing.plan, thing.tried) = (None, None, None, tried);
        if !thing.leaving {
            thing.past.push((thing.generation, thing.wish()));
        }
        if tried {
            self.is_asked_for(at, who, now);
        } else {
            thing.planning = None;
            thing.observed = thing.generation;
            thing.begins_anew();
        }
        Ok(())
    }

    /// Whether a thing may be what it was.
    fn fits(&self, thing: &Thing, wish: &Wish, vendor: usize) -> Answer {
        match thing.kind {
            Kind::Site => self.lan(thing.name, &wish.prefixes),
            Kind::Tunnel => {
                self.tunnel(thing.name, thing.site, vendor, (wish.end, wish.prefixes[0], wish.session))?;
                let full = wish.end != thing.end && self.full_at_end(wish.end, vendor, thing.name);
                if full { Err(TunnelLimitReached) } else { Ok(()) }
            }
            Kind::Device => Ok(()),
        }
    }
}
