//! NATS and Postgres as parts of the whole: watched, and started again at the same address when they die.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_supervisor::{Child, Nats, NatsOptions, Postgres, PostgresOptions};

use super::roles::{HEALTHY, MOST_DEATHS, PAUSE};
use crate::output::note;

/// How long each server has to end.
const STOP: Duration = Duration::from_secs(8);

/// What both servers can do.
trait Server: Sized + Send + Sync + 'static {
    type Options: Send + Sync + 'static;
    const NAME: &'static str;
    fn start(options: &Self::Options) -> impl Future<Output = wanwright_supervisor::Result<Self>> + Send;
    fn address(&self) -> String;
    fn child(&self) -> &Child;
}

impl Server for Nats {
    type Options = NatsOptions;
    const NAME: &'static str = "nats-server";
    fn start(options: &NatsOptions) -> impl Future<Output = wanwright_supervisor::Result<Self>> + Send {
        Nats::start(options)
    }
    fn address(&self) -> String {
        self.url()
    }
    fn child(&self) -> &Child {
        self.child()
    }
}

impl Server for Postgres {
    type Options = PostgresOptions;
    const NAME: &'static str = "postgres";
    fn start(options: &PostgresOptions) -> impl Future<Output = wanwright_supervisor::Result<Self>> + Send {
        Postgres::start(options)
    }
    fn address(&self) -> String {
        self.address()
    }
    fn child(&self) -> &Child {
        self.child()
    }
}

/// Both servers.
pub struct Servers {
    stop: CancellationToken,
    keepers: JoinSet<()>,
}

impl Servers {
    /// Keeps servers that run. `failed` is cancelled when one cannot be kept alive.
    pub fn keep(
        nats: (Nats, NatsOptions),
        postgres: (Postgres, PostgresOptions),
        failed: CancellationToken,
    ) -> Self {
        let (stop, mut keepers) = (CancellationToken::new(), JoinSet::new());
        keepers.spawn(keep(nats.0, nats.1, stop.clone(), failed.clone()));
        keepers.spawn(keep(postgres.0, postgres.1, stop.clone(), failed));
        Self { stop, keepers }
    }

    /// Ends both in good order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.keepers.join_next().await.is_some() {}
    }
}

async fn keep<S: Server>(
    mut server: S,
    options: S::Options,
    stop: CancellationToken,
    failed: CancellationToken,
) {
    let mut deaths = 0;
    while deaths < MOST_DEATHS {
        let born = tokio::time::Instant::now();
        let status = tokio::select! {
            () = stop.cancelled() => {
                server.child().stop(STOP).await;
                return;
            }
            status = server.child().wait() => status,
        };
        note(format!("{} ended with {status}; starting it again", S::NAME));
        deaths = if born.elapsed() >= HEALTHY { 1 } else { deaths + 1 };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        match again(&server, &options).await {
            Ok(started) => server = started,
            Err(error) => {
                note(format!("{error:#}"));
                break;
            }
        }
    }
    note(format!("{} does not stay alive; giving up", S::NAME));
    failed.cancel();
}

/// Starts a server where it was before: everybody knows that address.
async fn again<S: Server>(before: &S, options: &S::Options) -> Result<S> {
    let server = S::start(options).await.with_context(|| format!("starting {} again", S::NAME))?;
    let (was, is) = (before.address(), server.address());
    anyhow::ensure!(was == is, "somebody else has taken {was} meanwhile; start wanwright anew");
    Ok(server)
}
