//! `wanwright vendor`: work on a vendor's folder, and what a vendor said in error.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use wanwright_executors::gateway::{self, Unblocked};
use wanwright_nats::accounts::Role;
use wanwright_vendors::Catalogue;
use wanwright_vendors::check::{self, Checked, Level};

use crate::cli::{Connection, OutcomeFormat};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;

/// `vendor`.
#[derive(Debug, Args)]
pub struct VendorArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: VendorWhat,
}

/// What to do with a folder.
#[derive(Debug, Subcommand)]
pub enum VendorWhat {
    /// Say what is wrong in a vendor's folder, and play its recorded examples with the real client against a stand-in on
    /// this machine. Exits with 1 when there is an error; warnings are none.
    #[command(after_help = "Examples:\n  wanwright vendor check vendors/simwan\n  \
        wanwright vendor check vendors/versa -o json")]
    Check {
        /// The folder, as it is described in vendors/README.md.
        folder: PathBuf,
        /// How to print.
        #[arg(short, long, default_value = "text")]
        output: OutcomeFormat,
    },
    /// Write the documentation of the resources and data sources that vendors' folders describe, laid out as Terraform's
    /// registries have it.
    #[command(after_help = "Example:\n  wanwright vendor docs vendors docs")]
    Docs {
        /// Folder with the vendor folders.
        vendors: PathBuf,
        /// Folder to write to; files there that have the name of a page are overwritten.
        to: PathBuf,
    },
    /// Have calls go on at a vendor that said in error that it wants to be left alone. For administrators.
    #[command(
        after_help = "What answers `Retry-After: 3600` is believed for an hour: `wanwright get budgets` shows until when. \
        Calls go on\nwithin the vendor's limits, without their bursts; where the vendor says it again, it is obeyed again.\n\n\
        Examples:\n  wanwright vendor unblock simwan\n  wanwright vendor unblock cato --account acme"
    )]
    Unblock(UnblockArgs),
}

/// `vendor unblock`.
#[derive(Debug, Args)]
pub struct UnblockArgs {
    #[command(flatten)]
    connection: Connection,
    /// The vendor.
    vendor: String,
    /// This account's own limits only, as `wanwright get budgets` names it; `default` is the folder's own. Without it all
    /// limits go on.
    #[arg(long)]
    account: Option<String>,
}

/// Works on a folder, or on what its vendor said.
pub async fn run(args: VendorArgs) -> Result<Exit> {
    match args.what {
        VendorWhat::Check { folder, output } => check(folder, output).await,
        VendorWhat::Docs { vendors, to } => docs(&vendors, &to),
        VendorWhat::Unblock(args) => unblock(&args).await,
    }
}

async fn unblock(args: &UnblockArgs) -> Result<Exit> {
    let vendor = args.vendor.parse().map_err(|error| Usage(format!("{}: {error}", args.vendor)))?;
    let nats = args.connection.nats_unasked(Login::Role(Role::Admin), "wanwright-vendor").await?;
    let unblocked = gateway::unblock(&nats, &vendor, args.account.as_deref()).await?;
    for Unblocked { account, limit, until } in &unblocked {
        output::line(format!(
            "{vendor}, account {account}: {limit} was left alone until {until:.0} and goes on"
        ));
    }
    if unblocked.is_empty() {
        output::note(format!(
            "{vendor} asks to be left alone nowhere: `wanwright get budgets` shows what calls wait for."
        ));
    }
    Ok(Exit::Done)
}

fn docs(vendors: &Path, to: &Path) -> Result<Exit> {
    let pages = wanwright_provider::docs(&Catalogue::load(vendors)?);
    for (path, text) in &pages {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap_or(to))
            .with_context(|| format!("making {}", to.display()))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    output::line(format!("{} pages in {}", pages.len(), to.display()));
    Ok(Exit::Done)
}

async fn check(folder: PathBuf, output: OutcomeFormat) -> Result<Exit> {
    if !folder.is_dir() {
        return Err(Usage(format!("{} is no folder", folder.display())).into());
    }
    let checked = check::check(&folder).await;
    output::line(match output {
        OutcomeFormat::Json => serde_json::to_string(&checked)?,
        OutcomeFormat::Text => text(&checked),
    });
    Ok(if checked.is_well() { Exit::Done } else { Exit::Different })
}

fn text(checked: &Checked) -> String {
    let mut lines: Vec<String> = Vec::new();
    for problem in &checked.problems {
        let level = match problem.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        let key = problem.key.as_ref().map(|key| format!(" `{key}`")).unwrap_or_default();
        lines.push(format!("{level}: {}:{key} {}", problem.file.display(), problem.message));
    }
    let errors = checked.problems.iter().filter(|problem| problem.level == Level::Error).count();
    let name = checked.vendor.as_deref().unwrap_or("the folder does not load");
    lines.push(format!(
        "{name}: {} examples played, {errors} errors, {} warnings",
        checked.examples,
        checked.problems.len() - errors
    ));
    lines.join("\n")
}
