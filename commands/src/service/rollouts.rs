//! Rollouts, for operators: what is asked of one is judged here and written down; a dispatcher does what the record says.

use async_nats::Message;
use bytes::Bytes;
use jiff::Timestamp;
use wanwright_nats::{Nats, Rollouts};
use wanwright_schemas::ids::{Actor, VendorId};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::rollout::{RolloutRequest, RolloutVerb};
use wanwright_schemas::strict;
use wanwright_vendors::Vendors;

use super::side_door;
use crate::rollouts;

/// How often a record is written that a dispatcher writes at the same moment.
const TRIES: u32 = 16;

/// Answers the record as it is then.
pub(super) async fn judge(
    nats: &Nats,
    vendors: &Vendors,
    (actor, verb, vendor): (Actor, RolloutVerb, VendorId),
    request: &Message,
) -> Result<Bytes, Refusal> {
    let said: RolloutRequest = strict::parse(&request.payload)?;
    let catalogue = vendors.snapshot();
    let folder = catalogue.get(vendor.as_str()).ok_or_else(|| {
        Refusal::new(Reason::UnknownVendor, format!("there is no folder for vendor {vendor}"))
    })?;
    let records = Rollouts::open(nats).await.map_err(|error| side_door::unavailable(&error))?;
    for _ in 0..TRIES {
        let (present, revision) =
            records.get(&vendor).await.map_err(|error| side_door::unavailable(&error))?;
        let next = rollouts::judge(present.as_ref(), verb, &said, folder, &actor, Timestamp::now())?;
        let is_written = present.as_ref() == Some(&next)
            || records.put(&next, revision).await.map_err(|error| side_door::unavailable(&error))?.is_some();
        if is_written {
            if verb != RolloutVerb::Status {
                tracing::info!(%vendor, number = next.number, %actor, verb = verb.word(), "a rollout was changed");
            }
            return serde_json::to_vec(&next)
                .map(Bytes::from)
                .map_err(|error| side_door::unavailable(&error));
        }
    }
    Err(Refusal::new(Reason::Unavailable, "the rollout is written by others all the time"))
}
