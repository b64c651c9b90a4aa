//! The servers of a race: one, or a cluster.

use std::path::Path;

use anyhow::{Context, Result};
use wanwright_nats::Nats;
use wanwright_supervisor::{NatsCluster, NatsOptions};

/// One server, or several that replicate.
pub enum Servers {
    /// One. None while it is dead.
    One(Box<NatsOptions>, Option<Box<wanwright_supervisor::Nats>>),
    /// Several.
    Cluster(NatsCluster),
}

impl Servers {
    /// Starts so many, durable.
    pub async fn start(dir: &Path, cache: &Path, replicas: usize) -> Result<Self> {
        let options = NatsOptions::new(dir, cache);
        if replicas > 1 {
            return Ok(Self::Cluster(NatsCluster::start(&options, replicas).await?));
        }
        let server = wanwright_supervisor::Nats::start(&options).await?;
        Ok(Self::One(Box::new(options), Some(Box::new(server))))
    }

    /// The address of one that runs, with the login.
    pub fn url(&self) -> Result<String> {
        let url = match self {
            Self::One(_, server) => server.as_ref().map(|server| server.url_with_login()),
            Self::Cluster(cluster) => cluster.url_with_login(),
        };
        url.context("no nats-server runs")
    }

    /// Kills the server that leads a stream, and answers its name.
    pub async fn kill_leader(&mut self, nats: &Nats, stream: &str) -> Result<String> {
        match self {
            Self::One(options, server) => {
                let server = server.take().context("the nats-server is dead already")?;
                server.child().kill().await;
                Ok(options.server_name.clone())
            }
            Self::Cluster(cluster) => {
                let stream = nats.js.get_stream(stream).await?;
                let info = stream.cached_info().cluster.as_ref();
                let leader = info.and_then(|info| info.leader.clone()).context("the stream has no leader")?;
                anyhow::ensure!(cluster.kill(&leader).await, "there is no node {leader}");
                Ok(leader)
            }
        }
    }

    /// Starts again what was killed.
    pub async fn mend(&mut self) -> Result<()> {
        match self {
            Self::One(options, server) if server.is_none() => {
                *server = Some(Box::new(wanwright_supervisor::Nats::start(options).await?));
            }
            Self::One(..) => {}
            Self::Cluster(cluster) => cluster.mend().await?,
        }
        Ok(())
    }
}
