//! Approvals: what waits for them, and what makes the rules weaker.

use wanwright_schemas::Reason::{self, *};

use super::{Answer, Kind, Model};

/// What waits for approval: who asked for it, how many are needed, who approved it, whether it was rejected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waits {
    pub(super) asked: Vec<&'static str>,
    pub(super) needs: usize,
    pub(super) given: Vec<&'static str>,
    pub(super) rejected: bool,
}

impl Model {
    /// Other rules and windows. What makes a rule weaker waits for as many approvals as that one wants.
    pub(super) fn settings(
        &mut self,
        rules: [usize; 3],
        windows: [usize; 2],
        who: &'static str,
        now: i64,
    ) -> Answer {
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
    pub(super) fn wait(&mut self, at: usize, who: &'static str) {
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

    pub(super) fn approve_policy(&mut self, off: u64, who: &'static str, now: i64) -> Answer {
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

    pub(super) fn reject_policy(&mut self, off: u64) -> Answer {
        Self::rejected(self.looser.as_mut().map(|(_, _, waits)| waits), off)?;
        self.looser = None;
        Ok(())
    }
}
