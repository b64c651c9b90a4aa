//! When something may be done: change windows, freezes, and what is let through all the same.

use wanwright_schemas::Reason::*;

use super::ask::Ask;
use super::{Answer, Kind, Model, Thing};

/// The change windows there are, in minutes after midnight: the narrow one and the wide one.
pub const WINDOWS: [(i64, i64); 2] = [(8 * 60 + 5, 8 * 60 + 9), (8 * 60 + 3, 8 * 60 + 20)];
/// The minute of the day at which lives begin.
const BEGUN: i64 = 8 * 60;

/// Which of the windows a kind waits for: the first is about sites and tunnels.
pub(super) fn windowed(kind: Kind) -> usize {
    usize::from(kind == Kind::Device)
}

impl Model {
    /// Something is to be done about a thing from now on, unless it waits for an approval.
    pub(super) fn postpone(&mut self, at: usize, now: i64) {
        let opens = self.opens(self.things[at].windowed(), now);
        let thing = &mut self.things[at];
        thing.begins_anew();
        thing.late = opens.filter(|_| thing.waits.is_none());
    }

    /// Whether windows keep something from being done.
    fn shut(&self, windowed: usize, now: i64) -> bool {
        let Some((from, to)) = WINDOWS.get(self.settings.windows[windowed]) else { return false };
        let minute = (BEGUN + now) % (24 * 60);
        self.in_freeze(now) || minute < *from || *to <= minute
    }

    /// The minute at which the windows open that are shut.
    pub(super) fn opens(&self, windowed: usize, now: i64) -> Option<i64> {
        let mut later = now + 1..;
        if self.shut(windowed, now) { later.find(|minute| !self.shut(windowed, *minute)) } else { None }
    }

    /// Everything that waits is judged again.
    pub(super) fn judge_again(&mut self, now: i64) {
        let opens = [self.opens(0, now), self.opens(1, now)];
        for thing in self.things.iter_mut().filter(|thing| thing.waits_for_window()) {
            thing.late = opens[thing.windowed()];
        }
    }

    /// When something is decided that is not about the customer itself, it is said once more when windows open of what has
    /// missed its own, other than what the decision is about: which things, their generations, and the minutes.
    pub(super) fn missed(&mut self, about: &[(Kind, u8)], now: i64) -> Vec<(Kind, u8, u64, i64)> {
        if about.is_empty() {
            return Vec::new();
        }
        let opens = [self.opens(0, now), self.opens(1, now)];
        let mut missed = Vec::new();
        for thing in self.things.iter_mut().filter(|thing| thing.waits_for_window()) {
            let is_over = thing.late.is_some_and(|until| until <= now);
            if let Some(until) = opens[thing.windowed()]
                && is_over
                && !about.contains(&(thing.kind, thing.name))
            {
                thing.late = Some(until);
                missed.push((thing.kind, thing.name, thing.generation, until));
            }
        }
        missed.sort();
        missed
    }

    /// What is done together with a site or a device.
    pub(super) fn together(&self, kind: Kind, name: u8) -> Vec<usize> {
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

    pub(super) fn release(&mut self, kind: Kind, name: u8, now: i64) -> Answer {
        self.find(kind, name).ok_or(NotFound)?;
        if self.is_open(kind, name, now) {
            return Err(NothingToRelease);
        }
        let waits = |thing: &Thing| thing.pending() && !thing.released && !thing.rejected();
        let all = self.together(kind, name);
        let waiting: Vec<usize> = all.into_iter().filter(|at| waits(&self.things[*at])).collect();
        for at in &waiting {
            (self.things[*at].late, self.things[*at].released) = (None, true);
        }
        if waiting.is_empty() { Err(NothingToRelease) } else { Ok(()) }
    }

    pub(super) fn frozen(&self, ask: &Ask, now: i64) -> bool {
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
                | Ask::RejectPlan(..)
                | Ask::RejectPolicy(_)
                | Ask::Confirm(_)
                | Ask::Cancel(..)
                | Ask::Acknowledge(..)
                | Ask::Note(..)
        );
        says_what_should_be && self.in_freeze(now)
    }

    pub(super) fn in_freeze(&self, now: i64) -> bool {
        self.freezes.iter().any(|(_, from, to)| *from <= now && now < *to)
    }

    pub(super) fn freeze(&mut self, name: u8, from: i64, to: i64, now: i64) -> Answer {
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

    pub(super) fn unfreeze(&mut self, name: u8, now: i64) -> Answer {
        let before = self.freezes.len();
        self.freezes.retain(|(other, _, _)| *other != name);
        if self.freezes.len() == before {
            return Err(NotFound);
        }
        self.judge_again(now);
        Ok(())
    }
}
