//! Terraform's states for people: every version of every stack, opened; and what is done when a version is not what was
//! stored, or its key is to be replaced.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use wanwright_nats::{Nats, SealedState, StateCopies, StateKeys};

use super::store::{Mark, SEALED, Store, StoreError, Version, sealed, up_to_date};

/// The states of all stacks.
#[derive(Debug, Clone)]
pub struct States(Store);

/// A version of a stack's state, unopened.
#[derive(Debug, Clone)]
pub struct StateRow {
    /// The stack: the id of the command that created its site.
    pub stack: String,
    /// How many versions of the stack there are.
    pub versions: i64,
    /// The serial Terraform gave this version.
    pub serial: i64,
    /// When it reached Postgres.
    pub written_at: Timestamp,
    /// The order in whose run it was written.
    pub order: String,
    /// Its size, compressed and sealed, in bytes.
    pub bytes: i64,
    /// The id of the key that seals it; none where it is not sealed.
    pub sealed_with: Option<String>,
}

/// A version of a stack's state, opened.
#[derive(Debug, Clone)]
pub struct StateVersion {
    /// The stack.
    pub stack: String,
    /// The serial Terraform gave the version.
    pub serial: i64,
    /// The lineage Terraform gave the stack.
    pub lineage: String,
    /// The order in whose run it was written.
    pub order: String,
    /// The state as Terraform wrote it.
    pub body: Vec<u8>,
}

/// What [`States::restore`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// There is no second copy of this stack's state.
    NoCopy,
    /// Postgres has this very version.
    Same(i64),
    /// Postgres has a later version that opens: it is the copy that is old.
    Older(i64),
    /// The copy stands in Postgres again, under this serial.
    Done(i64),
}

/// What [`States::accept`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// There is no state of this stack.
    NoState,
    /// The newest version that there is has this serial, which is another one.
    Another(i64),
    /// Nothing newer is known of.
    Needless(i64),
    /// What was accepted is the newest version again, under this serial.
    Done(i64),
}

/// The order of what no run has written.
const BY_HAND: &str = "by hand";

/// What [`States::reseal`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Versions in Postgres that are sealed with the newest key now.
    pub versions: usize,
    /// The same of second copies in NATS.
    pub copies: usize,
    /// Versions that do not open, and were left as they are.
    pub unopened: Vec<String>,
    /// The id of the newest key.
    pub key: String,
}

impl From<Version> for StateVersion {
    fn from(version: Version) -> Self {
        let Version { stack, order, body, serial, lineage, .. } = version;
        Self { stack, serial, lineage, order, body }
    }
}

/// A state under another serial. Everything else stays as Terraform wrote it, numbers of any length included.
pub(super) fn with_serial(body: &[u8], serial: i64) -> serde_json::Result<Vec<u8>> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body)?;
    fields.insert("serial".to_owned(), to_raw_value(&serial)?);
    serde_json::to_vec(&fields)
}

fn row(row: &PgRow) -> Result<StateRow, StoreError> {
    let seconds: i64 = row.try_get("seconds")?;
    Ok(StateRow {
        stack: row.try_get("stack")?,
        versions: row.try_get("versions")?,
        serial: row.try_get("serial")?,
        written_at: Timestamp::from_second(seconds).unwrap_or_default(),
        order: row.try_get("wan_order")?,
        bytes: row.try_get("bytes")?,
        sealed_with: row.try_get("sealed_with")?,
    })
}

/// The columns of a [`StateRow`].
const ROW: &str = "stack, serial, wan_order, sealed_with, octet_length(body)::bigint AS bytes, \
                   extract(epoch FROM written_at)::bigint AS seconds, \
                   count(*) OVER (PARTITION BY stack) AS versions";

impl States {
    /// The states in this database, with their second copies on this server.
    pub fn new(pool: PgPool, nats: Nats, keys: StateKeys) -> Self {
        Self(Store { pool, keys, copies: StateCopies::new(nats) })
    }

    /// The newest version of every stack.
    ///
    /// # Errors
    /// [`StoreError::Postgres`].
    pub async fn list(&self) -> Result<Vec<StateRow>, StoreError> {
        let sql =
            format!("SELECT DISTINCT ON (stack) {ROW} FROM terraform.states ORDER BY stack, serial DESC");
        sqlx::query(&sql).fetch_all(&self.0.pool).await?.iter().map(row).collect()
    }

    /// Every version of a stack, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Postgres`].
    pub async fn history(&self, stack: &str) -> Result<Vec<StateRow>, StoreError> {
        let sql = format!("SELECT {ROW} FROM terraform.states WHERE stack = $1 ORDER BY serial DESC");
        sqlx::query(&sql).bind(stack).fetch_all(&self.0.pool).await?.iter().map(row).collect()
    }

    /// A version of a stack that Postgres has; the newest where no serial is given.
    ///
    /// # Errors
    /// [`StoreError`], also when it is there and does not open.
    pub async fn version(
        &self,
        stack: &str,
        serial: Option<i64>,
    ) -> Result<Option<StateVersion>, StoreError> {
        let Some(serial) = serial else {
            return Ok(self.0.in_postgres(&self.0.pool, stack).await?.map(StateVersion::from));
        };
        let sql = format!("SELECT {SEALED} FROM terraform.states WHERE stack = $1 AND serial = $2");
        let found = sqlx::query(&sql).bind(stack).bind(serial).fetch_optional(&self.0.pool).await?;
        found.map(|row| Ok(self.0.open(&sealed(&row)?)?.into())).transpose()
    }

    /// The second copy of a stack's state.
    ///
    /// # Errors
    /// [`StoreError`], also when it is there and does not open.
    pub async fn copy(&self, stack: &str) -> Result<Option<StateVersion>, StoreError> {
        Ok(self.0.copy(stack).await?.map(StateVersion::from))
    }

    /// Puts the second copy of a stack's state in the place of what Postgres has, where that does not open, is older, or
    /// says something else under the same serial.
    ///
    /// # Errors
    /// [`StoreError`]; Postgres is then as it was.
    pub async fn restore(&self, stack: &str) -> Result<Restored, StoreError> {
        let mut transaction = self.0.pool.begin().await?;
        // What is judged stays so until it is replaced.
        Store::alone(&mut transaction, stack).await?;
        let Some(copy) = self.0.copy(stack).await? else { return Ok(Restored::NoCopy) };
        match self.0.in_postgres(&mut *transaction, stack).await {
            Ok(Some(present)) if present.body == copy.body => return Ok(Restored::Same(copy.serial)),
            Ok(Some(present)) if present.lineage == copy.lineage && present.serial > copy.serial => {
                return Ok(Restored::Older(present.serial));
            }
            Ok(_) | Err(StoreError::Key(_) | StoreError::Unsealed { .. } | StoreError::NoState(_)) => {}
            Err(error) => return Err(error),
        }
        // What stands above the copy does not open: it would go on standing in the way.
        sqlx::query("DELETE FROM terraform.states WHERE stack = $1 AND serial >= $2")
            .bind(stack)
            .bind(copy.serial)
            .execute(&mut *transaction)
            .await?;
        self.0.insert(&mut *transaction, &self.0.seal(&copy)?).await?;
        transaction.commit().await?;
        Ok(Restored::Done(copy.serial))
    }

    /// Has a stack go on from the newest version that there is, which is older than the one that is known of it: it is
    /// stored once more, behind that.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub async fn accept(
        &self,
        stack: &str,
        serial: i64,
        known: Option<Mark>,
    ) -> Result<Accepted, StoreError> {
        let Some(newest) = self.0.newest(stack).await? else { return Ok(Accepted::NoState) };
        if newest.serial != serial {
            return Ok(Accepted::Another(newest.serial));
        }
        let Some(known) = known.filter(|_| up_to_date(stack, known, Some(&newest)).is_err()) else {
            return Ok(Accepted::Needless(serial));
        };
        let next = known.serial + 1;
        let body = with_serial(&newest.body, next).map_err(|error| StoreError::NoState(error.to_string()))?;
        let version = Version::read(stack, BY_HAND, body, vec![Some(newest.mark())])?;
        self.0.store(&version).await?;
        Ok(Accepted::Done(next))
    }

    /// Gives a stack that has no state an empty one, so that its next run finds by keys and names what is there. It stands
    /// behind the version that is `known` of the stack. `false`: it has one.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub async fn begin(&self, stack: &str, known: Option<Mark>) -> Result<bool, StoreError> {
        if self.0.newest(stack).await?.is_some() {
            return Ok(false);
        }
        let lineage = uuid::Uuid::new_v4().to_string();
        let serial = known.map_or(1, |known| known.serial + 1);
        let state = json!({ "version": 4, "terraform_version": "1.0.0", "serial": serial, "lineage": lineage,
            "outputs": {}, "resources": [] });
        let version = Version::read(stack, BY_HAND, state.to_string().into_bytes(), vec![None])?;
        self.0.store(&version).await.map(|()| true)
    }

    /// Seals with the newest key what an older one seals, and what an earlier wanwright did not seal where `unsealed` is
    /// meant as well. The older keys stay in the file: spools and backups need them.
    ///
    /// # Errors
    /// [`StoreError`]; what was sealed stays so, and the rest is done when it is asked for again.
    pub async fn reseal(&self, unsealed: bool) -> Result<Resealed, StoreError> {
        let mut done = Resealed { key: self.0.keys.newest()?, ..Resealed::default() };
        let sql = "SELECT stack, serial FROM terraform.states \
                   WHERE sealed_with <> $1 OR ($2 AND sealed_with IS NULL) ORDER BY stack, serial";
        let rows = sqlx::query(sql).bind(&done.key).bind(unsealed).fetch_all(&self.0.pool).await?;
        for row in rows {
            let (stack, serial): (String, i64) = (row.try_get("stack")?, row.try_get("serial")?);
            match self.reseal_row(&stack, serial, unsealed).await {
                Ok(()) => done.versions += 1,
                Err(StoreError::Key(error)) => done.unopened.push(format!("{stack} {serial}: {error}")),
                Err(error) => return Err(error),
            }
        }
        for stack in self.0.copies.stacks().await? {
            let Some(copy) = self.0.copies.get(&stack).await? else { continue };
            if copy.key == done.key {
                continue;
            }
            match self.0.open(&copy) {
                Ok(version) => {
                    self.0.copies.replace(&self.0.seal(&version)?).await?;
                    done.copies += 1;
                }
                Err(error) => done.unopened.push(format!("the copy of {stack}: {error}")),
            }
        }
        Ok(done)
    }

    async fn reseal_row(&self, stack: &str, serial: i64, unsealed: bool) -> Result<(), StoreError> {
        let sql = format!("SELECT {SEALED} FROM terraform.states WHERE stack = $1 AND serial = $2");
        let found = sqlx::query(&sql).bind(stack).bind(serial).fetch_optional(&self.0.pool).await?;
        let Some(row) = found else { return Ok(()) };
        let version = match sealed(&row) {
            Ok(sealed) => self.0.open(&sealed)?,
            Err(StoreError::Unsealed { .. }) if unsealed => {
                Version::read(stack, row.try_get("wan_order")?, row.try_get("body")?, Vec::new())?
            }
            Err(error) => return Err(error),
        };
        let SealedState { key, body, .. } = self.0.seal(&version)?;
        let was: Option<String> = row.try_get("sealed_with")?;
        let sql = "UPDATE terraform.states SET sealed_with = $3, body = $4 \
                   WHERE stack = $1 AND serial = $2 AND sealed_with IS NOT DISTINCT FROM $5";
        sqlx::query(sql)
            .bind(stack)
            .bind(serial)
            .bind(key)
            .bind(&body[..])
            .bind(was)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}
