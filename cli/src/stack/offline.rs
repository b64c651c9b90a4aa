//! The servers of a home whose system is stopped, for what must be done while no role runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::PgPool;
use wanwright_nats::accounts::{Authority, Role};
use wanwright_nats::{Access, Nats};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::{DirLock, PostgresOptions};

/// How long each server has to end.
const STOP: Duration = Duration::from_secs(8);

/// NATS and Postgres of a home, and nothing else.
pub struct Offline {
    /// A connection that has not asked for the partition count.
    pub nats: Nats,
    /// The read models.
    pub pool: PgPool,
    /// The keys of the home.
    pub keys: Authority,
    nats_server: wanwright_supervisor::Nats,
    postgres: wanwright_supervisor::Postgres,
    _lock: DirLock,
}

impl Offline {
    /// Starts the servers; none where there is no home, or where its system runs.
    ///
    /// # Errors
    /// When a server does not start.
    pub async fn start(home: &Path) -> Result<Option<Self>> {
        if !home.join("nats/jetstream").exists() {
            return Ok(None);
        }
        let home = std::path::absolute(home)?;
        let lock = match DirLock::acquire(&home) {
            Ok(lock) => lock,
            Err(wanwright_supervisor::Error::Locked { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        anyhow::ensure!(
            !home.join("first-start").exists(),
            "the first start of {} was not finished; `wanwright up` begins it anew",
            home.display()
        );
        let cache = home.join("cache");
        let keys = Authority::open_or_make(&home.join("keys"), PARTITIONS)?;
        let (nats_options, postgres_options) = (
            super::nats_options(crate::cli::Profile::Durable, &home, &cache, &keys)?,
            PostgresOptions::new(home.join("postgres"), &cache),
        );
        let (nats_server, postgres) = tokio::join!(
            wanwright_supervisor::Nats::start(&nats_options),
            wanwright_supervisor::Postgres::start(&postgres_options),
        );
        let (nats_server, postgres) = (nats_server?, postgres?);
        let as_admin = Access::with_creds(nats_server.url(), keys.role(Role::Admin));
        let nats = wanwright_nats::connect(as_admin, "wanwright-offline", PARTITIONS).await?;
        let pool = PgPool::connect(&postgres.url()).await.context("connecting to Postgres")?;
        wanwright_projections::migrate(&pool).await?;
        Ok(Some(Self { nats, pool, keys, nats_server, postgres, _lock: lock }))
    }

    /// Where NATS is, without login.
    pub fn url(&self) -> String {
        self.nats_server.url()
    }

    /// Ends both in good order.
    pub async fn stop(self) {
        self.pool.close().await;
        let (nats, postgres) = (self.nats_server.child(), self.postgres.child());
        tokio::join!(nats.stop(STOP), postgres.stop(STOP));
    }
}
