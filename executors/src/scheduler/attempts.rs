//! Which try an order is at, kept outside the process that tries it: a run that died is seen by the next one.

use async_nats::jetstream::kv;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::OrderId;

/// Where a try stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub(super) enum Phase {
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
}

/// The last try of a row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The order that was tried.
    pub(super) order: OrderId,
    /// Which try it was, from 1.
    pub(super) number: u32,
    /// How many tries failed at the vendor. Only these are held against the order.
    pub(super) failures: u32,
    /// Whether a run of this target died and none has succeeded since: what there is at the vendor has to be looked for.
    pub(super) unsure: bool,
    /// Where it stands.
    #[serde(flatten)]
    pub(super) phase: Phase,
}

impl Attempt {
    /// Who was at it and died: a try that ends says so.
    pub(super) fn died(&self) -> Option<&str> {
        match &self.phase {
            Phase::Running { executor } => Some(executor),
            Phase::Waiting { .. } => None,
        }
    }

    /// The try that comes now, after the last one of the row.
    pub(super) fn begin(last: Option<&Self>, order: OrderId, executor: &str) -> Self {
        let same = last.filter(|last| last.order == order);
        Self {
            order,
            number: same.map_or(1, |last| last.number + 1),
            failures: same.map_or(0, |last| last.failures),
            unsure: last.is_some_and(|last| last.unsure || last.died().is_some()),
            phase: Phase::Running { executor: executor.to_owned() },
        }
    }

    /// The same try, ended in passing.
    pub(super) fn waiting(&self, not_before: Timestamp, failures: u32) -> Self {
        Self { failures, phase: Phase::Waiting { not_before }, ..self.clone() }
    }
}

/// The tries of all rows.
#[derive(Debug, Clone)]
pub(super) struct Attempts {
    store: kv::Store,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(row: &str) -> impl FnOnce(E) -> NatsError {
    let doing = format!("keeping the tries of {row}");
    move |source| NatsError::Failed { doing, source: source.into() }
}

impl Attempts {
    pub(super) async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(ATTEMPTS).await.map_err(failed("orders"))?;
        Ok(Self { store })
    }

    /// The last try of a row. One that cannot be read counts as none: the order is then tried from the start.
    pub(super) async fn get(&self, row: &str) -> Result<Option<Attempt>, NatsError> {
        let value = self.store.get(row).await.map_err(failed(row))?;
        Ok(value.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) async fn put(&self, row: &str, attempt: &Attempt) -> Result<(), NatsError> {
        let bytes = serde_json::to_vec(attempt).map_err(failed(row))?;
        self.store.put(row, bytes.into()).await.map(drop).map_err(failed(row))
    }

    pub(super) async fn clear(&self, row: &str) -> Result<(), NatsError> {
        self.store.purge(row).await.map_err(failed(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_remembered_until_a_run_succeeds_but_not_held_against_the_order() {
        let (order, newer) = (OrderId::of_digest([1; 32]), OrderId::of_digest([2; 32]));
        let first = Attempt::begin(None, order, "one");
        assert_eq!((first.number, first.failures, first.unsure), (1, 0, false));
        let second = Attempt::begin(Some(&first), order, "two");
        assert_eq!((second.number, second.failures, second.unsure), (2, 0, true));
        let waiting = second.waiting(Timestamp::UNIX_EPOCH, 1);
        let third = Attempt::begin(Some(&waiting), order, "two");
        assert_eq!((third.number, third.failures, third.unsure), (3, 1, true));
        let other = Attempt::begin(Some(&waiting), newer, "two");
        assert_eq!((other.number, other.failures, other.unsure), (1, 0, true));
    }
}
