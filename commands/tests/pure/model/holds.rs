//! What is held, looked at, tried again or known.

use wanwright_schemas::Reason::*;

use super::{Answer, Kind, Model, Thing};

impl Model {
    /// Whether nothing is looked at.
    pub(super) fn rests(&self, thing: &Thing) -> bool {
        let site = self.find(Kind::Site, thing.site).filter(|_| thing.kind == Kind::Device);
        self.suspended || thing.suspended || site.is_some_and(|at| self.things[at].suspended)
    }

    pub(super) fn retry(&mut self, kind: Kind, name: u8, who: &'static str, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let is_stuck = self.is_stuck(at);
        let thing = &mut self.things[at];
        let busy = thing.leaving || thing.again || thing.observed != thing.generation;
        if !is_stuck && thing.failed.is_none() && (busy || !thing.drifted) {
            return Err(NothingToRetry);
        }
        thing.forgets_failure();
        thing.retries += 1;
        thing.again = thing.drifted;
        self.is_asked_for(at, who, now);
        Ok(())
    }

    pub(super) fn check(&mut self, kind: Kind, name: u8) -> Answer {
        let at = self.there(kind, name)?;
        if self.things[at].observed == 0 {
            return Err(NothingToCheck);
        }
        if self.rests(&self.things[at]) {
            return Err(Suspended);
        }
        self.things[at].check = Some(self.told);
        Ok(())
    }

    pub(super) fn check_all(&mut self) -> Answer {
        if self.suspended {
            return Err(Suspended);
        }
        let seen = |thing: &Thing| {
            thing.kind != Kind::Tunnel && thing.observed > 0 && !thing.leaving && !self.rests(thing)
        };
        let seen: Vec<usize> = (0..self.things.len()).filter(|at| seen(&self.things[*at])).collect();
        for at in &seen {
            self.things[*at].check = Some(self.told);
        }
        if seen.is_empty() { Err(NothingToCheck) } else { Ok(()) }
    }

    pub(super) fn suspend(&mut self, kind: Kind, name: u8) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        self.things[at].suspended = true;
        Ok(())
    }

    pub(super) fn resume(&mut self, kind: Kind, name: u8, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        if std::mem::take(&mut self.things[at].suspended) {
            self.judge_again(now);
        }
        Ok(())
    }

    pub(super) fn resume_customer(&mut self, now: i64) -> Answer {
        if std::mem::take(&mut self.suspended) {
            self.judge_again(now);
        }
        Ok(())
    }

    pub(super) fn protect(&mut self, kind: Kind, name: u8, protected: bool) -> Answer {
        let at = self.there(kind, name)?;
        self.things[at].protected = protected;
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, kind: Kind, name: u8, who: &'static str) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        let thing = &mut self.things[at];
        if thing.failed.is_none() && !thing.drifted {
            return Err(NothingToAcknowledge);
        }
        thing.known = Some((thing.failed.is_some(), who));
        Ok(())
    }
}
