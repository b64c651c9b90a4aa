//! Approvals: what waits for them, and who gives them.

use wanwright_schemas::Reason::{self, *};

use super::{Answer, Kind, Model, Rule};

/// What waits for approval: who asked for it, how many are needed, who approved it, whether it was rejected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waits {
    pub(super) asked: Vec<&'static str>,
    pub(super) needs: usize,
    pub(super) given: Vec<&'static str>,
    pub(super) rejected: bool,
}

impl Model {
    /// Whether a new generation waits, and for whose approval it does not.
    pub(super) fn wait(&mut self, at: usize, who: &'static str) {
        // What is planned has approvals of its own.
        let needs = match self.rule(self.things[at].kind) {
            Rule::Approve(by) => by,
            Rule::Apply | Rule::Plan { .. } => 0,
        };
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
    pub(super) fn given(waits: Option<&mut Waits>, who: &'static str, off: u64) -> Result<bool, Reason> {
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

    pub(super) fn rejected(waits: Option<&mut Waits>, off: u64) -> Answer {
        let waits = waits.filter(|waits| !waits.rejected).ok_or(NothingToApprove)?;
        if off != 0 {
            return Err(GenerationMismatch);
        }
        waits.rejected = true;
        Ok(())
    }

    pub(super) fn approve(&mut self, kind: Kind, name: u8, off: u64, who: &'static str, now: i64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        if Self::given(self.things[at].waits.as_mut(), who, off)? {
            self.things[at].waits = None;
            if !self.things[at].released {
                self.postpone(at, now);
            }
        }
        Ok(())
    }

    pub(super) fn reject(&mut self, kind: Kind, name: u8, off: u64) -> Answer {
        let at = self.find(kind, name).ok_or(NotFound)?;
        Self::rejected(self.things[at].waits.as_mut(), off)
    }
}
