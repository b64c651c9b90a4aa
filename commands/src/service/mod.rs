//! The command service: takes commands from both doors, decides them, records the decision and answers.
//!
//! Every customer belongs to one lane, and a lane handles one command at a time: within this process a customer is
//! never decided twice at once. Between processes the append check is the fence.

mod adapter;
mod delivery;
mod door;
mod inbox;
mod lane;
mod outcomes;
mod queue;
mod requests;
mod seen;
mod serials;
mod store;
mod tasks;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::{Nats, NatsError};
use wanwright_vendors::Catalogue;

pub use adapter::{Judged, Recorded};
pub use door::Asked;
pub use store::{CustomerStore, Loaded};

use lane::Lane;
use queue::Lanes;

/// How long command ids are remembered.
pub const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead of ours a sender's clock may be.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Runs the command service until it is told to stop. `ready` is called once, when both doors are open.
///
/// # Errors
/// [`NatsError`] when the doors cannot be opened, or when a part of the service ends or panics: then the process should
/// end too and be started again. Trouble with NATS is waited out.
pub async fn run(
    nats: Nats,
    vendors: Arc<Catalogue>,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let claims = Claims::open(&nats).await?;
    let mut parts = JoinSet::new();
    let (lanes, queues) = Lanes::new();
    for queue in queues {
        let store = CustomerStore::new(nats.clone());
        let lane = Lane { nats: nats.clone(), store, vendors: Arc::clone(&vendors), claims: claims.clone() };
        parts.spawn(queue::work(lane, queue, stop.clone()));
    }
    let requests = requests::open(&nats).await?;
    let inbox = inbox::open(&nats).await?;
    parts.spawn(requests::serve(requests, nats.clone(), lanes.clone(), stop.clone()));
    parts.spawn(inbox::serve(inbox, nats.clone(), lanes, stop.clone()));
    ready();
    tasks::all(parts, &stop).await
}
