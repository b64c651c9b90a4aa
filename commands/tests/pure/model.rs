//! The rules once more, as simply as they can be said: lists, ranges, flags. It shares no code with what it judges.

use wanwright_schemas::Reason::{self, *};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::policy::CustomerChange;

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
    CreateSite {
        site: u8,
        vendor: usize,
        lan: Vec<usize>,
    },
    ChangeSite {
        site: u8,
        lan: Vec<usize>,
    },
    CreateTunnel {
        tunnel: u8,
        site: u8,
        end: End,
        inside: usize,
    },
    ChangeTunnel {
        tunnel: u8,
        end: End,
        inside: usize,
    },
    CreateDevice {
        device: u8,
        site: u8,
        serial: u8,
        model: usize,
    },
    ChangeDevice {
        device: u8,
        hostname: bool,
    },
    Decommission(Kind, u8),
    DecommissionAll(u8),
    DecommissionCustomer {
        cascade: bool,
    },
    Retry(Kind, u8),
    Check(Kind, u8),
    CheckAll,
    Suspend(Kind, u8),
    Resume(Kind, u8),
    SuspendCustomer,
    ResumeCustomer,
    Protect(Kind, u8, bool),
    /// The generation is the one that waits, plus this.
    Approve(Kind, u8, u64),
    /// The generation is the one that waits, plus this.
    Reject(Kind, u8, u64),
    /// How many approvals changes of a kind wait for.
    Policy(Kind, usize),
    /// Approves the policy that waits; its generation plus this.
    ApprovePolicy(u64),
    RejectPolicy(u64),
    /// From now plus the first to now plus the second, in minutes.
    Freeze(u8, i64, i64),
    Unfreeze(u8),
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
    suspended: bool,
    protected: bool,
    /// What waits for approval.
    waits: Option<Waits>,
}

/// What waits for approval: who asked for it, how many are needed, who approved it, whether it was rejected.
#[derive(Clone, Debug, Default)]
struct Waits {
    asked: Vec<&'static str>,
    needs: usize,
    given: Vec<&'static str>,
    rejected: bool,
}

impl Thing {
    /// Whether it is going, and nobody said no.
    fn goes(&self) -> bool {
        self.leaving && !self.waits.as_ref().is_some_and(|waits| waits.rejected)
    }
}

/// Kind and name, generation, observed generation; leaving, failed, drifted, suspended, protected, waiting.
pub type Row = (String, u64, u64, [bool; 6]);

#[derive(Clone, Debug, Default)]
pub struct Model {
    things: Vec<Thing>,
    suspended: bool,
    leaving: bool,
    /// How many approvals the changes of sites, tunnels and devices need.
    rules: [usize; 3],
    /// Rules that wait for approval.
    looser: Option<([usize; 3], Waits)>,
    /// How many times rules were asked for.
    asked: u64,
    /// Name, first minute, first minute after it.
    freezes: Vec<(u8, i64, i64)>,
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
            suspended: false,
            protected: false,
            waits: None,
        };
        with(&mut thing);
        self.things.push(thing);
        Ok(())
    }

    fn change(&mut self, at: usize, who: &'static str) {
        self.things[at].generation += 1;
        self.things[at].failed = false;
        self.wait(at, who);
    }

    /// Whether a new generation waits, and for whose approval it does not.
    fn wait(&mut self, at: usize, who: &'static str) {
        let needs = self.rules[self.things[at].kind as usize];
        let before = self.things[at].waits.take();
        if needs == 0 && before.is_none() {
            return;
        }
        let mut waits = before.unwrap_or_default();
        if needs > 0 {
            waits.needs = needs;
        }
        if !waits.asked.contains(&who) {
            waits.asked.push(who);
        }
        (waits.given, waits.rejected) = (Vec::new(), false);
        self.things[at].waits = Some(waits);
    }

    /// Approves what waits; says whether that is enough.
    fn given(waits: Option<&mut Waits>, who: &'static str, off: u64) -> Result<bool, Reason> {
        let waits = waits.filter(|waits| !waits.rejected).ok_or(NothingToApprove)?;
        if off != 0 {
            return Err(GenerationMismatch);
        }
        if waits.asked.contains(&who) {
            return Err(OwnChange);
        }
        if !waits.given.contains(&who) {
            waits.given.push(who);
        }
        Ok(waits.given.len() == waits.needs)
    }

    fn rejected(waits: Option<&mut Waits>, off: u64) -> Answer {
        let waits = waits.filter(|waits| !waits.rejected).ok_or(NothingToApprove)?;
        if off != 0 {
            return Err(GenerationMismatch);
        }
        waits.rejected = true;
        Ok(())
    }

    fn frozen(&self, ask: &Ask, now: i64) -> bool {
        let says_what_should_be = !matches!(
            ask,
            Ask::Retry(..)
                | Ask::Check(..)
                | Ask::CheckAll
                | Ask::Suspend(..)
                | Ask::Resume(..)
                | Ask::SuspendCustomer
                | Ask::ResumeCustomer
                | Ask::Protect(..)
                | Ask::Freeze(..)
                | Ask::Unfreeze(_)
                | Ask::Reject(..)
                | Ask::RejectPolicy(_)
        );
        says_what_should_be && self.freezes.iter().any(|(_, from, to)| *from <= now && now < *to)
    }

    /// Whether nothing is looked at.
    fn rests(&self, thing: &Thing) -> bool {
        let site = self.find(Kind::Site, thing.site).filter(|_| thing.kind == Kind::Device);
        self.suspended || thing.suspended || site.is_some_and(|at| self.things[at].suspended)
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

    /// Everything in this list goes, or nothing does.
    fn go(&mut self, all: &[usize], who: &'static str) -> Answer {
        let going: Vec<usize> = all.iter().copied().filter(|at| !self.things[*at].goes()).collect();
        if going.iter().any(|at| self.things[*at].protected) {
            return Err(Protected);
        }
        for at in going {
            self.things[at].leaving = true;
            self.change(at, who);
        }
        Ok(())
    }

    /// What becomes of a command that this person sends at this minute.
    pub fn ask(&mut self, ask: &Ask, who: &'static str, now: i64) -> Answer {
        if matches!(
            ask,
            Ask::Check(Kind::Tunnel, _) | Ask::Suspend(Kind::Tunnel, _) | Ask::Resume(Kind::Tunnel, _)
        ) {
            return Err(UnknownVerb);
        }
        if self.frozen(ask, now) {
            return Err(Frozen);
        }
        let creates =
            matches!(ask, Ask::CreateSite { .. } | Ask::CreateTunnel { .. } | Ask::CreateDevice { .. });
        if creates && self.leaving {
            return Err(BeingRemoved);
        }
        let before = self.things.len();
        self.answer(ask, who, now)?;
        if self.things.len() > before {
            self.wait(before, who);
        }
        Ok(())
    }

    fn answer(&mut self, ask: &Ask, who: &'static str, now: i64) -> Answer {
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
                    self.change(at, who);
                }
                Ok(())
            }
            Ask::CreateTunnel { tunnel, site, end, inside } => {
                self.absent(Kind::Tunnel, tunnel)?;
                let vendor = self.vendor_of(site)?;
                if self.full(site, vendor, tunnel) {
                    return Err(TunnelLimitReached);
                }
                self.tunnel(tunnel, site, vendor, end, inside)?;
                if self.full_at_end(end, vendor, tunnel) {
                    return Err(TunnelLimitReached);
                }
                self.create(Kind::Tunnel, tunnel, |thing| {
                    (thing.site, thing.end, thing.prefixes) = (site, end, vec![inside]);
                })
            }
            Ask::ChangeTunnel { tunnel, end, inside } => {
                let at = self.there(Kind::Tunnel, tunnel)?;
                if self.things[at].end != end || self.things[at].prefixes != [inside] {
                    let site = self.things[at].site;
                    let vendor = self.vendor_of(site)?;
                    self.tunnel(tunnel, site, vendor, end, inside)?;
                    if self.things[at].end != end && self.full_at_end(end, vendor, tunnel) {
                        return Err(TunnelLimitReached);
                    }
                    (self.things[at].end, self.things[at].prefixes) = (end, vec![inside]);
                    self.change(at, who);
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
                    self.change(at, who);
                }
                Ok(())
            }
            Ask::Decommission(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                if self.things[at].protected {
                    return Err(Protected);
                }
                if !self.things[at].goes() {
                    let uses = |thing: &Thing| thing.site == name || thing.end == End::Site(name);
                    if kind == Kind::Site && self.things.iter().any(uses) {
                        return Err(SiteInUse);
                    }
                    self.things[at].leaving = true;
                    self.change(at, who);
                }
                Ok(())
            }
            Ask::DecommissionAll(site) => {
                let own = self.find(Kind::Site, site).ok_or(NotFound)?;
                if self.things[own].goes() {
                    return Ok(());
                }
                let uses = |thing: &Thing| thing.site == site || thing.end == End::Site(site);
                let mut all: Vec<usize> =
                    (0..self.things.len()).filter(|at| uses(&self.things[*at])).collect();
                all.push(own);
                self.go(&all, who)
            }
            Ask::DecommissionCustomer { cascade } => {
                if self.leaving {
                    return Ok(());
                }
                if self.rules != [0, 0, 0] {
                    return Err(ApprovalsInForce);
                }
                if !cascade && !self.things.is_empty() {
                    return Err(CustomerInUse);
                }
                let all: Vec<usize> = (0..self.things.len()).collect();
                self.go(&all, who)?;
                self.leaving = true;
                self.end();
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
            Ask::Check(kind, name) => {
                let at = self.there(kind, name)?;
                if self.things[at].observed == 0 {
                    return Err(NothingToCheck);
                }
                if self.rests(&self.things[at]) { Err(Suspended) } else { Ok(()) }
            }
            Ask::CheckAll => {
                if self.suspended {
                    return Err(Suspended);
                }
                let seen = |thing: &Thing| {
                    thing.kind != Kind::Tunnel && thing.observed > 0 && !thing.leaving && !self.rests(thing)
                };
                if self.things.iter().any(seen) { Ok(()) } else { Err(NothingToCheck) }
            }
            Ask::Suspend(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                self.things[at].suspended = true;
                Ok(())
            }
            Ask::Resume(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                self.things[at].suspended = false;
                Ok(())
            }
            Ask::SuspendCustomer => {
                self.suspended = true;
                Ok(())
            }
            Ask::ResumeCustomer => {
                self.suspended = false;
                Ok(())
            }
            Ask::Protect(kind, name, protected) => {
                let at = self.there(kind, name)?;
                self.things[at].protected = protected;
                Ok(())
            }
            Ask::Approve(kind, name, off) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                if Self::given(self.things[at].waits.as_mut(), who, off)? {
                    self.things[at].waits = None;
                }
                Ok(())
            }
            Ask::Reject(kind, name, off) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                Self::rejected(self.things[at].waits.as_mut(), off)
            }
            Ask::Policy(kind, needs) => {
                if self.leaving {
                    return Err(BeingRemoved);
                }
                let mut rules = self.rules;
                rules[kind as usize] = needs;
                if needs < self.rules[kind as usize] {
                    let is_repeat = |(waits, of): &([usize; 3], Waits)| *waits == rules && of.asked == [who];
                    if !self.looser.as_ref().is_some_and(is_repeat) {
                        let waits =
                            Waits { asked: vec![who], needs: self.rules[kind as usize], ..Waits::default() };
                        self.looser = Some((rules, waits));
                        self.asked += 1;
                    }
                } else if rules != self.rules {
                    (self.rules, self.looser) = (rules, None);
                    self.asked += 1;
                }
                Ok(())
            }
            Ask::ApprovePolicy(off) => {
                if self.leaving {
                    return Err(BeingRemoved);
                }
                if Self::given(self.looser.as_mut().map(|(_, waits)| waits), who, off)? {
                    self.rules = self.looser.take().expect("the rules that waited").0;
                }
                Ok(())
            }
            Ask::RejectPolicy(off) => {
                Self::rejected(self.looser.as_mut().map(|(_, waits)| waits), off)?;
                self.looser = None;
                Ok(())
            }
            Ask::Freeze(name, from, to) => {
                let freeze = (name, now + from, now + to);
                if self.freezes.contains(&freeze) {
                    return Ok(());
                }
                if to <= from || to <= 0 {
                    return Err(InvalidValue);
                }
                if self.freezes.iter().any(|(other, _, to)| *other == name && now < *to) {
                    return Err(AlreadyExists);
                }
                self.freezes.retain(|(_, _, to)| now < *to);
                self.freezes.push(freeze);
                Ok(())
            }
            Ask::Unfreeze(name) => {
                let before = self.freezes.len();
                self.freezes.retain(|(other, _, _)| *other != name);
                if self.freezes.len() == before { Err(NotFound) } else { Ok(()) }
            }
        }
    }

    /// A customer that is to go is gone with the last thing it has, and with it all it said about itself.
    fn end(&mut self) {
        if self.leaving && self.things.is_empty() {
            *self = Self::default();
        }
    }

    /// The generation of a thing; 0 when there is none.
    pub fn generation(&self, kind: Kind, name: u8) -> u64 {
        self.find(kind, name).map_or(0, |at| self.things[at].generation)
    }

    /// The generation of the customer's rules: the one that waits, where one does.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// What waits for approval.
    pub fn waiting(&self) -> Vec<(Kind, u8)> {
        let waiting = self.things.iter().filter(|thing| thing.waits.is_some());
        waiting.map(|thing| (thing.kind, thing.name)).collect()
    }

    /// Whether a thing waits for another generation, because the present one was rejected.
    pub fn is_rejected(&self, kind: Kind, name: u8) -> bool {
        let waits = self.find(kind, name).and_then(|at| self.things[at].waits.as_ref());
        waits.is_some_and(|waits| waits.rejected)
    }

    /// The freezes there are.
    pub fn freezes(&self) -> Vec<u8> {
        self.freezes.iter().map(|(name, _, _)| *name).collect()
    }

    /// Whether the customer is suspended, whether it is to go, how many freezes it has, whether rules wait.
    pub fn own(&self) -> (bool, bool, usize, bool) {
        (self.suspended, self.leaving, self.freezes.len(), self.looser.is_some())
    }

    /// Learns what became of a report.
    pub fn learn(&mut self, event: &Event) {
        match event {
            Event::Site(id, change) => self.learn_of(Kind::Site, id.as_str(), change),
            Event::Tunnel(id, change) => self.learn_of(Kind::Tunnel, id.as_str(), change),
            Event::Device(id, change) => self.learn_of(Kind::Device, id.as_str(), change),
            Event::Customer(_, CustomerChange::Removed {}) => {
                assert!(self.leaving && self.things.is_empty());
                self.end();
            }
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
            | Change::ContactChanged { .. }
            | Change::Suspended { .. }
            | Change::Resumed {}
            | Change::Protected {}
            | Change::Unprotected {}
            | Change::ApprovalRequested { .. }
            | Change::Approved { .. }
            | Change::Rejected { .. } => panic!("no report says that"),
        }
    }

    /// What there is.
    pub fn summary(&self) -> Vec<Row> {
        let mut all: Vec<_> = self
            .things
            .iter()
            .map(|thing| {
                let name = format!("{:?} {}", thing.kind, thing.name).to_lowercase();
                let flags = [
                    thing.leaving,
                    thing.failed,
                    thing.drifted,
                    thing.suspended,
                    thing.protected,
                    thing.waits.is_some(),
                ];
                (name, thing.generation, thing.observed, flags)
            })
            .collect();
        all.sort();
        all
    }
}
