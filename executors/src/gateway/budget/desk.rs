//! What one process knows of one vendor's budget, and what it does next: who waits, which slots it has, what it wants to
//! change in the shared record. It does no I/O; the keeper does what it says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wanwright_nats::budgets::{Moment, Stored};
use wanwright_schemas::CustomerId;
use wanwright_vendors::{Breaker, RateLimit};

use super::breaker::{self, Failures, Gate, Open};
use super::class::{Class, Limits, limit_name};
use super::clock::{Now, ServerClock};
use super::pace::{Pace, micros};
use super::record::{LEAD, RECORD_VERSION, Record};
use super::{Priority, Turn};
use crate::gateway::fair::FairQueue;

/// Of so many slots one goes to a class whose best call has the lower priority.
const RESERVED: u64 = 8;

/// With a greater error of its clock than this, a process asks the server for the time before it takes slots.
const LARGEST_ERROR: i64 = 20_000;

/// Shortest pause between two such questions.
const ASK_TIME: Duration = Duration::from_secs(10);

/// How many writes are remembered until it is told when they were stored.
const REMEMBERED: usize = 16;

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
    walls: HashMap<String, DefaultDirectRateLimiter>,
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
            walls: HashMap::new(),
            wishes: Vec::new(),
            failures: Failures::default(),
            trying: false,
            writing: false,
            tried: false,
            turns: 0,
            write_time: 5_000,
            asked_time: None,
            not_before: None,
            next_plan: None,
            written: VecDeque::new(),
            seen: VecDeque::new(),
            counts: Counts::default(),
        }
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

    fn gate(&self, now: Option<Now>) -> Gate {
        match (self.record().and_then(|record| record.breaker.as_ref()), now) {
            (Some(open), Some(now)) => open.gate(now.earliest),
            _ => Gate::Closed,
        }
    }

    /// Queues a call, or answers it at once while the breaker is open.
    pub(super) fn ask(
        &mut self,
        class: Class,
        priority: Priority,
        customer: CustomerId,
        turn: oneshot::Sender<Turn>,
    ) {
        let until = match self.gate(self.clock.now()) {
            Gate::Closed => None,
            Gate::Open(until) => Some(until),
            Gate::Trial if self.trying && self.waiting_or_running() => {
                self.clock.now().map(|now| now.latest + micros(self.rules.pause))
            }
            Gate::Trial => {
                (self.trying, self.tried) = (true, false);
                None
            }
        };
        match until {
            Some(until) => drop(turn.send(self.held_back(until))),
            None => self.queues.entry(class).or_insert_with(Queue::new).push(priority, customer, turn),
        }
    }

    fn waiting_or_running(&mut self) -> bool {
        self.queues.values_mut().for_each(|queue| queue.retain(|turn| !turn.is_closed()));
        let ours = |open: &Open| open.is_tried_by(&self.process);
        self.waiting() > 0 || self.record().and_then(|record| record.breaker.as_ref()).is_some_and(ours)
    }

    fn held_back(&self, until: i64) -> Turn {
        let open = self.record().and_then(|record| record.breaker.as_ref());
        Turn::HeldBack { until, reason: open.map(|open| open.reason.clone()).unwrap_or_default() }
    }

    /// Notes that a call worked.
    pub(super) fn worked(&mut self) {
        self.failures.worked();
        if self.is_trial() {
            self.trying = false;
            self.wishes.push(Wish::Close);
        }
    }

    /// Notes that a call failed.
    pub(super) fn failed(&mut self, reason: String) {
        let enough = self.failures.failed(&self.rules);
        let open = self.record().is_some_and(|record| record.breaker.is_some());
        let wished = self.wishes.iter().any(|wish| matches!(wish, Wish::Open { .. }));
        if self.is_trial() || (enough && !open && !wished) {
            self.trying = false;
            self.failures.worked();
            self.wishes.push(Wish::Open { reason });
        }
    }

    /// Notes that a call that had its turn was not made.
    pub(super) fn unused(&mut self) {
        if self.is_trial() {
            self.trying = false;
            self.wishes.push(Wish::NotTried);
        }
    }

    fn is_trial(&self) -> bool {
        let open = self.record().and_then(|record| record.breaker.as_ref());
        open.is_some_and(|open| open.is_tried_by(&self.process))
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
        if self.stale {
            self.counts.reads += 1;
            return Some(Work::Read);
        }
        if !wanted {
            return None;
        }
        self.plan(known?)
    }

    /// The record as it should be next, if there is anything to change.
    fn plan(&mut self, now: Now) -> Option<Work> {
        self.next_plan = None;
        let (mut record, revision) = self.view.clone()?;
        record.v = RECORD_VERSION;
        record.sanitize(now.latest, breaker::longest(&self.rules));
        record.forget_full(now.earliest);
        for wish in &self.wishes {
            self.fulfil(wish, &mut record, now);
        }
        let slots = match record.breaker.as_ref().map_or(Gate::Closed, |open| open.gate(now.earliest)) {
            Gate::Closed => self.take_slots(&mut record, now, usize::MAX),
            Gate::Open(_) => Vec::new(),
            Gate::Trial => {
                let slots = self.take_slots(&mut record, now, 1);
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
            record.taken_by(&self.process, now.latest);
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
    fn take_slots(&mut self, record: &mut Record, now: Now, most: usize) -> Vec<(Class, i64)> {
        let from = now.earliest + self.ahead();
        let share = LEAD / i64::try_from(record.takers(&self.process).max(2)).unwrap_or(2);
        let mut wanting = Vec::new();
        for (class, queue) in &mut self.queues {
            let held = self.slots.get(class).map_or(0, VecDeque::len);
            let slowest = self.limits.of(class).map(|(_, pace)| pace.interval).max().unwrap_or(1);
            let batch = usize::try_from(share / slowest.max(1)).unwrap_or(1).max(1);
            if held > batch / 2 || queue.len() <= held {
                continue;
            }
            let first = record.first(self.limits.of(class), from, now.latest);
            if first > from + LEAD {
                self.next_plan = Some(self.next_plan.map_or(first, |next: i64| next.min(first)));
                continue;
            }
            queue.retain(|turn| !turn.is_closed());
            let wants = queue.len().saturating_sub(held).min(batch);
            if let (Some(best), true) = (queue.best().copied(), wants > 0) {
                wanting.push((class.clone(), best, wants, 0_usize));
            }
        }
        let mut slots = Vec::new();
        while slots.len() < most && !wanting.is_empty() {
            self.turns = self.turns.wrapping_add(1);
            let at = turn_of(&wanting, self.turns);
            let (class, _, wants, taken) = &mut wanting[at];
            let first = record.first(self.limits.of(class), from, now.latest);
            if first > from + LEAD || taken == wants {
                wanting.swap_remove(at);
                continue;
            }
            record.take(self.limits.of(class), first, now.latest);
            *taken += 1;
            slots.push((class.clone(), first));
        }
        slots
    }

    /// How long after now the first slot is taken, so that its time has not passed when it is known to be ours.
    fn ahead(&self) -> i64 {
        (self.write_time * 3 / 2).clamp(2_000, LEAD / 2)
    }

    /// Notes how a write ended that was stored with this revision.
    pub(super) fn stored(&mut self, draft: Box<Draft>, revision: u64, sent: Instant) {
        let heard = Instant::now();
        self.writing = false;
        self.write_time = (self.write_time * 3 + micros(heard - sent)) / 4;
        self.written.push_back((revision, sent, heard));
        self.written.keep_newest(REMEMBERED);
        let Draft { record, slots, wishes } = *draft;
        self.wishes.drain(..wishes);
        self.note_breaker(&record);
        self.steps = Some(record.steps);
        self.view = Some((record, revision));
        for (class, at) in slots {
            self.slots.entry(class).or_default().push_back(at);
        }
        self.match_moments();
        self.obey();
    }

    fn note_breaker(&self, next: &Record) {
        let before = self.record().and_then(|record| record.breaker.as_ref());
        match (before, &next.breaker) {
            (Some(_), None) => tracing::info!("a vendor works again: its breaker is closed"),
            (before, Some(open)) if before.is_none_or(|before| before.times != open.times) => {
                tracing::warn!(
                    reason = open.reason,
                    times = open.times,
                    "a vendor only fails: its breaker is open"
                );
            }
            _ => {}
        }
    }

    /// Notes that somebody else wrote before: the record has to be read.
    pub(super) fn outrun(&mut self) {
        self.counts.outrun += 1;
        self.writing = false;
        self.stale = true;
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
            while let Some(slot) = slots.front().copied().filter(|slot| *slot <= now.earliest) {
                if now.earliest - slot > grace {
                    slots.pop_front();
                    self.counts.lapsed += 1;
                    continue;
                }
                let Some(queue) = self.queues.get_mut(class).filter(|queue| !queue.is_empty()) else { break };
                slots.pop_front();
                if !passes(&mut self.walls, &self.limits, class) {
                    self.counts.walled += 1;
                    continue;
                }
                // Whoever gave up waiting does not cost a slot.
                while let Some(turn) = queue.pop() {
                    if turn.send(Turn::Go).is_ok() {
                        self.counts.calls += 1;
                        self.tried = self.trying;
                        break;
                    }
                }
            }
        }
        self.slots.retain(|_, slots| !slots.is_empty());
        self.queues.retain(|_, queue| !queue.is_empty());
        self.give_up_trial();
    }

    /// Lets others try a call, if ours had no turn: its caller did not wait for it.
    fn give_up_trial(&mut self) {
        // While a write is under way the slot may be ours already, and only not known to be.
        if self.trying && !self.tried && !self.writing && self.slots.is_empty() && self.is_trial() {
            self.unused();
        }
    }

    /// When there is something to do again by itself.
    pub(super) fn wake(&self) -> Option<Instant> {
        let waited = |class: &Class| self.queues.get(class).is_some_and(|queue| !queue.is_empty());
        let due = self.slots.iter().filter(|(class, _)| waited(class)).filter_map(|(_, slots)| slots.front());
        let due = due.copied().chain(self.next_plan.map(|first| first - LEAD - self.ahead() + 1)).min();
        let due = due.and_then(|due| self.clock.when(due));
        let again = self.not_before.filter(|time| *time > Instant::now());
        due.into_iter().chain(again).min()
    }

    /// Sends everybody away.
    pub(super) fn close(&mut self) {
        self.queues.clear();
        self.slots.clear();
    }
}

/// The class that takes the next slot: of those whose best call has the highest priority the one that took least; now
/// and then one of the others.
fn turn_of(wanting: &[(Class, Priority, usize, usize)], turn: u64) -> usize {
    let best = wanting.iter().map(|(_, priority, ..)| *priority).min();
    let behind = wanting.iter().any(|(_, priority, ..)| Some(*priority) != best);
    let reserved = behind && turn.is_multiple_of(RESERVED);
    let candidates =
        wanting.iter().enumerate().filter(|(_, (_, priority, ..))| (Some(*priority) == best) != reserved);
    // The one that begins changes, or those with few slots to share would always give them to the same.
    let begins = usize::try_from(turn).unwrap_or_default() % wanting.len();
    let next =
        candidates.min_by_key(|(at, (.., taken))| (*taken, (at + wanting.len() - begins) % wanting.len()));
    next.map_or(0, |(at, _)| at)
}

/// The process's own wall: whatever the record says, no process alone calls faster than the vendor's whole rate.
fn passes(walls: &mut HashMap<String, DefaultDirectRateLimiter>, limits: &Limits, class: &Class) -> bool {
    limits.of(class).all(|(name, pace)| {
        let limit = limits.all().iter().find(|limit| limit.name == limit_name(name));
        let Some(limit) = limit else { return true };
        if walls.len() > 4 * limits.all().len().max(64) {
            walls.retain(|name, _| !name.contains('/'));
        }
        let wall = walls.entry(name.to_owned()).or_insert_with(|| wall(limit, pace));
        let passes = wall.check().is_ok();
        if !passes {
            tracing::error!(
                limit = name,
                "a slot is given up: with it, this process alone would exceed the limit"
            );
        }
        passes
    })
}

fn wall(limit: &RateLimit, pace: &Pace) -> DefaultDirectRateLimiter {
    let ours = u32::try_from(pace.burst + 1).ok().and_then(NonZeroU32::new);
    let burst = limit.burst.or(ours).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(limit.window / limit.calls.get())
        .unwrap_or_else(|| Quota::per_second(limit.calls));
    RateLimiter::direct(quota.allow_burst(burst))
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
