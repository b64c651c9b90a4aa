//! `customer_overview`: one document per customer, kept by postgres-es.
//!
//! The document commits on its own connection, before the reader's checkpoint: after a crash in between the messages come
//! again, and the document skips what it has. That is why applying twice is harmless here, and why no table is kept so.

use std::collections::BTreeMap;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{PersistenceError, ViewContext, ViewRepository};
use cqrs_es::{Aggregate, DomainEvent, EventEnvelope, View};
use futures::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use postgres_es::PostgresViewRepository;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use wanwright_schemas::{Actor, Change, CustomerId, Digest, Event, VendorId};

use crate::error::{Error, Stop};
use crate::message::EventMessage;
use crate::models::{Settings, State};
use crate::table::clean;

/// How many customers' documents are written at once.
const AT_ONCE: usize = 8;

/// An object in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// The vendor, for a site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorId>,
    /// The site it belongs to, for a tunnel or a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// How it is.
    #[serde(flatten)]
    pub state: State,
}

/// Everything a customer has, in one document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerOverview {
    /// The customer.
    pub customer: String,
    /// The sequence of the last message the document reflects.
    pub sequence: u64,
    /// The digest of that message.
    pub chain_head: Option<Digest>,
    /// When the last command was decided.
    pub updated_at: Option<Timestamp>,
    /// Who sent it.
    pub last_actor: Option<Actor>,
    /// What it says about itself.
    #[serde(default)]
    pub settings: Settings,
    /// The sites.
    pub sites: BTreeMap<String, Brief>,
    /// The tunnels.
    pub tunnels: BTreeMap<String, Brief>,
    /// The devices.
    pub devices: BTreeMap<String, Brief>,
}

/// The message's events as cqrs-es wants them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Happened {
    time: Timestamp,
    actor: Actor,
    digest: Digest,
    events: Vec<Event>,
}

impl DomainEvent for Happened {
    fn event_type(&self) -> String {
        "Message".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

/// cqrs-es ties a view to an aggregate. This one only lends its event type: the deciding is done elsewhere.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct History;

/// Nothing is decided here.
#[derive(Debug, thiserror::Error)]
#[error("a read model decides nothing")]
pub(crate) struct DecidesNothing;

impl Aggregate for History {
    const TYPE: &'static str = "customer";
    type Command = ();
    type Event = Happened;
    type Error = DecidesNothing;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), DecidesNothing> {
        Err(DecidesNothing)
    }

    fn apply(&mut self, _: Happened) {}
}

impl View<History> for CustomerOverview {
    fn update(&mut self, envelope: &EventEnvelope<History>) {
        let sequence = u64::try_from(envelope.sequence).unwrap_or(u64::MAX);
        if sequence <= self.sequence {
            return;
        }
        let happened = &envelope.payload;
        self.customer.clone_from(&envelope.aggregate_id);
        self.sequence = sequence;
        self.chain_head = Some(happened.digest);
        self.updated_at = Some(happened.time);
        self.last_actor = Some(happened.actor.clone());
        self.settings.removed_at = None;
        for event in &happened.events {
            let time = happened.time;
            match event {
                Event::Site(id, change) => {
                    let brief = |state| match change {
                        Change::Created { spec, .. } => {
                            Some(Brief { vendor: Some(spec.vendor.clone()), site: None, state })
                        }
                        _ => None,
                    };
                    evolve(&mut self.sites, id.as_str(), change, time, brief);
                }
                Event::Tunnel(id, change) => {
                    let brief = |state| match change {
                        Change::Created { spec, .. } => {
                            Some(Brief { vendor: None, site: Some(spec.site.to_string()), state })
                        }
                        _ => None,
                    };
                    evolve(&mut self.tunnels, id.as_str(), change, time, brief);
                }
                Event::Device(id, change) => {
                    let brief = |state| match change {
                        Change::Created { spec, .. } => {
                            Some(Brief { vendor: None, site: Some(spec.site.to_string()), state })
                        }
                        _ => None,
                    };
                    evolve(&mut self.devices, id.as_str(), change, time, brief);
                }
                Event::Customer(_, change) => {
                    self.settings.evolve(change, time);
                }
            }
        }
    }
}

fn evolve<S>(
    objects: &mut BTreeMap<String, Brief>,
    id: &str,
    change: &Change<S>,
    time: Timestamp,
    brief: impl FnOnce(State) -> Option<Brief>,
) {
    match change {
        Change::Created { generation, .. } => {
            if let Some(brief) = brief(State::created(*generation)) {
                objects.insert(id.to_owned(), brief);
            }
        }
        change if change.is_end() => {
            objects.remove(id);
        }
        _ => {
            if let Some(object) = objects.get_mut(id) {
                object.state.evolve(change, time);
            }
        }
    }
}

fn repository(pool: &PgPool) -> PostgresViewRepository<CustomerOverview, History> {
    PostgresViewRepository::new("public.customer_overview", pool.clone())
}

/// Everything a customer has, in one document; none when there is no such customer.
pub async fn customer_overview(
    pool: &PgPool,
    customer: &CustomerId,
) -> Result<Option<CustomerOverview>, Error> {
    repository(pool).load(customer.as_str()).await.map_err(|source| failed(customer, source))
}

fn failed(customer: &CustomerId, source: PersistenceError) -> Error {
    Error::Overview { customer: customer.to_string(), source }
}

/// Brings the documents of these messages' customers up to date.
pub(crate) async fn apply(pool: &PgPool, messages: &[EventMessage]) -> Result<(), Error> {
    let mut by_customer: BTreeMap<&CustomerId, Vec<&EventMessage>> = BTreeMap::new();
    for message in messages {
        by_customer.entry(&message.customer).or_default().push(message);
    }
    let all = by_customer.into_iter().map(|(customer, messages)| bring_up(pool, customer, messages).boxed());
    futures::stream::iter(all.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

async fn bring_up(pool: &PgPool, customer: &CustomerId, messages: Vec<&EventMessage>) -> Result<(), Error> {
    let repository = repository(pool);
    let found = repository.load_with_context(customer.as_str()).await;
    let (mut view, context) = found
        .map_err(|source| failed(customer, source))?
        .unwrap_or_else(|| (CustomerOverview::default(), ViewContext::new(customer.to_string(), 0)));
    let before = view.sequence;
    for message in messages.into_iter().filter(|message| message.sequence > before) {
        let envelope = &message.envelope;
        if view.chain_head != envelope.prev {
            // The fold of the tables stops at the same message and says so; a document is written up to it.
            let stop = Stop::Chain {
                stream: message.stream.clone(),
                sequence: message.sequence,
                customer: customer.to_string(),
                expected: view.chain_head,
                found: envelope.prev,
            };
            return Err(stop.into());
        }
        view.update(&EventEnvelope {
            aggregate_id: customer.to_string(),
            sequence: usize::try_from(message.sequence).unwrap_or(usize::MAX),
            payload: Happened {
                time: envelope.time,
                actor: envelope.actor.clone(),
                digest: message.digest,
                events: envelope.events.clone(),
            },
            metadata: std::collections::HashMap::default(),
        });
    }
    if view.sequence == before {
        return Ok(());
    }
    let view = clean(view).map_err(|source| Error::Row { table: "customer_overview", source })?;
    repository.update_view(view, context).await.map_err(|source| failed(customer, source))
}
