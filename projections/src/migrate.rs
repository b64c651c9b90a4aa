//! The tables themselves.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, PgPool};

use crate::error::Error;

/// How often a process looks whether another one has finished migrating.
const LOOK: Duration = Duration::from_millis(50);

/// Brings the database to the version this program was built for. Several processes may call it at once.
///
/// # Errors
/// [`Error::Migrate`] when a file fails, or when the database is of a newer version; [`Error::Postgres`].
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    let mut migrator: Migrator = sqlx::migrate!("../migrations");
    // sqlx's own lock is waited for inside a statement, and `CREATE INDEX CONCURRENTLY` waits for the end of all
    // statements: two processes at once would be a deadlock.
    migrator.set_locking(false);
    let mut lock = pool.acquire().await?.detach();
    while !locked(&mut lock).await? {
        tokio::time::sleep(LOOK).await;
    }
    let migrated = migrator.run(pool).await;
    // Closing alone would give the lock back a moment later.
    sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut lock).await?;
    lock.close().await?;
    Ok(migrated?)
}

async fn locked(connection: &mut PgConnection) -> Result<bool, Error> {
    let sql = "SELECT pg_try_advisory_lock(hashtextextended('wanwright migrations', 0))";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
