//! Thinning `audit_heads` and the folder: see [`wanwright_nats::evidence::thin`] for which heads are kept.

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};
use wanwright_nats::evidence::{Ages, PublicKey, SignedHead};

use crate::audit::Signer;
use crate::checkpoint::{self, signed};
use crate::error::Error;
use crate::run::ReadModel;
use crate::table::parse;

/// The most heads that are left out at once: many more than come within an hour. What there is beyond that goes the next
/// time.
const MOST: i64 = 20_000;

/// The heads signed with a key that are neither the first nor the newest one, nor the last one of their hour or day.
/// Those that no longer count are a person's decision, and stay.
const OLD: &str = "SELECT row_to_json(h)::text FROM (
    SELECT 1 AS v, stream, incarnation, sequence, leaf, rolling, time, key, signature FROM (
        SELECT *, min(sequence) OVER history AS first, max(sequence) OVER history AS newest,
            row_number() OVER (
                PARTITION BY incarnation, time < $3::timestamptz,
                    date_trunc(CASE WHEN time < $3::timestamptz THEN 'day' ELSE 'hour' END, time, 'UTC'),
                    time < $2::timestamptz
                ORDER BY sequence DESC, rolling
            ) AS place
        FROM public.audit_heads WHERE stream = $1 AND superseded_at IS NULL
        WINDOW history AS (PARTITION BY incarnation)
    ) heads
    WHERE time < $2::timestamptz AND place > 1 AND sequence NOT IN (first, newest) AND key = $4
    ORDER BY sequence LIMIT $5) h";

/// Leaves out the heads of a stream that are not kept any more at this time, in the table and in the folder, unless
/// somebody else signs the stream. Answers how many those were in the table.
///
/// # Errors
/// When Postgres or the folder is away; nothing that counts is lost.
pub async fn thin(pool: &PgPool, signer: &Signer, stream: &str, now: Timestamp) -> Result<u64, Error> {
    let (ages, key) = (Ages::at(now), signer.key.public());
    let mut transaction = pool.begin().await?;
    // Whoever signs holds this row, so nobody appends to the folder meanwhile.
    checkpoint::lock(&mut transaction, ReadModel::Audit, stream).await?;
    let gone = of_table(&mut transaction, stream, &key, &ages).await?;
    if let Some(folder) = signer.folder.clone() {
        let stream = stream.to_owned();
        let thinned = tokio::task::spawn_blocking(move || folder.thin(&stream, &key, &ages)).await;
        thinned.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??;
    }
    transaction.commit().await?;
    Ok(gone)
}

async fn of_table(
    connection: &mut PgConnection,
    stream: &str,
    key: &PublicKey,
    ages: &Ages,
) -> Result<u64, Error> {
    let texts: Vec<String> = sqlx::query_scalar(OLD)
        .bind(stream)
        .bind(ages.all.to_string())
        .bind(ages.hourly.to_string())
        .bind(key.id())
        .bind(MOST)
        .fetch_all(&mut *connection)
        .await?;
    let (mut sequences, mut signatures) = (Vec::new(), Vec::new());
    for text in &texts {
        let head: SignedHead = parse("audit_heads", text)?;
        // One that is forged stays for whoever looks.
        if head.is_signed_by(key) {
            sequences.push(signed(head.sequence));
            signatures.push(head.signature);
        }
    }
    let deleted = sqlx::query(
        "DELETE FROM public.audit_heads h USING unnest($2::bigint[], $3::text[]) AS old (sequence, signature)
         WHERE h.stream = $1 AND h.superseded_at IS NULL
             AND h.sequence = old.sequence AND h.signature = old.signature",
    )
    .bind(stream)
    .bind(sequences)
    .bind(signatures)
    .execute(&mut *connection)
    .await?;
    Ok(deleted.rows_affected())
}
