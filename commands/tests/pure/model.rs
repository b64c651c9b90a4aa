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
    /// The change window of sites or of devices: a narrow one, a wide one around it, or none.
    Windows(Kind, usize),
    Release(Kind, u8),
    /// To the generation that is so many before the present one, or behind it.
    Revert(Kind, u8, i64),
    /// Takes back what was not begun; whether it was tried.
    Cancel(Kind, u8, bool),
    Acknowledge(Kind, u8),
    Note(Kind, u8),
}

/// The change windows there are, in minutes after midnight: the narrow one and the wide one.
pub const WINDOWS: [(i64, i64); 2] = [(8 * 60 + 5, 8 * 60 + 9), (8 * 60 + 3, 8 * 60 + 20)];
/// The minute of the day at which lives begin.
const BEGUN: i64 = 8 * 60;
const NO_WINDOW: usize = 2;

/// What a thing is to be.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    prefixes: Vec<usize>,
    end: End,
    hostname: bool,
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
    /// Whether something newer than what was applied failed, or was tried.
    tried: bool,
    suspended: bool,
    protected: bool,
    /// What waits for approval.
    waits: Option<Waits>,
    /// Whether it waits for a window, and whether it need not.
    late: bool,
    released: bool,
    /// Whether somebody knows of a failure, or of a drift.
    known: Option<bool>,
    /// What it was to be, by generation.
    past: Vec<(u64, Wish)>,
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
        self.leaving && !self.rejected()
    }

    fn rejected(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.rejected)
    }

    fn wish(&self) -> Wish {
        Wish { prefixes: self.prefixes.clone(), end: self.end, hostname: self.hostname }
    }

    /// Whether there is something to be done about it.
    fn pending(&self) -> bool {
        !self.failed && (self.leaving || self.again || self.observed != self.generation)
    }

    fn begins_anew(&mut self) {
        (self.late, self.released) = (false, false);
    }

    /// Which of the windows it waits for.
    fn windowed(&self) -> usize {
        windowed(self.kind)
    }
}

/// Which of the windows a kind waits for: the first is about sites and tunnels.
fn windowed(kind: Kind) -> usize {
    usize::from(kind == Kind::Device)
}

/// Kind and name, generation, observed generation; leaving, failed, drifted, suspended, protected, waiting for approval,
/// waiting for a window, released, acknowledged.
pub type Row = (String, u64, u64, [bool; 9]);

#[derive(Clone, Debug)]
pub struct Model {
    things: Vec<Thing>,
    suspended: bool,
    leaving: bool,
    /// How many approvals the changes of sites, tunnels and devices need.
    rules: [usize; 3],
    /// The windows of sites and of devices.
    windows: [usize; 2],
    /// Rules and windows that wait for approval.
    looser: Option<([usize; 3], [usize; 2], Waits)>,
    /// How many times rules were asked for.
    asked: u64,
    /// Name, first minute, first minute after it.
    freezes: Vec<(u8, i64, i64)>,
    /// The generations of things that are gone.
    gone: Vec<(Kind, u8, u64)>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            suspended: false,
            leaving: false,
            rules: [0; 3],
            windows: [NO_WINDOW; 2],
            looser: None,
            asked: 0,
            freezes: Vec::new(),
            gone: Vec::new(),
        }
    }
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
            tried: false,
            suspended: false,
            protected: false,
            waits: None,
            late: false,
            released: false,
            known: None,
            past: Vec::new(),
        };
        with(&mut thing);
        thing.past.push((1, thing.wish()));
        self.things.push(thing);
        Ok(())
    }

    fn change(&mut self, at: usize, who: &'static str, now: i64) {
        let thing = &mut self.things[at];
        thing.generation += 1;
        (thing.failed, thing.known) = (false, None);
        if !thing.leaving {
            thing.past.push((thing.generation, thing.wish()));
        }
        self.wait(at, who);
        self.postpone(at, now);
    }

    /// Something is to be done about a thing from now on, unless it waits for an approval.
    fn postpone(&mut self, at: usize, now: i64) {
        let shut = self.shut(self.things[at].windowed(), now);
        let thing = &mut self.things[at];
        thing.begins_anew();
        thing.late = shut && thing.waits.is_none();
    }

    /// Whether windows keep something from being done.
    fn shut(&self, windowed: usize, now: i64) -> bool {
        let Some((from, to)) = WINDOWS.get(self.windows[windowed]) else { return false };
        let minute = (BEGUN + now) % (24 * 60);
        self.in_freeze(now) || minute < *from || *to <= minute
    }

    /// Everything that waits is judged again.
    fn judge_again(&mut self, now: i64) {
        let shut = [self.shut(0, now), self.shut(1, now)];
        let waiting = |thing: &&mut Thing| thing.pending() && !thing.released && thing.waits.is_none();
        for thing in self.things.iter_mut().filter(waiting) {
            thing.late = shut[thing.windowed()];
        }
    }

    /// What is done together with a site or a device.
    fn together(&self, kind: Kind, name: u8) -> Vec<usize> {
        let with = |thing: &Thing| {
            (thing.kind, thing.name) == (kind, name)
                || (kind == Kind::Site && thing.kind == Kind::Tunnel && thing.site == name)
        };
        (0..self.things.len()).filter(|at| with(&self.things[*at])).collect()
    }

    /// Whether windows let something be done about a site or a device now.
    pub fn is_open(&self, kind: Kind, name: u8, now: i64) -> bool {
        let all = self.together(kind, name);
        let mut pending = all.iter().map(|at| &self.things[*at]).filter(|thing| thing.pending()).peekable();
        let released = pending.peek().is_some() && pending.all(|thing| thing.released);
        released || !self.shut(windowed(kind), now)
    }

    fn release(&mut self, kind: Kind, name: u8, now: i64) -> Answer {
        self.find(kind, name).ok_or(NotFound)?;
        if self.is_open(kind, name, now) {
            return Err(NothingToRelease);
        }
        let waits = |thing: &Thing| thing.pending() && !thing.released && !thing.rejected();
        let all = self.together(kind, name);
        let waiting: Vec<usize> = all.into_iter().filter(|at| waits(&self.things[*at])).collect();
        for at in &waiting {
            (self.things[*at].late, self.things[*at].released) = (false, true);
        }
        if waiting.is_empty() { Err(NothingToRelease) } else { Ok(()) }
    }

    fn revert(&mut self, kind: Kind, name: u8, back: i64, who: &'static str, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let thing = self.things[at].clone();
        if thing.goes() {
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
            (thing.prefixes, thing.end, thing.hostname) = (wish.prefixes.clone(), wish.end, wish.hostname);
            thing.leaving = false;
            self.change(at, who, now);
        }
        Ok(())
    }

    fn cancel(&mut self, kind: Kind, name: u8, tried: bool, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let thing = self.things[at].clone();
        if thing.failed || (!thing.leaving && thing.observed == thing.generation) {
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
            if !tried {
                let past = thing.past.into_iter();
                self.gone.extend(past.map(|(generation, _)| (kind, name, generation)));
                self.things.remove(at);
                return Ok(());
            }
            self.things[at].leaving = true;
        } else {
            let vendor = if kind == Kind::Site { thing.vendor } else { self.vendor_of(thing.site)? };
            let (_, wish) =
                thing.past.iter().find(|(at, _)| *at == thing.observed).expect("what was applied");
            self.fits(&thing, wish, vendor)?;
            let thing = &mut self.things[at];
            (thing.prefixes, thing.end, thing.hostname) = (wish.prefixes.clone(), wish.end, wish.hostname);
            thing.leaving = false;
        }
        let thing = &mut self.things[at];
        thing.generation += 1;
        (thing.known, thing.waits, thing.tried) = (None, None, tried);
        if !thing.leaving {
            thing.past.push((thing.generation, thing.wish()));
        }
        if tried {
            self.postpone(at, now);
        } else {
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
                self.tunnel(thing.name, thing.site, vendor, wish.end, wish.prefixes[0])?;
                let full = wish.end != thing.end && self.full_at_end(wish.end, vendor, thing.name);
                if full { Err(TunnelLimitReached) } else { Ok(()) }
            }
            Kind::Device => Ok(()),
        }
    }

    /// Other rules and windows. What makes a rule weaker waits for as many approvals as that one wants.
    fn settings(&mut self, rules: [usize; 3], windows: [usize; 2], who: &'static str, now: i64) -> Answer {
        if self.leaving {
            return Err(BeingRemoved);
        }
        if (rules, windows) == (self.rules, self.windows) {
            return Ok(());
        }
        let weaker = |kind: &usize| {
            let windowed = kind / 2;
            self.rules[*kind] > 0
                && (rules[*kind] < self.rules[*kind] || windows[windowed] > self.windows[windowed])
        };
        let needs: Vec<usize> = (0..3).filter(weaker).map(|kind| self.rules[kind]).collect();
        let Some(first) = needs.first() else {
            (self.rules, self.windows, self.looser) = (rules, windows, None);
            self.asked += 1;
            self.judge_again(now);
            return Ok(());
        };
        if needs.iter().any(|other| other != first) {
            return Err(InvalidValue);
        }
        let is_repeat = |(of, at, waits): &([usize; 3], [usize; 2], Waits)| {
            (*of, *at) == (rules, windows) && waits.asked == [who]
        };
        if !self.looser.as_ref().is_some_and(is_repeat) {
            let waits = Waits { asked: vec![who], needs: *first, ..Waits::default() };
            self.looser = Some((rules, windows, waits));
            self.asked += 1;
        }
        Ok(())
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
                | Ask::Acknowledge(..)
                | Ask::Note(..)
                | Ask::Cancel(..)
        );
        says_what_should_be && self.in_freeze(now)
    }

    fn in_freeze(&self, now: i64) -> bool {
        self.freezes.iter().any(|(_, from, to)| *from <= now && now < *to)
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
    fn go(&mut self, all: &[usize], who: &'static str, now: i64) -> Answer {
        let going: Vec<usize> = all.iter().copied().filter(|at| !self.things[*at].goes()).collect();
        if going.iter().any(|at| self.things[*at].protected) {
            return Err(Protected);
        }
        for at in going {
            self.things[at].leaving = true;
            self.change(at, who, now);
        }
        Ok(())
    }

    /// What becomes of a command that this person sends at this minute.
    pub fn ask(&mut self, ask: &Ask, who: &'static str, now: i64) -> Answer {
        if matches!(
            ask,
            Ask::Check(Kind::Tunnel, _)
                | Ask::Suspend(Kind::Tunnel, _)
                | Ask::Resume(Kind::Tunnel, _)
                | Ask::Release(Kind::Tunnel, _)
        ) {
            return Err(UnknownVerb);
        }
        if self.frozen(ask, now) {
            return Err(Frozen);
        }
        let creates =
            matches!(ask, Ask::CreateSite { .. } | Ask::CreateTunnel { .. } | Ask::CreateDevice { .. });
        if (creates || matches!(ask, Ask::Revert(..) | Ask::Cancel(..))) && self.leaving {
            return Err(BeingRemoved);
        }
        let before = self.things.len();
        self.answer(ask, who, now)?;
        if self.things.len() > before {
            self.wait(before, who);
            self.postpone(before, now);
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
                    self.change(at, who, now);
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
                    self.change(at, who, now);
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
                    self.change(at, who, now);
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
                    self.change(at, who, now);
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
                self.go(&all, who, now)
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
                self.go(&all, who, now)?;
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
                thing.known = None;
                thing.again = thing.drifted;
                self.postpone(at, now);
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
                if std::mem::take(&mut self.things[at].suspended) {
                    self.judge_again(now);
                }
                Ok(())
            }
            Ask::SuspendCustomer => {
                self.suspended = true;
                Ok(())
            }
            Ask::ResumeCustomer => {
                if std::mem::take(&mut self.suspended) {
                    self.judge_again(now);
                }
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
                    if !self.things[at].released {
                        self.postpone(at, now);
                    }
                }
                Ok(())
            }
            Ask::Reject(kind, name, off) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                Self::rejected(self.things[at].waits.as_mut(), off)
            }
            Ask::Policy(kind, needs) => {
                let mut rules = self.rules;
                rules[kind as usize] = needs;
                self.settings(rules, self.windows, who, now)
            }
            Ask::Windows(kind, rank) => {
                let mut windows = self.windows;
                windows[windowed(kind)] = rank;
                self.settings(self.rules, windows, who, now)
            }
            Ask::Release(kind, name) => self.release(kind, name, now),
            Ask::Revert(kind, name, back) => self.revert(kind, name, back, who, now),
            Ask::Cancel(kind, name, tried) => self.cancel(kind, name, tried, now),
            Ask::Acknowledge(kind, name) => {
                let at = self.find(kind, name).ok_or(NotFound)?;
                let thing = &mut self.things[at];
                if !thing.failed && !thing.drifted {
                    return Err(NothingToAcknowledge);
                }
                thing.known = Some(thing.failed);
                Ok(())
            }
            Ask::Note(kind, name) => self.find(kind, name).map(|_| ()).ok_or(NotFound),
            Ask::ApprovePolicy(off) => {
                if self.leaving {
                    return Err(BeingRemoved);
                }
                if Self::given(self.looser.as_mut().map(|(_, _, waits)| waits), who, off)? {
                    let (rules, windows, _) = self.looser.take().expect("the rules that waited");
                    (self.rules, self.windows) = (rules, windows);
                    self.judge_again(now);
                }
                Ok(())
            }
            Ask::RejectPolicy(off) => {
                Self::rejected(self.looser.as_mut().map(|(_, _, waits)| waits), off)?;
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
                self.judge_again(now);
                Ok(())
            }
            Ask::Unfreeze(name) => {
                let before = self.freezes.len();
                self.freezes.retain(|(other, _, _)| *other != name);
                if self.freezes.len() == before {
                    return Err(NotFound);
                }
                self.judge_again(now);
                Ok(())
            }
        }
    }

    /// A customer that is to go is gone with the last thing it has, and with it all it said about itself.
    fn end(&mut self) {
        if self.leaving && self.things.is_empty() {
            *self = Self { gone: std::mem::take(&mut self.gone), ..Self::default() };
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
                thing.tried = false;
                if *generation == thing.generation {
                    (thing.failed, thing.drifted, thing.again) = (false, false, false);
                    thing.known = None;
                    thing.begins_anew();
                }
            }
            Change::Failed { generation, .. } => {
                assert!(*generation == thing.generation && !thing.failed);
                (thing.failed, thing.tried) = (true, true);
                thing.known = thing.known.filter(|failure| !failure);
                thing.begins_anew();
            }
            Change::Removed { .. } => {
                assert!(thing.leaving);
                let past = std::mem::take(&mut thing.past);
                self.gone.extend(past.into_iter().map(|(generation, _)| (kind, name, generation)));
                self.things.remove(at);
            }
            // They all drift in the same way.
            Change::DriftFound { .. } => thing.drifted = true,
            Change::DriftNotFound { .. } => {
                thing.drifted = false;
                thing.known = thing.known.filter(|failure| *failure);
            }
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
            | Change::Rejected { .. }
            | Change::Postponed { .. }
            | Change::Due { .. }
            | Change::Released { .. }
            | Change::Cancelled { .. }
            | Change::Acknowledged { .. }
            | Change::Noted { .. } => panic!("no report says that"),
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
                    thing.late,
                    thing.released,
                    thing.known.is_some(),
                ];
                (name, thing.generation, thing.observed, flags)
            })
            .collect();
        all.sort();
        all
    }
}
