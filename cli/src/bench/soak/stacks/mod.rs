//! `wanwright bench soak --terraform N`: stacks are made, changed and destroyed N times while Terraform, the executors with
//! their providers, or everything at once is killed, and Postgres is cut off while states are written; then every state is
//! compared with what the vendor has, field by field.

mod judge;
mod kills;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Campaign;
use super::cuts::Between;
use crate::bench::figures;
use crate::bench::load::Reach;
use crate::cli::SoakArgs;
use crate::exit::Exit;
use crate::output::{line, note};
use work::Worker;

/// Customers whose stacks are worked on at once.
const WORKERS: u32 = 8;

/// What is done in all, and how far it is.
#[derive(Debug)]
struct Plan {
    applies: u32,
    begun: AtomicU32,
    settled: AtomicU32,
    /// How many kinds of blows were never dealt so far.
    owed: AtomicUsize,
}

impl Plan {
    /// Whether every apply was begun, and every kind of blow was dealt to one: until then there are more applies.
    fn is_ending(&self) -> bool {
        self.begun.load(Ordering::Relaxed) >= self.applies && self.owed.load(Ordering::Relaxed) == 0
    }
}

/// Runs the campaign.
pub async fn run(args: &SoakArgs, mut campaign: Campaign, applies: u32) -> Result<Exit> {
    let began = Instant::now();
    std::fs::create_dir_all(&campaign.home)?;
    if let Some(cache) = &args.cache {
        super::share(cache, &campaign.home)?;
    }
    let between = Arc::new(Between::start(&campaign.home).await?);
    campaign.between = Some(Arc::clone(&between));
    let mut system = campaign.start()?;
    let ready = CancellationToken::new();
    super::until_there(&campaign.home, &ready).await;

    // The stacks may have a provider that is not ours: it is a process of its own then.
    let with_providers = campaign.vendors.join("simwan/terraform/providers.toml").exists();
    let plan = Arc::new(Plan {
        applies,
        begun: AtomicU32::new(0),
        settled: AtomicU32::new(0),
        owed: AtomicUsize::new(1),
    });
    let reach = Reach { home: campaign.home.clone(), nats: None };
    let workers = (0..WORKERS).map(|number| {
        let worker = Worker::new(reach.clone(), Arc::clone(&plan), number, args.seed);
        tokio::spawn(worker.run())
    });
    let mut work = std::pin::pin!(futures::future::try_join_all(workers.collect::<Vec<_>>()));
    let mut kills = kills::Kills::new(args.seed, args.life, with_providers, &plan);
    let limit = began + Duration::from_secs(300) + Duration::from_secs(24) * applies;
    let stacks = loop {
        tokio::select! {
            done = &mut work => break done?.into_iter().collect::<Result<Vec<_>>>()?,
            // The last ones come to their end: else every blow would be theirs, until they are given up for that.
            () = kills.wait(), if !plan.is_ending() => kills.deal(&mut campaign, &mut system, &between).await?,
        }
        anyhow::ensure!(
            Instant::now() < limit,
            "{} of {applies} applies were brought to their end in time",
            plan.settled.load(Ordering::Relaxed)
        );
    };
    between.open();
    let endpoints = campaign.settled_stacks(&mut system).await?;
    let verdict = judge::judge(&campaign.home, &endpoints, &stacks.concat()).await?;
    let tries = judge::tries(&endpoints).await?;
    system.stop(Duration::from_secs(20)).await;
    campaign.orphans += campaign.wait_until_gone().await;
    let orphans =
        campaign.orphans + kills::terraforms(&campaign.home).len() + kills::providers(&campaign.home).len();
    let kinds: BTreeMap<&str, u32> = kills.dealt().clone();
    let good = verdict.is_good() && orphans == 0;
    line(serde_json::to_string_pretty(&json!({
        "seed": args.seed,
        "executors": campaign.executors,
        "applies": plan.settled.load(Ordering::Relaxed),
        "kills": kinds,
        "tries": tries,
        "seconds": figures::seconds(began.elapsed().as_secs_f64()),
        "orphan_processes": orphans,
        "verdict": verdict,
        "good": good,
    }))?);
    if good && args.home.is_none() {
        let _ = std::fs::remove_dir_all(&campaign.home);
    } else {
        note(format!("the system's folder is {}", campaign.home.display()));
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}
