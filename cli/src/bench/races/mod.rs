//! `wanwright bench races`: several writers on one customer, with nothing between them but the append check, while the
//! server that leads the history is killed. Then the history is judged.

mod judge;
mod mix;
mod rules;
mod servers;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wanwright_nats::{Nats, NatsError, topology};
use wanwright_schemas::CustomerId;
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_vendors::Catalogue;

use super::figures;
use crate::cli::RacesArgs;
use crate::exit::Exit;
use crate::output::{line, note};
use servers::Servers;
use writer::{Race, Writer};

/// How long servers have to find each other.
const FORMED: Duration = Duration::from_secs(20);

/// Runs the campaign.
pub async fn run(args: RacesArgs) -> Result<Exit> {
    let home = std::env::temp_dir().join(format!("wanwright-races-{}", std::process::id()));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let cache = match &args.cache {
        Some(cache) => std::path::absolute(cache)?,
        None => home.join("cache"),
    };
    let mut servers = Servers::start(&home.join("nats"), &cache, usize::from(args.replicas)).await?;
    let raced = race(&args, &mut servers).await;
    drop(servers);
    let _ = std::fs::remove_dir_all(&home);
    raced
}

/// Makes the streams. Servers that have just found each other may not count one another yet.
async fn streams(nats: &Nats, replicas: usize) -> Result<()> {
    let deadline = Instant::now() + FORMED;
    loop {
        match topology::apply(nats, replicas).await {
            Err(NatsError::Replicas { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            made => return Ok(made.map(drop)?),
        }
    }
}

async fn race(args: &RacesArgs, servers: &mut Servers) -> Result<Exit> {
    let connect = |name: &'static str, url: String| async move {
        wanwright_nats::connect(&url, name, PARTITIONS).await
    };
    let nats = connect("wanwright-races", servers.url()?).await?;
    streams(&nats, usize::from(args.replicas)).await?;
    let customer: CustomerId = "acme".parse()?;
    let vendors = Arc::new(Catalogue::load(&args.vendors.vendors)?);
    let race = Arc::new(Race::new(customer.clone(), args.commands));
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for number in 0..args.writers {
        let nats = connect("wanwright-writer", servers.url()?).await?;
        let seed = args.seed.wrapping_mul(1000) + number;
        writers.spawn(Writer::new(nats, Arc::clone(&race), Arc::clone(&vendors), seed).run());
    }
    let leader = {
        let mut said = 0;
        while race.done.load(Ordering::Relaxed) < args.commands / 2 && !writers.is_empty() {
            let tenths = race.done.load(Ordering::Relaxed) * 10 / args.commands.max(1);
            if tenths > said {
                said = tenths;
                note(format!("{tenths}0 % of {} commands", args.commands));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let stream = subjects::events_stream(subjects::partition(&customer, PARTITIONS));
        let leader = servers.kill_leader(&nats, &stream).await?;
        note(format!("killed {leader}, which led {stream}"));
        servers.mend().await?;
        leader
    };
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let seconds = figures::seconds(began.elapsed().as_secs_f64());
    let record = race.record()?;
    let verdict = judge::judge(&nats, &customer, &record, &vendors).await?;
    line(serde_json::to_string_pretty(&json!({
        "replicas": args.replicas,
        "writers": args.writers,
        "seed": args.seed,
        "killed": leader,
        "seconds": seconds,
        "commands": race.done.load(Ordering::Relaxed),
        "accepted": record.accepted.len(),
        "refused": record.refused,
        "conflicts": record.conflicts,
        "answers_missed": record.unknown,
        "verdict": verdict,
    }))?);
    Ok(if verdict.is_good() { Exit::Done } else { Exit::Different })
}
