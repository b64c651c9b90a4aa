//! `wanwright bench terraform`: stacks of five resources through wanwright with everything on, beside a plain loop of
//! `terraform init` and `apply` with the `pg` backend and a ceiling, `terraform apply` alone, on the same machine, the same
//! Postgres and the same vendor.

mod ours;
mod plain;
mod relay;
mod tree;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{figures, fleet};
use crate::cli::{Between, Home, PartitionsArg, Profile, TerraformArgs, UpArgs, Vendors};
use crate::exit::Exit;
use crate::output;
use crate::stack::Stack;
use ours::Ours;
use plain::Loop;

/// What a series of applies showed.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// How many applies there were at once.
    pub at_once: usize,
    /// How many applies succeeded.
    pub applies: u32,
    /// Those in a minute.
    pub per_minute: f64,
    /// Processor time of everything that took part for one apply, in milliseconds.
    pub cpu_millis_each: f64,
    /// The most memory of an apply in flight, in MiB.
    pub peak_mb_each: f64,
    /// Applies that failed because something was locked.
    pub lock_failures: u32,
    /// Applies that failed otherwise, or had to be tried again.
    pub other_failures: u32,
    /// What else is known, by name.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// A rate of applies in a minute.
fn per_minute(applies: u32, seconds: f64) -> f64 {
    figures::rate(f64::from(applies) * 60.0 / seconds)
}

/// Measures and prints a table, or JSON.
pub async fn run(args: TerraformArgs) -> Result<Exit> {
    let mut measured = Vec::new();
    let last = args.at_once.last().copied();
    for at_once in &args.at_once {
        output::note(format!("applies at once: {at_once}"));
        measured.extend(with(&args, *at_once, Some(*at_once) == last).await?);
    }
    report(&args, &measured)?;
    Ok(Exit::Done)
}

async fn with(args: &TerraformArgs, at_once: usize, is_last: bool) -> Result<Vec<Measured>> {
    let home = std::env::temp_dir().join(format!("wanwright-terraform-{}-{at_once}", std::process::id()));
    fleet::prepare(&home, args.cache.as_deref())?;
    let up = UpArgs {
        home: Home { home: home.clone() },
        vendors: with_room(&args.vendors, &home)?,
        partitions: PartitionsArg::default(),
        executors: 1,
        terraforms: Some(at_once),
        profile: Profile::Durable,
        between: Between::default(),
    };
    let failed = CancellationToken::new();
    let stack = Stack::start(&up, failed.clone()).await?;
    let measured = tokio::select! {
        measured = scenes(args, &stack, at_once, is_last) => measured,
        () = failed.cancelled() => Err(anyhow::anyhow!("a part of the system does not stay alive")),
    };
    stack.stop().await;
    let measured = measured.with_context(|| format!("the logs are in {}", home.join("logs").display()))?;
    let _ = std::fs::remove_dir_all(&home);
    Ok(measured)
}

async fn scenes(args: &TerraformArgs, stack: &Stack, at_once: usize, is_last: bool) -> Result<Vec<Measured>> {
    let mut ours = Ours::new(stack, at_once)?;
    ours.warm_up().await?;
    let mut measured = vec![ours.applies("wanwright", args.applies).await?];
    if is_last && args.others > 0 {
        output::note(format!("the same with {} other stacks", args.others));
        ours.fill(args.others).await?;
        let name = format!("wanwright, {} other stacks", args.others);
        measured.push(ours.applies(&name, args.applies).await?);
    }
    if args.plain > 0 {
        for what in [Loop::Plain, Loop::Alone] {
            output::note(what.name());
            measured.push(plain::applies(stack, what, at_once, args.plain).await?);
        }
    }
    Ok(measured)
}

/// The vendors' folders, copied, with a budget that holds nothing up.
fn with_room(vendors: &Vendors, home: &Path) -> Result<Vendors> {
    let copied = home.join("vendors");
    fleet::copy(&vendors.vendors, &copied)?;
    let file = copied.join("simwan/vendor.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let room =
        text.replace("per_second = 50\n", "per_second = 20000\n").replace("burst = 50\n", "burst = 20000\n");
    anyhow::ensure!(room != text, "{} has another budget than this campaign knows", file.display());
    std::fs::write(&file, room).with_context(|| format!("writing {}", file.display()))?;
    Ok(Vendors { vendors: copied })
}

fn report(args: &TerraformArgs, measured: &[Measured]) -> Result<()> {
    let mut ratios = serde_json::Map::new();
    for beside in [Loop::Plain, Loop::Alone] {
        let of_loop = |at_once| {
            let is_it = |row: &&Measured| row.name == beside.name() && row.at_once == at_once;
            measured.iter().find(is_it).map(|row| row.per_minute)
        };
        let is_ours = |row: &&Measured| [Loop::Plain, Loop::Alone].iter().all(|of| row.name != of.name());
        for row in measured.iter().filter(is_ours) {
            let Some(rate) = of_loop(row.at_once) else { continue };
            let name = format!("{} / {}, {} at once", row.name, beside.name(), row.at_once);
            ratios.insert(name, json!(figures::ratio(row.per_minute, rate)));
        }
    }
    if args.json {
        output::line(serde_json::to_string_pretty(&json!({ "measured": measured, "ratios": ratios }))?);
        return Ok(());
    }
    let rows = measured.iter().map(cells).collect();
    let head =
        ["what", "at once", "applies/min", "CPU ms each", "MB each", "lock failures", "other failures"];
    output::line(output::table(&head, rows));
    output::line(
        "All: stacks of a site and four tunnels, simwan, the provider of wanwright (served by reattach: in the executor for",
    );
    output::line(
        "ours; for the loops one that was started before and stays, so that they do not pay for starting one).",
    );
    for (what, ratio) in &ratios {
        output::line(format!("{what}: {:.2}", ratio.as_f64().unwrap_or(f64::NAN)));
    }
    Ok(())
}

fn cells(row: &Measured) -> Vec<String> {
    vec![
        row.name.clone(),
        row.at_once.to_string(),
        format!("{:.0}", row.per_minute),
        format!("{:.0}", row.cpu_millis_each),
        format!("{:.0}", row.peak_mb_each),
        row.lock_failures.to_string(),
        row.other_failures.to_string(),
    ]
}
