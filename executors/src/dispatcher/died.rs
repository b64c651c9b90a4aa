//! Runs that died, and to which nobody comes.
//!
//! The next executor that comes to a target finds a try that never ended and notes that. Where none comes, because there is
//! none, or the target is paused, what is written about the run would say for ever that it goes on. So the sweep notes it.

use wanwright_nats::lease::key_of_target;
use wanwright_nats::{Leases, Nats, NatsError, OrderTable, TableRow, trace};
use wanwright_schemas::order::Order;

use crate::deaths::{self, Died};
use crate::records;
use crate::scheduler::attempts::Attempts;

/// What it takes to find them.
pub(super) struct Deaths {
    nats: Nats,
    leases: Leases,
    attempts: Attempts,
    table: OrderTable,
}

impl Deaths {
    /// Opens leases and tries.
    ///
    /// # Errors
    /// [`NatsError`].
    pub(super) async fn open(nats: &Nats) -> Result<Self, NatsError> {
        Ok(Self {
            leases: Leases::open(nats, "dispatcher").await?,
            attempts: Attempts::open(nats).await?,
            table: OrderTable::new(nats.clone()),
            nats: nats.clone(),
        })
    }

    /// Notes that the run of an order died, if it did and nobody has said so.
    pub(super) async fn look(&self, row: &str, present: &TableRow, order: &Order) {
        if let Err(error) = self.try_look(row, present, order).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(row, error, "whether a run died is looked at later");
        }
    }

    async fn try_look(&self, row: &str, present: &TableRow, order: &Order) -> Result<(), NatsError> {
        if self.unended(row, present, order).await?.is_none() {
            return Ok(());
        }
        let target = order.target();
        let key = key_of_target(&order.vendor, &order.customer, target.kind(), target.id());
        // Whoever has the lease is at it, or has just died.
        let Some(lease) = self.leases.take(&key).await? else { return Ok(()) };
        let noted = self.note(row, order).await;
        lease.release_untold().await?;
        noted
    }

    /// The same under the lease: the try may have ended before that was free.
    async fn note(&self, row: &str, order: &Order) -> Result<(), NatsError> {
        let Some(present) = self.table.get(row).await?.filter(|present| !present.is_done()) else {
            return Ok(());
        };
        let Some(died) = self.unended(row, &present, order).await? else { return Ok(()) };
        let context = records::context_of(order, trace::read(&present.headers));
        deaths::note(&self.nats, &context, &died).await
    }

    /// The last try of an order that waits in this row, if nothing says that it ended.
    async fn unended(&self, row: &str, present: &TableRow, order: &Order) -> Result<Option<Died>, NatsError> {
        let last = self.attempts.get(row).await?;
        let last = last.filter(|(last, _)| last.order == order.id && !last.has_ended(present));
        Ok(last.and_then(|(last, noted)| last.died_at(noted)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_nats::HeaderMap;
    use wanwright_nats::load_subject;
    use wanwright_nats::topology::{self, RUNS};
    use wanwright_schemas::headers;
    use wanwright_schemas::run::{self, RunEvent};
    use wanwright_supervisor::NatsOptions;

    use super::*;
    use crate::scheduler::attempts::Attempt;

    #[tokio::test]
    async fn a_death_is_noted_once_and_not_while_anybody_is_at_the_target() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/programs");
        let server = wanwright_supervisor::Nats::start(&NatsOptions::new(dir.path(), cache)).await;
        let server = server.expect("a NATS");
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", 1).await.expect("a connection");
        topology::apply(&nats, 1).await.expect("streams");
        let lines = include_str!("../../../schemas/frozen/order.v1.jsonl").lines();
        let mut orders = lines.map(|line| serde_json::from_str::<Order>(line).expect("an order"));
        let order = orders.rfind(|order| !order.is_look()).expect("a change");
        let target = order.target();
        let row = format!("wan.order.{}.{}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
        let table = OrderTable::new(nats.clone());
        let body = serde_json::to_vec(&order).expect("JSON");
        table.put(row.clone(), 0, HeaderMap::new(), body.clone().into()).await.expect("a row");
        let (deaths, attempts) =
            (Deaths::open(&nats).await.expect("deaths"), Attempts::open(&nats).await.expect("tries"));
        let look = async || {
            let present = table.get(&row).await.expect("the table").expect("a row");
            deaths.look(&row, &present, &order).await;
            let all = load_subject(&nats, RUNS, "wan.run.>", 0).await.expect("records");
            let read = all.iter().flat_map(|message| run::read(&message.payload).expect("records"));
            read.map(|record| match record.event {
                RunEvent::Unknown { attempt, executor } => (attempt, executor),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
        };
        assert_eq!(look().await, [], "nobody has tried it");

        let sequence = table.get(&row).await.expect("the table").expect("a row").sequence;
        let first = Attempt::begin(None, &order, sequence, "one");
        let executor = Leases::open(&nats, "one").await.expect("leases");
        let key = key_of_target(&order.vendor, &order.customer, target.kind(), target.id());
        let lease = executor.take(&key).await.expect("an answer").expect("the lease");
        attempts.put(&row, &first).await.expect("noted");
        assert_eq!(look().await, [], "somebody is at it");
        assert!(lease.is_held());
        lease.release().await.expect("released");
        let one = vec![(1, "one".to_owned())];
        assert_eq!(look().await, one);
        assert_eq!(look().await, one, "it was said already");
        let lease = executor.take(&key).await.expect("an answer").expect("the lease is free again");
        lease.release().await.expect("released");

        let second = Attempt::begin(Some(&first), &order, sequence, "two");
        attempts.put(&row, &second).await.expect("noted");
        let both = [one, vec![(2, "two".to_owned())]].concat();
        assert_eq!(look().await, both);
        // What ended in passing, or well, is no death.
        let third = Attempt::begin(Some(&second), &order, sequence, "two");
        attempts.put(&row, &third.waiting(jiff::Timestamp::now(), 0)).await.expect("noted");
        assert_eq!(look().await, both);
        attempts.put(&row, &third).await.expect("noted");
        let mut head = HeaderMap::new();
        head.insert(headers::ENDED_ROW, sequence.to_string().as_str());
        table.put(row.clone(), sequence, head, body.into()).await.expect("its next version");
        assert_eq!(look().await, both, "the row says that the try has ended");
    }
}
