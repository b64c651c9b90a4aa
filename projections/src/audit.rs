//! `audit_heads`: what the streams held, signed.
//!
//! A reader rolls every message of its stream into one digest and signs it now and then. Head and checkpoint commit
//! together, so a reader goes on from its newest head. Each head is appended to a folder too, before it commits: the
//! folder may be ahead of the table, never behind what the table vouches for. Once an hour old heads are thinned out.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::evidence::{Folder, Rolling, SignedHead, SigningKey, leaf};
use wanwright_nats::{StoredMessage, StreamInfo, stream_info};
use wanwright_schemas::Digest;

use crate::checkpoint::{self, Cursor, signed};
use crate::error::{Error, Stop};
use crate::reader::Reader;
use crate::run::ReadModel;
use crate::table::parse;
use crate::tail::Tail;
use crate::thin::thin;

/// The most messages between two heads.
const MOST: u64 = 1_000;

/// The least time between two heads, unless that many messages came.
const LEAST: Duration = Duration::from_secs(1);

/// How often heads that are not kept any more are left out.
const THINNED: Duration = Duration::from_secs(60 * 60);

/// Who signs, and where heads are kept besides Postgres.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The key.
    pub key: SigningKey,
    /// The folder.
    pub folder: Option<Folder>,
}

const HEADS: &str = "SELECT row_to_json(h)::text FROM (
    SELECT 1 AS v, stream, incarnation, sequence, leaf, rolling, time, key, signature FROM public.audit_heads
    WHERE stream = $1 AND sequence > $2 AND superseded_at IS NULL ORDER BY sequence, time LIMIT $3) h";

/// The heads of a stream behind a sequence that count, at most so many.
pub async fn heads(pool: &PgPool, stream: &str, after: u64, most: i64) -> Result<Vec<SignedHead>, Error> {
    let mut connection = pool.acquire().await?;
    read_heads(&mut connection, stream, after, most).await
}

async fn read_heads(
    connection: &mut PgConnection,
    stream: &str,
    after: u64,
    most: i64,
) -> Result<Vec<SignedHead>, Error> {
    let texts: Vec<String> =
        sqlx::query_scalar(HEADS).bind(stream).bind(signed(after)).bind(most).fetch_all(connection).await?;
    texts.iter().map(|text| parse("audit_heads", text)).collect()
}

/// What an operator decides after a stream was restored or lost for good: the stream as it is counts from now on. Heads
/// that vouch for another one are kept and no longer count. Answers how many those are.
pub async fn accept(pool: &PgPool, folder: Option<&Folder>, stream: &str) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    checkpoint::lock(&mut transaction, ReadModel::Audit, stream).await?;
    let marked = sqlx::query(
        "UPDATE public.audit_heads SET superseded_at = now() WHERE stream = $1 AND superseded_at IS NULL",
    )
    .bind(stream)
    .execute(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM public.projection_status WHERE read_model = $1 AND stream = $2")
        .bind(ReadModel::Audit.name())
        .bind(stream)
        .execute(&mut *transaction)
        .await?;
    if let Some(folder) = folder {
        folder.set_aside(stream, &Timestamp::now().as_second().to_string())?;
    }
    transaction.commit().await?;
    Ok(marked.rows_affected())
}

/// Where a reader is.
struct Place {
    /// The last head, or nothing yet.
    committed: Cursor,
    /// The digest over everything that was read.
    rolling: Rolling,
    /// The last message that was read: its cursor and leaf.
    last: Option<(Cursor, Digest)>,
    /// Heads that were signed before, for messages still to be read.
    known: std::collections::VecDeque<SignedHead>,
    /// When the last head was signed.
    signed_at: Instant,
    /// When the heads were thinned last.
    thinned_at: Option<Instant>,
}

/// Reads a stream and signs it until told to stop; what was read then is signed last.
pub(crate) async fn follow(reader: &mut Reader, shutdown: &CancellationToken) -> Result<(), Error> {
    let Some(signer) = reader.config.audit.clone() else { return Ok(()) };
    reader.has_what_was_seen().await?;
    let js = reader.config.nats.js.clone();
    let info = stream_info(&js, &reader.stream).await?;
    let target = *reader.target.get_or_insert(info.last);
    let committed =
        checkpoint::open(&reader.config.pool, ReadModel::Audit, &info, reader.config.nats.partitions).await?;
    checkpoint::check_whole(&info)?;
    let mut place = Place::open(&reader.config.pool, &signer, &info, committed).await?;
    let mut tail = Tail::open(&js, &reader.stream, place.committed.clone(), true).await?;
    if !reader.stopped {
        reader.report(place.committed.sequence, target, false);
    }
    loop {
        let pending = place.rolling.sequence - place.committed.sequence;
        let wait =
            if pending == 0 { reader.config.idle } else { LEAST.saturating_sub(place.signed_at.elapsed()) };
        let most = usize::try_from(MOST.saturating_sub(pending)).unwrap_or(1).max(1);
        let batch = tokio::select! {
            () = shutdown.cancelled() => {
                place.sign(reader, &signer, &info).await?;
                return Ok(());
            }
            batch = tail.next(most, wait) => batch,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // What came before a hole is vouched for; the hole is named.
                place.sign(reader, &signer, &info).await?;
                return Err(error);
            }
        };
        if batch.is_empty() && pending == 0 {
            checkpoint::check_whole(&stream_info(&js, &reader.stream).await?)?;
            reader.look(&place.committed, target).await?;
            continue;
        }
        reader.has_what_was_seen().await?;
        for message in &batch {
            place.fold(&reader.config.pool, message).await?;
        }
        let pending = place.rolling.sequence - place.committed.sequence;
        if pending >= MOST || place.signed_at.elapsed() >= LEAST {
            place.sign(reader, &signer, &info).await?;
            reader.progress = true;
            reader.report(place.committed.sequence, target, false);
        }
    }
}

impl Place {
    async fn open(
        pool: &PgPool,
        signer: &Signer,
        info: &StreamInfo,
        committed: Cursor,
    ) -> Result<Self, Error> {
        let public = signer.key.public();
        let forged = |head: &SignedHead| head.key == public.id() && !head.is_signed_by(&public);
        let mut rolling = Rolling::default();
        if committed.sequence > 0 {
            let own = heads(pool, &info.name, committed.sequence - 1, 1).await?.pop();
            rolling = match own {
                Some(head) if head.sequence == committed.sequence && !forged(&head) => head.rolling(),
                _ => {
                    let (stream, sequence) = (info.name.clone(), committed.sequence);
                    return Err(Stop::Forged { stream, sequence, key: public.id() }.into());
                }
            };
        }
        let mut known: std::collections::VecDeque<SignedHead> =
            heads(pool, &info.name, committed.sequence, 1_000).await?.into();
        // The folder remembers what a Postgres that was set back does not.
        let newest = match &signer.folder {
            Some(folder) => folder.newest(&info.name)?,
            None => None,
        };
        known.extend(newest.filter(|head| head.sequence > committed.sequence));
        if let Some(head) = known.iter().find(|head| forged(head)) {
            let (stream, sequence) = (info.name.clone(), head.sequence);
            return Err(Stop::Forged { stream, sequence, key: public.id() }.into());
        }
        if let Some(beyond) = known.iter().map(|head| head.sequence).max().filter(|last| *last > info.last) {
            let stream = info.name.clone();
            return Err(Stop::Regression { stream, checkpoint: beyond, last: info.last }.into());
        }
        Ok(Self {
            committed,
            rolling,
            last: None,
            known,
            signed_at: Instant::now() - LEAST,
            thinned_at: None,
        })
    }

    async fn fold(&mut self, pool: &PgPool, message: &StoredMessage) -> Result<(), Error> {
        let leaf = leaf(message);
        self.rolling = self.rolling.with(message.sequence, leaf);
        let cursor = Cursor {
            sequence: message.sequence,
            digest: Some(Digest::of(&message.payload)),
            time: Some(crate::message::micros(message.time)),
        };
        self.last = Some((cursor, leaf));
        while let Some(head) = self.known.front().filter(|head| head.sequence <= message.sequence) {
            if head.sequence == message.sequence && head.rolling != self.rolling.digest {
                let (stream, sequence, time) = (message.stream.clone(), head.sequence, head.time);
                return Err(Stop::Vouched { stream, sequence, time }.into());
            }
            self.known.pop_front();
            if self.known.is_empty() {
                self.known = heads(pool, &message.stream, message.sequence, 1_000).await?.into();
            }
        }
        Ok(())
    }

    /// Signs what was read since the last head, if anything was.
    async fn sign(&mut self, reader: &Reader, signer: &Signer, info: &StreamInfo) -> Result<(), Error> {
        let Some((cursor, leaf)) = self.last.take() else { return Ok(()) };
        let of = (info.name.as_str(), info.incarnation);
        let head = SignedHead::sign(&signer.key, of, self.rolling, leaf, Timestamp::now());
        let mut transaction = reader.config.pool.begin().await?;
        let row = checkpoint::lock(&mut transaction, ReadModel::Audit, &info.name).await?;
        let found = row.map_or(0, |row| row.sequence);
        if found != self.committed.sequence {
            return Err(reader.moved(&self.committed, found));
        }
        insert(&mut transaction, &head).await?;
        checkpoint::advance(&mut transaction, ReadModel::Audit, &info.name, &cursor).await?;
        if let Some(folder) = signer.folder.clone() {
            let written = tokio::task::spawn_blocking(move || folder.append(&head)).await;
            written.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??;
        }
        transaction.commit().await?;
        self.committed = cursor;
        self.signed_at = Instant::now();
        if self.thinned_at.is_none_or(|at| at.elapsed() >= THINNED) {
            self.thinned_at = Some(Instant::now());
            self.thin(reader, signer, &info.name).await;
        }
        Ok(())
    }

    /// Leaves out old heads. What fails is done the next time: heads that are there too long do no harm.
    async fn thin(&self, reader: &Reader, signer: &Signer, stream: &str) {
        match thin(&reader.config.pool, signer, stream, Timestamp::now()).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(stream, gone, "old heads are left out"),
            Err(error) => {
                tracing::warn!(stream, error = &error as &dyn std::error::Error, "old heads stay for now");
            }
        }
    }
}

async fn insert(connection: &mut PgConnection, head: &SignedHead) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO public.audit_heads (stream, incarnation, sequence, leaf, rolling, time, key, signature)
         VALUES ($1, $2::timestamptz, $3, $4, $5, $6::timestamptz, $7, $8)
         ON CONFLICT (stream, sequence, incarnation, rolling) DO UPDATE SET
             leaf = excluded.leaf, time = excluded.time, key = excluded.key, signature = excluded.signature,
             superseded_at = NULL",
    )
    .bind(&head.stream)
    .bind(head.incarnation.to_string())
    .bind(signed(head.sequence))
    .bind(head.leaf.to_string())
    .bind(head.rolling.to_string())
    .bind(head.time.to_string())
    .bind(&head.key)
    .bind(&head.signature)
    .execute(connection)
    .await?;
    Ok(())
}
