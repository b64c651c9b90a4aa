//! Rebuilding: fold a stream anew beside the live tables, then put the result in their place in one transaction.
//!
//! Readers are served all the time: until the commit they see the old rows, afterwards the new ones. Only rows that
//! differ are written, so that rebuilding tables that are right costs no space and the answer says what was wrong.

use sqlx::{PgConnection, PgPool};
use wanwright_nats::Nats;
use wanwright_schemas::CustomerId;

use crate::beside::{Beside, columns};
use crate::checkpoint;
use crate::error::Error;
use crate::events::{TABLES, kept};
use crate::message::micros;
use crate::prune::unpruned_since;
use crate::run::ReadModel;

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// The stream.
    pub stream: String,
    /// Up to which message the tables are the fold of the stream now.
    pub sequence: u64,
    /// How many rows were wrong or missing and have been written.
    pub written: u64,
    /// How many rows should not have been there and have been deleted.
    pub deleted: u64,
}

/// Rebuilds all tables of one stream of events. It is also the way on after a stream was restored: what the stream says
/// now is what the tables say afterwards, and a reader that had stopped goes on from there.
pub async fn rebuild(pool: &PgPool, nats: &Nats, stream: &str) -> Result<Rebuilt, Error> {
    let mut beside = Beside::create(pool, nats, stream, None).await?;
    let result = whole(pool, &mut beside).await;
    finish(beside, result).await
}

/// The partition count that some rows were folded with, where it is not the one of now: [`rebuild_all`] is due.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn folded_otherwise(pool: &PgPool, partitions: u16) -> Result<Option<u16>, Error> {
    let mut connection = pool.acquire().await?;
    for model in [ReadModel::Events, ReadModel::Overview] {
        if let Some(row) = checkpoint::of_other_count(&mut connection, model, partitions).await? {
            return Ok(Some(row.partitions));
        }
    }
    Ok(None)
}

/// Rebuilds everything that is folded from events: what to do after the number of partitions has changed. Rows that
/// were folded from streams which hold no customers any more go; the overviews are read again by their readers.
///
/// # Errors
/// [`Error`]; run it again. Until it is through, the readers of events refuse to go on.
pub async fn rebuild_all(pool: &PgPool, nats: &Nats) -> Result<Vec<Rebuilt>, Error> {
    let streams = ReadModel::Events.streams(nats.partitions);
    let mut rebuilt = Vec::new();
    for stream in &streams {
        rebuilt.push(rebuild(pool, nats, stream).await?);
    }
    let mut transaction = pool.begin().await?;
    // Whoever reads now waits, and finds afterwards that he has to begin anew.
    sqlx::query("SELECT FROM public.projection_status WHERE read_model = ANY($1) FOR UPDATE")
        .bind([ReadModel::Events.name(), ReadModel::Overview.name()])
        .execute(&mut *transaction)
        .await?;
    for (table, _) in TABLES {
        let sql = format!("DELETE FROM public.{table} WHERE stream LIKE 'EVENTS-%' AND stream <> ALL($1)");
        sqlx::query(&sql).bind(&streams).execute(&mut *transaction).await?;
    }
    sqlx::query("DELETE FROM public.customer_overview").execute(&mut *transaction).await?;
    sqlx::query(
        "DELETE FROM public.projection_status WHERE read_model = $1 OR (read_model = $2 AND stream <> ALL($3))",
    )
    .bind(ReadModel::Overview.name())
    .bind(ReadModel::Events.name())
    .bind(&streams)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(rebuilt)
}

/// Rebuilds the rows of one customer, up to where the live tables are.
pub async fn rebuild_customer(
    pool: &PgPool,
    nats: &Nats,
    stream: &str,
    customer: &CustomerId,
) -> Result<Rebuilt, Error> {
    let mut beside = Beside::create(pool, nats, stream, Some(customer.clone())).await?;
    let result = one(pool, &mut beside, customer).await;
    finish(beside, result).await
}

async fn finish(beside: Beside, result: Result<Rebuilt, Error>) -> Result<Rebuilt, Error> {
    let removed = beside.remove().await;
    let rebuilt = result?;
    removed?;
    Ok(rebuilt)
}

async fn whole(pool: &PgPool, beside: &mut Beside) -> Result<Rebuilt, Error> {
    let stream = beside.info.name.clone();
    beside.fold_to(beside.info.last).await?;
    let mut live = pool.begin().await?;
    // From here the live reader waits, so little must be left to do: it has moved on while the rest was folded.
    let row = checkpoint::lock(&mut live, ReadModel::Events, &stream).await?;
    let incarnation = micros(beside.info.incarnation);
    if let Some(row) = &row
        && row.incarnation == incarnation
        && row.state == "running"
        && row.partitions == beside.partitions()
    {
        beside.fold_to(row.sequence).await?;
    }
    let (written, deleted) = merge(&mut live, &beside.schema, &stream, None).await?;
    sqlx::query(
        "INSERT INTO public.projection_status (read_model, stream, incarnation, partitions)
         VALUES ($1, $2, $3::timestamptz, $4) ON CONFLICT (read_model, stream) DO UPDATE
         SET incarnation = excluded.incarnation, partitions = excluded.partitions",
    )
    .bind(ReadModel::Events.name())
    .bind(&stream)
    .bind(incarnation.to_string())
    .bind(i32::from(beside.partitions()))
    .execute(&mut *live)
    .await?;
    checkpoint::advance(&mut live, ReadModel::Events, &stream, &beside.at).await?;
    live.commit().await?;
    Ok(Rebuilt { stream, sequence: beside.at.sequence, written, deleted })
}

async fn one(pool: &PgPool, beside: &mut Beside, customer: &CustomerId) -> Result<Rebuilt, Error> {
    let stream = beside.info.name.clone();
    let mut connection = pool.acquire().await?;
    let now = checkpoint::load(&mut connection, ReadModel::Events, &stream).await?;
    drop(connection);
    beside.fold_to(now.map_or(0, |row| row.sequence)).await?;
    let mut live = pool.begin().await?;
    let row = checkpoint::lock(&mut live, ReadModel::Events, &stream).await?;
    if let Some(row) = &row {
        checkpoint::counts(ReadModel::Events, row, beside.partitions())?;
    }
    beside.fold_to(row.map_or(0, |row| row.sequence)).await?;
    let (written, deleted) = merge(&mut live, &beside.schema, &stream, Some(customer)).await?;
    live.commit().await?;
    Ok(Rebuilt { stream, sequence: beside.at.sequence, written, deleted })
}

/// Makes the live rows of a stream those of a schema.
async fn merge(
    live: &mut PgConnection,
    schema: &str,
    stream: &str,
    customer: Option<&CustomerId>,
) -> Result<(u64, u64), Error> {
    let customer = customer.map(CustomerId::as_str);
    let since = unpruned_since(live).await?;
    let (mut written, mut deleted) = (0, 0);
    for (table, key) in TABLES {
        sqlx::query(&format!("ANALYZE {schema}.{table}")).execute(&mut *live).await?;
        let same: Vec<String> = key.iter().map(|column| format!("b.\"{column}\" = l.\"{column}\"")).collect();
        let sql = format!(
            "DELETE FROM public.{table} l WHERE l.stream = $1 AND ($2::text IS NULL OR l.customer = $2) AND {}
             AND NOT EXISTS (SELECT FROM {schema}.{table} b WHERE {})",
            kept(table, "l", &since),
            same.join(" AND ")
        );
        let done = sqlx::query(&sql).bind(stream).bind(customer).execute(&mut *live).await?;
        deleted += done.rows_affected();
        let columns = columns(live, table).await?;
        let of = |row: &str| columns.iter().map(|c| format!("{row}.{c}")).collect::<Vec<_>>().join(", ");
        let all = columns.join(", ");
        let key: Vec<String> = key.iter().map(|column| format!("\"{column}\"")).collect();
        let sql = format!(
            "INSERT INTO public.{table} AS l ({all}) SELECT {all} FROM {schema}.{table} b WHERE {}
             ON CONFLICT ({}) DO UPDATE SET ({all}) = ROW ({})
             WHERE ({}) IS DISTINCT FROM ({})",
            kept(table, "b", &since),
            key.join(", "),
            of("excluded"),
            of("l"),
            of("excluded")
        );
        written += sqlx::query(&sql).execute(&mut *live).await?.rows_affected();
    }
    Ok((written, deleted))
}

/// Lets a read model other than the event tables start again: its rows go, and its readers read what their stream holds.
/// What the stream no longer holds is gone from the tables too. Returns how many rows went.
pub async fn restart(pool: &PgPool, model: ReadModel, stream: &str) -> Result<u64, Error> {
    let deletes: &[&str] = match model {
        // The event tables are rebuilt, never emptied.
        ReadModel::Events => return Ok(0),
        // Heads stay: what is read anew is compared with them.
        ReadModel::Audit => &[],
        ReadModel::Overview => &[
            "DELETE FROM public.customer_overview WHERE view_id IN (SELECT customer FROM public.customers WHERE stream = $1)",
        ],
        ReadModel::Operations => {
            &["DELETE FROM public.operations WHERE $1 <> ''", "DELETE FROM public.run_log WHERE $1 <> ''"]
        }
        ReadModel::Outcomes => &["DELETE FROM public.outcomes WHERE stream = $1"],
        ReadModel::DeadLetters => &["DELETE FROM public.dead_letters WHERE $1 <> ''"],
        ReadModel::Controls => &["DELETE FROM public.controls WHERE $1 <> ''"],
        ReadModel::Rollouts => &["DELETE FROM public.rollouts WHERE $1 <> ''"],
        ReadModel::Budgets => &["DELETE FROM public.budget_records WHERE $1 <> ''"],
    };
    let mut transaction = pool.begin().await?;
    checkpoint::lock(&mut transaction, model, stream).await?;
    let mut gone = 0;
    for sql in deletes {
        gone += sqlx::query(sql).bind(stream).execute(&mut *transaction).await?.rows_affected();
    }
    sqlx::query("DELETE FROM public.projection_status WHERE read_model = $1 AND stream = $2")
        .bind(model.name())
        .bind(stream)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(gone)
}
