//! The tables themselves.

use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::error::Error;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Brings the database to the version this program was built for. Several processes may call it at once.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    Ok(MIGRATOR.run(pool).await?)
}
