//! Terraform's states in Postgres: every version of every stack, written with compare and set.

use serde_json::Value;
use sqlx::{PgPool, Row};

/// A version of a stack's state.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// The stack: the id of the command that created its site, which no other site will ever have.
    pub(super) stack: String,
    /// The order in whose run it was written.
    pub(super) order: String,
    /// What Terraform wrote.
    pub(super) body: Vec<u8>,
    /// The serial Terraform gave it.
    pub(super) serial: i64,
    /// The lineage Terraform gave the stack.
    pub(super) lineage: String,
}

/// Why a state was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Postgres did not do its part.
    #[error("Postgres")]
    Postgres(#[from] sqlx::Error),
    /// The stack has another history than this state.
    #[error(
        "the stack has lineage {present} at serial {serial}; this state has lineage {offered} and serial {offered_serial}"
    )]
    Conflict {
        /// The lineage that is there.
        present: String,
        /// The serial that is there.
        serial: i64,
        /// The lineage of the state.
        offered: String,
        /// The serial of the state.
        offered_serial: i64,
    },
    /// Not a state.
    #[error("not a Terraform state: {0}")]
    NoState(String),
}

impl Version {
    /// Reads serial and lineage out of what Terraform wrote.
    pub(super) fn read(stack: &str, order: &str, body: Vec<u8>) -> Result<Self, StoreError> {
        let state: Value =
            serde_json::from_slice(&body).map_err(|error| StoreError::NoState(error.to_string()))?;
        let serial = state.get("serial").and_then(Value::as_i64);
        let lineage = state.get("lineage").and_then(Value::as_str);
        let (Some(serial), Some(lineage)) = (serial, lineage) else {
            return Err(StoreError::NoState("it has no serial or no lineage".to_owned()));
        };
        let lineage = lineage.to_owned();
        Ok(Self { stack: stack.to_owned(), order: order.to_owned(), body, serial, lineage })
    }
}

/// The newest version of a stack's state.
pub(super) async fn newest(pool: &PgPool, stack: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let row = sqlx::query("SELECT body FROM terraform.states WHERE stack = $1 ORDER BY serial DESC LIMIT 1")
        .bind(stack)
        .fetch_optional(pool)
        .await?;
    row.map(|row| row.try_get("body")).transpose()
}

/// Stores a version behind the newest one: same lineage, higher serial. The same version again changes nothing.
pub(super) async fn store(pool: &PgPool, version: &Version) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    // Serialises writers of one stack, the first write included, which has no row to lock.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(&version.stack)
        .execute(&mut *transaction)
        .await?;
    let newest = sqlx::query(
        "SELECT serial, lineage, body FROM terraform.states WHERE stack = $1 ORDER BY serial DESC LIMIT 1",
    )
    .bind(&version.stack)
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(newest) = newest {
        let (serial, lineage): (i64, String) = (newest.try_get("serial")?, newest.try_get("lineage")?);
        let body: Vec<u8> = newest.try_get("body")?;
        if serial == version.serial && lineage == version.lineage && body == version.body {
            return Ok(());
        }
        if lineage != version.lineage || version.serial <= serial {
            return Err(StoreError::Conflict {
                present: lineage,
                serial,
                offered: version.lineage.clone(),
                offered_serial: version.serial,
            });
        }
    }
    sqlx::query(
        "INSERT INTO terraform.states (stack, serial, lineage, wan_order, body) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&version.stack)
    .bind(version.serial)
    .bind(&version.lineage)
    .bind(&version.order)
    .bind(&version.body)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
