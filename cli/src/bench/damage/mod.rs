//! `wanwright bench damage`: the files of a stopped nats-server are damaged, it is started again, and everything that
//! reads a history is let loose on it, and then the command service. Damage that touches a history has to be named before
//! anything is decided on it; whatever else was acknowledged and is gone, a durable command, a verdict, a claim or a key,
//! has to be missed by name or to be there again before anybody else can have it. Who asks for what is gone has to be told
//! so, and where nothing is gone nobody may be refused.
//!
//! Half of the damages to a history are to one that no head vouches for up to its end, or not at all, and of which nothing
//! was folded yet: there only the inventory of the command services tells what is gone. Where a damage comes to nothing,
//! every customer's state and the rows are compared with those from before, the states also after the service has worked.
//!
//! The states of Terraform are no files of this campaign: the tests in `executors/src/terraform/tests.rs` change their rows
//! and second copies, and look whether a run begins with them.

mod base;
mod fill;
mod harm;
mod judge;
mod pages;
mod serve;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::time::Instant;

use super::figures;
use crate::cli::DamageArgs;
use crate::exit::Exit;
use crate::output::{line, note, table};
use base::Base;
use judge::Outcome;

/// How many damages are judged side by side.
const AT_ONCE: usize = 8;

/// Runs the campaign.
pub async fn run(args: DamageArgs) -> Result<Exit> {
    let home = std::env::temp_dir().join(format!("wanwright-damage-{}", std::process::id()));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    // Postgres may run as another user, who has to get through.
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let done = campaign(&args, &home).await;
    let _ = std::fs::remove_dir_all(&home);
    done
}

async fn campaign(args: &DamageArgs, home: &std::path::Path) -> Result<Exit> {
    let began = Instant::now();
    let base = Base::make(args, home).await?;
    note(format!("{} messages are on the disk; {} damages follow", base.messages(), args.count));
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut table: BTreeMap<(String, &'static str), u32> = BTreeMap::new();
    let mut cases = Vec::new();
    let mut count: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut is_good = true;
    // Damaged one after the other, so that the seed tells what is damaged; judged side by side, because judging is waiting.
    let judging = futures::stream::iter(0..args.count).map(|number| {
        let case = home.join(format!("case-{number}"));
        let harm = base.damage(&case, &mut random, number);
        let base = &base;
        async move {
            let harm = harm?;
            let judged = judge::judge(base, &case, number, &harm).await;
            let _ = std::fs::remove_dir_all(&case);
            let judged = judged.with_context(|| format!("case {number}: {} {}", harm.kind, harm.what))?;
            anyhow::Ok((number, harm, judged))
        }
    });
    let mut judging = judging.buffered(AT_ONCE);
    while let Some((number, harm, judged)) = judging.try_next().await? {
        let outcome = judged.outcome();
        *table.entry((harm.kind.clone(), outcome.name())).or_default() += 1;
        *count.entry(outcome.name()).or_default() += 1;
        is_good &= outcome.is_good();
        if !outcome.is_good() || number % 20 == 19 {
            note(format!("{number}: {} {}: {}", harm.kind, harm.what, outcome.name()));
        }
        cases.push(
            json!({ "number": number, "kind": harm.kind, "damage": harm.what, "outcome": outcome.name(),
            "found": judged }),
        );
    }
    drop(judging);
    show(&table);
    let seconds = figures::seconds(began.elapsed().as_secs_f64());
    line(serde_json::to_string_pretty(&json!({
        "seed": args.seed, "damages": args.count, "seconds": seconds, "outcomes": count, "cases": cases,
    }))?);
    base.stop(Duration::from_secs(10)).await;
    Ok(if is_good { Exit::Done } else { Exit::Different })
}

fn show(counts: &BTreeMap<(String, &'static str), u32>) {
    let kinds: std::collections::BTreeSet<&String> = counts.keys().map(|(kind, _)| kind).collect();
    let outcomes = Outcome::ALL.map(Outcome::name);
    let rows = kinds.into_iter().map(|kind| {
        let cells =
            outcomes.iter().map(|outcome| counts.get(&(kind.clone(), outcome)).copied().unwrap_or_default());
        std::iter::once(kind.clone()).chain(cells.map(|cell| cell.to_string())).collect()
    });
    note(table(&[&["damage"], &outcomes[..]].concat(), rows.collect()));
}
