//! What should be in the streams that nothing else tells of: which durable commands wait, how many verdicts and claims
//! there are, up to where histories were seen. A damaged file takes messages away without a word; only who wrote down that they were there can tell.
//!
//! The records are messages of their own in the stream INVENTORY, the newest of each kind. They are written behind what they
//! tell of, by moments; what is lost within those moments is not missed by them.

mod gate;
mod histories;
mod inbox;
mod keys;
mod record;
mod replicas;
mod streams;

use std::time::Duration;

use async_nats::HeaderMap;
use serde::Serialize;
use tokio::time::Instant;
use wanwright_nats::inventory::AGREED;
use wanwright_nats::publish::publish;
use wanwright_nats::{Nats, NatsError, StreamInfo, stream_info};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::{headers, subjects};

pub(super) use gate::Gate;
pub use gate::{Doubt, accept_losses};
pub use histories::{LostHistory, lost_histories};
pub(super) use inbox::{Book, Handled, Written};
pub(super) use replicas::watch as watch_replicas;
pub use streams::doubt;

/// The version of these records.
const VERSION: u8 = 1;

/// The facts about a stream, asked for again as long as something lacks that another server may still bring.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
async fn settled(
    nats: &Nats,
    mut info: StreamInfo,
    lacks: impl Fn(&StreamInfo) -> bool,
) -> Result<StreamInfo, NatsError> {
    let end = Instant::now() + AGREED;
    while info.replicas > 1 && lacks(&info) && Instant::now() < end {
        tokio::time::sleep(AGREED / 20).await;
        info = stream_info(&nats.js, &info.name).await?;
    }
    Ok(info)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Says that something is gone: in the log, and among the dead letters, where it stays.
pub(super) async fn report<T: Serialize>(
    nats: &Nats,
    what: &str,
    why: &str,
    gone: &T,
) -> Result<(), NatsError> {
    tracing::error!(what, why, "storage is damaged");
    let mut head = HeaderMap::new();
    head.insert(headers::DEAD_REASON, Reason::StorageDamaged.code());
    head.insert(headers::DEAD_MESSAGE, why);
    let body = serde_json::to_vec(gone).map_err(NatsError::failed("reporting a damage"))?;
    publish(&nats.js, subjects::dead(what, Reason::StorageDamaged), head, body.into()).await.map(drop)
}
