//! `wanwright vendor`: work on a vendor's folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use wanwright_vendors::check::{self, Checked, Level};

use crate::cli::OutcomeFormat;
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
}

/// Works on a folder.
pub async fn run(args: VendorArgs) -> Result<Exit> {
    let VendorWhat::Check { folder, output } = args.what;
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
