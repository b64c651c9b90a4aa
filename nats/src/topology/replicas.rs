//! How many servers keep each stream: a fact of the server, which the first stream of events says for all.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind};
use async_nats::jetstream::stream::{Config, Info};
use tokio::time::Instant;
use wanwright_schemas::subjects;

use super::compare::{Compared, Difference, PERSISTENCE, REPLICAS, compare};
use super::{buckets, existing, existing_info, rebuilt_streams, streams};
use crate::connect::Nats;
use crate::error::NatsError;

/// How long the servers may take to have everything. Who is not waited for goes on all the same.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often is looked whether they have.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the server that leads a stream may take to tell about it. While none leads it nobody answers.
const ANSWER: Duration = Duration::from_secs(1);

/// A stream whose replicas were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicasChanged {
    /// Its name.
    pub stream: String,
    /// How many servers kept it.
    pub from: usize,
    /// How many keep it now.
    pub to: usize,
    /// Whether it was deleted and made again, because the server changes no stream's way of writing to the disk. That
    /// happens to streams only that are made again from the others.
    pub remade: bool,
}

/// How many replicas the streams of events have; none where there are none yet. Roles compare all streams with that.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn replicas(nats: &Nats) -> Result<Option<usize>, NatsError> {
    let first = existing(nats, &subjects::events_stream(0)).await?;
    Ok(first.map(|config| config.num_replicas))
}

/// Gives every stream that is there so many replicas, while the roles run, and tells of each. Killed in between it is run
/// again.
///
/// # Errors
/// [`NatsError::Topology`] when streams differ in other ways too, and [`NatsError::Replicas`] where the server cannot keep
/// so many: nothing was changed then. Others when the server cannot be asked.
pub async fn change_replicas(
    nats: &Nats,
    to: usize,
    tell: &(dyn Fn(&ReplicasChanged) + Sync),
) -> Result<(), NatsError> {
    let compared = compare(nats, to).await?;
    let rebuilt = rebuilt_streams(nats.partitions, 1);
    let ours = |stream: &str, difference: &Difference| match difference.fact {
        REPLICAS => true,
        PERSISTENCE => rebuilt.iter().any(|name| name == stream),
        _ => false,
    };
    let others = compared.iter().flat_map(|stream| {
        stream
            .differences
            .iter()
            .filter(|difference| !ours(&stream.name, difference))
            .map(ToString::to_string)
    });
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        return Err(NatsError::Topology(others.join("\n")));
    }
    for Compared { name, found, differences } in compared {
        let Some(found) = found.filter(|_| !differences.is_empty()) else { continue };
        let from = found.num_replicas;
        let remade = differences.iter().any(|difference| difference.fact == PERSISTENCE);
        if remade {
            remake(nats, &name, to).await?;
        } else {
            let doing = format!("changing the replicas of {name}");
            let config = Config { num_replicas: to, ..found };
            nats.js.update_stream(config).await.map_err(refusal(doing, to))?;
        }
        tell(&ReplicasChanged { stream: name, from, to, remade });
    }
    Ok(())
}

/// Deletes a stream that is made again from others, and makes it.
async fn remake(nats: &Nats, name: &str, replicas: usize) -> Result<(), NatsError> {
    let doing = format!("making {name} again");
    nats.js.delete_stream(name).await.map_err(NatsError::failed(doing.clone()))?;
    for config in streams(nats.partitions, replicas).into_iter().filter(|config| config.name == name) {
        nats.js.create_stream(config).await.map_err(NatsError::failed(doing.clone()))?;
    }
    Ok(())
}

/// Waits until every server has all that it keeps. What was changed is kept by so many servers from then on.
///
/// # Errors
/// [`NatsError::Behind`] with the servers that did not get there within five minutes.
pub async fn wait_for_replicas(nats: &Nats) -> Result<(), NatsError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match behind(nats).await {
            Ok(behind) if behind.is_empty() => return Ok(()),
            Ok(behind) if Instant::now() >= end => return Err(NatsError::Behind(behind.join("\n"))),
            Err(error) if Instant::now() >= end => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Where a server has not all that it keeps, a line for each server. Streams that are missing are none of this.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn behind(nats: &Nats) -> Result<Vec<String>, NatsError> {
    let names = streams(nats.partitions, 1).into_iter().map(|config| config.name);
    let names = names.chain(buckets(1).into_iter().map(|config| format!("KV_{}", config.bucket)));
    let asked = names.map(async |name| {
        let what = match tokio::time::timeout(ANSWER, existing_info(nats, &name)).await {
            Ok(Ok(info)) => info.map(|info| behind_in(&info)).unwrap_or_default(),
            Ok(Err(error)) => return Err(error),
            Err(_) => vec!["no server leads".to_owned()],
        };
        Ok((name, what))
    });
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, what) in futures::future::try_join_all(asked).await? {
        what.into_iter().for_each(|what| found.entry(what).or_default().push(name.clone()));
    }
    Ok(found.into_iter().map(|(what, names)| format!("  {what}: {}", names.join(", "))).collect())
}

/// What is to be said of a stream that is not wholly there where it should be.
fn behind_in(info: &Info) -> Vec<String> {
    // A server that is in no cluster says nothing about others.
    let Some(cluster) = &info.cluster else { return Vec::new() };
    let mut found = Vec::new();
    // The one that leads is not among those it lists.
    let (there, wanted) = (cluster.replicas.len() + 1, info.config.num_replicas);
    if there != wanted {
        found.push(format!("{there} servers and not {wanted} keep"));
    }
    let late = cluster.replicas.iter().filter(|peer| peer.offline || !peer.current);
    found.extend(late.map(|peer| format!("{} is away or has not all yet of", peer.name)));
    found
}

/// Knows the refusal of a server that cannot keep so many replicas from every other failure.
pub(super) fn refusal(doing: String, wanted: usize) -> impl FnOnce(CreateStreamError) -> NatsError {
    const TOO_FEW: [ErrorCode; 2] = [ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED, ErrorCode::CLUSTER_NO_PEERS];
    move |error| match error.kind() {
        CreateStreamErrorKind::JetStream(cause) if TOO_FEW.contains(&cause.error_code()) => {
            NatsError::Replicas { wanted, source: error.into() }
        }
        _ => NatsError::failed(doing)(error),
    }
}
