//! The end of a soak: waiting until every order is worked off, and telling what failed for good to try again.

use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use tokio::time::Instant;
use wanwright_nats::accounts::Role;
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::Child;

use super::{Campaign, SETTLE};
use crate::bench::births;
use crate::bench::judge::GOING_ON;
use crate::endpoints::{Endpoints, Login, PERSON};
use crate::send;

/// How often what failed for good is told to try again, as a person would.
const RETRY: Duration = Duration::from_secs(2);

impl Campaign {
    /// Waits until every order is worked off.
    pub(super) async fn settle(&mut self, system: &mut Child) -> Result<Endpoints> {
        let deadline = Instant::now() + SETTLE;
        let mut last = "it has not started".to_owned();
        let mut asked = Instant::now();
        while Instant::now() < deadline {
            if system.try_wait().is_some() {
                *system = self.start()?;
            }
            match self.unsettled().await {
                Ok((endpoints, 0)) => return Ok(endpoints),
                Ok((endpoints, waiting)) => {
                    last = format!("{waiting} objects are not as they should be");
                    if asked.elapsed() >= RETRY {
                        asked = Instant::now();
                        if let Err(error) = self.try_again(&endpoints).await {
                            last = error.to_string();
                        }
                    }
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("the system did not settle in {} s: {last}", SETTLE.as_secs())
    }

    /// Waits until nothing of the stacks is on its way.
    pub(super) async fn settled_stacks(&mut self, system: &mut Child) -> Result<Endpoints> {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {GOING_ON}) + (SELECT coalesce(sum(behind), 0)::bigint FROM projection_lag)"
        );
        let deadline = Instant::now() + SETTLE;
        let mut last = "it has not started".to_owned();
        while Instant::now() < deadline {
            if system.try_wait().is_some() {
                *system = self.start()?;
            }
            let asked = async {
                let endpoints = Endpoints::read(&self.home)?;
                let waiting: i64 = sqlx::query_scalar(&sql).fetch_one(&pool(&endpoints).await?).await?;
                anyhow::Ok((endpoints, waiting))
            };
            match asked.await {
                Ok((endpoints, 0)) => return Ok(endpoints),
                Ok((_, waiting)) => last = format!("{waiting} orders and records are on their way"),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("the stacks did not settle in {} s: {last}", SETTLE.as_secs())
    }

    async fn unsettled(&self) -> Result<(Endpoints, i64)> {
        let endpoints = Endpoints::read(&self.home)?;
        let pool = pool(&endpoints).await?;
        // The fleet has 162 objects; before all are created nothing has settled.
        let waiting: i64 = sqlx::query_scalar(
            "SELECT greatest(162 - count(*) FILTER (WHERE customer <> $1), 0)
                    + count(*) FILTER (WHERE observed_generation IS DISTINCT FROM generation OR health <> 'Healthy')
             FROM status",
        )
        .bind(births::CUSTOMER)
        .fetch_one(&pool)
        .await?;
        let behind: i64 = sqlx::query_scalar("SELECT coalesce(sum(behind), 0)::bigint FROM projection_lag")
            .fetch_one(&pool)
            .await?;
        Ok((endpoints, waiting + behind))
    }

    /// Tells what failed for good to try again: the vendor has no more trouble.
    async fn try_again(&mut self, endpoints: &Endpoints) -> Result<()> {
        let failed: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT kind, customer, id, reason FROM status
             WHERE reason IS NOT NULL AND reason <> 'Drifted' AND health = 'Degraded'",
        )
        .fetch_all(&pool(endpoints).await?)
        .await?;
        if failed.is_empty() {
            return Ok(());
        }
        let nats = connect(endpoints).await?;
        for (kind, customer, id, reason) in failed {
            let subject = send::subject(PERSON, &kind, "retry", &format!("{customer}/{id}"))?;
            let outcome = send::request(&nats, &subject, HeaderMap::new(), Vec::new()).await?;
            if outcome.position().is_some() {
                *self.failed.entry(format!("{kind}: {reason}")).or_default() += 1;
            }
        }
        Ok(())
    }
}

async fn pool(endpoints: &Endpoints) -> Result<sqlx::PgPool> {
    let options =
        sqlx::postgres::PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(2));
    options.connect(&endpoints.postgres).await.map_err(Into::into)
}

/// A connection with every right.
pub(super) async fn connect(endpoints: &Endpoints) -> Result<wanwright_nats::Nats> {
    let access = endpoints.access(Login::Role(Role::Admin))?;
    Ok(wanwright_nats::connect(access, "wanwright-soak", PARTITIONS).await?)
}
