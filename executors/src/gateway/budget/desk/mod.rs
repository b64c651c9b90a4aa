//! What one process knows of one vendor's budget, and what it does next: who waits, which slots it has, what it wants to
//! change in the shared record. It does no I/O; the keeper does what it says.

mod plan;
mod trial;
mod walls;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wanwright_nats::budgets::{Moment, Stored};
use wanwright_schemas::CustomerId;
use wanwright_vendors::Breaker;

use self::plan::Lately;
use self::walls::Walls;
use super::breaker::{Failures, Gate};
use super::class::{Class, Limits};
use super::clock::ServerClock;
use super::pace::micros;
use super::record::{LEAD, RECORD_VERSION, Record};
use super::{Priority, Turn};
use crate::gateway::fair::FairQueue;

/// With a greater error of its clock than this, a process asks the server for the time before it takes slots.
const LARGEST_ERROR: i64 = 20_000;

/// Shortest pause between two such questions.
const ASK_TIME: Duration = Duration::from_secs(10);

/// Longest pause after a write in which others have a try, in microseconds.
const MOST_COURTESY: i64 = LEAD / 2;

/// How many writes are remembered until it is told when they were stored.
const REMEMBERED: usize = 16;

/// So many classes are more than a vendor has limits for: some are of operations that are not called any more.
const MANY: usize = 64;

type Queue = FairQueue<Priority, CustomerId, oneshot::Sender<Turn>>;

/// A change of the record that has to be stored, whoever writes meanwhile.
#[derive(Debug, Clone)]
enum Wish {
    Block {
        limits: Vec<String>,
        until: i64,
    },
    Empty,
    Open {
        reason: String,
    },
    Close,
    /// The call that was to be tried was not made.
    NotTried,
}

/// What the keeper is to do at the server.
#[derive(Debug)]
pub(super) enum Work {
    /// Ask for its time.
    Time,
    /// Read the record.
    Read,
    /// Store this one instead of the one of that revision.
    Put { value: Bytes, revision: u64, draft: Box<Draft> },
}

/// A record that was not stored yet, with what it means for us when it is.
#[derive(Debug)]
pub(super) struct Draft {
    record: Record,
    slots: Vec<(Class, i64)>,
    wishes: usize,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that got a slot.
    pub calls: u64,
    /// Slots that nobody used in time.
    pub lapsed: u64,
    /// Slots that this process's own limiter refused: the shared record and the clock contradict it.
    pub walled: u64,
    /// Writes of the record, those that came too late included.
    pub writes: u64,
    /// Writes that came too late, because somebody else wrote before.
    pub outrun: u64,
    /// Reads of the record and questions for the time.
    pub reads: u64,
    /// Records that were told by the server, our own included.
    pub told: u64,
}

/// One process's part of one vendor's budget.
pub(super) struct Desk {
    pub(super) process: String,
    pub(super) limits: Limits,
    rules: Breaker,
    pub(super) clock: ServerClock,
    view: Option<(Record, u64)>,
    /// How often the server's clock was set, by the record.
    steps: Option<u64>,
    /// The record has to be read again before it is written.
    stale: bool,
    /// The server did not answer last time.
    away: bool,
    /// A record of a later version is there.
    outdated: bool,
    queues: BTreeMap<Class, Queue>,
    slots: BTreeMap<Class, VecDeque<i64>>,
    lately: BTreeMap<Class, Lately>,
    walls: Walls,
    /// What is to be changed in the record, until it is.
    wishes: Vec<Wish>,
    failures: Failures,
    /// A call is tried by us, or waits to be.
    trying: bool,
    /// That call has had its turn.
    tried: bool,
    /// A write is under way.
    writing: bool,
    turns: u64,
    /// How long a write takes, in microseconds.
    write_time: i64,
    asked_time: Option<Instant>,
    not_before: Option<Instant>,
    /// The revision that the write under way takes the place of.
    instead_of: u64,
    /// Until then others have a try at the record before we take more slots.
    courteous: Option<Instant>,
    next_plan: Option<i64>,
    written: VecDeque<(u64, Instant, Instant)>,
    seen: VecDeque<(u64, i64)>,
    pub(super) counts: Counts,
}

impl Desk {
    pub(super) fn new(process: String, limits: Limits, rules: Breaker) -> Self {
        Self {
            process,
            limits,
            rules,
            clock: ServerClock::new(),
            view: None,
            steps: None,
            stale: true,
            away: false,
            outdated: false,
            queues: BTreeMap::new(),
            slots: BTreeMap::new(),
            lately: BTreeMap::new(),
            walls: Walls::default(),
            wishes: Vec::new(),
            failures: Failures::default(),
            trying: false,
            writing: false,
            tried: false,
            turns: 0,
            write_time: 5_000,
            asked_time: None,
            not_before: None,
            instead_of: 0,
            courteous: None,
            next_plan: None,
            written: VecDeque::new(),
            seen: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Without the limiters that read a clock of their own.
    #[cfg(test)]
    pub(super) fn without_walls(mut self) -> Self {
        self.walls.are_open = true;
        self
    }

    /// The record as it is known here.
    pub(super) fn record(&self) -> Option<&Record> {
        self.view.as_ref().map(|(record, _)| record)
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.queues.values().map(Queue::len).sum()
    }

    /// Whether the record was read and can be written.
    pub(super) fn is_in_reach(&self) -> bool {
        !self.outdated && !self.away
    }

    /// Notes that the server answered; `true`: it had not before.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.away)
    }

    /// Leaves limits alone for a while: here at once, and everywhere as soon as it is stored.
    pub(super) fn block(&mut self, limits: Vec<String>, time: Duration) {
        let Some(now) = self.clock.now() else { return };
        self.slots.retain(|class, _| !class.names().any(|name| limits.iter().any(|blocked| blocked == name)));
        self.wishes.push(Wish::Block { limits, until: now.latest + micros(time) });
    }

    /// Takes in a record that the server told of.
    pub(super) fn told(&mut self, stored: &Stored) {
        self.counts.told += 1;
        self.seen.push_back((stored.revision, stored.at));
        self.seen.keep_newest(REMEMBERED);
        self.match_moments();
        if self.view.as_ref().is_none_or(|(_, known)| *known < stored.revision) {
            self.take_in(stored);
        }
    }

    /// Takes in a record that was read.
    pub(super) fn read(&mut self, stored: Option<Stored>) {
        let none = Stored { value: Bytes::new(), revision: 0, at: 0 };
        self.take_in(&stored.unwrap_or(none));
    }

    fn take_in(&mut self, stored: &Stored) {
        let record = match serde_json::from_slice::<Record>(&stored.value) {
            Ok(record) => record,
            Err(_) if stored.value.is_empty() => Record::default(),
            Err(error) => {
                // Starting anew is safe: limits that nobody counted start empty.
                tracing::error!(%error, "the record of a budget cannot be read; it is written anew");
                Record::default()
            }
        };
        self.outdated = record.v > RECORD_VERSION;
        if self.outdated {
            tracing::error!(
                version = record.v,
                "the record of a budget is of a later version: no calls from here"
            );
        }
        self.see_steps(record.steps);
        self.view = Some((record, stored.revision));
        self.stale = false;
        self.obey();
    }

    /// Asks for the time anew when another process has found that the server's clock was set.
    fn see_steps(&mut self, steps: u64) {
        if self.steps.replace(steps).is_some_and(|known| known != steps) {
            self.clock.forget();
            self.slots.clear();
        }
    }

    /// Gives up slots of limits that are blocked by now, and sends everybody away when the breaker is open.
    fn obey(&mut self) {
        let Some((record, _)) = &self.view else { return };
        let blocked = |name: &str| record.limits.get(name).and_then(|level| level.blocked);
        self.slots.retain(|class, slots| {
            slots.retain(|slot| class.names().all(|name| blocked(name).is_none_or(|until| *slot >= until)));
            !slots.is_empty()
        });
        if let Gate::Open(until) = self.gate(self.clock.now())
            && !self.is_trial()
        {
            self.slots.clear();
            self.trying = false;
            for (_, mut queue) in std::mem::take(&mut self.queues) {
                while let Some(turn) = queue.pop() {
                    drop(turn.send(self.held_back(until)));
                }
            }
        }
    }

    /// Takes in what time the server has.
    pub(super) fn learn(&mut self, moment: &Moment) {
        if self.clock.learn(moment) {
            tracing::warn!(
                "the clock of the NATS server was set; what the vendor has left is taken for nothing"
            );
            self.slots.clear();
            self.wishes.push(Wish::Empty);
        }
    }

    /// Our own writes say what time it was between sending them and hearing of it.
    fn match_moments(&mut self) {
        while let Some(at) = self.written.iter().position(|w| self.seen.iter().any(|seen| seen.0 == w.0)) {
            let Some((revision, after, before)) = self.written.remove(at) else { return };
            let Some((_, server)) = self.seen.iter().find(|seen| seen.0 == revision).copied() else { return };
            self.learn(&Moment { after, before, server });
        }
    }

    /// What is to be done at the server now.
    pub(super) fn work(&mut self) -> Option<Work> {
        let at = Instant::now();
        if self.outdated || self.not_before.is_some_and(|time| at < time) {
            return None;
        }
        let wanted = !self.wishes.is_empty() || self.waiting() > 0;
        let known = self.clock.now();
        let vague = known.is_none_or(|now| wanted && now.error() > LARGEST_ERROR);
        let lately = self.asked_time.is_some_and(|asked| known.is_some() && at < asked + ASK_TIME);
        if vague && !lately {
            self.asked_time = Some(at);
            self.counts.reads += 1;
            return Some(Work::Time);
        }
        // Who is away asks although it was told of the record since: nobody wants a call of an account that is away, so
        // nothing else would find the server answering again.
        if self.stale || self.away {
            self.counts.reads += 1;
            return Some(Work::Read);
        }
        if !wanted || (self.wishes.is_empty() && self.courteous.is_some_and(|until| at < until)) {
            return None;
        }
        self.plan(known?)
    }

    /// Notes how a write ended that was stored with this revision.
    pub(super) fn stored(&mut self, draft: Draft, revision: u64, sent: Instant) {
        let heard = Instant::now();
        self.writing = false;
        self.write_time = (self.write_time * 3 + micros(heard - sent)) / 4;
        self.written.push_back((revision, sent, heard));
        self.written.keep_newest(REMEMBERED);
        let Draft { record, slots, wishes } = draft;
        self.wishes.drain(..wishes);
        self.note_breaker(&record);
        self.courteous = self.courtesy(&record).map(|pause| heard + pause);
        // Somebody may have gone on from it already, and the news of that have come before.
        if self.view.as_ref().is_none_or(|(_, known)| *known < revision) {
            self.steps = Some(record.steps);
            self.view = Some((record, revision));
        }
        for (class, at) in slots {
            self.slots.entry(class).or_default().push_back(at);
        }
        self.match_moments();
        self.obey();
    }

    /// How long others have a try after a write of ours. Whoever has just written knows the record before everybody else
    /// does, and would write again before them, again and again.
    fn courtesy(&self, record: &Record) -> Option<Duration> {
        let others = i64::try_from(record.takers(&self.process)).unwrap_or(i64::MAX) - 1;
        let pause = self.write_time.saturating_mul(others).clamp(0, MOST_COURTESY).unsigned_abs();
        (others > 0).then(|| Duration::from_micros(pause))
    }

    /// Notes that somebody else wrote before: the record has to be read, unless its news came already.
    pub(super) fn outrun(&mut self) {
        self.counts.outrun += 1;
        self.writing = false;
        self.stale = self.view.as_ref().is_none_or(|(_, known)| *known <= self.instead_of);
    }

    /// Notes that the server could not be asked; whether it stored something is not known. Slots that it may have stored
    /// lapse. `true`: it could be asked before.
    pub(super) fn away(&mut self, pause: Duration) -> bool {
        self.writing = false;
        self.stale = true;
        self.not_before = Some(Instant::now() + pause);
        !std::mem::replace(&mut self.away, true)
    }

    /// Hands out the slots whose time has come.
    pub(super) fn hand_out(&mut self) {
        let Some(now) = self.clock.now() else { return };
        for (class, slots) in &mut self.slots {
            let grace = self.limits.grace(class);
            let waiting = self.queues.get(class).map_or(0, Queue::len);
            let gathering = self.limits.gathering(class, waiting);
            while let Some(slot) =
                slots.front().copied().filter(|slot| gathered(*slot, gathering) <= now.earliest)
            {
                if now.earliest - slot > grace {
                    slots.pop_front();
                    self.counts.lapsed += 1;
                    continue;
                }
                let Some(queue) = self.queues.get_mut(class).filter(|queue| !queue.is_empty()) else { break };
                slots.pop_front();
                if !self.walls.passes(&self.limits, class) {
                    self.counts.walled += 1;
                    continue;
                }
                // Whoever gave up waiting does not cost a slot.
                while let Some(turn) = queue.pop() {
                    if turn.send(Turn::Go).is_ok() {
                        self.counts.calls += 1;
                        self.lately.entry(class.clone()).or_default().count(now.earliest);
                        self.tried = self.trying;
                        break;
                    }
                }
            }
        }
        self.slots.retain(|_, slots| !slots.is_empty());
        self.queues.retain(|_, queue| !queue.is_empty());
        if self.lately.len() > MANY {
            self.lately.retain(|_, lately| !lately.is_over(now.earliest));
        }
        self.give_up_trial();
    }

    /// When there is something to do again by itself.
    pub(super) fn wake(&self) -> Option<Instant> {
        let due = self.slots.iter().filter_map(|(class, slots)| {
            let waiting = self.queues.get(class).filter(|queue| !queue.is_empty())?.len();
            Some(gathered(*slots.front()?, self.limits.gathering(class, waiting)))
        });
        let due = due.chain(self.next_plan.map(|first| first - LEAD - self.ahead() + 1)).min();
        let due = due.and_then(|due| self.clock.when(due));
        let later = [self.not_before, self.courteous].into_iter().flatten();
        let again = later.filter(|time| *time > Instant::now());
        due.into_iter().chain(again).min()
    }

    /// Sends everybody away.
    pub(super) fn close(&mut self) {
        self.queues.clear();
        self.slots.clear();
    }
}

/// When a slot is used that is gathered with others: each wakes this process up, and what follows of several calls that leave
/// together goes to the server together, too.
fn gathered(slot: i64, gathering: i64) -> i64 {
    let past = slot.checked_rem_euclid(gathering).filter(|past| *past > 0);
    past.map_or(slot, |past| slot.saturating_add(gathering - past))
}

/// Keeping only the newest.
trait Newest {
    fn keep_newest(&mut self, most: usize);
}

impl<T> Newest for VecDeque<T> {
    fn keep_newest(&mut self, most: usize) {
        while self.len() > most {
            self.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_server_that_was_away_is_asked_again_though_nobody_wants_a_call_and_the_record_was_told_meanwhile() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
        let vendor = wanwright_vendors::Vendor::load(&folder).expect("a vendor");
        let mut desk = Desk::new("one".to_owned(), Limits::new(&vendor.budget, "here", None), vendor.breaker);
        let now = Instant::now();
        desk.learn(&Moment { after: now, before: now, server: 1_000_000 });
        assert!(matches!(desk.work(), Some(Work::Read)));
        desk.read(None);
        assert!(desk.work().is_none() && desk.is_in_reach(), "there is nothing to ask");
        desk.away(Duration::ZERO);
        desk.told(&Stored { value: Bytes::new(), revision: 7, at: 1_000_000 });
        assert!(!desk.is_in_reach());
        assert!(matches!(desk.work(), Some(Work::Read)), "it would be away for ever");
        assert!(desk.answered() && desk.is_in_reach());
        desk.read(None);
        assert!(desk.work().is_none());
    }
}
