//! The event store that cqrs-es loads customers from and commits them to: one message per command, with the sequence
//! that was decided on.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use jiff::Timestamp;
use wanwright_nats::{AppendError, History, Nats};
use wanwright_schemas::envelope::{Digest, ENVELOPE_VERSION, Envelope};
use wanwright_schemas::ids::{Actor, CommandId, CustomerId};
use wanwright_schemas::outcome::Position;
use wanwright_schemas::reason::Refusal;

use crate::customer::Customer;
use crate::head::Head;
use crate::service::adapter::Recorded;
use crate::service::seen::Seen;
use crate::service::verdict;

/// How many customers one lane keeps in memory.
const CACHED: usize = 1024;

/// How long a load waits for a replica that is behind the leader.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Keys of the metadata that cqrs-es carries from the service to [`CustomerStore::commit`].
pub(crate) mod key {
    pub(crate) const COMMAND: &str = "command";
    pub(crate) const BODY: &str = "body_sha256";
    pub(crate) const ACTOR: &str = "actor";
    pub(crate) const CAUSE: &str = "cause";
    pub(crate) const CORRELATION: &str = "correlation";
    pub(crate) const TIME: &str = "time";
    pub(crate) const SEQUENCE: &str = "sequence";
}

type Failed = AggregateError<Refusal>;

/// A customer as loaded, with the place to append at.
#[derive(Debug)]
pub struct Loaded {
    /// Who.
    pub customer: CustomerId,
    /// The state and where it ends.
    pub head: Head,
}

impl AggregateContext<Customer> for Loaded {
    fn aggregate(&mut self) -> &mut Customer {
        &mut self.head.state
    }
}

/// The store of one lane, with the customers it saw last.
#[derive(Debug)]
pub struct CustomerStore {
    nats: Nats,
    history: History,
    cache: Mutex<HashMap<CustomerId, Head>>,
    seen: Seen,
}

impl CustomerStore {
    /// A store over the histories on this server.
    pub fn new(nats: Nats) -> Self {
        let history = History::new(nats.clone());
        Self { nats, history, cache: Mutex::new(HashMap::new()), seen: Seen::default() }
    }

    /// Where a message of the customer is.
    pub fn position(&self, customer: &CustomerId, sequence: u64) -> Position {
        self.history.position(customer, sequence)
    }

    /// Takes back what was loaded and not changed.
    pub fn keep(&self, loaded: Loaded) {
        let Ok(mut cache) = self.cache.lock() else { return };
        // Without order of use: a customer thrown away is loaded again, which costs a few requests.
        if cache.len() >= CACHED
            && let Some(victim) = cache.keys().next().cloned()
        {
            cache.remove(&victim);
        }
        cache.insert(loaded.customer, loaded.head);
    }

    /// Forgets a customer, so that it is loaded anew.
    pub fn forget(&self, customer: &CustomerId) {
        if let Ok(mut cache) = self.cache.lock() {
            cache.remove(customer);
        }
    }

    fn take(&self, customer: &CustomerId) -> Option<Head> {
        self.cache.lock().ok()?.remove(customer)
    }

    /// Loads from the server, at least up to the leader's head, through the last message that was seen here.
    async fn load(&self, customer: &CustomerId) -> Result<Head, Failed> {
        let target = self.history.head(customer).await.map_err(unavailable)?;
        let mut proof = self.seen.proof(customer);
        proof.ends_at(target).map_err(damaged)?;
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        let mut head = Head::default();
        loop {
            for message in self.history.load(customer, head.sequence).await.map_err(unavailable)? {
                head.fold(message.sequence, &message.payload).map_err(damaged)?;
                proof.passes(head.sequence, head.digest);
            }
            if head.sequence >= target {
                proof.whole(head.sequence).map_err(damaged)?;
                self.seen.note(customer, head.sequence, head.digest);
                return Ok(head);
            }
            if tokio::time::Instant::now() >= deadline {
                // A replica that is behind is no damage: what it has so far fits the chain.
                let what = format!(
                    "the history of {customer} is read up to {}, its head is {target}",
                    head.sequence
                );
                return Err(AggregateError::DatabaseConnectionError(what.into()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The envelope of a message of the customer.
    pub async fn envelope(&self, customer: &CustomerId, sequence: u64) -> Result<Envelope, Failed> {
        let messages = self.history.load(customer, sequence - 1).await.map_err(unavailable)?;
        let Some(message) = messages.first().filter(|message| message.sequence == sequence) else {
            return Err(AggregateError::DatabaseConnectionError(
                format!("the message of {customer} at {sequence} is not there").into(),
            ));
        };
        Envelope::decode(&message.payload).map_err(damaged)
    }
}

fn unavailable<E: std::error::Error + Send + Sync + 'static>(error: E) -> Failed {
    AggregateError::DatabaseConnectionError(Box::new(error))
}

fn damaged<E: std::error::Error + Send + Sync + 'static>(error: E) -> Failed {
    AggregateError::DeserializationError(Box::new(error))
}

fn missing(what: &str) -> Failed {
    AggregateError::UnexpectedError(format!("the commit's metadata lacks a readable {what}").into())
}

fn envelope(
    events: &[Recorded],
    prev: Option<Digest>,
    metadata: &HashMap<String, String>,
) -> Result<Envelope, Failed> {
    let get = |key: &str| metadata.get(key).cloned();
    let read = |key: &str| get(key).ok_or_else(|| missing(key));
    Ok(Envelope {
        v: ENVELOPE_VERSION,
        command: read(key::COMMAND)?.parse::<CommandId>().map_err(|_| missing(key::COMMAND))?,
        body_sha256: Digest::try_from(read(key::BODY)?).map_err(|_| missing(key::BODY))?,
        actor: read(key::ACTOR)?.parse::<Actor>().map_err(|_| missing(key::ACTOR))?,
        cause: get(key::CAUSE),
        correlation: get(key::CORRELATION),
        time: read(key::TIME)?.parse::<Timestamp>().map_err(|_| missing(key::TIME))?,
        prev,
        key: None,
        events: events.iter().map(|recorded| recorded.event.clone()).collect(),
    })
}

impl EventStore<Customer> for CustomerStore {
    type AC = Loaded;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<Customer>>, Failed> {
        let customer: CustomerId = aggregate_id.parse().map_err(unavailable)?;
        let mut loaded = Vec::new();
        for message in self.history.load(&customer, 0).await.map_err(unavailable)? {
            let envelope = Envelope::decode(&message.payload).map_err(damaged)?;
            let by = envelope.command;
            let metadata = HashMap::from([(key::SEQUENCE.to_owned(), message.sequence.to_string())]);
            loaded
                .extend(envelope.events.into_iter().map(|event| (Recorded { by, event }, metadata.clone())));
        }
        Ok(numbered(aggregate_id, loaded))
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loaded, Failed> {
        let customer: CustomerId = aggregate_id.parse().map_err(unavailable)?;
        let head = match self.take(&customer) {
            Some(head) => head,
            None => self.load(&customer).await?,
        };
        Ok(Loaded { customer, head })
    }

    /// Appends the events as one message. The context's state has them applied already; it is kept for the next command.
    async fn commit(
        &self,
        events: Vec<Recorded>,
        mut context: Loaded,
        mut metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<Customer>>, Failed> {
        let envelope = envelope(&events, context.head.digest, &metadata)?;
        let bytes = Bytes::from(envelope.encode().map_err(unavailable)?);
        let limit = self.nats.client.max_payload();
        if bytes.len() + verdict::HEADROOM > limit {
            return Err(AggregateError::UserError(verdict::too_large(bytes.len(), limit)));
        }
        let appended = self
            .history
            .append(&context.customer, context.head.sequence, envelope.command, bytes.clone())
            .await;
        let sequence = match appended {
            Ok(sequence) => sequence,
            Err(AppendError::Conflict) => return Err(AggregateError::AggregateConflict),
            Err(error) => return Err(unavailable(error)),
        };
        context.head.appended(sequence, Digest::of(&bytes), &envelope);
        self.seen.note(&context.customer, sequence, context.head.digest);
        metadata.insert(key::SEQUENCE.to_owned(), sequence.to_string());
        let committed = numbered(
            context.customer.as_str(),
            events.into_iter().map(|event| (event, metadata.clone())).collect(),
        );
        self.keep(context);
        Ok(committed)
    }
}

fn numbered(
    aggregate_id: &str,
    events: Vec<(Recorded, HashMap<String, String>)>,
) -> Vec<EventEnvelope<Customer>> {
    let numbered = events.into_iter().enumerate().map(|(index, (payload, metadata))| EventEnvelope {
        aggregate_id: aggregate_id.to_owned(),
        sequence: index + 1,
        payload,
        metadata,
    });
    numbered.collect()
}
