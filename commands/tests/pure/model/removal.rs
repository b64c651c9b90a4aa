//! What goes, and what goes with it.

use wanwright_schemas::Reason::*;

use super::{Answer, End, Kind, Model, Rule, Thing};

impl Model {
    pub(super) fn decommission(&mut self, kind: Kind, name: u8, who: &'static str, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        if self.things[at].protected {
            return Err(Protected);
        }
        if !self.goes(at) {
            let uses = |thing: &Thing| thing.site == name || thing.end == End::Site(name);
            if kind == Kind::Site && self.things.iter().any(uses) {
                return Err(SiteInUse);
            }
            self.things[at].goes_from_now();
            self.change(at, who, now);
        }
        Ok(())
    }

    pub(super) fn decommission_all(&mut self, site: u8, who: &'static str, now: i64) -> Answer {
        let own = self.find(Kind::Site, site).ok_or(NotFound)?;
        if self.goes(own) {
            return Ok(());
        }
        let uses = |thing: &Thing| thing.site == site || thing.end == End::Site(site);
        let mut all: Vec<usize> = (0..self.things.len()).filter(|at| uses(&self.things[*at])).collect();
        all.push(own);
        self.go(&all, who, now)
    }

    pub(super) fn decommission_customer(&mut self, cascade: bool, who: &'static str, now: i64) -> Answer {
        if self.leaving {
            return Ok(());
        }
        if self.settings.rules != [Rule::Apply; 3] {
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

    /// Whether a thing is going, and nobody said no, nor to the plan of that.
    pub(super) fn goes(&self, at: usize) -> bool {
        let thing = &self.things[at];
        thing.leaving && !thing.rejected() && !self.plan_rejected(at)
    }

    /// Everything in this list goes, or nothing does.
    fn go(&mut self, all: &[usize], who: &'static str, now: i64) -> Answer {
        let going: Vec<usize> = all.iter().copied().filter(|at| !self.goes(*at)).collect();
        if going.iter().any(|at| self.things[*at].protected) {
            return Err(Protected);
        }
        for at in going {
            self.things[at].goes_from_now();
            self.change(at, who, now);
        }
        Ok(())
    }

    /// A customer that is to go is gone with the last thing it has, and with it all it said about itself.
    pub(super) fn end(&mut self) {
        if self.leaving && self.things.is_empty() {
            *self = Self { told: self.told, gone: std::mem::take(&mut self.gone), ..Self::default() };
        }
    }
}
