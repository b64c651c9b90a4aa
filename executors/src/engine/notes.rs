//! What a run has begun at a vendor and not seen the end of, kept outside the process: a job that the vendor works on, and
//! a create that neither a key nor a name finds again.

use std::future::Future;
use std::pin::Pin;

use async_nats::jetstream::kv;
use serde::{Deserialize, Serialize};
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::order::Order;
use wanwright_schemas::{CommandId, OrderId};
use wanwright_vendors::{JobNote, JobNotes, ResourceApi};

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
pub(super) struct Notes {
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
        if api.job.is_none() && is_found_again(api) {
            return Ok(None);
        }
        let store = nats.js.get_key_value(ATTEMPTS).await.map_err(failed)?;
        let target = order.target();
        let key = format!("begun.{}.{}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
        Ok(Some(Self { store, key, order: order.id, uid, retries: order.retries }))
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

    pub(super) async fn clear(&self) -> Result<(), NatsError> {
        self.store.purge(&self.key).await.map_err(failed)
    }
}

/// Whether a create whose answer was lost can be told from one that never happened.
pub(super) fn is_found_again(api: &ResourceApi) -> bool {
    api.takes_key() || api.finds_by_name()
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
}
