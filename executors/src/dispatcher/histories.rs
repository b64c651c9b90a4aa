//! The customers' histories as the dispatcher reads them: nothing is ordered on one that lost something.

use std::sync::Arc;

use wanwright_commands::Head;
use wanwright_nats::History;
use wanwright_nats::evidence::{Evidence, Unproven};
use wanwright_schemas::{CustomerId, Event};

use super::Stuck;

/// The histories, and what is known of their streams besides what they say.
#[derive(Debug, Clone)]
pub(super) struct Histories {
    pub(super) history: History,
    pub(super) evidence: Option<Arc<Evidence>>,
}

impl Histories {
    /// Folds what has come since into a head, and answers the events. A history that is read from its beginning, or that
    /// has nothing new where something was expected, is compared with what is known of it first.
    pub(super) async fn fold_on(&self, customer: &CustomerId, head: &mut Head) -> Result<Vec<Event>, Stuck> {
        let first = head.sequence == 0;
        let before = if first { Some(self.prove(customer).await?) } else { None };
        let mut events = Vec::new();
        for message in self.history.load(customer, head.sequence).await? {
            let folded = head.fold(message.sequence, &message.payload);
            events.extend(folded.map_err(|error| Stuck::History(customer.clone(), error))?.events);
            // The dispatcher repeats no commands: ids are of no use to it.
            head.recent.clear();
        }
        let proven = match before {
            Some(proven) => proven,
            None if events.is_empty() => self.prove(customer).await?,
            None => return Ok(events),
        };
        let lacking = |error| Stuck::Unproven(customer.clone(), error);
        let end = self.history.head(customer).await?;
        if let Err(error) = proven.is_read_by(head.messages) {
            // A replica that is behind is no damage.
            let behind = end > head.sequence;
            return Err(if behind { Stuck::Behind(customer.clone()) } else { lacking(error) });
        }
        if !first && proven.messages < head.messages {
            let stream = self.history.position(customer, 0).stream;
            let (sequence, time) = (head.sequence, jiff::Timestamp::now());
            return Err(lacking(Unproven::Shorter { stream, last: end, sequence, time }));
        }
        Ok(events)
    }

    async fn prove(&self, customer: &CustomerId) -> Result<wanwright_nats::evidence::check::Proven, Stuck> {
        match self.history.prove(customer, self.evidence.as_deref()).await {
            Ok(proven) => Ok(proven),
            Err(Unproven::Nats(error)) => Err(error.into()),
            Err(error) => Err(Stuck::Unproven(customer.clone(), error)),
        }
    }
}
