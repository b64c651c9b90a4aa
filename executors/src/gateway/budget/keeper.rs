//! Keeps one vendor's budget between this process and the server: does what the desk says, and tells it what came of it.

use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::budgets::{Moment, Stored, Written};
use wanwright_nats::{Budgets, NatsError};

use super::counter::Message;
use super::desk::{Desk, Draft, Work};
use super::standing::Standing;

/// Pause after the server could not be asked.
const AGAIN: Duration = Duration::from_millis(250);

/// Longest that an answer of the server is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is said how the budget stands, while nothing happens to the record.
const SAY: Duration = Duration::from_millis(100);

/// Most messages taken in before the slots are looked at again.
const AT_ONCE: usize = 256;

/// What came of work at the server.
enum Done {
    Time(Moment),
    Read(Option<Stored>),
    Put(Written, Box<Draft>, Instant),
    Away(NatsError),
}

pub(super) struct Keeper {
    pub(super) budgets: Budgets,
    pub(super) key: String,
    pub(super) desk: Desk,
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    pub(super) tell: watch::Sender<Standing>,
}

impl Keeper {
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        let mut work: Option<BoxFuture<'static, Done>> = None;
        let mut watching = watching(self.budgets.clone(), self.key.clone());
        let mut said = Instant::now();
        loop {
            self.desk.hand_out();
            if work.is_none() {
                work = self.desk.work().map(|work| begin(work, self.budgets.clone(), self.key.clone()));
            }
            if said.elapsed() >= SAY {
                said = Instant::now();
                self.say();
            }
            let wake = self.desk.wake();
            tokio::select! {
                () = stop.cancelled() => break,
                done = async { work.as_mut().expect("checked").await }, if work.is_some() => {
                    work = None;
                    self.done(done);
                    self.say();
                }
                stored = watching.next() => {
                    if let Some(stored) = stored {
                        self.desk.told(&stored);
                        self.say();
                    }
                }
                message = self.messages.recv() => match message {
                    None => break,
                    Some(message) => self.take_in(message),
                },
                () = sleep_until(wake), if wake.is_some() => {}
                () = tokio::time::sleep_until(said + 5 * SAY) => {}
            }
        }
        // Everybody who waits learns that there will be no turn.
        self.desk.close();
        self.messages.close();
    }

    fn take_in(&mut self, first: Message) {
        let (mut next, mut taken) = (Some(first), 0);
        loop {
            match next {
                Some(Message::Ask { class, priority, customer, turn }) => {
                    self.desk.ask(class, priority, customer, turn);
                }
                Some(Message::Worked) => self.desk.worked(),
                Some(Message::Failed(reason)) => self.desk.failed(reason),
                Some(Message::Unused) => self.desk.unused(),
                Some(Message::Block { limits, time }) => self.desk.block(limits, time),
                None => return,
            }
            taken += 1;
            next = if taken < AT_ONCE { self.messages.try_recv().ok() } else { None };
        }
    }

    fn done(&mut self, done: Done) {
        if !matches!(done, Done::Away(_)) && self.desk.answered() {
            tracing::info!(key = self.key, "a vendor's budget is back");
        }
        match done {
            Done::Time(moment) => self.desk.learn(&moment),
            Done::Read(stored) => self.desk.read(stored),
            Done::Put(Written::Stored(revision), draft, sent) => self.desk.stored(*draft, revision, sent),
            Done::Put(Written::Outrun, ..) => self.desk.outrun(),
            Done::Away(error) => {
                if self.desk.away(AGAIN) {
                    tracing::warn!(
                        key = self.key,
                        error = &error as &dyn std::error::Error,
                        "a vendor's budget is away: no calls until it is back"
                    );
                }
            }
        }
    }

    /// Says how the budget stands.
    fn say(&self) {
        let (record, now) = (self.desk.record(), self.desk.clock.now());
        let standing = match (record, now) {
            (Some(record), Some(now)) if self.desk.is_in_reach() => {
                Standing::of(record, &self.desk.limits, now, self.desk.waiting(), self.desk.counts)
            }
            _ => Standing { waiting: self.desk.waiting(), counts: self.desk.counts, ..Standing::unknown() },
        };
        self.tell.send_replace(standing);
    }
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        tokio::time::sleep_until(wake).await;
    }
}

fn begin(work: Work, budgets: Budgets, key: String) -> BoxFuture<'static, Done> {
    let late = || NatsError::failed("waiting for the budget's record")("the server did not answer in time");
    async move {
        let asked = async {
            match work {
                Work::Time => budgets.time().await.map(Done::Time),
                Work::Read => budgets.get(&key).await.map(Done::Read),
                Work::Put { value, revision, draft } => {
                    let sent = Instant::now();
                    budgets.put(&key, value, revision).await.map(|written| Done::Put(written, draft, sent))
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()));
        answered.unwrap_or_else(Done::Away)
    }
    .boxed()
}

/// The record each time it is written, for ever: what is missed while the connection is away is read when it is back.
fn watching(budgets: Budgets, key: String) -> BoxStream<'static, Stored> {
    let opened = futures::stream::unfold((budgets, key), |(budgets, key)| async move {
        loop {
            match budgets.watch(&key).await {
                Ok(watch) => return Some((watch, (budgets, key))),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "watching a budget again");
                    tokio::time::sleep(4 * AGAIN).await;
                }
            }
        }
    });
    opened
        .flat_map(|watch| {
            watch
                .take_while(|told| std::future::ready(told.is_ok()))
                .filter_map(async |told| told.ok())
                .boxed()
        })
        .boxed()
}
