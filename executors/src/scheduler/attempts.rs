//! Which try an order is at, kept outside the process that tries it: a run that died is seen by the next one.

use async_nats::jetstream::kv;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Nats, NatsError, TableRow};
use wanwright_schemas::{Digest, Order, OrderId, headers};

use crate::deaths::Died;

/// Where a try stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Somebody is at it, or died over it.
    Running {
        /// Who.
        executor: String,
    },
    /// It failed in passing and waits for the next try.
    Waiting {
        /// When that may begin.
        not_before: Timestamp,
    },
    /// It ended well, and a newer version of the row had come meanwhile.
    Done,
}

/// The last try of a row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// The order that was tried.
    pub(crate) order: OrderId,
    /// The sequence of the row's version that had it; 0 in what older executors wrote.
    #[serde(default)]
    pub(crate) row: u64,
    /// When it began, by the clock of whoever is at it.
    #[serde(default)]
    pub(crate) began: Option<Timestamp>,
    /// The generation of the target that it brings.
    #[serde(default)]
    pub(crate) generation: u64,
    /// Which try it was, from 1.
    pub(crate) number: u32,
    /// How many tries failed at the vendor. Only these are held against the order.
    pub(crate) failures: u32,
    /// How many tries in a row ended with the death of whoever was at them.
    #[serde(default)]
    pub(crate) deaths: u32,
    /// How many reports of it were refused.
    #[serde(default)]
    pub(crate) refused: u32,
    /// Whether its plan was begun to be applied, and Terraform did not come to an end of its own over it: what there is at
    /// the vendor is not what the plan was made from. It stays so for as long as the order is the same.
    #[serde(default)]
    pub(crate) begun: bool,
    /// Whether a run of this target died and none has succeeded since: what there is at the vendor has to be looked for.
    pub(crate) unsure: bool,
    /// Whether the effect journal may name changes of earlier runs of this target whose answers nobody knows.
    #[serde(default)]
    pub(crate) unsettled: bool,
    /// Whether a change of this target failed for good, and none has succeeded since. The history tells that of what is
    /// wanted only: of what failed while something newer was asked for, this note does.
    #[serde(default)]
    pub(crate) failed: bool,
    /// Where it stands.
    #[serde(flatten)]
    pub(crate) phase: Phase,
}

impl Attempt {
    /// Whose death it was, if nothing ended it; noted before it began, at this time.
    pub(crate) fn died_at(&self, noted: Timestamp) -> Option<Died> {
        let executor = self.died()?.to_owned();
        Some(Died { attempt: self.number, executor, noted })
    }

    /// Who was at it and died: a try that ends says so.
    pub(crate) fn died(&self) -> Option<&str> {
        match &self.phase {
            Phase::Running { executor } => Some(executor),
            Phase::Waiting { .. } | Phase::Done => None,
        }
    }

    /// Whether it has ended well, by what this version of the row says. A try that ends well is not written again: the
    /// row's next version tells.
    pub(crate) fn has_ended(&self, row: &TableRow) -> bool {
        let ended = row.headers.get(headers::ENDED_ROW).and_then(|sequence| sequence.as_str().parse().ok());
        self.row != 0 && ended == Some(self.row)
    }

    /// The try that comes now, after the last one of the row, of the version of it with this sequence.
    pub(crate) fn begin(last: Option<&Self>, order: &Order, row: u64, executor: &str) -> Self {
        let same = last.filter(|last| last.order == order.id);
        Self {
            order: order.id,
            row,
            began: Some(Timestamp::now()),
            // A plan brings none.
            generation: if order.changes() { order.generation() } else { 0 },
            number: same.map_or(1, |last| last.number.saturating_add(1)),
            failures: same.map_or(0, |last| last.failures),
            deaths: same.map_or(0, |last| last.deaths.saturating_add(u32::from(last.died().is_some()))),
            refused: same.map_or(0, |last| last.refused),
            begun: order.plan.is_some() && same.is_some_and(|last| last.begun || last.died().is_some()),
            unsure: last.is_some_and(|last| last.unsure || last.died().is_some()),
            unsettled: last.is_some_and(|last| last.unsettled || last.phase != Phase::Done),
            failed: last.is_some_and(|last| last.failed),
            phase: Phase::Running { executor: executor.to_owned() },
        }
    }

    /// The same try as it is noted before it begins: whoever dies over a plan says nothing of how far it was.
    pub(crate) fn noted(&self, order: &Order) -> Self {
        Self { begun: order.plan.is_some(), ..self.clone() }
    }

    /// The plan of an order that is not applied any more, because an earlier try of it was cut off in the middle.
    pub(crate) fn interrupted(&self, order: &Order) -> Option<Digest> {
        order.plan.as_ref().filter(|_| self.begun).map(|plan| plan.hash)
    }

    /// The same try, ended in passing. Whoever was at it lives.
    pub(crate) fn waiting(&self, not_before: Timestamp, failures: u32) -> Self {
        Self { failures, deaths: 0, phase: Phase::Waiting { not_before }, ..self.clone() }
    }

    /// The same try, ended well.
    pub(crate) fn done(&self) -> Self {
        let phase = Phase::Done;
        Self {
            deaths: 0,
            begun: false,
            unsure: false,
            unsettled: false,
            failed: false,
            phase,
            ..self.clone()
        }
    }

    /// What is kept where a change failed for good, or where changes were left without an answer. Without its row: the
    /// version that follows says that this one ended, which is not all there is to know.
    pub(crate) fn left(&self, unsettled: bool, failed: bool) -> Self {
        Self {
            row: 0,
            number: 0,
            failures: 0,
            refused: 0,
            begun: self.begun,
            unsure: self.unsure,
            unsettled,
            failed,
            ..self.done()
        }
    }

    /// Whether it says more of the target than that a try ended.
    pub(crate) fn tells(&self) -> bool {
        self.unsure || self.unsettled || self.failed
    }
}

/// The tries of all rows.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    store: kv::Store,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(row: &str) -> impl FnOnce(E) -> NatsError {
    let doing = format!("keeping the tries of {row}");
    move |source| NatsError::Failed { doing, source: source.into() }
}

impl Attempts {
    pub(crate) async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(ATTEMPTS).await.map_err(failed("orders"))?;
        Ok(Self { store })
    }

    /// The last try of a row, and when that was written, by the server's clock. One that cannot be read counts as none: the
    /// order is then tried from the start.
    pub(crate) async fn get(&self, row: &str) -> Result<Option<(Attempt, Timestamp)>, NatsError> {
        let entry = self.store.entry(row).await.map_err(failed(row))?;
        let written = entry.filter(|entry| entry.operation == kv::Operation::Put);
        Ok(written.and_then(|entry| {
            let attempt = serde_json::from_slice(&entry.value).ok()?;
            let written = Timestamp::from_nanosecond(entry.created.unix_timestamp_nanos()).ok()?;
            Some((attempt, written))
        }))
    }

    pub(crate) async fn put(&self, row: &str, attempt: &Attempt) -> Result<(), NatsError> {
        let bytes = serde_json::to_vec(attempt).map_err(failed(row))?;
        self.store.put(row, bytes.into()).await.map(drop).map_err(failed(row))
    }

    pub(crate) async fn clear(&self, row: &str) -> Result<(), NatsError> {
        self.store.purge(row).await.map_err(failed(row))
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use wanwright_schemas::plan::BoundPlan;

    use super::*;

    fn order(generation: u64) -> Order {
        let line = include_str!("../../../schemas/frozen/order.v1.jsonl").lines();
        let device = line.map(|line| serde_json::from_str::<Order>(line).expect("an order"));
        let mut order = device.collect::<Vec<_>>().pop().expect("a line");
        order.id = OrderId::of_digest([u8::try_from(generation).expect("small"); 32]);
        order
    }

    #[test]
    fn a_death_is_remembered_until_a_run_succeeds_but_not_held_against_the_order() {
        let (order, newer) = (order(1), order(2));
        let first = Attempt::begin(None, &order, 1, "one");
        assert_eq!((first.number, first.failures, first.unsure), (1, 0, false));
        let second = Attempt::begin(Some(&first), &order, 1, "two");
        assert_eq!((second.number, second.failures, second.unsure), (2, 0, true));
        let waiting = second.waiting(Timestamp::UNIX_EPOCH, 1);
        let third = Attempt::begin(Some(&waiting), &order, 1, "two");
        assert_eq!((third.number, third.failures, third.unsure), (3, 1, true));
        let other = Attempt::begin(Some(&waiting), &newer, 2, "two");
        assert_eq!((other.number, other.failures, other.unsure), (1, 0, true));
        let done = Attempt::begin(Some(&third.done()), &newer, 2, "two");
        assert!(!done.unsure, "what dead runs left unknown has been observed");
    }

    #[test]
    fn the_row_says_of_a_try_that_it_has_ended() {
        let row = |ended: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(ended) = ended {
                headers.insert(headers::ENDED_ROW, ended);
            }
            TableRow { sequence: 9, time: Timestamp::UNIX_EPOCH, headers, payload: Vec::new().into() }
        };
        let attempt = Attempt::begin(None, &order(1), 7, "one");
        assert!(attempt.has_ended(&row(Some("7"))));
        for other in [None, Some("6"), Some("8"), Some("0"), Some("")] {
            assert!(!attempt.has_ended(&row(other)), "{other:?}");
        }
        let from_before = Attempt { row: 0, ..attempt };
        assert!(
            !from_before.has_ended(&row(Some("0"))),
            "an older executor did not say which version it had"
        );
    }

    #[test]
    fn changes_without_an_answer_are_remembered_until_a_run_succeeds() {
        let order = order(1);
        let first = Attempt::begin(None, &order, 1, "one");
        assert!(!first.unsettled);
        let second = Attempt::begin(Some(&first.waiting(Timestamp::UNIX_EPOCH, 1)), &order, 1, "one");
        assert!(second.unsettled, "the first try may have left some");
        assert!(!Attempt::begin(Some(&second.done()), &order, 2, "one").unsettled);
        let next = Attempt::begin(Some(&second.left(true, false)), &order, 2, "one");
        assert_eq!((next.number, next.failures, next.unsure, next.unsettled), (1, 0, false, true));
        assert!(!next.failed);
        let died = Attempt::begin(Some(&first), &order, 1, "two");
        assert!(
            Attempt::begin(Some(&died.left(true, true)), &order, 2, "two").unsure,
            "nobody has looked yet"
        );
    }

    #[test]
    fn a_failure_is_remembered_until_a_change_succeeds() {
        let first = Attempt::begin(None, &order(1), 1, "one");
        assert!(!first.failed);
        let next = Attempt::begin(Some(&first.left(false, true)), &order(2), 2, "one");
        assert!(next.failed && !next.unsettled, "{next:?}");
        assert!(Attempt::begin(Some(&next.waiting(Timestamp::UNIX_EPOCH, 1)), &order(2), 2, "one").failed);
        assert!(!Attempt::begin(Some(&next.done()), &order(2), 2, "one").failed);
    }

    #[test]
    fn deaths_in_a_row_are_counted_until_a_try_ends() {
        let order = order(1);
        let mut attempt = Attempt::begin(None, &order, 1, "one");
        for deaths in 1..5 {
            attempt = Attempt::begin(Some(&attempt), &order, 1, "one");
            assert_eq!(attempt.deaths, deaths);
        }
        attempt = Attempt::begin(Some(&attempt.waiting(Timestamp::UNIX_EPOCH, 1)), &order, 1, "one");
        assert_eq!(attempt.deaths, 0);
    }

    #[test]
    fn a_plan_that_was_begun_is_not_applied_by_a_later_try() {
        let plan = BoundPlan {
            hash: Digest::of(b"file"),
            template: "t".to_owned(),
            serial: 4,
            lineage: "l".to_owned(),
            expires: Timestamp::MAX,
        };
        let bare = Order { plan: None, ..order(1) };
        let order = Order { plan: Some(plan.clone()), ..bare.clone() };
        let first = Attempt::begin(None, &order, 1, "one");
        assert_eq!(first.interrupted(&order), None);
        // It dies. The next try ends early, and so does the one after: that is never forgotten.
        let mut next = Attempt::begin(Some(&first.noted(&order)), &order, 1, "two");
        for _ in 0..3 {
            assert_eq!(next.interrupted(&order), Some(plan.hash));
            next = Attempt::begin(Some(&next.waiting(Timestamp::UNIX_EPOCH, 0)), &order, 1, "two");
            assert_eq!(next.deaths, 0);
        }
        // It is told to stop in the middle, and lives.
        let stopped = first.noted(&order).waiting(Timestamp::UNIX_EPOCH, 0);
        assert_eq!(Attempt::begin(Some(&stopped), &order, 1, "one").interrupted(&order), Some(plan.hash));
        // It ended before it came to the plan.
        let early = Attempt::begin(Some(&first.waiting(Timestamp::UNIX_EPOCH, 0)), &order, 1, "one");
        assert_eq!(early.interrupted(&order), None);
        // Another plan is another order, and what was said of this one is over with it.
        let other = Order { id: OrderId::of_digest([9; 32]), ..order.clone() };
        assert_eq!(Attempt::begin(Some(&stopped), &other, 2, "one").interrupted(&other), None);
        assert_eq!(Attempt::begin(Some(&stopped.done()), &order, 2, "one").interrupted(&order), None);
        // It failed: its row may be there still, were its executor to die now.
        let failed = stopped.left(false, true);
        assert_eq!(Attempt::begin(Some(&failed), &order, 2, "one").interrupted(&order), Some(plan.hash));
        let died = Attempt::begin(None, &bare, 1, "one");
        assert_eq!(Attempt::begin(Some(&died.noted(&bare)), &bare, 1, "two").interrupted(&bare), None);
    }

    /// What an executor of another version has written.
    #[test]
    fn a_try_from_before_reads() {
        let text = r#"{"order":"366040cb-7be2-87fe-b066-83ff228ab910","number":2,"failures":1,"unsure":true,"phase":"running","executor":"ex-1"}"#;
        let attempt: Attempt = serde_json::from_str(text).expect("a try");
        assert_eq!((attempt.died(), attempt.generation, attempt.deaths), (Some("ex-1"), 0, 0));
        assert!(!attempt.begun);
    }
}
