//! Several processes and one record, played in a time of their own: how many calls of others go before a single one.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wanwright_nats::budgets::{Moment, Stored};
use wanwright_vendors::{Counted, RateLimit};

use super::class::{Class, Limits};
use super::desk::{Desk, Draft, Work};
use super::record::LEAD;
use super::{Priority, Turn};

/// A step of the play.
const TICK: Duration = Duration::from_millis(1);

/// What the server's clock says at the beginning, in microseconds.
const EPOCH: i64 = 1_000_000_000_000;

/// What a question to the server came to, and when the process hears of it.
struct Answer {
    heard: Instant,
    sent: Instant,
    what: What,
}

enum What {
    Time(i64),
    Read(Option<Stored>),
    Stored(Box<Draft>, u64),
    Outrun,
}

struct Process {
    desk: Desk,
    /// A question on its way: when it reaches the server.
    asked: Option<(Instant, Instant, Work)>,
    answer: Option<Answer>,
    told: VecDeque<(Instant, Stored)>,
    calls: Vec<oneshot::Receiver<Turn>>,
}

/// The server's side, and everybody's.
struct Play {
    began: Instant,
    /// From sending a question to its reaching the server, and the same for its answer.
    way: Duration,
    record: Option<Stored>,
    class: Class,
    /// The class of calls that change nothing.
    looks: Class,
    processes: Vec<Process>,
}

impl Play {
    fn new(processes: usize, way: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
        let mut vendor = wanwright_vendors::Vendor::load(&folder).expect("a vendor");
        // Changes are counted by a limit of their own as well, which never fills: they are another class than looks.
        let plain = vendor.budget.limits[0].clone();
        let counts = Counted { methods: vec!["PUT".to_owned()], ..Counted::default() };
        let calls = NonZeroU32::MIN.saturating_add(100_000);
        let burst = Some(calls);
        vendor.budget.limits.push(RateLimit { name: "changes".to_owned(), calls, burst, counts, ..plain });
        let limits = || Limits::new(&vendor.budget, "here", None);
        let process = |number: usize| Process {
            desk: Desk::new(number.to_string(), limits(), vendor.breaker).without_walls(),
            asked: None,
            answer: None,
            told: VecDeque::new(),
            calls: Vec::new(),
        };
        let class = limits().class(&Method::PUT, "/v1/devices/dv-1", b"{}");
        let looks = limits().class(&Method::GET, "/v1/devices/dv-1", b"");
        let processes = (0..processes).map(process).collect();
        Self { began: Instant::now(), way, record: None, class, looks, processes }
    }

    fn clock(&self) -> i64 {
        EPOCH + i64::try_from(self.began.elapsed().as_micros()).expect("a short play")
    }

    /// Has a customer ask for a call through a process.
    fn ask(&mut self, process: usize, customer: &str) -> usize {
        self.ask_in(process, self.class.clone(), Priority::Intent, customer)
    }

    fn ask_in(&mut self, process: usize, class: Class, priority: Priority, customer: &str) -> usize {
        let (turn, mine) = oneshot::channel();
        let process = &mut self.processes[process];
        process.desk.ask(class, priority, customer.parse().expect("an id"), turn);
        process.calls.push(mine);
        process.calls.len() - 1
    }

    /// How many calls of all processes have left.
    fn left(&self) -> u64 {
        self.processes.iter().map(|process| process.desk.counts.calls).sum()
    }

    /// Lets a millisecond pass.
    async fn tick(&mut self) {
        tokio::time::advance(TICK).await;
        let (now, clock, way) = (Instant::now(), self.clock(), self.way);
        let mut stored = Vec::new();
        for process in &mut self.processes {
            process.hear(now);
            process.desk.hand_out();
            if process.asked.is_none()
                && process.answer.is_none()
                && let Some(work) = process.desk.work()
            {
                process.asked = Some((now, now + way, work));
            }
            if process.asked.as_ref().is_some_and(|(_, arrives, _)| *arrives <= now)
                && let Some((sent, _, work)) = process.asked.take()
            {
                let what = serve(&mut self.record, work, clock, &mut stored);
                process.answer = Some(Answer { heard: now + way, sent, what });
            }
        }
        for process in &mut self.processes {
            process.told.extend(stored.iter().map(|record| (now + way, record.clone())));
        }
    }
}

/// What the server does with a question.
fn serve(record: &mut Option<Stored>, work: Work, clock: i64, stored: &mut Vec<Stored>) -> What {
    match work {
        Work::Time => What::Time(clock),
        Work::Read => What::Read(record.clone()),
        Work::Put { value, revision, draft } => {
            let present = record.as_ref().map_or(0, |record| record.revision);
            if present != revision {
                return What::Outrun;
            }
            let new = Stored { value: Bytes::from(value.to_vec()), revision: revision + 1, at: clock };
            *record = Some(new.clone());
            stored.push(new);
            What::Stored(draft, revision + 1)
        }
    }
}

impl Process {
    /// Takes in what has come from the server.
    fn hear(&mut self, now: Instant) {
        while let Some((_, record)) = self.told.pop_front_if(|(at, _)| *at <= now) {
            self.desk.told(&record);
        }
        if self.answer.as_ref().is_none_or(|answer| answer.heard > now) {
            return;
        }
        let Some(Answer { heard, sent, what }) = self.answer.take() else { return };
        match what {
            What::Time(server) => self.desk.learn(&Moment { after: sent, before: heard, server }),
            What::Read(record) => self.desk.read(record),
            What::Stored(draft, revision) => self.desk.stored(*draft, revision, sent),
            What::Outrun => self.desk.outrun(),
        }
    }
}

/// Plays some seconds in which everybody of `busy` has thousands of calls waiting, then a customer's single call at
/// process 0, again and again. Answers how many calls of others went before it at most.
async fn most_before(processes: usize, busy: &[usize], way: Duration) -> (u64, u64) {
    let mut play = Play::new(processes, way);
    for process in busy {
        for _ in 0..3000 {
            play.ask(*process, "bulk");
        }
    }
    let mut most = 0;
    for round in 0..12 {
        for _ in 0..1000 + 137 * round {
            play.tick().await;
        }
        let (before, call) = (play.left(), play.ask(0, "single"));
        while play.processes[0].calls[call].try_recv().is_err() {
            play.tick().await;
        }
        most = most.max(play.left() - before - 1);
    }
    let (left, seconds) = (play.left(), play.began.elapsed().as_secs());
    (most, left / seconds)
}

#[tokio::test(start_paused = true)]
async fn behind_any_number_of_processes_a_single_call_waits_for_half_a_second_of_slots() {
    let per_second = 50;
    let all: Vec<usize> = (0..8).collect();
    for (processes, busy, ways) in [
        (1, &all[..1], &[2, 10, 40][..]),
        (2, &all[1..2], &[2, 10, 40]),
        (4, &all[1..2], &[2, 10, 40]),
        (4, &all[1..4], &[2, 10, 40]),
        (4, &all[..4], &[2, 10, 40]),
        // So many processes that are so far away are more than one record can serve.
        (8, &all[1..], &[2, 10]),
    ] {
        for millis in ways {
            let (most, used) = most_before(processes, busy, Duration::from_millis(*millis)).await;
            // The slots that others hold, and what they use while a slot is asked for: the time if it is not known, and
            // the record again each time that somebody else was first.
            let asking = 6 * 2 * millis * per_second / 1000;
            let bound = u64::try_from(LEAD).expect("a time") * per_second / 1_000_000 + asking + 1;
            let play = format!("{busy:?} of {processes} busy, {millis} ms away");
            assert!(most <= bound, "{most} calls before it: {play}");
            assert!(used >= per_second * 48 / 50, "{used} calls a second: {play}");
        }
    }
}

/// A caller: it waits for a turn, or does something else before it asks for the next one.
enum Caller {
    Waits(oneshot::Receiver<Turn>),
    Until(Instant),
}

/// The part of the limit's rate that is used where each process has so many callers that ask again a while after each
/// call.
async fn part_used(processes: usize, callers: usize, pause: Duration, way: Duration) -> f64 {
    const SECONDS: u32 = 20;
    let mut play = Play::new(processes, way);
    let mut all: Vec<(usize, Caller)> = (0..processes * callers)
        .map(|number| (number % processes, Caller::Until(play.began + Duration::from_millis(number as u64))))
        .collect();
    let (mut begin, ticks) = (0, SECONDS * 1000);
    for tick in 0..ticks + 3000 {
        // Limits start empty: the first seconds are left out.
        if tick == 3000 {
            begin = play.left();
        }
        for (number, (process, caller)) in all.iter_mut().enumerate() {
            let asks = match caller {
                Caller::Waits(turn) => {
                    let is_over = turn.try_recv().is_ok();
                    if is_over {
                        *caller = Caller::Until(Instant::now() + pause);
                    }
                    false
                }
                Caller::Until(until) => *until <= Instant::now(),
            };
            if asks {
                let (turn, mine) = oneshot::channel();
                let (class, customer) = (play.class.clone(), format!("c-{}", number % 50));
                let desk = &mut play.processes[*process].desk;
                desk.ask(class, Priority::Intent, customer.parse().expect("an id"), turn);
                *caller = Caller::Waits(mine);
            }
        }
        play.tick().await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let left = (play.left() - begin) as f64;
    left / (50.0 * f64::from(SECONDS))
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_used_to_the_last_slot_however_many_share_it() {
    for (processes, callers, pause, way) in [(1, 32, 100, 2), (4, 32, 1000, 10), (4, 8, 300, 5)] {
        let (wait, near) = (Duration::from_millis(pause), Duration::from_millis(way));
        let used = part_used(processes, callers, wait, near).await;
        // All of the rate that is ever used: the rest is for clocks that do not run equally fast.
        assert!(used >= 0.994, "{processes} processes of {callers} callers, {way} ms away: {used:.4}");
    }
}

/// How many of the calls that were asked for in this range have left.
fn served(play: &mut Play, asked: std::ops::Range<usize>) -> usize {
    // A turn that was given stays in its channel until it is taken out.
    play.processes[0].calls[asked].iter_mut().filter(|call| !call.is_empty()).count()
}

#[tokio::test(start_paused = true)]
async fn changes_go_before_looks_of_another_class_and_leave_them_an_eighth() {
    for millis in [1, 10] {
        let mut play = Play::new(1, Duration::from_millis(millis));
        let (changes, looks) = (play.class.clone(), play.looks.clone());
        for _ in 0..800 {
            play.ask_in(0, looks.clone(), Priority::Drift, "acme");
        }
        for _ in 0..800 {
            play.ask_in(0, changes.clone(), Priority::Intent, "acme");
        }
        for _ in 0..12_000 {
            play.tick().await;
        }
        let (looked, changed) = (served(&mut play, 0..800), served(&mut play, 800..1600));
        let share = looked * 1000 / (looked + changed);
        assert!((80..=170).contains(&share), "{looked} looks and {changed} changes, {millis} ms away");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_no_more_looks_than_have_their_slots() {
    let mut play = Play::new(1, Duration::from_millis(5));
    let (changes, looks) = (play.class.clone(), play.looks.clone());
    for _ in 0..1500 {
        play.ask_in(0, looks.clone(), Priority::Drift, "acme");
    }
    for round in 0..12 {
        for _ in 0..1000 + 137 * round {
            play.tick().await;
        }
        let before = play.left();
        let call = play.ask_in(0, changes.clone(), Priority::Intent, "acme");
        while play.processes[0].calls[call].try_recv().is_err() {
            play.tick().await;
        }
        let others = play.left() - before - 1;
        assert!(others <= 27, "{others} looks of the same customer went before a change");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_anyway_leave_together_and_a_call_that_need_not_wait_leaves_at_once() {
    let mut play = Play::new(1, Duration::from_millis(2));
    for _ in 0..400 {
        play.ask(0, "acme");
    }
    // The burst is spent then.
    for _ in 0..2_000 {
        play.tick().await;
    }
    let (before, mut times) = (play.left(), 0);
    for _ in 0..5_000 {
        let left = play.left();
        play.tick().await;
        times += u64::from(play.left() > left);
    }
    let calls = play.left() - before;
    assert!(calls >= 244, "{calls} of 249 that the budget has room for");
    assert!(times * 4 <= calls, "{calls} calls left at {times} times");

    // One after the other, as a run of Terraform asks.
    let mut play = Play::new(1, Duration::from_millis(2));
    for _ in 0..1_000 {
        play.tick().await;
    }
    for _ in 0..40 {
        for _ in 0..37 {
            play.tick().await;
        }
        let (call, asked) = (play.ask(0, "acme"), Instant::now());
        while play.processes[0].calls[call].try_recv().is_err() {
            play.tick().await;
        }
        let waited = asked.elapsed();
        assert!(waited <= Duration::from_millis(20), "{waited:?} although nobody else waits");
    }
}

/// How many of a thousand calls were those of the first process, where two have more to do than there is room for: so many
/// customers with calls of these priorities each.
async fn part_of_the_first(priorities: [Priority; 2], customers: [usize; 2], way: Duration) -> u64 {
    let mut play = Play::new(2, way);
    for process in 0..2 {
        let class = match priorities[process] {
            Priority::Intent => play.class.clone(),
            _ => play.looks.clone(),
        };
        for call in 0..2_000 {
            let customer = format!("c-{process}-{}", call % customers[process]);
            play.ask_in(process, class.clone(), priorities[process], &customer);
        }
    }
    let counted = |play: &Play| play.processes[0].desk.counts.calls;
    for _ in 0..3_000 {
        play.tick().await;
    }
    let (all, first) = (play.left(), counted(&play));
    for _ in 0..20_000 {
        play.tick().await;
    }
    (counted(&play) - first) * 1000 / (play.left() - all)
}

#[tokio::test(start_paused = true)]
async fn a_customer_that_is_alone_in_its_process_and_looks_have_no_more_than_beside_the_others() {
    for millis in [1, 5] {
        let way = Duration::from_millis(millis);
        let (intent, drift) = (Priority::Intent, Priority::Drift);
        let alone = part_of_the_first([intent, intent], [1, 9], way).await;
        assert!((60..=170).contains(&alone), "{alone} of 1000 for one customer of ten, {millis} ms away");
        let even = part_of_the_first([intent, intent], [5, 5], way).await;
        assert!((440..=560).contains(&even), "{even} of 1000 for five customers of ten, {millis} ms away");
        let looks = part_of_the_first([drift, intent], [9, 1], way).await;
        assert!((80..=220).contains(&looks), "{looks} of 1000 for looks, {millis} ms away");
    }
}
