//! Auditing the streams themselves.

use std::time::Duration;

use anyhow::Result;
use wanwright_nats::accounts::Role;
use wanwright_nats::evidence::{
    Audited, Auditor, Finding, Folder, PublicKey, Report, SignedHead, Unproven, check,
};
use wanwright_nats::{Follower, Nats, StoredMessage, inventory, stream_info};
use wanwright_schemas::subjects::events_stream;

use super::{VerifyArgs, folder, public_key};
use crate::endpoints::Login;

/// How long a stream may be silent before what is left of it counts as unreadable.
const SILENCE: Duration = Duration::from_secs(5);

/// The most messages that are read at once.
const BATCH: usize = 1_000;

/// Reads every stream and compares it with the heads in Postgres and in the folder.
pub(super) async fn run(args: &VerifyArgs) -> Result<Report> {
    let key = match &args.key {
        Some(path) => PublicKey::read(path)?,
        None => public_key(&args.connection.home)?,
    };
    let folder = folder(&args.connection.home, args.heads.as_deref());
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-audit").await?;
    let pool = args.connection.postgres(2).await?;
    let mut streams = Vec::new();
    for partition in 0..nats.partitions {
        let stream = events_stream(partition);
        let heads = heads(&pool, &folder, &stream).await?;
        streams.push(audit(&nats, &stream, heads, &key).await?);
    }
    Ok(Report::new(&key, streams, Vec::new()))
}

/// Every head of a stream that is known and counts.
pub async fn heads(pool: &sqlx::PgPool, folder: &Folder, stream: &str) -> Result<Vec<SignedHead>> {
    let mut heads = folder.heads(stream)?;
    let mut after = 0;
    loop {
        let more = wanwright_projections::heads(pool, stream, after, 10_000).await?;
        let Some(last) = more.last() else { break };
        after = last.sequence;
        heads.extend(more);
    }
    heads.sort_by(|a, b| (a.sequence, &a.signature).cmp(&(b.sequence, &b.signature)));
    heads.dedup();
    Ok(heads)
}

/// Reads a stream and compares it with its heads.
pub async fn audit(nats: &Nats, stream: &str, heads: Vec<SignedHead>, key: &PublicKey) -> Result<Audited> {
    let mut auditor = Auditor::new(stream, nats.partitions, heads, key, 0);
    let last = match read(nats, stream, 0, |message| {
        auditor.message(&message);
        Ok(())
    })
    .await?
    {
        Some(last) => {
            // What the server no longer counts is missing even where reading does not meet the hole.
            if let Err(hole) = check::is_whole(&stream_info(&nats.js, stream).await?) {
                auditor.find(Finding::File { file: stream.to_owned(), why: hole.to_string() });
            }
            // What nobody has signed yet is missed by what the command services wrote down of it.
            match inventory::compare(nats, stream, None).await {
                Ok(()) => {}
                Err(Unproven::Nats(error)) => return Err(error.into()),
                Err(lost) => auditor.find(Finding::File { file: stream.to_owned(), why: lost.to_string() }),
            }
            last
        }
        None => {
            auditor
                .find(Finding::File { file: stream.to_owned(), why: "there is no such stream".to_owned() });
            0
        }
    };
    Ok(auditor.end(last))
}

/// Reads a stream behind a message up to where it ends now. Answers that end; `None` when there is no such stream.
pub async fn read(
    nats: &Nats,
    stream: &str,
    after: u64,
    mut each: impl FnMut(StoredMessage) -> Result<()>,
) -> Result<Option<u64>> {
    use async_nats::jetstream::ErrorCode;
    use async_nats::jetstream::context::GetStreamErrorKind;
    if let Err(error) = nats.js.get_stream(stream).await
        && matches!(error.kind(), GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
    {
        return Ok(None);
    }
    let info = stream_info(&nats.js, stream).await?;
    let mut at = after;
    if at >= info.last {
        return Ok(Some(info.last));
    }
    let mut follower = Follower::open(nats.js.clone(), stream, after + 1).await?;
    while at < info.last {
        let batch = follower.next_batch(BATCH, SILENCE).await?;
        if batch.is_empty() {
            break;
        }
        for message in batch {
            if message.sequence > info.last {
                return Ok(Some(info.last));
            }
            at = message.sequence;
            each(message)?;
        }
    }
    Ok(Some(info.last))
}
