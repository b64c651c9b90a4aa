//! The event store that cqrs-es loads customers from and commits them to: one message per command, with the sequence
//! that was decided on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wanwright_nats::evidence::check::{Evidence, Unproven};
use wanwright_nats::{History, Nats, NatsError, Snapshot, Snapshots, StoredMessage};
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::outcome::Position;
use wanwright_schemas::reason::Refusal;
use wanwright_schemas::subjects;

use crate::customer::Customer;
use crate::head::{Head, STATE_VERSION};
use crate::load::Loading;
use crate::service::adapter::Recorded;
use crate::service::append::Said;
use crate::service::cache::Cache;
use crate::service::seen::Seen;

/// A state is frozen after this many messages, and later the larger it is: freezing costs what it weighs, and a load
/// reads what came since.
const FREEZE_AFTER: usize = 32;

/// How many bytes of a state make it wait for another message.
const BYTES_A_MESSAGE: usize = 8 * 1024;

/// How many states are frozen at once; the others are frozen after a later message.
const FREEZING: usize = 2;

/// How long a load waits for a replica that is behind the leader.
pub(super) const CATCH_UP: Duration = Duration::from_secs(5);

/// The holding of who holds nothing; those of partitions begin at one.
const ONLOOKER: u64 = 0;

/// Keys of the metadata that cqrs-es carries from the service to [`CustomerStore::commit`].
pub mod key {
    /// The command's id.
    pub const COMMAND: &str = "command";
    /// The digest of what it said.
    pub const BODY: &str = "body_sha256";
    /// Who sent it.
    pub const ACTOR: &str = "actor";
    pub(crate) const CAUSE: &str = "cause";
    pub(crate) const CORRELATION: &str = "correlation";
    /// When it was decided.
    pub const TIME: &str = "time";
    pub(crate) const OBJECT: &str = "object";
    pub(crate) const VERB: &str = "verb";
    pub(crate) const GENERATION: &str = "generation";
    /// Where its events are, once they are committed.
    pub const SEQUENCE: &str = "sequence";
}

type Failed = AggregateError<Refusal>;

/// A customer as loaded, with the place to append at.
#[derive(Debug)]
pub struct Loaded {
    /// Who.
    pub customer: CustomerId,
    /// The state and where it ends. It is large and passed on often.
    pub head: Box<Head>,
}

impl AggregateContext<Customer> for Loaded {
    fn aggregate(&mut self) -> &mut Customer {
        &mut self.head.state
    }
}

/// What all stores of a process share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) cache: Cache,
    pub(super) seen: Arc<Seen>,
    snapshots: Snapshots,
    freezing: Arc<Semaphore>,
    pub(super) evidence: Option<Arc<Evidence>>,
    incarnations: Arc<Mutex<HashMap<String, Timestamp>>>,
}

impl Shared {
    /// Nothing yet; at most `cache_bytes` of states are kept in memory.
    pub(super) fn new(nats: Nats, cache_bytes: u64, evidence: Option<Evidence>) -> Self {
        Self {
            cache: Cache::new(cache_bytes),
            seen: Arc::default(),
            snapshots: Snapshots::new(nats),
            freezing: Arc::new(Semaphore::new(FREEZING)),
            evidence: evidence.map(Arc::new),
            incarnations: Arc::default(),
        }
    }

    /// Remembers when a stream was created that was just asked about.
    fn met(&self, stream: String, incarnation: Timestamp) {
        if let Ok(mut incarnations) = self.incarnations.lock() {
            incarnations.insert(stream, incarnation);
        }
    }

    /// A store for who looks at customers and decides nothing, of any partition. It keeps none of them in memory.
    pub(super) fn onlooker(&self, nats: &Nats) -> CustomerStore {
        CustomerStore::new(nats.clone(), ONLOOKER, self.clone())
    }

    /// Forgets what belongs to a holding that ended.
    pub(super) fn forget(&self, holding: u64) {
        self.cache.forget(holding);
    }
}

/// The store of a partition that is held.
#[derive(Debug, Clone)]
pub struct CustomerStore {
    pub(super) nats: Nats,
    pub(super) history: History,
    holding: u64,
    pub(super) shared: Shared,
}

impl CustomerStore {
    /// A store over the histories on this server; `holding` is another number each time a partition is held.
    pub(super) fn new(nats: Nats, holding: u64, shared: Shared) -> Self {
        let history = History::new(nats.clone());
        Self { nats, history, holding, shared }
    }

    /// A store that belongs to no partition: whoever writes with it relies on the append check alone.
    pub fn alone(nats: Nats, cache_bytes: u64) -> Self {
        Self::believing(nats, cache_bytes, None)
    }

    /// The same, over streams that are compared with evidence.
    pub fn believing(nats: Nats, cache_bytes: u64, evidence: Option<Evidence>) -> Self {
        let shared = Shared::new(nats.clone(), cache_bytes, evidence);
        Self::new(nats, 0, shared)
    }

    /// Where a message of the customer is.
    pub fn position(&self, customer: &CustomerId, sequence: u64) -> Position {
        self.history.position(customer, sequence)
    }

    /// Takes back what was loaded and not changed.
    pub fn keep(&self, loaded: Loaded) {
        self.shared.cache.keep(self.holding, loaded.customer, loaded.head);
    }

    /// Forgets a customer, so that it is loaded anew.
    pub fn forget(&self, customer: &CustomerId) {
        self.take(customer);
    }

    fn partition(&self, customer: &CustomerId) -> u16 {
        subjects::partition(customer, self.nats.partitions)
    }

    /// Whether the stream of the customer's history has what anybody has seen of it.
    ///
    /// # Errors
    /// A damage where it has not.
    pub(super) fn is_whole(&self, customer: &CustomerId) -> Result<(), Failed> {
        self.shared.seen.is_whole(self.partition(customer)).map_err(damaged)
    }

    fn take(&self, customer: &CustomerId) -> Option<Box<Head>> {
        self.shared.cache.take(self.holding, customer)
    }

    /// Asks the leader whether a customer's history still ends where a decision was made, as an append would.
    ///
    /// # Errors
    /// A conflict where it does not.
    pub(super) async fn check_head(&self, customer: &CustomerId, sequence: u64) -> Result<(), Failed> {
        let head = self.history.head(customer).await.map_err(unread)?;
        if head == sequence { Ok(()) } else { Err(AggregateError::AggregateConflict) }
    }

    /// The customer as it is, for who writes nothing: no snapshot is made on the way.
    pub(super) async fn look_at(&self, customer: &CustomerId) -> Result<Loaded, Failed> {
        self.is_whole(customer)?;
        let head = match self.take(customer) {
            Some(head) => head,
            None => Box::new(self.load(customer).await?),
        };
        Ok(Loaded { customer: customer.clone(), head })
    }

    /// The customer as it is, to decide on.
    pub(super) async fn loaded(&self, customer: &CustomerId) -> Result<Loaded, Failed> {
        self.is_whole(customer)?;
        let head = match self.take(customer) {
            Some(head) => head,
            None => {
                let mut head = Box::new(self.load(customer).await?);
                self.freeze(customer, &mut head);
                head
            }
        };
        Ok(Loaded { customer: customer.clone(), head })
    }

    /// Keeps a state that something was appended to, and freezes it when it is time.
    pub(super) fn appended(&self, mut loaded: Loaded) {
        let partition = self.partition(&loaded.customer);
        self.shared.seen.note(&loaded.customer, partition, loaded.head.sequence, loaded.head.digest);
        self.freeze(&loaded.customer, &mut loaded.head);
        self.keep(loaded);
    }

    /// Loads from the newest snapshot on, at least up to the leader's head, through the last message that was seen here.
    async fn load(&self, customer: &CustomerId) -> Result<Head, Failed> {
        let evidence = self.shared.evidence.as_deref();
        let (proven, target, thawed) = tokio::join!(
            self.history.prove(customer, evidence),
            self.history.head(customer),
            self.thaw(customer)
        );
        let (proven, target) = (proven.map_err(unproven)?, target.map_err(unread)?);
        let mut loading = self.begun_here(customer, thawed?, proven.incarnation);
        let mut proof = self.shared.seen.proof(customer);
        proof.ends_at(target).map_err(damaged)?;
        loading.ends_at(target).map_err(damaged)?;
        let (deadline, unreadable) = (Instant::now() + CATCH_UP, Instant::now() + CATCH_UP / 5);
        if let Some(seen) = proof.before(loading.after() + 1)
            && let Some(message) = self.history.message(customer, seen).await.map_err(unread)?
        {
            proof.passes(seen, Some(Digest::of(&message.payload)));
        }
        if target == 0 && proven.messages == 0 {
            proof.whole(0).map_err(damaged)?;
            return Ok(Head::default());
        }
        loop {
            for message in self.history.load(customer, loading.after()).await.map_err(unread)? {
                loading.pass(message.sequence, &message.payload).map_err(damaged)?;
                let (sequence, digest) = loading.passed();
                proof.passes(sequence, digest);
            }
            let read = proven.is_read_by(loading.messages());
            if read.is_ok()
                && let Some(head) = loading.reached(target)
            {
                proof.whole(head.sequence).map_err(damaged)?;
                self.shared.seen.note(customer, self.partition(customer), head.sequence, head.digest);
                return Ok(head);
            }
            if Instant::now() >= unreadable && loading.after() >= target {
                // Everything was given that can be read, and it is not all.
                read.map_err(damaged)?;
            }
            if Instant::now() >= deadline {
                // A replica that is behind is no damage: what it has so far fits the chain.
                let read = loading.after();
                let what = format!("the history of {customer} is read up to {read}, its head is {target}");
                return Err(AggregateError::DatabaseConnectionError(what.into()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The newest frozen state, if there is one that can be used, and which stream it was made of.
    async fn thaw(&self, customer: &CustomerId) -> Result<Option<(Loading, Timestamp)>, Failed> {
        let snapshot = self.shared.snapshots.get(customer, STATE_VERSION).await.map_err(unavailable)?;
        let Some(snapshot) = snapshot else { return Ok(None) };
        match Loading::thaw(snapshot.sequence, &snapshot.state) {
            Ok(loading) => Ok(Some((loading.made_of(snapshot.messages), snapshot.incarnation))),
            Err(error) => {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(%customer, error, "a snapshot cannot be read; the history is read instead");
                Ok(None)
            }
        }
    }

    /// Begins to load in the stream that is there now. A state of another one of the same name is as good as any, as long
    /// as the messages are the same; where they are not, that is the first thing to know.
    fn begun_here(
        &self,
        customer: &CustomerId,
        thawed: Option<(Loading, Timestamp)>,
        incarnation: Timestamp,
    ) -> Loading {
        let stream = self.position(customer, 0).stream;
        let Some((loading, frozen)) = thawed else {
            self.shared.met(stream, incarnation);
            return Loading::default();
        };
        if frozen != incarnation {
            tracing::warn!(%customer, stream, %frozen, %incarnation, "a snapshot was made of an earlier stream of this name");
        }
        self.shared.met(stream, incarnation);
        loading
    }

    /// Freezes a state in the background when enough came since the last time.
    fn freeze(&self, customer: &CustomerId, head: &mut Head) {
        head.weigh();
        if head.unfrozen < FREEZE_AFTER + head.weight() / BYTES_A_MESSAGE {
            return;
        }
        let Ok(permit) = Arc::clone(&self.shared.freezing).try_acquire_owned() else { return };
        let stream = self.position(customer, 0).stream;
        let incarnation = self.shared.incarnations.lock().ok().and_then(|known| known.get(&stream).copied());
        // A state is loaded before it is frozen, so the stream is known.
        let Some(incarnation) = incarnation else { return };
        let messages = head.messages;
        let (customer, copy, snapshots) = (customer.clone(), head.to_freeze(), self.shared.snapshots.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let frozen = tokio::task::spawn_blocking(move || (copy.sequence, copy.freeze())).await;
            let Ok((sequence, Ok(state))) = frozen else {
                tracing::error!(%customer, "a state could not be frozen");
                return;
            };
            let snapshot =
                Snapshot { version: STATE_VERSION, sequence, messages, incarnation, state: state.into() };
            if let Err(error) = snapshots.put(&customer, &snapshot).await {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(%customer, error, "a snapshot could not be kept; loads read the history instead");
            }
        });
    }

    /// A message of the customer.
    pub(super) async fn message(
        &self,
        customer: &CustomerId,
        sequence: u64,
    ) -> Result<StoredMessage, Failed> {
        let missing = || format!("the message of {customer} at {sequence} is not there").into();
        let message = self.history.message(customer, sequence).await.map_err(unread)?;
        message.ok_or_else(|| AggregateError::DatabaseConnectionError(missing()))
    }
}

pub(super) fn unproven(error: Unproven) -> Failed {
    match error {
        Unproven::Nats(error) => unavailable(error),
        other => damaged(other),
    }
}

/// A message of the history is there and cannot be read, or NATS did not do its part.
pub(super) fn unread(error: NatsError) -> Failed {
    match error {
        NatsError::Malformed { .. } => damaged(error),
        error => unavailable(error),
    }
}

pub(super) fn unavailable<E: std::error::Error + Send + Sync + 'static>(error: E) -> Failed {
    AggregateError::DatabaseConnectionError(Box::new(error))
}

pub(super) fn damaged<E: std::error::Error + Send + Sync + 'static>(error: E) -> Failed {
    AggregateError::DeserializationError(Box::new(error))
}

impl EventStore<Customer> for CustomerStore {
    type AC = Loaded;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<Customer>>, Failed> {
        let customer: CustomerId = aggregate_id.parse().map_err(unavailable)?;
        let mut loaded = Vec::new();
        for message in self.history.load(&customer, 0).await.map_err(unread)? {
            let envelope = Envelope::decode(&message.payload).map_err(damaged)?;
            let by = envelope.command;
            let metadata = HashMap::from([(key::SEQUENCE.to_owned(), message.sequence.to_string())]);
            loaded
                .extend(envelope.events.into_iter().map(|event| (Recorded { by, event }, metadata.clone())));
        }
        Ok(numbered(aggregate_id, loaded))
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loaded, Failed> {
        self.loaded(&aggregate_id.parse().map_err(unavailable)?).await
    }

    /// Appends the events as one message. The context's state has them applied already; it is kept for the next command.
    async fn commit(
        &self,
        events: Vec<Recorded>,
        context: Loaded,
        mut metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<Customer>>, Failed> {
        let said = Said::read(&metadata)?;
        let customer = context.customer.to_string();
        let bare = events.iter().map(|recorded| recorded.event.clone()).collect();
        let (sequence, _) = self.append(bare, context, said).await?;
        metadata.insert(key::SEQUENCE.to_owned(), sequence.to_string());
        Ok(numbered(&customer, events.into_iter().map(|event| (event, metadata.clone())).collect()))
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
