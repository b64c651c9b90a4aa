//! What becomes of a command.

use wanwright_schemas::Reason::*;

use super::windows::windowed;
use super::{Answer, End, Kind, Model, Rule, Session, Thing};

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
        session: Session,
    },
    ChangeTunnel {
        tunnel: u8,
        end: End,
        inside: usize,
        session: Session,
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
    /// The generation is the one that is planned, plus this; the file is the plan's, or so many further.
    ApprovePlan(Kind, u8, u64, u64),
    /// The generation is the one that is planned, plus this; the file is the plan's, or so many further.
    RejectPlan(Kind, u8, u64, u64),
    /// What changes of a kind wait for.
    Policy(Kind, Rule),
    /// The account at a vendor.
    Account(usize, Option<usize>),
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
    /// A rollout gives a stack a version that has another one.
    Assign {
        site: u8,
        from: u32,
        to: u32,
        /// How many further than the last one that the stack heard of.
        rollout: u64,
        /// Whether it is the one that was planned.
        as_planned: bool,
        by: &'static str,
    },
    /// Asks which serial numbers devices have.
    Confirm(Vec<(u8, u8)>),
}

impl Ask {
    /// What it is about; none where that is the customer.
    fn about(&self) -> Option<(Kind, u8)> {
        match *self {
            Self::CreateSite { site, .. }
            | Self::ChangeSite { site, .. }
            | Self::Assign { site, .. }
            | Self::DecommissionAll(site) => Some((Kind::Site, site)),
            Self::CreateTunnel { tunnel, .. } | Self::ChangeTunnel { tunnel, .. } => {
                Some((Kind::Tunnel, tunnel))
            }
            Self::CreateDevice { device, .. } | Self::ChangeDevice { device, .. } => {
                Some((Kind::Device, device))
            }
            Self::Decommission(kind, name)
            | Self::Retry(kind, name)
            | Self::Check(kind, name)
            | Self::Suspend(kind, name)
            | Self::Resume(kind, name)
            | Self::Protect(kind, name, _)
            | Self::Approve(kind, name, _)
            | Self::Reject(kind, name, _)
            | Self::ApprovePlan(kind, name, ..)
            | Self::RejectPlan(kind, name, ..)
            | Self::Release(kind, name)
            | Self::Revert(kind, name, _)
            | Self::Cancel(kind, name, _)
            | Self::Acknowledge(kind, name)
            | Self::Note(kind, name) => Some((kind, name)),
            Self::DecommissionCustomer { .. }
            | Self::CheckAll
            | Self::SuspendCustomer
            | Self::ResumeCustomer
            | Self::Policy(..)
            | Self::Account(..)
            | Self::Confirm(_)
            | Self::Windows(..)
            | Self::ApprovePolicy(_)
            | Self::RejectPolicy(_)
            | Self::Freeze(..)
            | Self::Unfreeze(_) => None,
        }
    }

    /// Whose command it is, where not any person's.
    pub fn actor(&self) -> Option<&'static str> {
        match self {
            Self::Assign { .. } => Some("rollout"),
            Self::Confirm(_) => Some("sweeper"),
            _ => None,
        }
    }

    fn creates(&self) -> bool {
        matches!(self, Self::CreateSite { .. } | Self::CreateTunnel { .. } | Self::CreateDevice { .. })
    }
}

impl Model {
    /// Which of these devices do not have these serial numbers.
    pub fn abandoned(&self, claims: &[(u8, u8)]) -> Vec<(u8, u8)> {
        let has = |device: u8, serial: u8| {
            self.find(Kind::Device, device).is_some_and(|at| self.things[at].serial == serial)
        };
        claims.iter().copied().filter(|(device, serial)| !has(*device, *serial)).collect()
    }

    /// The generation of what a command is about; none where that is not there.
    pub fn seen(&self, ask: &Ask) -> Option<u64> {
        match ask.about() {
            Some((kind, name)) => self.find(kind, name).map(|at| self.things[at].generation),
            None => Some(self.asked),
        }
    }

    /// Whoever says which generation he saw is refused where there is another one. What is made was not there.
    fn as_seen(&self, ask: &Ask, saw: Option<u64>) -> Answer {
        let Some(saw) = saw else { return Ok(()) };
        let is_so = match self.seen(ask) {
            Some(generation) => saw == generation,
            None => saw == 0 || !ask.creates(),
        };
        if is_so { Ok(()) } else { Err(GenerationMismatch) }
    }

    /// What becomes of a command that this person sends at this minute, who may say which generation he saw.
    pub fn ask(&mut self, ask: &Ask, who: &'static str, now: i64, saw: Option<u64>) -> Answer {
        self.told += 1;
        let before = self.clone();
        self.judge(ask, who, now, saw)?;
        let is_own = |model: &Self| {
            (model.suspended, model.leaving, model.asked, model.freezes.clone(), model.looser.clone())
        };
        // What is about the customer itself judges by itself what waits.
        if is_own(&before) == is_own(self) {
            self.missed(&self.differing(&before, ask), now);
        }
        Ok(())
    }

    /// What something was decided about: what is otherwise than it was. A note changes nothing.
    fn differing(&self, before: &Self, ask: &Ask) -> Vec<(Kind, u8)> {
        // That a plan was rejected is forgotten without being said.
        let said = |thing: &Thing| Thing {
            plan: thing.plan.clone().filter(|plan| !plan.is_rejected()),
            ..thing.clone()
        };
        let others = |one: &Self, other: &Self| -> Vec<(Kind, u8)> {
            let is_said = |thing: &Thing| {
                other.things.contains(thing) || other.things.iter().any(|other| said(other) == said(thing))
            };
            let differing = one.things.iter().filter(|thing| !is_said(thing));
            differing.map(|thing| (thing.kind, thing.name)).collect()
        };
        let noted = ask.about().filter(|_| matches!(ask, Ask::Note(..)));
        [others(before, self), others(self, before), Vec::from_iter(noted)].concat()
    }

    fn judge(&mut self, ask: &Ask, who: &'static str, now: i64, saw: Option<u64>) -> Answer {
        if let Ask::CreateTunnel { session: Session::Near(_), .. } = ask {
            return Err(MissingField);
        }
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
        self.as_seen(ask, saw)?;
        if (ask.creates() || matches!(ask, Ask::Revert(..) | Ask::Cancel(..))) && self.leaving {
            return Err(BeingRemoved);
        }
        let before = self.things.len();
        self.answer(ask, who, now)?;
        if self.things.len() > before {
            self.wait(before, who);
            self.is_asked_for(before, who, now);
        }
        Ok(())
    }

    fn answer(&mut self, ask: &Ask, who: &'static str, now: i64) -> Answer {
        match ask.clone() {
            Ask::CreateSite { site, vendor, lan } => self.create_site(site, vendor, lan),
            Ask::ChangeSite { site, lan } => self.change_site(site, lan, who, now),
            Ask::CreateTunnel { tunnel, site, end, inside, session } => {
                self.create_tunnel(tunnel, site, (end, inside, session))
            }
            Ask::ChangeTunnel { tunnel, end, inside, session } => {
                self.change_tunnel(tunnel, (end, inside, session), who, now)
            }
            Ask::CreateDevice { device, site, serial, model } => {
                self.create_device(device, site, serial, model)
            }
            Ask::ChangeDevice { device, hostname } => self.change_device(device, hostname, who, now),
            Ask::Decommission(kind, name) => self.decommission(kind, name, who, now),
            Ask::DecommissionAll(site) => self.decommission_all(site, who, now),
            Ask::DecommissionCustomer { cascade } => self.decommission_customer(cascade, who, now),
            Ask::Retry(kind, name) => self.retry(kind, name, who, now),
            Ask::Check(kind, name) => self.check(kind, name),
            Ask::CheckAll => self.check_all(),
            Ask::Suspend(kind, name) => self.suspend(kind, name),
            Ask::Resume(kind, name) => self.resume(kind, name, now),
            Ask::SuspendCustomer => {
                self.suspended = true;
                Ok(())
            }
            Ask::ResumeCustomer => self.resume_customer(now),
            Ask::Protect(kind, name, protected) => self.protect(kind, name, protected),
            Ask::Approve(kind, name, off) if self.means_plan(kind, name) => {
                self.approve_plan((kind, name), off, None, who, now)
            }
            Ask::Reject(kind, name, off) if self.means_plan(kind, name) => {
                self.reject_plan((kind, name), off, None)
            }
            Ask::Approve(kind, name, off) => self.approve(kind, name, off, who, now),
            Ask::Reject(kind, name, off) => self.reject(kind, name, off),
            Ask::ApprovePlan(kind, name, off, other) => {
                self.approve_plan((kind, name), off, Some(self.file(kind, name, other)), who, now)
            }
            Ask::RejectPlan(kind, name, off, other) => {
                self.reject_plan((kind, name), off, Some(self.file(kind, name, other)))
            }
            Ask::Policy(kind, rule) => {
                let mut settings = self.settings;
                settings.rules[kind as usize] = rule;
                self.change_settings(settings, who, now)
            }
            Ask::Windows(kind, rank) => {
                let mut settings = self.settings;
                settings.windows[windowed(kind)] = rank;
                self.change_settings(settings, who, now)
            }
            Ask::Account(vendor, account) => {
                let mut settings = self.settings;
                settings.accounts[vendor] = account;
                self.change_settings(settings, who, now)
            }
            Ask::Assign { site, from, to, rollout, as_planned, by } => {
                let rollout = self.rollout(site) + rollout;
                self.assign((site, from, to), (rollout, as_planned), by, now)
            }
            Ask::Confirm(_) => Ok(()),
            Ask::Release(kind, name) => self.release(kind, name, now),
            Ask::Revert(kind, name, back) => self.revert(kind, name, back, who, now),
            Ask::Cancel(kind, name, tried) => self.cancel(kind, name, tried, who, now),
            Ask::Acknowledge(kind, name) => self.acknowledge(kind, name, who),
            Ask::Note(kind, name) => self.find(kind, name).map(|_| ()).ok_or(NotFound),
            Ask::ApprovePolicy(off) => self.approve_policy(off, who, now),
            Ask::RejectPolicy(off) => self.reject_policy(off),
            Ask::Freeze(name, from, to) => self.freeze(name, from, to, now),
            Ask::Unfreeze(name) => self.unfreeze(name, now),
        }
    }
}
