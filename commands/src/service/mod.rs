//! The command service: takes commands from both doors, decides them, records the decision and answers.
//!
//! Every customer belongs to one lane, and a lane handles one command at a time: within this process a customer is
//! never decided twice at once. Between processes the append check is the fence.

mod adapter;
mod door;
mod inbox;
mod lane;
mod outcomes;
mod requests;
mod serials;
mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::{History, Nats, NatsError};
use wanwright_schemas::CustomerId;
use wanwright_vendors::Catalogue;

pub use adapter::{Judged, Recorded};
pub use door::Asked;
pub use store::{CustomerStore, Loaded};

use lane::Lane;

/// How long command ids are remembered.
pub const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead of ours a sender's clock may be.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// How many lanes there are: commands of that many customers are decided at once.
const LANES: u16 = 16;

/// How many commands a lane takes before its senders have to wait.
const LANE_DEPTH: usize = 256;

/// The lanes, by customer.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    senders: Arc<[mpsc::Sender<Asked>]>,
}

impl Lanes {
    /// Hands a command to its customer's lane; waits while the lane is full.
    pub(crate) async fn hand(&self, asked: Asked) {
        let lane = lane_of(&asked.subject.customer);
        // A closed lane means that the service stops: an unanswered command is asked or delivered again.
        if let Some(sender) = self.senders.get(lane) {
            let _ = sender.send(asked).await;
        }
    }
}

fn lane_of(customer: &CustomerId) -> usize {
    usize::from(wanwright_schemas::subjects::partition(customer, LANES))
}

/// Runs the command service until it is told to stop. `ready` is called once, when both doors are open.
///
/// # Errors
/// [`NatsError`] when the doors cannot be opened. Later trouble with NATS is waited out.
pub async fn run(
    nats: Nats,
    vendors: Arc<Catalogue>,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), NatsError> {
    let claims = Claims::open(&nats).await?;
    let mut lanes = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..LANES {
        let (sender, asked) = mpsc::channel(LANE_DEPTH);
        let store = CustomerStore::new(History::new(nats.clone()));
        let lane = Lane::new(nats.clone(), store, Arc::clone(&vendors), claims.clone());
        lanes.spawn(lane.run(asked, stop.clone()));
        senders.push(sender);
    }
    let entry = Lanes { senders: senders.into() };
    let requests = requests::open(&nats).await?;
    let inbox = inbox::open(&nats).await?;
    let mut doors = JoinSet::new();
    doors.spawn(requests::serve(requests, nats.clone(), entry.clone(), stop.clone()));
    doors.spawn(inbox::serve(inbox, nats.clone(), entry, stop.clone()));
    ready();
    while doors.join_next().await.is_some() {}
    while lanes.join_next().await.is_some() {}
    Ok(())
}
