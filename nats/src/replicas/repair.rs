//! A damaged replica is taken away and copied anew from the others.
//!
//! A server copies a stream from the others only when it has nothing of it. With as many servers as replicas there is no
//! other place to move a replica to, so the stream is given one replica less and then its number again. Which one goes is
//! the server's choice: one that is away before one that is there. So the damaged server has to be stopped meanwhile,
//! which only whoever runs it can do; of two that are there it might take the whole one.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::stream::{ClusterInfo, Config, Info, PeerInfo};
use serde_json::json;
use tokio::time::Instant;

use super::ask;
use super::compare::{Damaged, compare};
use crate::connect::Nats;
use crate::error::NatsError;

/// How many whole replicas are left at any time.
const LEFT: usize = 2;

/// How long a person may take to stop a server or to start it.
const PERSON: Duration = Duration::from_secs(30 * 60);

/// How long the servers may take to do what they were asked to. A large stream takes its time to be copied.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How often is looked whether they have.
const PAUSE: Duration = Duration::from_millis(250);

/// How far a repair has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The server has to be stopped now.
    Stop {
        /// The server.
        server: String,
    },
    /// The others keep the stream without it.
    TakenOut {
        /// The server.
        server: String,
        /// The stream.
        stream: String,
    },
    /// The server has to be started again.
    Start {
        /// The server.
        server: String,
    },
    /// It has so many of the stream's messages now.
    Copied {
        /// The server.
        server: String,
        /// The stream.
        stream: String,
        /// How many it has.
        messages: u64,
        /// How many the others have.
        of: u64,
    },
}

/// Whether all of these can be repaired.
///
/// # Errors
/// [`NatsError::TooFewWhole`], naming the first one that cannot.
pub fn check(damaged: &[Damaged]) -> Result<(), NatsError> {
    damaged.iter().try_for_each(|damaged| enough(&damaged.stream, damaged.whole.len()))
}

fn enough(stream: &str, whole: usize) -> Result<(), NatsError> {
    if whole < LEFT { Err(NatsError::TooFewWhole { stream: stream.to_owned(), whole }) } else { Ok(()) }
}

/// Repairs these replicas, server by server and stream by stream, and tells how far it has come. While a stream is repaired
/// it has one replica less. Killed in between, `nats apply --replicas` gives the streams their replicas again.
///
/// # Errors
/// [`NatsError::TooFewWhole`] before anything is changed; others when the servers do not do what they are asked to.
pub async fn repair(
    nats: &Nats,
    damaged: &[Damaged],
    tell: &(dyn Fn(&Progress) + Sync),
) -> Result<(), NatsError> {
    check(damaged)?;
    let mut servers: BTreeMap<&String, Vec<Repair<'_>>> = BTreeMap::new();
    for damaged in damaged {
        servers.entry(&damaged.server).or_default().push(Repair { nats, damaged });
    }
    for (server, repairs) in servers {
        tell(&Progress::Stop { server: server.clone() });
        for repair in &repairs {
            repair.take_out().await?;
            tell(&Progress::TakenOut { server: server.clone(), stream: repair.damaged.stream.clone() });
        }
        tell(&Progress::Start { server: server.clone() });
        for repair in &repairs {
            repair.copy(tell).await?;
        }
    }
    Ok(())
}

struct Repair<'a> {
    nats: &'a Nats,
    damaged: &'a Damaged,
}

impl Repair<'_> {
    async fn take_out(&self) -> Result<(), NatsError> {
        let Damaged { server, stream, .. } = self.damaged;
        let end = Instant::now() + PERSON;
        let info = loop {
            if let Some(info) = self.ready().await? {
                break info;
            }
            self.pause(end, "it is still there, or the others have not everything").await?;
        };
        let replicas = info.config.num_replicas - 1;
        self.update(&info, replicas).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(cluster) = self.info().await.and_then(|info| info.cluster)
                && cluster.replicas.len() < replicas
            {
                return match peer(&cluster, server) {
                    None => Ok(()),
                    Some(_) => {
                        self.update(&info, replicas + 1).await?;
                        let what =
                            format!("{stream} was taken from another server; it is copied there again");
                        Err(NatsError::failed(format!("taking {stream} from {server}"))(what))
                    }
                };
            }
            self.pause(end, "its servers are still the same").await?;
        }
    }

    /// The stream, once the server is away, so that it is the one to go, and those that stay have everything.
    async fn ready(&self) -> Result<Option<Info>, NatsError> {
        let Damaged { server, stream, whole, .. } = self.damaged;
        let servers = ask(self.nats).await?;
        let Some(info) = self.info().await else { return Ok(None) };
        let Some(cluster) = info.cluster.as_ref().filter(|_| !servers.contains_key(server)) else {
            return Ok(None);
        };
        let (Some(leader), Some(gone)) = (&cluster.leader, peer(cluster, server)) else { return Ok(None) };
        let stay = || cluster.replicas.iter().filter(|peer| peer.name != *server);
        let is_damaged = compare(&servers).iter().any(|other| other.stream == *stream);
        let other = stay().find(|peer| whole.contains(&peer.name));
        if is_damaged || stay().any(|peer| peer.offline || !peer.current) {
            return Ok(None);
        }
        if !whole.contains(leader) {
            self.lead_by(other).await;
            return Ok(None);
        }
        enough(stream, 1 + stay().filter(|peer| whole.contains(&peer.name)).count())?;
        let is_last = gone.offline || (!gone.current && gone.lag.is_some_and(|lag| lag > 0));
        if !is_last && !gone.current {
            // It died and nothing was written since: an election is, and then it is behind.
            self.lead_by(other).await;
        }
        Ok(is_last.then_some(info))
    }

    /// Waits until the server has forgotten what it had, and has it copy everything.
    async fn copy(&self, tell: &(dyn Fn(&Progress) + Sync)) -> Result<(), NatsError> {
        let Damaged { server, stream, .. } = self.damaged;
        let end = Instant::now() + PERSON;
        while ask(self.nats).await?.get(server).is_none_or(|held| held.contains_key(stream)) {
            self.pause(end, "it is not back yet").await?;
        }
        let info = loop {
            match self.info().await {
                Some(info) => break info,
                None => self.pause(end, "no server leads the stream").await?,
            }
        };
        self.update(&info, info.config.num_replicas + 1).await?;
        let (end, mut told) = (Instant::now() + PATIENCE, None);
        loop {
            let servers = ask(self.nats).await?;
            let held = servers.get(server).and_then(|held| held.get(stream));
            let messages = held.map_or(0, |held| held.messages);
            let of = servers.values().filter_map(|held| Some(held.get(stream)?.messages)).max();
            let of = of.unwrap_or_default().max(messages);
            if told.replace((messages, of)) != Some((messages, of)) {
                let (server, stream) = (server.clone(), stream.clone());
                tell(&Progress::Copied { server, stream, messages, of });
            }
            let has_all = held.is_some_and(|held| held.last >= info.state.last_sequence)
                && compare(&servers).iter().all(|damaged| damaged.stream != *stream);
            let cluster = self.info().await.and_then(|info| info.cluster);
            if has_all && cluster.is_some_and(|cluster| is_current(&cluster, server)) {
                return Ok(());
            }
            self.pause(end, "it has not everything yet").await?;
        }
    }

    async fn update(&self, info: &Info, num_replicas: usize) -> Result<(), NatsError> {
        let doing = format!("changing the replicas of {}", self.damaged.stream);
        let config = Config { num_replicas, ..info.config.clone() };
        self.nats.js.update_stream(config).await.map(drop).map_err(NatsError::failed(doing))
    }

    /// The stream, as the server that leads it says. While none leads it nobody answers.
    async fn info(&self) -> Option<Info> {
        let asked = self.nats.js.get_stream(&self.damaged.stream);
        let answered = tokio::time::timeout(Duration::from_secs(1), asked).await.ok()?;
        Some(answered.ok()?.cached_info().clone())
    }

    /// Has this server lead the stream, if it can.
    async fn lead_by(&self, server: Option<&PeerInfo>) {
        let Some(PeerInfo { name, .. }) = server else { return };
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", self.damaged.stream);
        let body = json!({ "placement": { "preferred": name } }).to_string();
        let asked = self.nats.client.request(subject, body.into());
        let _ = tokio::time::timeout(Duration::from_secs(1), asked).await;
    }

    async fn pause(&self, end: Instant, why: &str) -> Result<(), NatsError> {
        let Damaged { server, stream, .. } = self.damaged;
        if Instant::now() >= end {
            return Err(NatsError::failed(format!("repairing {stream} on {server}"))(why));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

fn peer<'a>(cluster: &'a ClusterInfo, server: &str) -> Option<&'a PeerInfo> {
    cluster.replicas.iter().find(|peer| peer.name == server)
}

/// Whether the server that leads says so; it may be this one.
fn is_current(cluster: &ClusterInfo, server: &str) -> bool {
    let is_followed = peer(cluster, server).is_some_and(|peer| peer.current && !peer.offline);
    is_followed || cluster.leader.as_deref() == Some(server)
}
