//! Plans: what is planned before it is changed, which plan holds still, and who approves it.

use wanwright_schemas::Reason::*;

use super::approvals::Waits;
use super::orders::{Intent, Order};
use super::{Answer, Kind, Model, Rule, Thing};

/// How many plan files there are to tell apart.
pub const FILES: usize = 3;

/// That something is to be planned until it is at the vendor: who asked for it, and the rule that he did it under.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planning {
    asked: Vec<&'static str>,
    rule: Rule,
}

/// What an executor tells of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Which file it is.
    pub file: usize,
    /// The version of the template that it was made with; none where that is not one of the vendor's folder.
    pub by: Option<u32>,
    /// Whether it changes anything, and whether it takes something away.
    pub changes: bool,
    pub destroys: bool,
}

/// What is recorded of a plan: the file, until which minute it holds, who asked for it, and how many approve it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub file: usize,
    pub until: i64,
    pub asked: Vec<String>,
    pub needs: usize,
}

/// The newest plan of a stack.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// What would be ordered if nothing had to be planned: everything that the stack was to be when it was planned.
    wish: Order,
    file: usize,
    until: i64,
    waits: Waits,
}

impl Plan {
    pub(super) fn is_rejected(&self) -> bool {
        self.waits.rejected
    }

    fn is_free(&self) -> bool {
        !self.waits.rejected && self.waits.given.len() >= self.waits.needs
    }

    /// The file, the approvals, and whether it was rejected.
    pub(super) fn seen(&self) -> (usize, usize, bool) {
        (self.file, self.waits.given.len(), self.waits.rejected)
    }
}

impl Model {
    /// Something is asked for: it is to be planned, or begins, unless an approval or a window keeps it waiting.
    pub(super) fn is_asked_for(&mut self, at: usize, who: &'static str, now: i64) {
        if self.plan_request(at, who) {
            self.things[at].begins_anew();
        } else {
            self.postpone(at, now);
        }
    }

    /// Whether what is asked for of a thing is to be planned: by the rule there is, or the one that it waits under already.
    fn plan_request(&mut self, at: usize, who: &'static str) -> bool {
        let thing = &self.things[at];
        let before = thing.planning.as_ref().map(|planning| planning.rule);
        let rule = Some(self.rule(Kind::Site)).filter(|rule| rule.plans()).or(before);
        let Some(rule) = rule.filter(|_| thing.kind != Kind::Device) else { return false };
        self.is_to_be_planned(at, rule, who);
        true
    }

    pub(super) fn is_to_be_planned(&mut self, at: usize, rule: Rule, who: &'static str) {
        let thing = &mut self.things[at];
        let mut asked = thing.planning.take().map(|planning| planning.asked).unwrap_or_default();
        if !asked.contains(&who) {
            asked.push(who);
        }
        thing.planning = Some(Planning { asked, rule });
        // That a plan was rejected is over once something else is asked for.
        if let Some(site) = self.owner(at)
            && self.things[site].plan.as_ref().is_some_and(Plan::is_rejected)
        {
            self.things[site].plan = None;
        }
    }

    /// The site of a stack.
    fn owner(&self, at: usize) -> Option<usize> {
        match self.things[at].kind {
            Kind::Site => Some(at),
            Kind::Tunnel => self.find(Kind::Site, self.things[at].site),
            Kind::Device => None,
        }
    }

    /// What of a stack is to be planned: the site's part first, then the tunnels' by name.
    fn planning(&self, site: u8) -> Vec<&Planning> {
        let mut stack = self.together(Kind::Site, site);
        stack.sort_by_key(|at| (self.things[*at].kind, self.things[*at].name));
        stack.iter().filter_map(|at| self.things[*at].planning.as_ref()).collect()
    }

    /// The strictest of the rules under which a stack is planned.
    pub(super) fn rule_of(&self, site: u8) -> Option<Rule> {
        let in_force = [self.rule(Kind::Site)];
        let rules = in_force.into_iter().chain(self.planning(site).into_iter().map(|planning| planning.rule));
        rules.filter(|rule| rule.plans()).max_by_key(|rule| match rule {
            Rule::Plan { by, any, minutes } => (*any, *by, -minutes),
            Rule::Apply | Rule::Approve(_) => (false, 0, 0),
        })
    }

    /// What is to come of a stack's change: itself, a plan, or nothing because one waits. Without a minute no plan is too old.
    pub(super) fn as_planned(&self, site: &Thing, change: Order, now: Option<i64>) -> Option<Order> {
        if self.rule_of(site.name).is_none() {
            return Some(change);
        }
        match site.plan.as_ref().filter(|plan| plan.wish == change) {
            Some(plan) if plan.is_rejected() => None,
            Some(plan) if now.is_none_or(|now| now < plan.until) => {
                plan.is_free().then_some(Order { plan: Some((plan.file, plan.until)), ..change })
            }
            _ => {
                let remove = change.intent == Intent::Remove;
                Some(Order { intent: Intent::Plan { remove, number: site.plans + 1 }, ..change })
            }
        }
    }

    /// What is recorded of a plan that was made by this order.
    pub(super) fn planned(&self, site: &Thing, order: &Order, told: Told, now: i64) -> Option<Planned> {
        let version = site.version_at(site.generation).unwrap_or(1);
        if !matches!(order.intent, Intent::Plan { .. }) || told.by != Some(version) {
            return None;
        }
        let Some(Rule::Plan { by, any, minutes }) = self.rule_of(site.name) else { return None };
        let stack = self.together(Kind::Site, site.name);
        // What goes is taken away by name as well, and no plan tells of that.
        let goes = stack.iter().any(|at| self.things[*at].leaving);
        let needs = if goes || (if any { told.changes } else { told.destroys }) { by } else { 0 };
        let mut asked: Vec<String> = Vec::new();
        for who in self.planning(site.name).iter().flat_map(|planning| &planning.asked) {
            if !asked.iter().any(|other| other == who) {
                asked.push((*who).to_owned());
            }
        }
        Some(Planned { file: told.file, until: now + minutes, asked, needs })
    }

    pub(super) fn is_planned(&mut self, at: usize, planned: &Planned) {
        let wish = self.wish(&self.things[at]).expect("what is planned is to be done");
        let asked =
            self.planning(self.things[at].name).into_iter().flat_map(|planning| planning.asked.clone());
        let waits = Waits { asked: asked.collect(), needs: planned.needs, ..Waits::default() };
        let thing = &mut self.things[at];
        thing.plan = Some(Plan { wish, file: planned.file, until: planned.until, waits });
        thing.plans += 1;
    }

    /// Whether the plan of the stack that a thing is in was rejected.
    pub(super) fn plan_rejected(&self, at: usize) -> bool {
        let plan = self.owner(at).and_then(|site| self.things[site].plan.as_ref());
        plan.is_some_and(Plan::is_rejected)
    }

    /// Whether a thing waits for nothing but another plan of its stack.
    pub(super) fn is_stuck(&self, at: usize) -> bool {
        let thing = &self.things[at];
        let is_behind = |at: &usize| self.things[*at].pending() || self.moved(&self.things[*at]);
        let behind = match thing.kind {
            Kind::Site => self.together(Kind::Site, thing.name).iter().any(is_behind),
            Kind::Tunnel => is_behind(&at),
            Kind::Device => false,
        };
        behind && self.plan_rejected(at)
    }

    /// The file of the plan that a site has, the first one where it has none, or so many further.
    pub fn file(&self, kind: Kind, name: u8, other: u64) -> usize {
        let plan = self.find(kind, name).and_then(|at| self.things[at].plan.as_ref());
        (plan.map_or(0, |plan| plan.file) + usize::from(other > 0)) % FILES
    }

    /// Whether an approval means the plan: it names one, or there is nothing else to approve.
    pub(super) fn means_plan(&self, kind: Kind, name: u8) -> bool {
        let site = self.find(kind, name).map(|at| &self.things[at]);
        site.is_some_and(|site| site.waits.is_none() && site.plan.is_some())
    }

    /// The plan that a command means, where it is of the generation and names the file.
    fn meant(&self, name: u8, off: u64, file: Option<usize>) -> Result<(usize, Plan), super::Reason> {
        let at = self.find(Kind::Site, name).ok_or(NotFound)?;
        let plan = self.things[at].plan.clone().ok_or(PlanMismatch)?;
        if off != 0 {
            return Err(GenerationMismatch);
        }
        if file == Some(plan.file) { Ok((at, plan)) } else { Err(PlanMismatch) }
    }

    pub(super) fn approve_plan(
        &mut self,
        (kind, name): (Kind, u8),
        off: u64,
        file: Option<usize>,
        who: &'static str,
        now: i64,
    ) -> Answer {
        if kind != Kind::Site {
            return Err(PlanMismatch);
        }
        let (at, mut plan) = self.meant(name, off, file)?;
        if plan.until <= now {
            return Err(PlanExpired);
        }
        if self.wish(&self.things[at]).as_ref() != Some(&plan.wish) {
            return Err(PlanStale);
        }
        if plan.is_free() {
            return Err(NothingToApprove);
        }
        let is_enough = Self::given(Some(&mut plan.waits), who, off)?;
        self.things[at].plan = Some(plan);
        let opens = self.opens(0, now);
        if is_enough && !self.things[at].released && opens.is_some() {
            self.things[at].late = opens;
        }
        Ok(())
    }

    pub(super) fn reject_plan(&mut self, (kind, name): (Kind, u8), off: u64, file: Option<usize>) -> Answer {
        if kind != Kind::Site {
            return Err(PlanMismatch);
        }
        let (at, mut plan) = self.meant(name, off, file)?;
        if plan.is_free() {
            return Err(NothingToApprove);
        }
        Self::rejected(Some(&mut plan.waits), off)?;
        self.things[at].plan = Some(plan);
        Ok(())
    }
}
