//! Several nats-servers that replicate each other's streams, on this machine: to see what a cluster does when one dies.

use tokio::task::JoinSet;

use super::config::State;
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
        let routes: Vec<u16> = (0..nodes).map(|_| free_port()).collect::<Result<_>>()?;
        let login = State::make()?;
        let node = |number: usize| node_options(options, number, &routes);
        let options: Vec<NatsOptions> = (0..nodes).map(node).collect();
        // A node is healthy when it has found the others, so they start together.
        let mut starting = JoinSet::new();
        for (number, node) in options.iter().enumerate() {
            std::fs::create_dir_all(&node.dir).map_err(Error::io("make the folder", &node.dir))?;
            login.save(&node.dir)?;
            let node = node.clone();
            starting.spawn(async move { (number, Nats::start(&node).await) });
        }
        let mut nodes: Vec<Option<Nats>> = (0..nodes).map(|_| None).collect();
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

fn node_options(options: &NatsOptions, number: usize, routes: &[u16]) -> NatsOptions {
    let others: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let cluster = format!(
        "cluster {{ name: \"wanwright\", listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
        routes[number],
        others.join(", ")
    );
    NatsOptions {
        dir: options.dir.join(node_name(number)),
        server_name: node_name(number),
        extra: format!("{}{cluster}", options.extra),
        ..options.clone()
    }
}
