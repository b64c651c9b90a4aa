//! Bringing a backup back: only what is missing, so that no state can be lost by it.

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgPool, Postgres, Row, Transaction};

use super::{AS_EVERYWHERE, Backup, BackupError, FENCES, MIGRATIONS, STATES, Table, Tell, read_through};

/// What became of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Versions were missing, and are there again.
    Restored,
    /// Everything was there.
    Same,
    /// Postgres has a later version of this lineage; it was left as it is.
    Later,
    /// Postgres has what the backup does not have, and the backup has what is later or of another lineage: a person has to
    /// say which is right. It was left as it is.
    Differs,
}

/// A stack of the backup, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredStack {
    /// The stack.
    pub stack: String,
    /// What became of it.
    #[serde(rename = "result")]
    pub verdict: Verdict,
    /// The newest serial that Postgres had; none where it had no version.
    pub before: Option<i64>,
    /// The newest serial of the backup.
    pub backup: i64,
    /// How many versions were put back.
    pub added: i64,
}

/// Where the rows wait to be judged. A backup has nothing that is not sealed, so what says so is none.
const WAIT: &str = "CREATE TEMP TABLE backed_states (LIKE terraform.states, CHECK (sealed_with IS NOT NULL)) ON COMMIT DROP; \
    CREATE TEMP TABLE backed_fences (LIKE terraform.fences) ON COMMIT DROP";

/// Nobody reads what is newest and writes behind it while it is decided what that is. Who wants to meanwhile waits, and has
/// what it wrote on its disk. The fences are not locked: who locks a stack waits with them for who stores a version of it, and
/// that one for the states.
const ALONE: &str = "ANALYZE backed_states; SET LOCAL lock_timeout = '60s'; \
    LOCK TABLE terraform.states IN ACCESS EXCLUSIVE MODE";

/// A stack gets the versions it lacks where it has none, or where the newest it has is in the backup, byte for byte: then
/// what the backup has beyond it was made from it.
const JUDGE: &str = "CREATE TEMP TABLE verdicts ON COMMIT DROP AS \
    SELECT newest.stack, newest.serial AS backup, head.serial AS before, \
        CASE WHEN head.stack IS NULL OR same.stack IS NOT NULL THEN 'restored' \
             WHEN head.lineage = newest.lineage AND head.serial >= newest.serial THEN 'later' \
             ELSE 'differs' END AS verdict \
    FROM (SELECT stack, max(serial) AS serial FROM backed_states GROUP BY stack) last \
    JOIN backed_states newest ON newest.stack = last.stack AND newest.serial = last.serial \
    LEFT JOIN (SELECT stack, max(serial) AS serial FROM terraform.states GROUP BY stack) top \
        ON top.stack = newest.stack \
    LEFT JOIN terraform.states head ON head.stack = top.stack AND head.serial = top.serial \
    LEFT JOIN backed_states same ON same.stack = head.stack AND same.serial = head.serial \
        AND same.lineage = head.lineage AND same.wan_order = head.wan_order \
        AND same.sealed_with = head.sealed_with AND same.body = head.body";

/// A fence goes forward only: a later lease of the same bucket counts, and what is there of another bucket stays.
const FENCE: &str = "INSERT INTO terraform.fences AS present (stack, incarnation, number) \
    SELECT stack, incarnation, number FROM backed_fences \
    ON CONFLICT (stack) DO UPDATE SET number = EXCLUDED.number \
    WHERE present.incarnation = EXCLUDED.incarnation AND present.number < EXCLUDED.number";

impl Backup {
    /// Puts into Postgres what it lacks, in one transaction. No row that is there is changed or removed, and no version
    /// becomes a stack's newest that does not follow the newest it has. Tables that were lost are made again.
    ///
    /// The database has to be migrated before.
    ///
    /// # Errors
    /// [`BackupError`]; Postgres is then as it was.
    pub async fn restore(&self, pool: &PgPool, tell: Tell<'_>) -> Result<Vec<RestoredStack>, BackupError> {
        let mut transaction = pool.begin().await?;
        make_lost_tables(&mut transaction).await?;
        transaction.execute(AS_EVERYWHERE).await?;
        transaction.execute(WAIT).await?;
        self.load(&mut transaction, &STATES, "backed_states", tell).await?;
        self.load(&mut transaction, &FENCES, "backed_fences", tell).await?;
        transaction.execute(ALONE).await?;
        transaction.execute(JUDGE).await?;
        let stacks = add(&mut transaction).await?;
        transaction.execute(FENCE).await?;
        transaction.commit().await?;
        Ok(stacks)
    }

    async fn load(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        table: &Table,
        into: &str,
        tell: Tell<'_>,
    ) -> Result<(), BackupError> {
        let Some(file) = self.manifest.files.iter().find(|file| file.name == table.file) else {
            return Err(BackupError::damaged(&self.dir.join(table.file), "the manifest does not name it"));
        };
        let sql = format!("COPY {into} ({}) FROM STDIN", table.columns);
        let mut copy = transaction.copy_in_raw(&sql).await?;
        let mut done = 0;
        let read = read_through(&self.dir, file, async |chunk| {
            copy.send(chunk).await?;
            done += chunk.len() as u64;
            tell("restoring", done, file.bytes);
            Ok(())
        });
        match read.await {
            Ok(()) => copy.finish().await?,
            Err(error) => {
                copy.abort("the file is not what it was").await?;
                return Err(error);
            }
        };
        Ok(())
    }
}

/// Makes the tables that are not there, as the migrations do, which count as done and do not run again.
async fn make_lost_tables(transaction: &mut Transaction<'_, Postgres>) -> Result<(), BackupError> {
    for (table, made_by) in [(STATES, &MIGRATIONS[..2]), (FENCES, &MIGRATIONS[2..])] {
        let sql = "SELECT to_regclass($1) IS NOT NULL";
        let is_there: bool = sqlx::query_scalar(sql).bind(table.name).fetch_one(&mut **transaction).await?;
        for (_, sql) in made_by.iter().filter(|_| !is_there) {
            transaction.execute(*sql).await?;
        }
    }
    Ok(())
}

/// Adds what is missing, and answers what became of each stack.
async fn add(transaction: &mut Transaction<'_, Postgres>) -> Result<Vec<RestoredStack>, BackupError> {
    let columns = STATES.columns;
    let sql = format!(
        "WITH added AS ( \
             INSERT INTO terraform.states ({columns}) \
             SELECT {columns} FROM backed_states JOIN verdicts USING (stack) WHERE verdict = 'restored' \
             ON CONFLICT (stack, serial) DO NOTHING RETURNING stack \
         ), counted AS (SELECT stack, count(*) AS added FROM added GROUP BY stack) \
         SELECT stack, verdict, before, backup, coalesce(added, 0) AS added \
         FROM verdicts LEFT JOIN counted USING (stack) ORDER BY stack"
    );
    let stack = |row: PgRow| {
        let (verdict, added): (String, i64) = (row.try_get("verdict")?, row.try_get("added")?);
        let verdict = match verdict.as_str() {
            "restored" if added > 0 => Verdict::Restored,
            "restored" => Verdict::Same,
            "later" => Verdict::Later,
            _ => Verdict::Differs,
        };
        let (stack, before, backup) = (row.try_get("stack")?, row.try_get("before")?, row.try_get("backup")?);
        Ok(RestoredStack { stack, verdict, before, backup, added })
    };
    sqlx::query(&sql).try_map(stack).fetch(&mut **transaction).err_into().try_collect().await
}
