//! The rules once more, as simply as they can be said: lists, ranges, flags. It shares no code with what it judges.

mod approvals;
mod ask;
mod holds;
mod orders;
mod plans;
mod removal;
mod reports;
mod settings;
mod templates;
mod windows;
mod wishes;

use wanwright_schemas::Reason::{self, *};

use approvals::Waits;
pub use ask::Ask;
pub use orders::{AtVendor, Order};
pub use plans::{FILES, Planned, Told};
use plans::{Plan, Planning};
pub use reports::{Found, Said, What};
use settings::Settings;
pub use settings::{ACCOUNTS, BUYERS, Rule};
pub use windows::WINDOWS;
use windows::windowed;
pub use wishes::{ASNS, HOST_BITS, MODELS, PREFIXES, Session, VENDORS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What a thing is to be.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    prefixes: Vec<usize>,
    end: End,
    session: Option<(usize, usize)>,
    hostname: bool,
}

/// Anything: a site has networks, a tunnel a site, an end, an inside and maybe a BGP session, a device a site and a serial
/// number.
#[derive(Clone, Debug, PartialEq)]
struct Thing {
    kind: Kind,
    name: u8,
    /// The number of the command that made it.
    born: u64,
    vendor: usize,
    prefixes: Vec<usize>,
    site: u8,
    end: End,
    /// The numbers of both ends' autonomous systems.
    session: Option<(usize, usize)>,
    serial: u8,
    hostname: bool,
    generation: u64,
    observed: u64,
    at_vendor: AtVendor,
    leaving: bool,
    /// Why it has failed.
    failed: Option<Reason>,
    /// How many times somebody asked to try again.
    retries: u64,
    drifted: bool,
    again: bool,
    /// Whether something newer than what was applied was tried, beside what failed now.
    tried: bool,
    /// The number of the command that waits for a look.
    check: Option<u64>,
    suspended: bool,
    protected: bool,
    /// What waits for approval.
    waits: Option<Waits>,
    /// Who asked for what is to be planned, and under which rule.
    planning: Option<Planning>,
    /// The newest plan of a site's stack, and how many there were.
    plan: Option<Plan>,
    plans: u64,
    /// The versions of the template that a site was given, and with which generations; the last rollout that it heard of.
    versions: Vec<(u64, Option<u32>)>,
    rollout: u64,
    /// The minute at which the window opens for which it waits, as it was judged last, and whether it need not wait.
    late: Option<i64>,
    released: bool,
    /// Who knows of a failure, or else of a drift.
    known: Option<(bool, &'static str)>,
    /// What it was to be, by generation.
    past: Vec<(u64, Wish)>,
}

impl Thing {
    fn rejected(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.rejected)
    }

    fn wish(&self) -> Wish {
        Wish {
            prefixes: self.prefixes.clone(),
            end: self.end,
            session: self.session,
            hostname: self.hostname,
        }
    }

    /// Whether there is something to be done about it.
    fn pending(&self) -> bool {
        self.failed.is_none() && (self.leaving || self.again || self.observed != self.generation)
    }

    /// Whether a window that is shut keeps it waiting.
    fn waits_for_window(&self) -> bool {
        self.pending() && !self.released && self.waits.is_none()
    }

    fn begins_anew(&mut self) {
        (self.late, self.released) = (None, false);
    }

    /// Forgets a failure, but not that something was tried.
    fn forgets_failure(&mut self) {
        self.tried |= self.failed.take().is_some();
        self.known = None;
    }

    /// It is to go: then nobody looks at it any more.
    fn goes_from_now(&mut self) {
        (self.leaving, self.check) = (true, None);
    }

    /// Which of the windows it waits for.
    fn windowed(&self) -> usize {
        windowed(self.kind)
    }
}

/// What is to be seen of a thing.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Its kind and its name.
    pub name: String,
    pub generation: u64,
    pub observed: u64,
    /// The minute at which the window opens that it waits for.
    pub opens: Option<i64>,
    pub failed: Option<Reason>,
    /// Leaving, drifted, suspended, protected, waiting for approval, released, acknowledged, to be planned.
    pub flags: [bool; 8],
    /// Of its plan the file, the approvals, and whether it was rejected; how many plans there were.
    pub plan: Option<(usize, usize, bool)>,
    pub plans: u64,
    /// The version of the template.
    pub version: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// How many commands came, reports among them.
    told: u64,
    things: Vec<Thing>,
    suspended: bool,
    leaving: bool,
    settings: Settings,
    /// Settings that wait for approval.
    looser: Option<(Settings, Waits)>,
    /// How many times settings were asked for.
    asked: u64,
    /// Name, first minute, first minute after it.
    freezes: Vec<(u8, i64, i64)>,
    /// The generations of things that are gone.
    gone: Vec<(Kind, u8, u64)>,
}

type Answer = Result<(), Reason>;

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

    fn change(&mut self, at: usize, who: &'static str, now: i64) {
        let thing = &mut self.things[at];
        thing.generation += 1;
        thing.forgets_failure();
        thing.plan = None;
        if !thing.leaving {
            thing.past.push((thing.generation, thing.wish()));
        }
        self.wait(at, who);
        self.is_asked_for(at, who, now);
    }

    /// The generation of a thing; 0 when there is none.
    pub fn generation(&self, kind: Kind, name: u8) -> u64 {
        self.find(kind, name).map_or(0, |at| self.things[at].generation)
    }

    /// The generation of the customer's rules: the one that waits, where one does.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// What waits for approval, and whether that is a plan.
    pub fn waiting(&self) -> Vec<(Kind, u8, bool)> {
        let waiting = self.things.iter().filter(|thing| thing.waits.is_some() || thing.plan.is_some());
        waiting.map(|thing| (thing.kind, thing.name, thing.waits.is_none())).collect()
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

    /// What there is.
    pub fn summary(&self) -> Vec<Row> {
        let mut all: Vec<_> = self
            .things
            .iter()
            .map(|thing| {
                let flags = [
                    thing.leaving,
                    thing.drifted,
                    thing.suspended,
                    thing.protected,
                    thing.waits.is_some(),
                    thing.released,
                    thing.known.is_some(),
                    thing.planning.is_some(),
                ];
                Row {
                    name: format!("{:?} {}", thing.kind, thing.name).to_lowercase(),
                    generation: thing.generation,
                    observed: thing.observed,
                    opens: thing.late,
                    failed: thing.failed,
                    flags,
                    plan: thing.plan.as_ref().map(Plan::seen),
                    plans: thing.plans,
                    version: thing.version_at(thing.generation).unwrap_or(1),
                }
            })
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}
