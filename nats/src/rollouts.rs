//! Rollouts: how the newest rollout of each vendor's template is, a record per vendor, changed by compare-and-set.

use async_nats::jetstream::kv;
use wanwright_schemas::ids::VendorId;
use wanwright_schemas::rollout::Rollout;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::ROLLOUTS;

/// The records on a server.
#[derive(Debug, Clone)]
pub struct Rollouts {
    store: kv::Store,
}

impl Rollouts {
    /// Opens the records.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(ROLLOUTS).await;
        Ok(Self { store: store.map_err(NatsError::failed("opening the rollouts"))? })
    }

    /// A vendor's record and its revision; 0 where there is none.
    ///
    /// # Errors
    /// [`NatsError`], also for a record that cannot be read.
    pub async fn get(&self, vendor: &VendorId) -> Result<(Option<Rollout>, u64), NatsError> {
        let doing = format!("reading the rollout of {vendor}");
        let entry = self.store.entry(vendor.as_str()).await.map_err(NatsError::failed(doing.clone()))?;
        let Some(entry) = entry else { return Ok((None, 0)) };
        if entry.operation != kv::Operation::Put {
            return Ok((None, entry.revision));
        }
        let rollout = serde_json::from_slice(&entry.value).map_err(NatsError::failed(doing))?;
        Ok((Some(rollout), entry.revision))
    }

    /// Writes a record unless somebody has written it since that revision. Answers the new revision; none where somebody
    /// has.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn put(&self, rollout: &Rollout, revision: u64) -> Result<Option<u64>, NatsError> {
        let doing = format!("writing the rollout of {}", rollout.vendor);
        let body = serde_json::to_vec(rollout).map_err(NatsError::failed(doing.clone()))?;
        match self.store.update(rollout.vendor.as_str(), body.into(), revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(NatsError::failed(doing)(error)),
        }
    }
}
