//! `wanwright audit`: evidence of what the histories held.

mod export;
pub mod live;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use wanwright_nats::evidence::{Evidence, Folder, PublicKey, SigningKey, verify};
use wanwright_projections::Signer;
use wanwright_schemas::subjects::events_stream;

use crate::cli::{Connection, Home};
use crate::exit::{Exit, Usage};
use crate::output;

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    what: What,
}

/// `audit …`.
#[derive(Debug, Subcommand)]
enum What {
    /// Print the public key that signed heads are checked with, and its id.
    Key(KeyArgs),
    /// Write every message of every history into a folder, with the signed heads. Started again, it goes on.
    Export(ExportArgs),
    /// Tell whether an export, or with --live the streams themselves, are what was signed; exits with 1 when not.
    Verify(VerifyArgs),
    /// Let a stream count as it is now, after it was restored or given up: heads that say otherwise are set aside.
    Accept(AcceptArgs),
}

/// `audit key`.
#[derive(Debug, Args)]
struct KeyArgs {
    #[command(flatten)]
    home: Home,
}

/// `audit export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright audit export /backup/2026-11\n  wanwright audit export acme -c acme\n  \
    wanwright audit verify acme --key audit.pub"
)]
struct ExportArgs {
    #[command(flatten)]
    connection: Connection,
    /// The folder.
    dir: PathBuf,
    /// Of this customer only; what others said is left out, and can be verified all the same.
    #[arg(short, long)]
    customer: Option<String>,
    /// From this message of each stream on.
    #[arg(long, default_value_t = 1, value_name = "SEQUENCE")]
    from: u64,
}

/// `audit verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 when everything is as it was signed, 1 when something is not or a file of the export is \
    missing, 2 when\nthere is no such folder, 5 when --live cannot reach the servers."
)]
struct VerifyArgs {
    #[command(flatten)]
    connection: Connection,
    /// The folder of the export.
    #[arg(required_unless_present = "live", conflicts_with = "live")]
    dir: Option<PathBuf>,
    /// Read the streams themselves and compare them with the heads in Postgres and in the folder.
    #[arg(long)]
    live: bool,
    /// File with the public key. Without it the one in the export counts, which proves nothing against who made it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Folder with heads that were kept elsewhere.
    #[arg(long, env = "WANWRIGHT_AUDIT_DIR", value_name = "DIR")]
    heads: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Format,
}

/// `audit accept`.
#[derive(Debug, Args)]
struct AcceptArgs {
    #[command(flatten)]
    connection: Connection,
    /// The stream, as EVENTS-3.
    stream: String,
    /// Folder of the signed heads. By default, `audit` in the home folder.
    #[arg(long, env = "WANWRIGHT_AUDIT_DIR", value_name = "DIR")]
    audit_dir: Option<PathBuf>,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// The report as it is.
    Json,
}

fn keys(home: &Home) -> PathBuf {
    home.home.join("keys")
}

fn folder(home: &Home, dir: Option<&Path>) -> Folder {
    Folder::new(dir.map_or_else(|| home.home.join("audit"), Path::to_owned))
}

/// Who signs in this installation. The key is made when there is none.
pub fn signer(home: &Home, dir: Option<&Path>) -> Result<Signer> {
    Ok(Signer { key: SigningKey::load_or_make(&keys(home))?, folder: Some(folder(home, dir)) })
}

/// What this installation has in its hands besides the streams.
pub fn evidence(home: &Home, dir: Option<&Path>) -> Result<Evidence> {
    let path = keys(home).join("audit.pub");
    // A process on another machine may have the heads without the key.
    let key = if path.exists() { Some(PublicKey::read(&path)?) } else { None };
    Ok(Evidence { folder: folder(home, dir), key })
}

fn public_key(home: &Home) -> Result<PublicKey> {
    let path = keys(home).join("audit.pub");
    PublicKey::read(&path)
        .context("the key is made when wanwright starts for the first time; --home names its folder")
}

/// Runs one of them.
pub async fn run(args: AuditArgs) -> Result<Exit> {
    match args.what {
        What::Key(args) => {
            let key = public_key(&args.home)?;
            output::line(key);
            output::note(format!("id {}", key.id()));
            Ok(Exit::Done)
        }
        What::Export(args) => export::run(args).await,
        What::Verify(args) => {
            let report = match &args.dir {
                Some(dir) => offline(dir, &args)?,
                None => live::run(&args).await?,
            };
            show::report(&report, args.output)
        }
        What::Accept(args) => accept(args).await,
    }
}

fn offline(dir: &Path, args: &VerifyArgs) -> Result<verify::Report> {
    if !dir.is_dir() {
        return Err(Usage(format!("there is no folder {}", dir.display())).into());
    }
    let key = args.key.as_deref().map(PublicKey::read).transpose()?;
    if key.is_none() {
        output::note("note: the key is the one in the export; --key names one from elsewhere");
    }
    let kept = args.heads.as_ref().map(Folder::new);
    Ok(verify::verify(dir, key, kept.as_ref())?)
}

async fn accept(args: AcceptArgs) -> Result<Exit> {
    let partition = args.stream.strip_prefix("EVENTS-").and_then(|number| number.parse().ok());
    if partition.map(events_stream).as_ref() != Some(&args.stream) {
        return Err(Usage(format!("{} is no stream of events", args.stream)).into());
    }
    let pool = args.connection.postgres(2).await?;
    let folder = folder(&args.connection.home, args.audit_dir.as_deref());
    let aside = wanwright_projections::accept(&pool, Some(&folder), &args.stream).await?;
    output::line(format!(
        "{}: {aside} heads set aside; the stream is signed anew from its first message",
        args.stream
    ));
    Ok(Exit::Done)
}
