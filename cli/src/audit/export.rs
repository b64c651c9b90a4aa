//! `wanwright audit export`.

use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::accounts::Role;
use wanwright_nats::evidence::export::{
    EXPORT_VERSION, ExportedStream, HEADS, MANIFEST, Manifest, StreamFile, audit, write_heads, write_key,
};
use wanwright_nats::evidence::{Auditor, Folder, PublicKey, SignedHead};
use wanwright_nats::{Nats, stream_info};
use wanwright_schemas::CustomerId;
use wanwright_schemas::subjects::{customer_of_events, events_stream};

use super::{ExportArgs, folder, live, public_key};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;

/// What was asked for: an export that is gone on with must be the same one.
const REQUEST: &str = "request.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    customer: Option<CustomerId>,
    from: u64,
}

struct Export<'a> {
    dir: &'a Path,
    request: Request,
    nats: Nats,
    pool: sqlx::PgPool,
    folder: Folder,
    key: PublicKey,
    bar: ProgressBar,
}

/// Writes the export; there is a manifest in the end if and only if everything was there and as it was signed.
pub async fn run(args: ExportArgs) -> Result<Exit> {
    let customer = args.customer.as_deref().map(str::parse).transpose();
    let customer: Option<CustomerId> = customer.map_err(|error| Usage(format!("{error}")))?;
    let request = Request { customer, from: args.from.max(1) };
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-export").await?;
    begin(&args.dir, &request)?;
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")?;
    let export = Export {
        dir: &args.dir,
        request,
        nats,
        pool: args.connection.postgres(2).await?,
        folder: folder(&args.connection.home, None),
        key: public_key(&args.connection.home)?,
        bar: ProgressBar::new(0).with_style(style),
    };
    write_key(&args.dir, &export.key)?;
    let (mut streams, mut findings) = (Vec::new(), 0);
    for partition in 0..export.nats.partitions {
        let (exported, found) = export.stream(&events_stream(partition)).await?;
        streams.push(exported);
        findings += found;
    }
    export.bar.finish_and_clear();
    if findings > 0 {
        output::note("the export has no manifest: the streams are not what they were");
        return Ok(Exit::Different);
    }
    let messages: u64 = streams.iter().map(|stream| stream.messages).sum();
    let manifest = Manifest {
        v: EXPORT_VERSION,
        partitions: export.nats.partitions,
        customer: export.request.customer.clone(),
        from: export.request.from,
        time: Timestamp::now(),
        key: export.key.to_string(),
        streams,
        digest: None,
    };
    manifest.write(&args.dir).with_context(|| format!("writing {}", args.dir.join(MANIFEST).display()))?;
    std::fs::remove_file(args.dir.join(REQUEST))?;
    output::line(format!("{messages} messages in {}", args.dir.display()));
    Ok(Exit::Done)
}

fn begin(dir: &Path, request: &Request) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    if dir.join(MANIFEST).exists() {
        return Err(Usage(format!("{} holds a finished export", dir.display())).into());
    }
    let path = dir.join(REQUEST);
    match std::fs::read(&path) {
        Ok(bytes) if serde_json::from_slice::<Request>(&bytes).ok().as_ref() == Some(request) => Ok(()),
        Ok(_) => Err(Usage(format!("{} holds the beginning of another export", dir.display())).into()),
        Err(_) => Ok(std::fs::write(&path, serde_json::to_vec(request)?)?),
    }
}

impl Export<'_> {
    async fn stream(&self, stream: &str) -> Result<(ExportedStream, usize)> {
        // The heads first: what is signed later is about messages that are read later, too.
        let mut heads = live::heads(&self.pool, &self.folder, stream).await?;
        let after = self.begins(stream, &heads)?;
        heads.retain(|head| head.sequence >= after);
        let incarnation = stream_info(&self.nats.js, stream).await?.incarnation;
        let mut file = StreamFile::open(self.dir, stream, after)?;
        let mut auditor = Auditor::new(stream, self.nats.partitions, heads.clone(), &self.key, after);
        audit(self.dir, stream, &mut auditor)?;
        let last = stream_info(&self.nats.js, stream).await?.last;
        self.bar.set_message(stream.to_owned());
        self.bar.set_length(last.saturating_sub(after));
        self.bar.set_position(file.last.saturating_sub(after));
        let behind = file.last;
        let end = live::read(&self.nats, stream, behind, |message| {
            let customer = customer_of_events(&message.subject);
            let in_full = self.request.customer.is_none() || customer == self.request.customer;
            auditor.message(&message);
            file.add(&message, in_full)?;
            self.bar.set_position(message.sequence - after);
            Ok(())
        });
        let end = end.await?.unwrap_or_default();
        let (last, messages, sealed) = (file.last, file.messages, file.sealed);
        let lines = file.finish()?;
        let (heads, head_lines) = write_heads(self.dir, stream, &heads)?;
        let audited = auditor.end(end);
        for finding in &audited.findings {
            output::line(format!("{stream}: {finding}"));
        }
        let stream = stream.to_owned();
        let exported =
            ExportedStream { stream, incarnation, after, last, messages, sealed, lines, heads, head_lines };
        Ok((exported, audited.findings.len()))
    }

    /// The message behind which the export of a stream begins: one that a head vouches for.
    fn begins(&self, stream: &str, heads: &[SignedHead]) -> Result<u64> {
        let begun = self.dir.join(HEADS).join(format!("{stream}.jsonl"));
        let before = heads.iter().map(|head| head.sequence).filter(|sequence| *sequence < self.request.from);
        if self.request.from > 1 && begun.exists() {
            let begun = Folder::new(self.dir.join(HEADS)).heads(stream)?;
            return Ok(begun.first().map_or(0, |head| head.sequence));
        }
        Ok(before.max().unwrap_or_default())
    }
}
