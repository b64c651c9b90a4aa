//! `wanwright state backup` and `wanwright state restore --from`.

use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use wanwright_executors::terraform::{Backup, BackupError, RestoredStack, Verdict};
use wanwright_nats::StateKeys;
use wanwright_schemas::outcome;

use super::Format;
use crate::cli::Connection;
use crate::exit::Exit;
use crate::output;

/// A bar that follows the work, where there is a terminal to draw it on.
fn bar() -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}")?;
    Ok(ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style))
}

fn follow(bar: &ProgressBar) -> impl Fn(&'static str, u64, u64) + Sync {
    |what, done, all| {
        bar.set_message(what);
        bar.set_length(all);
        bar.set_position(done);
    }
}

/// What became of the stacks, as lists are printed.
#[derive(Serialize)]
struct Items<'a> {
    items: &'a [RestoredStack],
    next: Option<&'a str>,
}

/// A refusal says its code and what to do; what failed on the way is an error like any other.
fn refused(error: BackupError, format: Format) -> Result<Exit> {
    let Some(refusal) = error.refusal() else { return Err(error.into()) };
    match format {
        Format::Json => {
            let number = refusal.code.number();
            output::line(serde_json::to_string(&outcome::Verdict::Refused { refusal, number })?);
        }
        Format::Table => {
            output::line(format!("refused  {}: {}\n  {}", refusal.code, refusal.message, refusal.next));
        }
    }
    Ok(Exit::Refused)
}

/// Writes a backup.
pub(super) async fn write(connection: &Connection, dir: &Path, format: Format) -> Result<Exit> {
    let pool = connection.postgres(1).await?;
    let bar = bar()?;
    let written = Backup::write(&pool, dir, &follow(&bar)).await;
    bar.finish_and_clear();
    let backup = match written {
        Ok(backup) => backup,
        Err(error) => return refused(error, format),
    };
    let manifest = backup.manifest();
    let (versions, stacks, bytes) = (manifest.versions(), manifest.stacks, manifest.bytes());
    if format == Format::Json {
        let (time, keys) = (manifest.time, &manifest.keys);
        output::line(json!({ "dir": dir, "time": time, "stacks": stacks, "versions": versions,
            "bytes": bytes, "keys": keys }));
        return Ok(Exit::Done);
    }
    output::line(format!("backed up  {versions} versions of {stacks} stacks in {}", dir.display()));
    output::note("no key is in it: keep the file of the state keys as well, apart from it");
    Ok(Exit::Done)
}

/// Brings a backup back.
pub(super) async fn restore(
    connection: &Connection,
    keys: &StateKeys,
    dir: &Path,
    format: Format,
) -> Result<Exit> {
    let bar = bar()?;
    // All of it is read before Postgres is asked for anything.
    let backup = match Backup::open(dir, &follow(&bar)).await {
        Ok(backup) => backup,
        Err(error) => {
            bar.finish_and_clear();
            return refused(error, format);
        }
    };
    let pool = connection.postgres(2).await?;
    wanwright_projections::migrate(&pool).await.context("making the tables")?;
    let restored = backup.restore(&pool, &follow(&bar)).await;
    bar.finish_and_clear();
    let stacks = match restored {
        Ok(stacks) => stacks,
        Err(error) => return refused(error, format),
    };
    say(&stacks, format)?;
    for key in &backup.manifest().keys {
        if let Err(error) = keys.check(Some(key)) {
            output::note(format!("what was restored does not open: {error}"));
        }
    }
    let differs = stacks.iter().filter(|stack| stack.verdict == Verdict::Differs).count();
    if differs > 0 {
        output::note(format!(
            "{differs} stacks were left as they are: Postgres has versions that the backup does not have, and it has others. \
             Look with `wanwright state history STACK`. Where the backup is right, remove the stack's rows from \
             terraform.states and restore again"
        ));
        return Ok(Exit::Different);
    }
    Ok(Exit::Done)
}

fn say(stacks: &[RestoredStack], format: Format) -> Result<()> {
    if stacks.is_empty() && format == Format::Table {
        output::note("the backup has no states");
        return Ok(());
    }
    if format == Format::Json {
        output::line(serde_json::to_string(&Items { items: stacks, next: None })?);
        return Ok(());
    }
    let items: serde_json::Result<_> = stacks.iter().map(serde_json::to_value).collect();
    super::rows(items?, &["stack", "result", "before", "backup", "added"], format);
    Ok(())
}
