//! Several nats-servers that replicate each other's streams, on this machine: to see what a cluster does when one dies.

use tokio::task::JoinSet;

use super::config::{self, Login, State};
use super::{Nats, NatsOptions};
use crate::{Error, Result, free_port};

/// A cluster, whose nodes are named `node-0`, `node-1` and so on. It ends when this is dropped and when this process ends.
#[derive(Debug)]
pub struct NatsCluster {
    options: Vec<NatsOptions>,
    nodes: Vec<Option<Nats>>,
}

impl NatsCluster {
    /// Starts so many nodes and waits until all are healthy. Each keeps its data in a folder of its own below that of the
    /// options, and they have one login.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub async fn start(options: &NatsOptions, nodes: usize) -> Result<Self> {
        let node = |number| NatsOptions { dir: options.dir.join(node_name(number)), ..options.clone() };
        Self::start_each((0..nodes).map(node).collect()).await
    }

    /// The same with options for each node, with a folder of its own; their names are given here.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub async fn start_each(nodes: Vec<NatsOptions>) -> Result<Self> {
        let ports: Vec<u16> = nodes.iter().map(|_| free_port()).collect::<Result<_>>()?;
        let (login, route) = (State::make()?, Login::generate("route")?);
        let node = |(number, options): (usize, NatsOptions)| NatsOptions {
            server_name: node_name(number),
            extra: format!("{}{}", options.extra, config::cluster(ports[number], &ports, &route)),
            ..options
        };
        let options: Vec<NatsOptions> = nodes.into_iter().enumerate().map(node).collect();
        // A node is healthy when it has found the others, so they start together.
        let mut starting = JoinSet::new();
        for (number, node) in options.iter().enumerate() {
            std::fs::create_dir_all(&node.dir).map_err(Error::io("make the folder", &node.dir))?;
            login.save(&node.dir)?;
            let node = node.clone();
            starting.spawn(async move { (number, Nats::start(&node).await) });
        }
        let mut nodes: Vec<Option<Nats>> = options.iter().map(|_| None).collect();
        while let Some(started) = starting.join_next().await {
            let (number, node) =
                started.map_err(|error| Error::Unusable(format!("a node did not start: {error}")))?;
            nodes[number] = Some(node?);
        }
        Ok(Self { options, nodes })
    }

    /// The address of a node that runs, with the login in it. A secret.
    pub fn url_with_login(&self) -> Option<String> {
        self.nodes.iter().flatten().next().map(Nats::url_with_login)
    }

    /// The addresses of all nodes that run, separated by commas, without login.
    pub fn urls(&self) -> String {
        self.nodes.iter().flatten().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// Kills a node where it stands. Answers whether there is one of this name that ran.
    pub async fn kill(&mut self, name: &str) -> bool {
        let number = (0..self.nodes.len()).find(|number| node_name(*number) == name);
        let Some(node) = number.and_then(|number| self.nodes[number].take()) else { return false };
        node.child().kill().await;
        true
    }

    /// Starts the nodes that were killed, on the data they have.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub async fn mend(&mut self) -> Result<()> {
        for (node, options) in self.nodes.iter_mut().zip(&self.options) {
            if node.is_none() {
                *node = Some(Nats::start(options).await?);
            }
        }
        Ok(())
    }
}

fn node_name(number: usize) -> String {
    format!("node-{number}")
}
