//! The customers' states, as the dispatcher loads them.

use wanwright_commands::{BrokenHistory, Head, Loading, STATE_VERSION};
use wanwright_nats::{History, Nats, Snapshots};
use wanwright_schemas::{CustomerId, Event};

use super::Stuck;

/// The states and histories on a server.
pub(super) struct Customers {
    history: History,
    snapshots: Snapshots,
}

impl Customers {
    pub(super) fn new(nats: Nats) -> Self {
        Self { history: History::new(nats.clone()), snapshots: Snapshots::new(nats) }
    }

    /// Loads a customer from its newest snapshot on. Answers what happened since that was made, too.
    pub(super) async fn load(&self, customer: &CustomerId) -> Result<(Head, Vec<Event>), Stuck> {
        let snapshot = self.snapshots.get(customer, STATE_VERSION).await?;
        let thawed = snapshot.map(|snapshot| Loading::thaw(snapshot.sequence, &snapshot.state));
        let loading = thawed.transpose().unwrap_or_else(|error| {
            let error = wanwright_nats::chain(&error);
            tracing::warn!(%customer, error, "a snapshot cannot be read; the history is read instead");
            None
        });
        self.fold(customer, loading.unwrap_or_default()).await
    }

    /// Folds into a head what has come since. After an error it is empty.
    pub(super) async fn go_on(&self, customer: &CustomerId, head: &mut Head) -> Result<Vec<Event>, Stuck> {
        let (folded, events) = self.fold(customer, Loading::from(std::mem::take(head))).await?;
        *head = folded;
        Ok(events)
    }

    async fn fold(&self, customer: &CustomerId, mut loading: Loading) -> Result<(Head, Vec<Event>), Stuck> {
        let broken = |error: BrokenHistory| Stuck::History(customer.clone(), error);
        let mut events = Vec::new();
        for message in self.history.load(customer, loading.after()).await? {
            let passed = loading.pass(message.sequence, &message.payload).map_err(broken)?;
            events.extend(passed.into_iter().flat_map(|envelope| envelope.events));
        }
        let Some(mut head) = loading.reached(0) else {
            // The message it was frozen at did not come: the history ends before it, or a replica is behind.
            let end = self.history.head(customer).await?;
            loading.ends_at(end).map_err(|error| broken(error.into()))?;
            return Err(Stuck::Behind(customer.clone()));
        };
        // The dispatcher repeats no commands: ids are of no use to it.
        head.recent.clear();
        Ok((head, events))
    }
}
