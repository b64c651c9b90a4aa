//! What a run has begun at a vendor and not seen the end of, kept outside the process: a job that the vendor works on, and
//! a create that neither a key nor a name surely finds again.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use async_nats::jetstream::kv;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::order::Order;
use wanwright_schemas::{CommandId, OrderId};
use wanwright_vendors::{JobNote, JobNotes, JobOf, ResourceApi};

/// What was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "lowercase")]
pub(super) enum Doing {
    /// The vendor works on a job.
    Job(JobNote),
    /// A create was about to be asked for.
    Create {
        /// The id of what it made, if the vendor named one.
        object: Option<String>,
    },
    /// Nothing: a person has to look at what these creates and calls of the effect journal came to, with the ids of their
    /// objects as far as they were known. What is not among them is another case.
    Lost {
        /// Each by its name in the journal.
        calls: BTreeMap<Uuid, Option<String>>,
    },
}

/// A note about one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The order it was begun for.
    pub(super) order: OrderId,
    /// The command that created the object, so that a note is never taken for a namesake's.
    pub(super) uid: CommandId,
    /// How often a person had sent `retry` by then.
    pub(super) retries: u64,
    /// What was begun.
    #[serde(flatten)]
    pub(super) doing: Doing,
}

/// The note of one run's target.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    store: kv::Store,
    key: String,
    order: OrderId,
    uid: CommandId,
    retries: u64,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::Failed { doing: "keeping what was begun at a vendor".to_owned(), source: error.into() }
}

impl Notes {
    /// The note of an order's target; `None` for a vendor that answers when its work is done and whose creates are
    /// found again.
    pub(super) async fn of(
        nats: &Nats,
        order: &Order,
        uid: CommandId,
        api: &ResourceApi,
    ) -> Result<Option<Self>, NatsError> {
        if api.job.is_none() && api.finds_lost_create() {
            return Ok(None);
        }
        Self::of_target(nats, order, uid).await.map(Some)
    }

    /// The note of an order's target.
    async fn of_target(nats: &Nats, order: &Order, uid: CommandId) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(ATTEMPTS).await.map_err(failed)?;
        let target = order.target();
        let key = format!("begun.{}.{}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
        Ok(Self { store, key, order: order.id, uid, retries: order.retries })
    }

    /// Notes that an order of a stack ends because nobody can say what these came to.
    pub(crate) async fn put_lost(
        nats: &Nats,
        order: &Order,
        uid: CommandId,
        calls: BTreeMap<Uuid, Option<String>>,
    ) -> Result<(), NatsError> {
        Self::of_target(nats, order, uid).await?.put(Doing::Lost { calls }).await
    }

    /// What a person has looked at: an order of this stack ended over it, and a person has sent `retry` since.
    pub(crate) async fn looked_at(
        nats: &Nats,
        order: &Order,
        uid: CommandId,
    ) -> Result<BTreeMap<Uuid, Option<String>>, NatsError> {
        match Self::of_target(nats, order, uid).await?.get().await? {
            Some(Note { retries, doing: Doing::Lost { calls }, .. }) if order.retries > retries => Ok(calls),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Forgets the note of a stack, if there is one.
    pub(crate) async fn forget(nats: &Nats, order: &Order, uid: CommandId) -> Result<(), NatsError> {
        let note = Self::of_target(nats, order, uid).await?;
        match note.get().await? {
            Some(_) => note.clear().await,
            None => Ok(()),
        }
    }

    /// The note, if there is one about this very object. One that cannot be read is an error: what it says is needed.
    pub(super) async fn get(&self) -> Result<Option<Note>, NatsError> {
        let Some(bytes) = self.store.get(&self.key).await.map_err(failed)? else { return Ok(None) };
        let note: Note = serde_json::from_slice(&bytes).map_err(failed)?;
        Ok((note.uid == self.uid).then_some(note))
    }

    pub(super) async fn put(&self, doing: Doing) -> Result<(), NatsError> {
        let note = Note { order: self.order, uid: self.uid, retries: self.retries, doing };
        let bytes = serde_json::to_vec(&note).map_err(failed)?;
        self.store.put(&self.key, bytes.into()).await.map(drop).map_err(failed)
    }

    /// When the note was written, by the server's clock.
    pub(super) async fn written(&self) -> Result<Option<Timestamp>, NatsError> {
        let entry = self.store.entry(&self.key).await.map_err(failed)?;
        Ok(entry.and_then(|entry| Timestamp::from_nanosecond(entry.created.unix_timestamp_nanos()).ok()))
    }

    pub(super) async fn clear(&self) -> Result<(), NatsError> {
        self.store.purge(&self.key).await.map_err(failed)
    }
}

impl JobNotes for Notes {
    fn begun<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if let Err(error) = self.put(Doing::Job(note.clone())).await {
                tracing::warn!(
                    job = note.job,
                    error = &error as &dyn std::error::Error,
                    "a vendor's job is not noted; who comes next will not go on with it"
                );
            }
        })
    }

    fn failed<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let noted = match (note.change, &note.object) {
                (JobOf::Update | JobOf::Publish, Some(id)) => {
                    self.put(Doing::Create { object: Some(id.clone()) }).await
                }
                _ => self.clear().await,
            };
            if let Err(error) = noted {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "a vendor's job that has failed is still noted; who comes next asks for it again"
                );
            }
        })
    }
}
