//! What the record should be next: changes that have to be stored, and slots for those who wait.

use std::collections::VecDeque;

use super::super::Priority;
use super::super::breaker::{self, Gate, Open};
use super::super::class::Class;
use super::super::clock::Now;
use super::super::record::{LEAD, RECORD_VERSION, Record};
use super::super::share::{RESERVED, Waiting};
use super::{Desk, Draft, Wish, Work};

impl Desk {
    /// The record as it should be next, if there is anything to change.
    pub(super) fn plan(&mut self, now: Now) -> Option<Work> {
        self.next_plan = None;
        let (mut record, revision) = self.view.clone()?;
        record.v = RECORD_VERSION;
        record.sanitize(now.latest, breaker::longest(&self.rules));
        record.forget_full(now.earliest);
        for wish in &self.wishes {
            self.fulfil(wish, &mut record, now);
        }
        let customers = self.customers();
        let slots = match record.breaker.as_ref().map_or(Gate::Closed, |open| open.gate(now.earliest)) {
            Gate::Closed => self.take_slots(&mut record, &customers, now, usize::MAX),
            Gate::Open(_) => Vec::new(),
            Gate::Trial => {
                let slots = self.take_slots(&mut record, &customers, now, 1);
                if let (Some(open), false) = (&mut record.breaker, slots.is_empty()) {
                    open.try_by(&self.process, now.latest);
                }
                slots
            }
        };
        if slots.is_empty() && self.wishes.is_empty() {
            return None;
        }
        if !slots.is_empty() {
            record.taken_by(&self.process, now.latest, customers);
        }
        let value = match serde_json::to_vec(&record) {
            Ok(value) => value.into(),
            Err(error) => {
                tracing::error!(%error, "the record of a budget could not be written as JSON");
                return None;
            }
        };
        self.counts.writes += 1;
        self.writing = true;
        self.instead_of = revision;
        let draft = Box::new(Draft { record, slots, wishes: self.wishes.len() });
        Some(Work::Put { value, revision, draft })
    }

    fn fulfil(&self, wish: &Wish, record: &mut Record, now: Now) {
        match wish {
            Wish::Block { limits, until } => {
                for name in limits {
                    if let Some(pace) = self.limits.pace(name) {
                        record.block(name, pace, *until, now.latest);
                    }
                }
            }
            Wish::Empty => record.empty(now.latest),
            Wish::Open { reason } => {
                let before = record.breaker.take();
                let ours = before.as_ref().is_none_or(|open| open.is_tried_by(&self.process));
                record.breaker = match before {
                    // Somebody else has opened it meanwhile.
                    Some(open) if !ours => Some(open),
                    before => Some(Open::now(before.as_ref(), &self.rules, reason, now.latest)),
                };
            }
            Wish::Close if record.breaker.as_ref().is_some_and(|open| open.is_tried_by(&self.process)) => {
                record.breaker = None;
                record.closed = Some(now.latest);
            }
            Wish::NotTried => {
                if let Some(open) = record.breaker.as_mut().filter(|open| open.is_tried_by(&self.process)) {
                    open.trial = None;
                }
            }
            Wish::Close => {}
        }
    }

    /// Takes slots for those who wait: in turns between classes, a share of the time ahead at once.
    fn take_slots(
        &mut self,
        record: &mut Record,
        customers: &Waiting,
        now: Now,
        most: usize,
    ) -> Vec<(Class, i64)> {
        let from = now.earliest + self.ahead();
        let alone = record.takers(&self.process) == 1;
        let share = record.share(&self.process, customers);
        let mut wanting = Vec::new();
        // The best call that waits behind slots which its class holds already.
        let mut served: Option<Priority> = None;
        for (class, queue) in &mut self.queues {
            let held = self.slots.get(class).map_or(0, VecDeque::len);
            let slowest = self.limits.of(class).map(|(_, pace)| pace.interval).max().unwrap_or(1);
            let batch = usize::try_from(share / slowest.max(1)).unwrap_or(1).max(1);
            if queue.len() <= held {
                continue;
            }
            if held > batch / 2 {
                served = served.into_iter().chain(queue.best().copied()).min();
                continue;
            }
            let first = record.first(self.limits.of(class), from, now.latest);
            if first > from + LEAD {
                self.next_plan = Some(self.next_plan.map_or(first, |next: i64| next.min(first)));
                continue;
            }
            queue.retain(|turn| !turn.is_closed());
            let waiting = queue.len().saturating_sub(held);
            let mut wants = waiting.min(batch);
            let likely = self.lately.get(class).map_or(0, |lately| lately.calls(now.earliest)).min(batch);
            // Whoever calls one by one will call again soon; what lapses then is missed by nobody.
            let spare = alone || record.is_roomy(self.limits.of(class), likely, now.earliest);
            if wants > 0 && spare {
                wants = wants.max(likely);
            }
            if let (Some(best), true) = (queue.best().copied(), wants > 0) {
                let (class, more) = (class.clone(), waiting > wants);
                wanting.push(Wanting { class, best, wants, taken: 0, more });
            }
        }
        // A class of a lower priority takes its share beside those of a higher one, and not while they need no more yet.
        if wanting.iter().all(|class| served.is_some_and(|served| served < class.best)) {
            wanting.clear();
        }
        let mut slots = Vec::new();
        while slots.len() < most && !wanting.is_empty() {
            self.turns = self.turns.wrapping_add(1);
            let at = turn_of(&wanting, self.turns);
            let Wanting { class, best, wants, taken, more } = &mut wanting[at];
            let first = record.first(self.limits.of(class), from, now.latest);
            if first > from + LEAD {
                wanting.swap_remove(at);
                continue;
            }
            if taken == wants {
                let (best, more) = (*best, *more);
                wanting.swap_remove(at);
                if more {
                    wanting.retain(|class| class.best <= best);
                }
                continue;
            }
            record.take(self.limits.of(class), first, now.latest);
            *taken += 1;
            slots.push((class.clone(), first));
        }
        slots
    }

    /// How many customers wait here, by priority.
    fn customers(&self) -> Waiting {
        let mut waiting = Waiting::new();
        for (priority, customers) in self.queues.values().flat_map(|queue| queue.customers()) {
            let count = waiting.entry(*priority).or_default();
            *count = count.saturating_add(u32::try_from(customers).unwrap_or(u32::MAX));
        }
        waiting
    }

    /// How long after now the first slot is taken, so that its time has not passed when it is known to be ours.
    pub(super) fn ahead(&self) -> i64 {
        (self.write_time * 3 / 2).clamp(2_000, LEAD / 2)
    }
}

/// How many calls of a class had their turn lately.
#[derive(Debug, Default)]
pub(super) struct Lately {
    since: i64,
    now: usize,
    before: usize,
}

impl Lately {
    /// Counts a call.
    pub(super) fn count(&mut self, at: i64) {
        let past = at - self.since;
        if past >= LEAD {
            self.before = if past < 2 * LEAD { self.now } else { 0 };
            (self.since, self.now) = (at, 0);
        }
        self.now += 1;
    }

    /// How many there were in about the last half second.
    fn calls(&self, at: i64) -> usize {
        match at - self.since {
            past if past < LEAD => self.now.max(self.before),
            past if past < 2 * LEAD => self.now,
            _ => 0,
        }
    }

    /// Whether it says nothing any more.
    pub(super) fn is_over(&self, at: i64) -> bool {
        self.calls(at) == 0
    }
}

/// A class that slots are taken for.
#[derive(Debug)]
struct Wanting {
    class: Class,
    /// The priority of its best call.
    best: Priority,
    /// How many slots it takes at once, and how many it has by now.
    wants: usize,
    taken: usize,
    /// Whether more of its calls wait than these.
    more: bool,
}

/// The class that takes the next slot: of those whose best call has the highest priority the one that took least; now
/// and then one of the others.
fn turn_of(wanting: &[Wanting], turn: u64) -> usize {
    let best = wanting.iter().map(|class| class.best).min();
    let behind = wanting.iter().any(|class| Some(class.best) != best);
    let reserved = behind && turn.is_multiple_of(RESERVED.into());
    let candidates = wanting.iter().enumerate().filter(|(_, class)| (Some(class.best) == best) != reserved);
    // The one that begins changes, or those with few slots to share would always give them to the same.
    let begins = usize::try_from(turn).unwrap_or_default() % wanting.len();
    let next =
        candidates.min_by_key(|(at, class)| (class.taken, (at + wanting.len() - begins) % wanting.len()));
    next.map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanting(classes: &[(Priority, usize)]) -> Vec<Wanting> {
        let class = |(best, taken): &(Priority, usize)| Wanting {
            class: Class::default(),
            best: *best,
            wants: 100,
            taken: *taken,
            more: true,
        };
        classes.iter().map(class).collect()
    }

    #[test]
    fn a_class_with_changes_goes_first_and_every_eighth_slot_is_for_the_others() {
        let classes = wanting(&[(Priority::Drift, 0), (Priority::Intent, 50), (Priority::Preview, 0)]);
        let turns: Vec<usize> = (1..=16).map(|turn| turn_of(&classes, turn)).collect();
        let reserved: Vec<usize> = turns.iter().copied().skip(7).step_by(8).collect();
        assert!(reserved.iter().all(|class| *class != 1), "{turns:?}");
        assert_eq!(turns.iter().filter(|class| **class == 1).count(), 14, "{turns:?}");
    }

    #[test]
    fn classes_of_one_priority_share_evenly() {
        let mut classes = wanting(&[(Priority::Drift, 0), (Priority::Drift, 0), (Priority::Drift, 0)]);
        for turn in 1..=30 {
            let at = turn_of(&classes, turn);
            classes[at].taken += 1;
        }
        assert!(classes.iter().all(|class| class.taken == 10), "{classes:?}");
    }
}
