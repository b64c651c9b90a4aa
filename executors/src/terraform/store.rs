//! Terraform's states in Postgres: every version of every stack, written with compare and set.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgPool, Row};
use wanwright_schemas::envelope::Digest;

/// Which version of a stack's state something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The serial Terraform gave it.
    pub(super) serial: i64,
    /// The digest of what Terraform wrote.
    pub(super) digest: Digest,
}

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
    /// The versions it may follow: the one it was made from (`None`: there was none), and those in between that waited
    /// for Postgres and may never have reached it.
    pub(super) after: Vec<Option<Mark>>,
}

/// Why a state was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Postgres did not do its part.
    #[error("Postgres")]
    Postgres(#[from] sqlx::Error),
    /// Postgres gave no answer in time.
    #[error("Postgres gave no answer in time")]
    Late,
    /// The stack is at another version than the one this state was made from.
    #[error(
        "the stack is at {present}; this state has lineage {lineage} and serial {serial}, and was made from another version"
    )]
    Conflict {
        /// What is there.
        present: String,
        /// The lineage of the state.
        lineage: String,
        /// The serial of the state.
        serial: i64,
    },
    /// Not a state.
    #[error("not a Terraform state: {0}")]
    NoState(String),
    /// The spool's folder or a file in it.
    #[error("{doing}")]
    Spool {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Version {
    /// Reads serial and lineage out of what Terraform wrote.
    pub(super) fn read(
        stack: &str,
        order: &str,
        body: Vec<u8>,
        after: Vec<Option<Mark>>,
    ) -> Result<Self, StoreError> {
        let state: Value =
            serde_json::from_slice(&body).map_err(|error| StoreError::NoState(error.to_string()))?;
        let serial = state.get("serial").and_then(Value::as_i64);
        let lineage = state.get("lineage").and_then(Value::as_str);
        let (Some(serial), Some(lineage)) = (serial, lineage) else {
            return Err(StoreError::NoState("it has no serial or no lineage".to_owned()));
        };
        let lineage = lineage.to_owned();
        Ok(Self { stack: stack.to_owned(), order: order.to_owned(), body, serial, lineage, after })
    }

    /// Which version this is.
    pub(super) fn mark(&self) -> Mark {
        Mark { serial: self.serial, digest: Digest::of(&self.body) }
    }

    /// What is said when the stack is at another version.
    pub(super) fn conflict(&self, present: Option<&Self>) -> StoreError {
        let present = present.map_or_else(
            || "no version at all".to_owned(),
            |present| format!("lineage {} and serial {}", present.lineage, present.serial),
        );
        StoreError::Conflict { present, lineage: self.lineage.clone(), serial: self.serial }
    }

    /// Whether it may stand behind what is there.
    pub(super) fn follows(&self, present: Option<&Self>) -> bool {
        let in_line =
            present.is_none_or(|present| present.lineage == self.lineage && present.serial < self.serial);
        in_line && self.after.contains(&present.map(Self::mark))
    }
}

/// The newest version of a stack's state.
pub(super) async fn newest(
    connection: impl sqlx::PgExecutor<'_>,
    stack: &str,
) -> Result<Option<Version>, StoreError> {
    let row = sqlx::query(
        "SELECT wan_order, body FROM terraform.states WHERE stack = $1 ORDER BY serial DESC LIMIT 1",
    )
    .bind(stack)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (order, body): (String, Vec<u8>) = (row.try_get("wan_order")?, row.try_get("body")?);
    Version::read(stack, &order, body, Vec::new()).map(Some)
}

/// Stores a version behind the very one it was made from. The same version again changes nothing.
pub(super) async fn store(pool: &PgPool, version: &Version) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    // Serialises writers of one stack, the first write included, which has no row to lock.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(&version.stack)
        .execute(&mut *transaction)
        .await?;
    let present = newest(&mut *transaction, &version.stack).await?;
    if present.as_ref().is_some_and(|present| present.body == version.body) {
        return Ok(());
    }
    if !version.follows(present.as_ref()) {
        return Err(version.conflict(present.as_ref()));
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
