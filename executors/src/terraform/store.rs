//! Terraform's states: every version of every stack in Postgres, written with compare and set, and a copy of the newest
//! in NATS. Both are sealed; neither is believed where the other one has something later.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use wanwright_nats::{Fence, KeyError, NatsError, SealedState, StateCopies, StateKeys, StatePlace};
use wanwright_schemas::envelope::Digest;
pub(super) use wanwright_schemas::report::StateMark as Mark;

/// What a version is sealed for that is kept.
const KEPT: &str = "kept";

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
    /// The lease under which it was made: behind a lock under a later one it is not stored, however long it has waited.
    pub(super) fence: Option<Fence>,
}

/// Why a state was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// The copy in NATS.
    #[error("the second copy of the state")]
    Copy(#[from] NatsError),
    /// A version cannot be sealed or opened.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A version in Postgres is not sealed: it was put there by hand, or by wanwright before states were sealed.
    #[error(
        "version {serial} of stack {stack} is not sealed; if an earlier wanwright wrote it, run `wanwright state seal`"
    )]
    Unsealed {
        /// The stack.
        stack: String,
        /// The serial of the version.
        serial: i64,
    },
    /// Postgres and NATS do not have the same history.
    #[error(
        "stack {stack} has lineage {} and serial {} in Postgres, but lineage {} and serial {} in NATS; look at both with \
         `wanwright state`",
        postgres.0,
        postgres.1,
        nats.0,
        nats.1
    )]
    Apart {
        /// The stack.
        stack: String,
        /// Lineage and serial in Postgres.
        postgres: (String, i64),
        /// Lineage and serial in NATS.
        nats: (String, i64),
    },
    /// The stack was applied before, and nobody has a state of it.
    #[error(
        "stack {stack} was applied before and has no state, neither in Postgres nor in NATS: bring one of them back from a \
         backup, or run `wanwright state begin {stack}` to have Terraform find what is there by keys and names"
    )]
    Gone {
        /// The stack.
        stack: String,
    },
    /// Both stores have an older version than the customer's history tells of.
    #[error(
        "stack {stack} has serial {found} in Postgres and NATS, but its history tells of {}: bring that back from a backup \
         with `wanwright state restore --from`, or go on from this one with `wanwright state accept {stack} {found}`",
        if found == known { format!("another serial {known}") } else { format!("serial {known}") }
    )]
    Older {
        /// The stack.
        stack: String,
        /// The newest serial that there is.
        found: i64,
        /// The serial that the history tells of.
        known: i64,
    },
    /// The run has lost its lease of the stack.
    #[error("the lease of stack {stack} was lost: somebody else may be at it")]
    Overtaken {
        /// The stack.
        stack: String,
    },
    /// The newest state is another executor's to bring.
    #[error("the stack's newest state waits in {}, whose executor is running", .folder.display())]
    Elsewhere {
        /// The folder of the other executor.
        folder: std::path::PathBuf,
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

impl StoreError {
    /// Trouble with a spool.
    pub(super) fn spool(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Spool { doing, source }
    }
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
        Ok(Self {
            stack: stack.to_owned(),
            order: order.to_owned(),
            body,
            serial,
            lineage,
            after,
            fence: None,
        })
    }

    /// The same version, made under a lease.
    pub(super) fn under(self, fence: Option<Fence>) -> Self {
        Self { fence, ..self }
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

    /// Whether it is a later version of the same stack.
    fn is_behind(&self, other: &Self) -> bool {
        self.lineage == other.lineage && self.serial > other.serial
    }

    /// Whether it may stand behind what is there.
    pub(super) fn follows(&self, present: Option<&Self>) -> bool {
        let in_line =
            present.is_none_or(|present| present.lineage == self.lineage && present.serial < self.serial);
        in_line && self.after.contains(&present.map(Self::mark))
    }
}

/// Whether the newest version that there is of a stack is as new as the one that is known of it. Both stores may have been
/// put back to what they had before, by hand or from backups: what Terraform made since would be made once more.
pub(super) fn up_to_date(
    stack: &str,
    known: Option<Mark>,
    newest: Option<&Version>,
) -> Result<(), StoreError> {
    let (stack, Some(known)) = (stack.to_owned(), known) else { return Ok(()) };
    match newest.map(Version::mark) {
        None => Err(StoreError::Gone { stack }),
        // Whoever wrote it did not come to report it.
        Some(newest) if newest.serial > known.serial || newest == known => Ok(()),
        Some(Mark { serial: found, .. }) => Err(StoreError::Older { stack, found, known: known.serial }),
    }
}

/// Where states are kept.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) pool: PgPool,
    pub(super) keys: StateKeys,
    pub(super) copies: StateCopies,
}

/// The columns that make a sealed version.
pub(super) const SEALED: &str = "stack, serial, lineage, wan_order, sealed_with, body";

/// A version as Postgres has it: sealed, or what it is instead.
pub(super) fn sealed(row: &PgRow) -> Result<SealedState, StoreError> {
    let (stack, serial): (String, i64) = (row.try_get("stack")?, row.try_get("serial")?);
    let key: Option<String> = row.try_get("sealed_with")?;
    let Some(key) = key else { return Err(StoreError::Unsealed { stack, serial }) };
    let body: Vec<u8> = row.try_get("body")?;
    let (lineage, order) = (row.try_get("lineage")?, row.try_get("wan_order")?);
    Ok(SealedState { stack, serial, lineage, order, key, body: body.into() })
}

impl Store {
    /// Seals a version with the newest key.
    pub(super) fn seal(&self, version: &Version) -> Result<SealedState, StoreError> {
        let Version { stack, order, serial, lineage, .. } = version;
        let place = StatePlace { what: KEPT, stack, serial: *serial, lineage, order };
        let (key, body) = self.keys.seal(&place, &version.body)?;
        let (stack, lineage, order) = (stack.clone(), lineage.clone(), order.clone());
        Ok(SealedState { stack, serial: *serial, lineage, order, key, body: body.into() })
    }

    /// Opens a sealed version.
    pub(super) fn open(&self, sealed: &SealedState) -> Result<Version, StoreError> {
        let SealedState { stack, serial, lineage, order, key, body } = sealed;
        let place = StatePlace { what: KEPT, stack, serial: *serial, lineage, order };
        Version::read(stack, order, self.keys.open(&place, key, body)?, Vec::new())
    }

    /// Makes the key file where there is none and nothing is sealed yet.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if self.keys.path().exists() {
            // A key that it lacks is missed by whoever opens what it seals. Postgres need not be there for this.
            return Ok(self.keys.check(None)?);
        }
        let sql = "SELECT sealed_with FROM terraform.states WHERE sealed_with IS NOT NULL LIMIT 1";
        let mut key: Option<String> = sqlx::query_scalar(sql).fetch_optional(&self.pool).await?;
        if key.is_none()
            && let Some(stack) = self.copies.stacks().await?.first()
        {
            key = self.copies.get(stack).await?.map(|copy| copy.key);
        }
        Ok(self.keys.check(key.as_deref())?)
    }

    /// The newest version of a stack's state. Where Postgres has lost what NATS has, it gets it back.
    pub(super) async fn newest(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        match tokio::try_join!(self.in_postgres(&self.pool, stack), self.copy(stack))? {
            (None, None) => Ok(None),
            (Some(present), None) => {
                self.copy_again(&present).await;
                Ok(Some(present))
            }
            (Some(present), Some(copy)) if present.body == copy.body => Ok(Some(present)),
            (Some(present), Some(copy)) if present.is_behind(&copy) => {
                self.copy_again(&present).await;
                Ok(Some(present))
            }
            (Some(present), Some(copy)) if !copy.is_behind(&present) => Err(StoreError::Apart {
                stack: stack.to_owned(),
                postgres: (present.lineage, present.serial),
                nats: (copy.lineage, copy.serial),
            }),
            (present, Some(copy)) => {
                tracing::error!(
                    stack,
                    postgres = present.map(|present| present.serial),
                    nats = copy.serial,
                    "Postgres has lost versions of a state; the newest is taken from its second copy"
                );
                self.insert(&self.pool, &self.seal(&copy)?).await?;
                Ok(Some(copy))
            }
        }
    }

    /// Copies what could not be copied when it was written; where it cannot be now, the next version is.
    async fn copy_again(&self, present: &Version) {
        let copied = match self.seal(present) {
            Ok(sealed) => self.copies.put(&sealed).await.map_err(StoreError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(stack = present.stack, error, "a state has no second copy");
        }
    }

    /// The second copy of a stack's state.
    pub(super) async fn copy(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        self.copies.get(stack).await?.map(|copy| self.open(&copy)).transpose()
    }

    /// The newest version that Postgres has.
    pub(super) async fn in_postgres(
        &self,
        connection: impl sqlx::PgExecutor<'_>,
        stack: &str,
    ) -> Result<Option<Version>, StoreError> {
        let sql =
            format!("SELECT {SEALED} FROM terraform.states WHERE stack = $1 ORDER BY serial DESC LIMIT 1");
        let row = sqlx::query(&sql).bind(stack).fetch_optional(connection).await?;
        row.map(|row| self.open(&sealed(&row)?)).transpose()
    }

    /// Whether Postgres has this very version, others behind it or not.
    async fn has(
        &self,
        connection: impl sqlx::PgExecutor<'_>,
        version: &Version,
    ) -> Result<bool, StoreError> {
        let sql = format!("SELECT {SEALED} FROM terraform.states WHERE stack = $1 AND serial = $2");
        let row = sqlx::query(&sql).bind(&version.stack).bind(version.serial);
        let row = row.fetch_optional(connection).await?;
        let there = row.map(|row| self.open(&sealed(&row)?)).transpose()?;
        Ok(there.is_some_and(|there| there.body == version.body))
    }

    /// Serialises writers of one stack, the first write included, which has no row to lock.
    pub(super) async fn alone(connection: &mut sqlx::PgConnection, stack: &str) -> Result<(), StoreError> {
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        sqlx::query(sql).bind(stack).execute(connection).await?;
        Ok(())
    }

    /// Stores a version behind the very one it was made from. The same version again changes nothing, also when others
    /// have gone on from it meanwhile: who stored it may have died before it could forget it.
    pub(super) async fn store(&self, version: &Version) -> Result<(), StoreError> {
        let sealed = self.seal(version)?;
        let mut transaction = self.pool.begin().await?;
        Self::alone(&mut transaction, &version.stack).await?;
        let present = self.in_postgres(&mut *transaction, &version.stack).await?;
        if present.as_ref().is_none_or(|present| present.body != version.body) {
            let follows = version.follows(present.as_ref());
            if !follows && self.has(&mut *transaction, version).await? {
                return Ok(());
            }
            if !follows || self.is_fenced(&mut transaction, version).await? {
                return Err(version.conflict(present.as_ref()));
            }
            self.insert(&mut *transaction, &sealed).await?;
            transaction.commit().await?;
        }
        Ok(self.copies.put(&sealed).await?)
    }

    /// Whether somebody has locked the stack under a later lease than the one that a version was made under.
    async fn is_fenced(
        &self,
        connection: &mut sqlx::PgConnection,
        version: &Version,
    ) -> Result<bool, StoreError> {
        let Some(Fence { incarnation, number }) = version.fence else { return Ok(false) };
        let sql = "SELECT EXISTS (SELECT FROM terraform.fences WHERE stack = $1 AND number > $2 \
                   AND incarnation = to_timestamp($3))";
        let fenced = sqlx::query_scalar(sql).bind(&version.stack).bind(number.cast_signed());
        Ok(fenced.bind(incarnation.as_second() as f64).fetch_one(connection).await?)
    }

    /// Notes that the stack is locked under a lease. `false`: it was under a later one.
    pub(super) async fn fence(&self, stack: &str, fence: Fence) -> Result<bool, StoreError> {
        let same = "SELECT EXISTS (SELECT FROM terraform.fences WHERE stack = $1 AND incarnation = to_timestamp($2) \
                    AND number = $3)";
        let same = sqlx::query_scalar(same).bind(stack).bind(fence.incarnation.as_second() as f64);
        if same.bind(fence.number.cast_signed()).fetch_one(&self.pool).await? {
            return Ok(true);
        }
        // Waits for who stores a version at this moment, so that whoever reads after this reads that one.
        let sql = "INSERT INTO terraform.fences AS present (stack, incarnation, number) \
                   SELECT $1, to_timestamp($2), $3 FROM (SELECT pg_advisory_xact_lock(hashtextextended($1, 0))) AS alone \
                   ON CONFLICT (stack) DO UPDATE SET incarnation = EXCLUDED.incarnation, number = EXCLUDED.number \
                   WHERE present.incarnation <> EXCLUDED.incarnation OR present.number <= EXCLUDED.number";
        let noted = sqlx::query(sql).bind(stack).bind(fence.incarnation.as_second() as f64);
        let noted = noted.bind(fence.number.cast_signed()).execute(&self.pool).await?;
        Ok(noted.rows_affected() > 0)
    }

    /// Removes versions that are older than 90 days and not among the newest twenty serials of their stack. Answers how many
    /// there were.
    pub(super) async fn thin(&self) -> Result<u64, StoreError> {
        let sql = "DELETE FROM terraform.states old WHERE written_at < now() - interval '90 days' \
                   AND serial <= (SELECT max(serial) - 20 FROM terraform.states newer WHERE newer.stack = old.stack)";
        Ok(sqlx::query(sql).execute(&self.pool).await?.rows_affected())
    }

    pub(super) async fn insert(
        &self,
        connection: impl sqlx::PgExecutor<'_>,
        sealed: &SealedState,
    ) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO terraform.states ({SEALED}) VALUES ($1, $2, $3, $4, $5, $6)");
        sqlx::query(&sql)
            .bind(&sealed.stack)
            .bind(sealed.serial)
            .bind(&sealed.lineage)
            .bind(&sealed.order)
            .bind(&sealed.key)
            .bind(&sealed.body[..])
            .execute(connection)
            .await?;
        Ok(())
    }
}
