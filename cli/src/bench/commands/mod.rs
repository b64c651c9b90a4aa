//! `wanwright bench commands`: what a command costs, beside what its messages cost bare, beside postgres-es.
//!
//! Everything runs in one go on servers of its own, at the same durability: every write is synced before it is
//! acknowledged.

mod bare;
mod peer;
mod service;
pub mod work;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use wanwright_nats::topology;
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::{NatsOptions, PostgresOptions};

use super::figures;
use super::role::CommandService;
use crate::cli::CommandsArgs;
use crate::exit::Exit;
use crate::output;
use work::{Measured, Plan};

/// Which writes a command costs, as ARCHITECTURE.md explains.
const WRITES: [&str; 3] = [
    "An accepted request writes its events, synced, and its outcome, not synced; the reply is no write.",
    "Refused, or with nothing to change: its verdict, synced, instead of the events. A new serial number: a claim before, synced.",
    "By the inbox: the command itself before, synced, and an acknowledgement after; the outcome is waited for.",
];

/// The servers of a run.
struct Servers {
    nats_url: String,
    postgres_url: String,
    vendors: PathBuf,
    home: PathBuf,
}

/// Measures and prints a table and JSON.
pub async fn run(args: CommandsArgs) -> Result<Exit> {
    let home = std::env::temp_dir().join(format!("wanwright-bench-{}", std::process::id()));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let cache = match &args.cache {
        Some(cache) => std::path::absolute(cache)?,
        None => home.join("cache"),
    };
    let nats_server = wanwright_supervisor::Nats::start(&NatsOptions::new(home.join("nats"), &cache)).await?;
    let postgres =
        wanwright_supervisor::Postgres::start(&PostgresOptions::new(home.join("postgres"), &cache)).await?;
    let servers = Servers {
        nats_url: nats_server.url_with_login(),
        postgres_url: postgres.url(),
        vendors: std::path::absolute(&args.vendors.vendors)?,
        home: home.clone(),
    };
    let measured = measure(&args, &servers).await;
    tokio::join!(nats_server.stop(Duration::from_secs(5)), postgres.stop(Duration::from_secs(5)));
    let _ = std::fs::remove_dir_all(&home);
    report(&args, &measured?)?;
    Ok(Exit::Done)
}

async fn measure(args: &CommandsArgs, servers: &Servers) -> Result<Vec<Measured>> {
    let nats = wanwright_nats::connect(&servers.nats_url, "wanwright-bench", PARTITIONS).await?;
    topology::apply(&nats, 1).await?;
    // Like the service, it has a connection of its own.
    let responder = wanwright_nats::connect(&servers.nats_url, "wanwright-bench", PARTITIONS).await?;
    let plan = Plan { commands: args.commands, customers: args.commands / 20, at_once: args.at_once };
    let service = CommandService::start(&servers.nats_url, &servers.home, &servers.vendors).await?;
    let mut measured = Vec::new();
    // Each is measured twice and the better one counts: the first one pays for what is cold.
    for round in 0..2 {
        output::note(format!("round {} of 2", round + 1));
        let these = vec![
            bare::checked_publish(&nats, plan, round).await?,
            bare::bare_sequence(&nats, &responder, plan, round).await?,
            service::request_reply(&nats, plan, round).await?,
            service::durable_inbox(&nats, plan, round).await?,
            peer::postgres_es(servers, plan, round, false).await?,
            peer::postgres_es(servers, plan, round, true).await?,
        ];
        for new in these {
            match measured.iter_mut().find(|old: &&mut Measured| old.name == new.name) {
                Some(old) if old.per_second < new.per_second => *old = new,
                Some(_) => {}
                None => measured.push(new),
            }
        }
    }
    let time = Duration::from_secs(10);
    measured.push(bare::paced(&nats, args.paced, time).await?);
    measured.push(service::paced(&nats, args.paced, time).await?);
    service.stop().await;
    Ok(measured)
}

fn report(args: &CommandsArgs, measured: &[Measured]) -> Result<()> {
    let rate = |name: &str| {
        measured.iter().find(|row| row.name.starts_with(name)).map_or(f64::NAN, |row| row.per_second)
    };
    let ratios = json!({
        "request_reply / bare_sequence": figures::ratio(rate("c "), rate("b ")),
        "request_reply / checked_publish": figures::ratio(rate("c "), rate("a ")),
        "request_reply / postgres_es_with_view": figures::ratio(rate("c "), rate("f ")),
    });
    if args.json {
        output::line(serde_json::to_string_pretty(&json!({ "measured": measured, "ratios": ratios }))?);
        return Ok(());
    }
    let rows = measured
        .iter()
        .map(|row| {
            let millis = |time: f64| format!("{time:.2}");
            vec![
                row.name.clone(),
                format!("{:.0}", row.per_second),
                millis(row.p50),
                millis(row.p99),
                millis(row.max),
            ]
        })
        .collect();
    output::line(output::table(&["what", "per second", "p50 ms", "p99 ms", "max ms"], rows));
    WRITES.iter().for_each(|writes| output::line(*writes));
    for (what, ratio) in ratios.as_object().into_iter().flatten() {
        output::line(format!("{what}: {:.2}", ratio.as_f64().unwrap_or(f64::NAN)));
    }
    Ok(())
}
