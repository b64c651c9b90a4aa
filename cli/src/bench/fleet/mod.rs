//! `wanwright bench fleet`: a fleet of devices against one vendor's budget, judged by the vendor: how much of the budget is
//! used, whether it is ever exceeded, and how long a single change waits behind another customer's thousands.

mod looks;
mod scenes;
pub mod sender;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::figures;
use crate::cli::{Between, FleetArgs, Home, PartitionsArg, Profile, UpArgs, Vendors};
use crate::exit::Exit;
use crate::output::{line, note};
use crate::stack::Stack;
use scenes::Scenes;

/// Runs the campaign, once for each number of executor processes.
pub async fn run(args: FleetArgs) -> Result<Exit> {
    let mut runs = Vec::new();
    for executors in &args.executors {
        note(format!("with executor processes: {executors}"));
        runs.push(with_executors(&args, *executors).await?);
    }
    let good = runs.iter().all(|run| run["good"] == json!(true));
    line(serde_json::to_string_pretty(&json!({ "runs": runs, "good": good }))?);
    Ok(if good { Exit::Done } else { Exit::Different })
}

async fn with_executors(args: &FleetArgs, executors: u16) -> Result<Value> {
    let home = std::env::temp_dir().join(format!("wanwright-fleet-{}-{executors}", std::process::id()));
    prepare(&home, args.cache.as_deref())?;
    let up = UpArgs {
        home: Home { home: home.clone() },
        vendors: copied(args, &home)?,
        partitions: PartitionsArg::default(),
        executors,
        terraforms: None,
        profile: Profile::Durable,
        between: Between::default(),
    };
    let failed = CancellationToken::new();
    let stack = Stack::start(&up, failed.clone()).await?;
    let began = Instant::now();
    let report = tokio::select! {
        report = campaign(args, &stack, &up.vendors.vendors) => report,
        () = failed.cancelled() => Err(anyhow::anyhow!("a part of the system does not stay alive")),
    };
    stack.stop().await;
    let mut report = report.with_context(|| format!("the logs are in {}", home.join("logs").display()))?;
    report["executors"] = json!(executors);
    report["seconds"] = json!(figures::seconds(began.elapsed().as_secs_f64()));
    let _ = std::fs::remove_dir_all(&home);
    Ok(report)
}

async fn campaign(args: &FleetArgs, stack: &Stack, vendors: &Path) -> Result<Value> {
    let mut scenes = Scenes::new(args, stack)?;
    scenes.sites().await?;
    let throughput = scenes.throughput().await?;
    note(format!("throughput: {throughput}"));
    let edits = scenes.edits().await?;
    note(format!("edits of one device: {edits}"));
    let looks = scenes.looks().await?;
    note(format!("a look at everything: {looks}"));
    let drift = scenes.behind_drift(vendors).await?;
    note(format!("behind a look at everything: {drift}"));
    let bulk = scenes.behind_bulk().await?;
    note(format!("behind another customer's bulk: {bulk}"));
    let above = scenes.above_limit().await?;
    let scenes = [&throughput, &edits, &looks, &drift, &bulk];
    let good = above == 0 && scenes.iter().all(|scene| scene["good"] == json!(true));
    Ok(json!({
        "throughput": throughput,
        "edits_of_one_device": edits,
        "looks_at_everything": looks,
        "single_change_behind_drift_looks": drift,
        "single_change_behind_bulk": bulk,
        "calls_above_limit": above,
        "good": good,
    }))
}

/// The vendors' folders, copied: a scene changes them, and so do calls for many devices, where they are used, and lists,
/// where they are not.
fn copied(args: &FleetArgs, home: &Path) -> Result<Vendors> {
    let copied = home.join("vendors");
    copy(&args.vendors.vendors, &copied)?;
    let file = looks::file(&copied);
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    anyhow::ensure!(
        text.lines().any(|line| line.starts_with("fresh_seconds")),
        "{} has no list that answers looks",
        file.display()
    );
    if args.many {
        let used = text.replace("used = false", "used = true");
        anyhow::ensure!(used != text, "{} describes no call for many that is not used", file.display());
        std::fs::write(&file, used).with_context(|| format!("writing {}", file.display()))?;
    }
    if args.looks_alone {
        looks::without_lists(&copied)?;
    }
    Ok(Vendors { vendors: copied })
}

/// Copies the data of vendor folders; what lies beside them is a crate.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("copying {}", from.display());
    std::fs::create_dir_all(to).with_context(doing)?;
    for entry in std::fs::read_dir(from).with_context(doing)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name())).with_context(doing)?;
        if entry.is_dir() {
            copy(&entry, &to.join(name))?;
        } else {
            std::fs::copy(&entry, to.join(name)).with_context(doing)?;
        }
    }
    Ok(())
}

/// The folder of the installation, with servers that were downloaded before.
pub fn prepare(home: &Path, cache: Option<&Path>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
    // Postgres may run as another user, which has to get through.
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o711))?;
    if let Some(cache) = cache {
        std::os::unix::fs::symlink(std::path::absolute(cache)?, home.join("cache"))
            .context("linking the cache")?;
    }
    Ok(())
}
