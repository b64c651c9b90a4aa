//! What each server has of each stream.
//!
//! A server leaves out the messages that it cannot read any more, and says nothing. As long as another one leads nobody
//! misses them. But each server tells how much it has itself, and replicas of one stream have the same at one sequence.

mod compare;
mod repair;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::StatusCode;
use futures::StreamExt;
use serde::Deserialize;
use tokio::time::Instant;

pub use compare::Damaged;
use compare::{Held, Servers, compare, lasting};
pub use repair::{Progress, check, repair};

use crate::accounts::WAN;
use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::SERVERS;

/// What every server is asked for: its own replica of each stream.
const QUESTION: &str = r#"{"accounts":true,"streams":true}"#;

/// How long servers are given to answer.
const ANSWERED: Duration = Duration::from_secs(2);

/// How far apart in time two looks are. A server that is only behind is not so far behind.
const PAUSE: Duration = Duration::from_millis(500);

/// How often is looked, until a stream stands still between two looks.
const LOOKS: usize = 4;

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

#[derive(Deserialize)]
struct Data {
    meta_cluster: Option<Meta>,
    #[serde(default)]
    account_details: Vec<Account>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    cluster_size: usize,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    #[serde(default)]
    stream_detail: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    state: Held,
}

/// The replicas that lack something which others have, while all go on. Empty where one server keeps all.
///
/// What a server has not read since it was damaged it does not miss.
///
/// # Errors
/// [`NatsError`], when no server answers.
pub async fn damaged(nats: &Nats) -> Result<Vec<Damaged>, NatsError> {
    let mut before = ask(nats).await?;
    let mut found = Vec::new();
    for _ in 1..LOOKS {
        if compare(&before).iter().all(|damaged| found.contains(damaged)) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let now = ask(nats).await?;
        found.extend(lasting(&before, &now));
        found.sort();
        found.dedup_by(|next, kept| (&next.server, &next.stream) == (&kept.server, &kept.stream));
        before = now;
    }
    Ok(found)
}

/// What every server that answers has.
async fn ask(nats: &Nats) -> Result<Servers, NatsError> {
    const DOING: &str = "asking the servers what they have of each stream";
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(NatsError::failed(DOING))?;
    let asked = nats.client.publish_with_reply(SERVERS, inbox, QUESTION.into()).await;
    asked.map_err(NatsError::failed(DOING))?;
    let (mut servers, mut expected, end) = (Servers::new(), usize::MAX, Instant::now() + ANSWERED);
    while servers.len() < expected
        && let Ok(Some(answer)) = tokio::time::timeout_at(end, answers.next()).await
    {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        let Answer { server, data } =
            serde_json::from_slice(&answer.payload).map_err(NatsError::failed(DOING))?;
        // A server without streams keeps none.
        let Some(data) = data else { continue };
        expected = data.meta_cluster.map_or(1, |meta| meta.cluster_size);
        let ours = data.account_details.into_iter().filter(|account| account.name == WAN);
        let streams = ours.flat_map(|account| account.stream_detail);
        let held: BTreeMap<_, _> = streams.map(|stream| (stream.name, stream.state)).collect();
        servers.insert(server.name, held);
    }
    if servers.is_empty() {
        return Err(NatsError::failed(DOING)("no server answers"));
    }
    Ok(servers)
}
