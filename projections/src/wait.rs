//! Waiting until the tables show what was written.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use wanwright_schemas::Position;

use crate::checkpoint::{self, signed};
use crate::error::Error;
use crate::run::ReadModel;

/// The first pause between two looks; it doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(4);
const SLOWEST: Duration = Duration::from_millis(100);

/// Why the tables do not show a position.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// They did not get there in time.
    #[error("the tables have not reached {position} in {limit:?}; they are at {at}")]
    Late {
        /// The position.
        position: Position,
        /// How long it was waited.
        limit: Duration,
        /// How far the tables are.
        at: u64,
    },
    /// Their reader stopped before it.
    #[error("the tables will not reach {position}: their reader stopped at {at}: {error}")]
    Stopped {
        /// The position.
        position: Position,
        /// How far the tables are.
        at: u64,
        /// Why the reader stopped.
        error: String,
    },
    /// Postgres is away or failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Waits until the tables folded from EVENTS-* show a position.
///
/// It asks in statements of its own: in the `SELECT` that returns the row the row would be the old one, as a statement
/// sees what was committed when it began.
pub async fn wait_for(pool: &PgPool, position: &Position, limit: Duration) -> Result<(), WaitError> {
    wait_for_model(pool, ReadModel::Events, position, limit).await
}

async fn wait_for_model(
    pool: &PgPool,
    model: ReadModel,
    position: &Position,
    limit: Duration,
) -> Result<(), WaitError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST;
    loop {
        let mut connection = pool.acquire().await.map_err(Error::from)?;
        let row = checkpoint::load(&mut connection, model, &position.stream).await?;
        drop(connection);
        let at = row.as_ref().map_or(0, |row| row.sequence);
        if signed(at) >= signed(position.sequence) && row.is_some() {
            return Ok(());
        }
        let position = || position.clone();
        if let Some(row) = row.filter(|row| row.state == "stopped") {
            let error = row.last_error.unwrap_or_default();
            return Err(WaitError::Stopped { position: position(), at, error });
        }
        if Instant::now() + pause > deadline {
            return Err(WaitError::Late { position: position(), limit, at });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}
