//! The tables, as a reader sees them.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};

use crate::level;

/// A connection to the tables.
#[derive(Debug, Clone)]
pub struct Rows {
    /// For questions of a test's own.
    pub pool: PgPool,
}

impl Rows {
    /// Connects.
    pub async fn open(url: &str) -> Result<Self> {
        let options = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(10));
        Ok(Self { pool: options.connect(url).await? })
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// The first column of every row, as text.
    pub async fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())).collect()
    }

    /// Waits until a question is answered with a number.
    pub async fn reach(&self, what: &str, sql: &str, wanted: i64, limit: Duration) -> Result<Duration> {
        let mut last = None;
        let reached = level::until(what, limit, async || {
            last = Some(self.number(sql).await?);
            Ok(last == Some(wanted))
        });
        match reached.await {
            Ok(took) => Ok(took),
            Err(error) => Err(error.context(format!("it is {last:?}, not {wanted}: {sql}"))),
        }
    }

    /// Waits until a customer has this many objects and all of them are healthy and in sync.
    pub async fn healthy(&self, customer: &str, objects: i64, limit: Duration) -> Result<Duration> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE health = 'Healthy' AND sync = 'Synced') FROM status WHERE customer = '{customer}'"
        );
        let reached = self.reach(&format!("{customer} is healthy"), &sql, objects, limit).await;
        let Err(error) = reached else { return reached };
        let sick = format!(
            "SELECT kind || '/' || id || ' ' || health || ' ' || sync || ' ' || coalesce(reason, '-') || ' ' || coalesce(message, '-')
             FROM status WHERE customer = '{customer}' AND (health <> 'Healthy' OR sync <> 'Synced')"
        );
        let waits = format!(
            "SELECT kind || '/' || id || ' ' || state || ' ' || coalesce(error_message, '-') FROM operations
             WHERE customer = '{customer}' AND state NOT IN ('succeeded','superseded','withdrawn')"
        );
        Err(error.context(format!(
            "sick: {:?}; operations: {:?}",
            self.texts(&sick).await,
            self.texts(&waits).await
        )))
    }

    /// Fails unless every reader runs.
    pub async fn all_running(&self) -> Result<()> {
        let stopped = self
            .texts("SELECT read_model || ' ' || stream || ': ' || coalesce(last_error, '') FROM projection_status WHERE state <> 'running'")
            .await?;
        ensure!(stopped.is_empty(), "readers stopped: {stopped:?}");
        Ok(())
    }
}
