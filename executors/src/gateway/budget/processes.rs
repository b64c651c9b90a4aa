//! Several processes and one record, played in a time of their own: how many calls of others go before a single one.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wanwright_nats::budgets::{Moment, Stored};

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
    processes: Vec<Process>,
}

impl Play {
    fn new(processes: usize, way: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
        let vendor = wanwright_vendors::Vendor::load(&folder).expect("a vendor");
        let limits = || Limits::new(&vendor.budget, "here");
        let process = |number: usize| Process {
            desk: Desk::new(number.to_string(), limits(), vendor.breaker).without_walls(),
            asked: None,
            answer: None,
            told: VecDeque::new(),
            calls: Vec::new(),
        };
        let class = limits().class(&Method::PUT, "/v1/devices/dv-1", b"{}");
        let processes = (0..processes).map(process).collect();
        Self { began: Instant::now(), way, record: None, class, processes }
    }

    fn clock(&self) -> i64 {
        EPOCH + i64::try_from(self.began.elapsed().as_micros()).expect("a short play")
    }

    /// Has a customer ask for a call through a process.
    fn ask(&mut self, process: usize, customer: &str) -> usize {
        let (turn, mine) = oneshot::channel();
        let process = &mut self.processes[process];
        process.desk.ask(self.class.clone(), Priority::Intent, customer.parse().expect("an id"), turn);
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
