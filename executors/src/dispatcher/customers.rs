//! The customers' states, as the dispatcher loads them.

use std::sync::Arc;

use wanwright_commands::{BrokenHistory, Head, Loading, Regressed, STATE_VERSION};
use wanwright_nats::evidence::check::{Evidence, Proven, Unproven};
use wanwright_nats::{History, Nats, Snapshots, trace};
use wanwright_schemas::CustomerId;

use super::Stuck;
use super::causes::Happened;

/// The states and histories on a server.
pub(super) struct Customers {
    history: History,
    snapshots: Snapshots,
    evidence: Option<Arc<Evidence>>,
}

impl Customers {
    pub(super) fn new(nats: Nats, evidence: Option<Arc<Evidence>>) -> Self {
        Self { history: History::new(nats.clone()), snapshots: Snapshots::new(nats), evidence }
    }

    /// Loads a customer from its newest snapshot on. Answers what happened since that was made, too.
    pub(super) async fn load(&self, customer: &CustomerId) -> Result<(Head, Vec<Happened>), Stuck> {
        let snapshot = self.snapshots.get(customer, STATE_VERSION).await?;
        let thawed = snapshot.map(|snapshot| {
            let loading = Loading::thaw(snapshot.sequence, &snapshot.state);
            loading.map(|loading| loading.made_of(snapshot.messages))
        });
        let loading = thawed.transpose().unwrap_or_else(|error| {
            let error = wanwright_nats::chain(&error);
            tracing::warn!(%customer, error, "a snapshot cannot be read; the history is read instead");
            None
        });
        let proven = self.prove(customer).await?;
        let (head, happened) = self.fold(customer, loading.unwrap_or_default()).await?;
        self.is_all(customer, &proven, head.messages, head.sequence).await?;
        Ok((head, happened))
    }

    /// Folds into a head what has come since. After an error it is empty.
    pub(super) async fn go_on(&self, customer: &CustomerId, head: &mut Head) -> Result<Vec<Happened>, Stuck> {
        let (folded, happened) = self.fold(customer, Loading::from(std::mem::take(head))).await?;
        if happened.is_empty() {
            // Something new was expected: is the history still the one that was read?
            let proven = self.prove(customer).await?;
            self.is_all(customer, &proven, folded.messages, folded.sequence).await?;
        }
        *head = folded;
        Ok(happened)
    }

    async fn prove(&self, customer: &CustomerId) -> Result<Proven, Stuck> {
        match self.history.prove(customer, self.evidence.as_deref()).await {
            Ok(proven) => Ok(proven),
            Err(Unproven::Nats(error)) => Err(error.into()),
            Err(error) => Err(Stuck::Unproven(customer.clone(), error)),
        }
    }

    /// Whether all of a history was read, and nothing that it no longer has.
    async fn is_all(
        &self,
        customer: &CustomerId,
        proven: &Proven,
        messages: u64,
        sequence: u64,
    ) -> Result<(), Stuck> {
        let end = self.history.head(customer).await?;
        if end < sequence {
            let error = BrokenHistory::from(Regressed::Shorter { end, seen: sequence });
            return Err(Stuck::History(customer.clone(), error));
        }
        match proven.is_read_by(messages) {
            Ok(()) => Ok(()),
            // A replica that is behind is no damage.
            Err(_) if end > sequence => Err(Stuck::Behind(customer.clone())),
            Err(error) => Err(Stuck::Unproven(customer.clone(), error)),
        }
    }

    async fn fold(
        &self,
        customer: &CustomerId,
        mut loading: Loading,
    ) -> Result<(Head, Vec<Happened>), Stuck> {
        let broken = |error: BrokenHistory| Stuck::History(customer.clone(), error);
        let mut happened = Vec::new();
        for message in self.history.load(customer, loading.after()).await? {
            let passed = loading.pass(message.sequence, &message.payload).map_err(broken)?;
            happened.extend(passed.map(|envelope| Happened {
                sequence: message.sequence,
                events: envelope.events,
                trace: trace::read(&message.headers),
            }));
        }
        let Some(mut head) = loading.reached(0) else {
            // The message it was frozen at did not come: the history ends before it, or a replica is behind.
            let end = self.history.head(customer).await?;
            loading.ends_at(end).map_err(|error| broken(error.into()))?;
            return Err(Stuck::Behind(customer.clone()));
        };
        // The dispatcher repeats no commands: ids are of no use to it.
        head.recent.clear();
        Ok((head, happened))
    }
}
