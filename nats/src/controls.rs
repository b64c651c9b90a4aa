//! Controls: what operators have paused and resumed, a record per vendor or customer.

use async_nats::jetstream::kv;
use jiff::Timestamp;
use wanwright_schemas::control::{Control, Scope};
use wanwright_schemas::{CustomerId, VendorId};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::{Follower, StoredMessage};
use crate::load::load_subject;
use crate::topology::CONTROLS;

/// The stream behind the bucket.
pub const STREAM: &str = "KV_controls";

/// How often a record is written that somebody else writes at the same moment.
const TRIES: u32 = 16;

/// The controls on a server.
#[derive(Debug, Clone)]
pub struct Controls {
    nats: Nats,
    store: kv::Store,
}

/// The record that a message of the bucket's stream holds; none for one that cannot be read, which is logged, because
/// what it says is not in force then.
pub fn read(message: &StoredMessage) -> Option<Control> {
    if message.headers.get("KV-Operation").is_some() {
        return None;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::error!(key = %message.subject, %error, "a control cannot be read; it is not in force");
            None
        }
    }
}

impl Controls {
    /// Opens the controls.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let doing = "opening the controls";
        let store = nats.js.get_key_value(CONTROLS).await.map_err(NatsError::failed(doing))?;
        Ok(Self { nats: nats.clone(), store })
    }

    /// Every record there is, and the sequence to follow the bucket behind.
    ///
    /// # Errors
    /// [`NatsError`]; nothing partial is answered.
    pub async fn all(&self) -> Result<(Vec<Control>, u64), NatsError> {
        let messages = load_subject(&self.nats, STREAM, &format!("$KV.{CONTROLS}.>"), 0).await?;
        let last = messages.iter().map(|message| message.sequence).max().unwrap_or_default();
        Ok((messages.iter().filter_map(read).collect(), last))
    }

    /// Follows the records behind a sequence.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn follow(&self, behind: u64) -> Result<Follower, NatsError> {
        Follower::open(self.nats.js.clone(), STREAM, behind + 1).await
    }

    /// Records what was said, and answers what was said of that scope before.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn put(&self, control: &Control) -> Result<Option<Control>, NatsError> {
        let key = control.scope.key();
        let doing = format!("writing the control {key}");
        let body = serde_json::to_vec(control).map_err(NatsError::failed(doing.clone()))?;
        for _ in 0..TRIES {
            let entry = self.store.entry(&key).await.map_err(NatsError::failed(doing.clone()))?;
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            match self.store.update(&key, body.clone().into(), revision).await {
                Ok(_) => return Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok())),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(NatsError::failed(doing)(error)),
            }
        }
        Err(NatsError::malformed(doing, "others write it all the time"))
    }

    /// The pause that is in force at a vendor or for a customer now; the vendor's, where there are both.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn pause(
        &self,
        vendor: &VendorId,
        customer: &CustomerId,
    ) -> Result<Option<Control>, NatsError> {
        let (vendor, customer) = (Scope::Vendor(vendor.clone()), Scope::Customer(customer.clone()));
        let (vendor, customer) = tokio::try_join!(self.get(&vendor), self.get(&customer))?;
        let now = Timestamp::now();
        Ok(vendor.into_iter().chain(customer).find(|control| control.holds(now)))
    }

    /// What was said last about a scope.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn get(&self, scope: &Scope) -> Result<Option<Control>, NatsError> {
        let doing = format!("reading the control {}", scope.key());
        let value = self.store.get(scope.key()).await.map_err(NatsError::failed(doing))?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }
}
