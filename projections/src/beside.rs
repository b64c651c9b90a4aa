//! The tables of EVENTS-* folded anew in a schema of their own, beside the ones that serve.

use std::collections::VecDeque;
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use wanwright_nats::{Nats, StoredMessage, StreamInfo, inventory, stream_info};
use wanwright_schemas::{CustomerId, subjects};

use crate::checkpoint::Cursor;
use crate::error::{Error, Stop};
use crate::events::TABLES;
use crate::prune::Keep;
use crate::reader::{Folded, fold_events};
use crate::tail::Tail;

/// The most messages that are folded in one transaction.
const BATCH: usize = 4_000;

/// How long a stream may be silent before it is asked whether it still has messages.
const SILENCE: Duration = Duration::from_secs(2);

/// The fold of one stream, or of one customer in it, in a schema of its own.
pub(crate) struct Beside {
    pool: PgPool,
    nats: Nats,
    pub schema: String,
    pub info: StreamInfo,
    pub at: Cursor,
    tail: Tail,
    pending: VecDeque<StoredMessage>,
    customer: Option<CustomerId>,
    /// Holds the lock that keeps a second rebuild of the stream away. It is no connection of the pool: whatever becomes of
    /// this fold, the lock ends with it.
    lock: PgConnection,
}

impl Beside {
    /// Creates the schema. Nobody else may have one for this stream.
    pub async fn create(
        pool: &PgPool,
        nats: &Nats,
        stream: &str,
        customer: Option<CustomerId>,
    ) -> Result<Self, Error> {
        let mut lock = pool.acquire().await?.detach();
        let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(lock_name(stream))
            .fetch_one(&mut lock)
            .await?;
        if !locked {
            return Err(Error::Busy { stream: stream.to_owned() });
        }
        let info = stream_info(&nats.js, stream).await?;
        let schema = format!("beside_{}", stream.to_lowercase().replace('-', "_"));
        create_schema(&mut lock, &schema).await?;
        let tail = Tail::open(&nats.js, stream, Cursor::default(), true).await?;
        Ok(Self {
            pool: pool.clone(),
            nats: nats.clone(),
            schema,
            info,
            at: Cursor::default(),
            tail,
            pending: VecDeque::new(),
            customer,
            lock,
        })
    }

    /// The partition count it is folded with.
    pub fn partitions(&self) -> u16 {
        self.nats.partitions
    }

    /// The stream as it is now.
    pub async fn fresh_info(&self) -> Result<StreamInfo, Error> {
        Ok(stream_info(&self.nats.js, &self.info.name).await?)
    }

    /// Folds up to this sequence, not further; nothing of a stream that lost what was seen of it.
    pub async fn fold_to(&mut self, sequence: u64) -> Result<(), Error> {
        inventory::compare(&self.nats, &self.info.name, None).await?;
        while self.at.sequence < sequence {
            if self.pending.is_empty() {
                self.pending.extend(self.tail.next(BATCH, SILENCE).await?);
            }
            if self.pending.is_empty() {
                let last = self.fresh_info().await?.last;
                if last < sequence {
                    let stream = self.info.name.clone();
                    return Err(Stop::Regression { stream, checkpoint: sequence, last }.into());
                }
            }
            let take = self.pending.iter().take_while(|message| message.sequence <= sequence).count();
            let batch: Vec<StoredMessage> = self.pending.drain(..take).collect();
            self.fold(batch).await?;
        }
        Ok(())
    }

    async fn fold(&mut self, mut batch: Vec<StoredMessage>) -> Result<(), Error> {
        let Some(last) = batch.last() else { return Ok(()) };
        let at = Cursor {
            sequence: last.sequence,
            digest: Some(wanwright_schemas::Digest::of(&last.payload)),
            time: Some(crate::message::micros(last.time)),
        };
        if let Some(customer) = &self.customer {
            batch.retain(|message| subjects::customer_of_events(&message.subject).as_ref() == Some(customer));
        }
        let mut transaction = self.pool.begin().await?;
        // The schema is thrown away: nothing in it has to outlive a crash.
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
        let Folded { stop, .. } =
            fold_events(&mut transaction, &self.schema, &batch, Keep::default(), self.partitions()).await?;
        transaction.commit().await?;
        if let Some(stop) = stop {
            return Err(stop.into());
        }
        self.at = at;
        Ok(())
    }

    /// Takes the schema away.
    pub async fn remove(mut self) -> Result<(), Error> {
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        sqlx::query(&sql).execute(&mut self.lock).await?;
        // Closing alone would give the lock back a moment later.
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut self.lock).await?;
        self.lock.close().await?;
        Ok(())
    }
}

fn lock_name(stream: &str) -> String {
    format!("wanwright projections {stream}")
}

async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
    sqlx::query(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).execute(&mut *connection).await?;
    sqlx::query(&format!("CREATE SCHEMA {schema}")).execute(&mut *connection).await?;
    for (table, _) in TABLES {
        let sql = format!("CREATE UNLOGGED TABLE {schema}.{table} (LIKE public.{table} INCLUDING ALL)");
        sqlx::query(&sql).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The columns of a table, quoted.
pub(crate) async fn columns(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT quote_ident(attname) FROM pg_attribute \
               WHERE attrelid = ('public.' || $1)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    Ok(sqlx::query_scalar(sql).bind(table).fetch_all(connection).await?)
}
