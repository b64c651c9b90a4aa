//! A backup of Terraform's states: every version as the tables have it, sealed, in a folder with a manifest.
//!
//! Nothing is opened and no key is needed, neither to write a backup nor to bring it back. Rows pass one by one, in the
//! text format of Postgres' `COPY`, which every version of it reads.

mod begun;
#[cfg(test)]
mod beside;
mod error;
mod files;
mod manifest;
mod restore;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use jiff::Timestamp;
use sqlx::{Executor, PgPool, Postgres, Row, Transaction};

use begun::Begun;
pub use error::BackupError;
use files::{Writer, read_through, sync_folder};
pub use manifest::{BackupFile, BackupManifest};
pub use restore::{RestoredStack, Verdict};

/// The version of the files.
const FORMAT: u32 = 1;

/// What makes the tables, by the number of the migration.
const MIGRATIONS: [(u32, &str); 3] = [
    (7, include_str!("../../../migrations/0007_terraform_states.sql")),
    (21, include_str!("../../../migrations/0021_sealed_states.sql")),
    (30, include_str!("../../../migrations/0030_state_fences.sql")),
];

/// The newest of them: what the rows of a backup fit.
const SCHEMA: u32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// A table and its file.
#[derive(Debug)]
struct Table {
    name: &'static str,
    file: &'static str,
    columns: &'static str,
    key: &'static str,
}

const STATES: Table = Table {
    name: "terraform.states",
    file: "states.copy",
    columns: "stack, serial, lineage, wan_order, written_at, sealed_with, body",
    key: "stack, serial",
};

const FENCES: Table = Table {
    name: "terraform.fences",
    file: "fences.copy",
    columns: "stack, incarnation, number",
    key: "stack",
};

/// How values are written, whatever the server or the role says.
const AS_EVERYWHERE: &str =
    "SET LOCAL datestyle = 'ISO'; SET LOCAL timezone = 'UTC'; SET LOCAL bytea_output = 'hex'";

/// Hears how far the work is: what is done, how much of it, of how much.
pub type Tell<'a> = &'a (dyn Fn(&'static str, u64, u64) + Sync);

/// A backup that is as it was written.
#[derive(Debug, Clone)]
pub struct Backup {
    dir: PathBuf,
    manifest: BackupManifest,
}

impl Backup {
    /// Writes every version of every state into a folder that is empty or not there yet, as of one moment. The manifest
    /// comes last: without it there is no backup. What was begun and failed is removed; what was begun and killed is removed
    /// by the next one that is written into the folder.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn write(pool: &PgPool, dir: &Path, tell: Tell<'_>) -> Result<Self, BackupError> {
        let begun = Begun::take(dir).await?;
        match write_all(pool, dir, &begun, tell).await {
            Ok(manifest) => Ok(Self { dir: dir.to_owned(), manifest }),
            Err(error) => {
                begun.give_up().await;
                Err(error)
            }
        }
    }

    /// Opens a backup and reads all of it: every file has to be there and be what was written.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn open(dir: &Path, tell: Tell<'_>) -> Result<Self, BackupError> {
        let manifest = BackupManifest::read(dir).await?;
        let (mut done, all) = (0, manifest.bytes());
        for file in &manifest.files {
            read_through(dir, file, async |chunk| {
                done += chunk.len() as u64;
                tell("reading", done, all);
                Ok(())
            })
            .await?;
        }
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &BackupManifest {
        &self.manifest
    }
}

async fn write_all(
    pool: &PgPool,
    dir: &Path,
    begun: &Begun,
    tell: Tell<'_>,
) -> Result<BackupManifest, BackupError> {
    let mut transaction = pool.begin().await?;
    // One moment for both tables; what is written meanwhile is the next backup's.
    transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    transaction.execute(AS_EVERYWHERE).await?;
    let unsealed = "SELECT stack, serial FROM terraform.states WHERE sealed_with IS NULL LIMIT 1";
    if let Some(row) = sqlx::query(unsealed).fetch_optional(&mut *transaction).await? {
        return Err(BackupError::Unsealed { stack: row.try_get("stack")?, serial: row.try_get("serial")? });
    }
    let sql = "SELECT count(*), count(DISTINCT stack), coalesce(array_agg(DISTINCT sealed_with), '{}') \
               FROM terraform.states";
    let (all, stacks, keys): (i64, i64, Vec<String>) =
        sqlx::query_as(sql).fetch_one(&mut *transaction).await?;
    let mut files = Vec::new();
    for table in [STATES, FENCES] {
        let length = if table.name == STATES.name { all } else { stacks };
        files.push(write_table(&mut transaction, dir, &table, length.unsigned_abs(), tell).await?);
    }
    let manifest = BackupManifest {
        format: FORMAT,
        time: Timestamp::now(),
        schema: SCHEMA,
        stacks: stacks.unsigned_abs(),
        keys,
        files,
    };
    manifest.write(begun.manifest()?).await?;
    sync_folder(dir).await?;
    Ok(manifest)
}

async fn write_table(
    transaction: &mut Transaction<'_, Postgres>,
    dir: &Path,
    table: &Table,
    length: u64,
    tell: Tell<'_>,
) -> Result<BackupFile, BackupError> {
    let Table { name, file, columns, key } = table;
    let sql = format!("COPY (SELECT {columns} FROM {name} ORDER BY {key}) TO STDOUT");
    let mut writer = Writer::create(dir, file).await?;
    let mut rows = transaction.copy_out_raw(&sql).await?;
    while let Some(row) = rows.try_next().await? {
        writer.write(&row).await?;
        tell("writing", writer.rows(), length.max(writer.rows()));
    }
    writer.finish().await
}
