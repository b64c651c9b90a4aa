//! `projection_status`: how far each reader is. Rows and checkpoint commit together.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use wanwright_nats::StreamInfo;
use wanwright_schemas::Digest;

use crate::error::{Error, Stop};
use crate::message::micros;
use crate::run::ReadModel;
use crate::table::parse;

/// A row of `projection_status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// The read model.
    pub read_model: String,
    /// The stream it reads.
    pub stream: String,
    /// The last message whose rows are committed.
    pub sequence: u64,
    /// The digest of that message.
    pub digest: Option<Digest>,
    /// When that message was stored in the stream.
    pub message_time: Option<Timestamp>,
    /// When the stream was created.
    pub incarnation: Timestamp,
    /// Over how many partitions customers were spread when these rows were folded.
    pub partitions: u16,
    /// How many messages had left the stream before they were read.
    pub skipped: u64,
    /// The stream's last sequence when the reader looked last.
    pub stream_last: u64,
    /// `running` or `stopped`.
    pub state: String,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
    /// When the row was written.
    pub updated_at: Timestamp,
}

/// A place in a stream, and what stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub sequence: u64,
    pub digest: Option<Digest>,
    pub time: Option<Timestamp>,
}

const SELECT: &str =
    "SELECT row_to_json(s)::text FROM public.projection_status s WHERE read_model = $1 AND stream = $2";

/// The reader's row; none before it ran for the first time.
pub(crate) async fn load(
    connection: &mut PgConnection,
    model: ReadModel,
    stream: &str,
) -> Result<Option<StatusRow>, Error> {
    fetch(connection, SELECT, model, stream).await
}

/// The same, and keeps everybody else from moving it until the transaction ends.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    model: ReadModel,
    stream: &str,
) -> Result<Option<StatusRow>, Error> {
    fetch(connection, &format!("{SELECT} FOR UPDATE"), model, stream).await
}

async fn fetch(
    connection: &mut PgConnection,
    sql: &str,
    model: ReadModel,
    stream: &str,
) -> Result<Option<StatusRow>, Error> {
    let text: Option<String> =
        sqlx::query_scalar(sql).bind(model.name()).bind(stream).fetch_optional(connection).await?;
    text.map(|text| parse("projection_status", &text)).transpose()
}

/// Where to go on, after the stream has been compared with what is known of it.
pub(crate) async fn open(
    pool: &PgPool,
    model: ReadModel,
    info: &StreamInfo,
    partitions: u16,
) -> Result<Cursor, Error> {
    let mut transaction = pool.begin().await?;
    let incarnation = micros(info.incarnation);
    // A reader that has read nothing yet does not mind which stream it is.
    sqlx::query(
        "INSERT INTO public.projection_status AS s (read_model, stream, incarnation, partitions)
         VALUES ($1, $2, $3::timestamptz, $4)
         ON CONFLICT (read_model, stream) DO UPDATE
         SET incarnation = excluded.incarnation, partitions = excluded.partitions WHERE s.sequence = 0",
    )
    .bind(model.name())
    .bind(&info.name)
    .bind(incarnation.to_string())
    .bind(i32::from(partitions))
    .execute(&mut *transaction)
    .await?;
    let row = lock(&mut transaction, model, &info.name).await?;
    let Some(row) = row else { return Err(sqlx::Error::RowNotFound.into()) };
    check(&row, info)?;
    if model.contiguous() && row.sequence > 0 && info.messages < row.sequence {
        check_whole(info)?;
    }
    if let Some(other) = of_other_count(&mut transaction, model, partitions).await? {
        counts(model, &other, partitions)?;
    }
    let mut cursor = Cursor { sequence: row.sequence, digest: row.digest, time: row.message_time };
    let next = cursor.sequence + 1;
    if !model.contiguous() && info.first > next {
        cursor = Cursor { sequence: info.first - 1, digest: None, time: None };
        let skipped = if info.messages == 0 && row.sequence == 0 { 0 } else { info.first - next };
        sqlx::query(
            "UPDATE public.projection_status SET sequence = $3, digest = NULL, skipped = skipped + $4, updated_at = now()
             WHERE read_model = $1 AND stream = $2",
        )
        .bind(model.name())
        .bind(&info.name)
        .bind(signed(cursor.sequence))
        .bind(signed(skipped))
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(cursor)
}

/// A reader of this model that has read under another partition count. Where there is one, some customers' rows are
/// folded from where their history was before, and folding on from where it is now would count it twice.
pub(crate) async fn of_other_count(
    connection: &mut PgConnection,
    model: ReadModel,
    partitions: u16,
) -> Result<Option<StatusRow>, Error> {
    let text: Option<String> = sqlx::query_scalar(
        "SELECT row_to_json(s)::text FROM public.projection_status s
         WHERE read_model = $1 AND partitions <> $2 AND sequence > 0 ORDER BY stream LIMIT 1",
    )
    .bind(model.name())
    .bind(i32::from(partitions))
    .fetch_optional(connection)
    .await?;
    text.map(|text| parse("projection_status", &text)).transpose()
}

/// Whether rows were folded under this partition count, where it matters.
pub(crate) fn counts(model: ReadModel, row: &StatusRow, partitions: u16) -> Result<(), Stop> {
    if !model.tells_histories() || row.partitions == partitions || row.sequence == 0 {
        return Ok(());
    }
    Err(Stop::Partitions { stream: row.stream.clone(), rows: row.partitions, now: partitions })
}

/// Whether a stream can be the one that was read up to this row.
pub(crate) fn check(row: &StatusRow, info: &StreamInfo) -> Result<(), Stop> {
    let found = micros(info.incarnation);
    if row.incarnation != found && row.sequence > 0 {
        return Err(Stop::Incarnation { stream: row.stream.clone(), expected: row.incarnation, found });
    }
    if info.last < row.sequence {
        return Err(Stop::Regression {
            stream: row.stream.clone(),
            checkpoint: row.sequence,
            last: info.last,
        });
    }
    Ok(())
}

/// Whether a stream that keeps every message has them all, as far as the server knows. What is missing before the
/// checkpoint would not be met by a reader any more.
pub(crate) fn check_whole(info: &StreamInfo) -> Result<(), Stop> {
    wanwright_nats::evidence::check::is_whole(info).map_err(|_| Stop::Hole {
        stream: info.name.clone(),
        first: info.first,
        last: info.last,
        messages: info.messages,
    })
}

/// Moves the checkpoint, in the transaction that wrote the rows.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    model: ReadModel,
    stream: &str,
    to: &Cursor,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE public.projection_status SET sequence = $3, digest = $4, message_time = $5::timestamptz,
            stream_last = greatest(stream_last, $3), state = 'running', last_error = NULL, last_error_at = NULL,
            updated_at = now()
         WHERE read_model = $1 AND stream = $2",
    )
    .bind(model.name())
    .bind(stream)
    .bind(signed(to.sequence))
    .bind(to.digest.map(|digest| digest.to_string()))
    .bind(to.time.map(|time| time.to_string()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the stream's last sequence, and that all is well.
pub(crate) async fn seen(pool: &PgPool, model: ReadModel, info: &StreamInfo) -> Result<(), Error> {
    sqlx::query(
        "UPDATE public.projection_status SET stream_last = $3, state = 'running', last_error = NULL,
            last_error_at = NULL, updated_at = now()
         WHERE read_model = $1 AND stream = $2 AND (stream_last <> $3 OR state <> 'running' OR last_error IS NOT NULL)",
    )
    .bind(model.name())
    .bind(&info.name)
    .bind(signed(info.last))
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes down why the reader stopped, or what it is waiting for.
pub(crate) async fn failed(
    pool: &PgPool,
    model: ReadModel,
    stream: &str,
    stopped: bool,
    error: &str,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE public.projection_status SET state = $3, last_error = $4, last_error_at = now(), updated_at = now()
         WHERE read_model = $1 AND stream = $2",
    )
    .bind(model.name())
    .bind(stream)
    .bind(if stopped { "stopped" } else { "running" })
    .bind(error)
    .execute(pool)
    .await?;
    Ok(())
}

/// Postgres has no unsigned integers; no stream will ever have so many messages that this matters.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
