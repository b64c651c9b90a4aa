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
use serde_json::{Value, json};
use wanwright_nats::{Nats, topology};
use wanwright_supervisor::{NatsOptions, PostgresOptions};

use super::figures;
use super::role::CommandService;
use crate::cli::CommandsArgs;
use crate::exit::Exit;
use crate::output;
use work::{Cpu, Measured, Plan, Processes};

/// Which writes a command costs, as ARCHITECTURE.md explains.
const WRITES: [&str; 3] = [
    "An accepted request writes its events, synced, and its outcome, not synced; the reply is no write.",
    "Refused, or with nothing to change: its verdict, synced, instead of the events. A new serial number: a claim before, synced.",
    "By the inbox: the command itself before, synced, and an acknowledgement after; the outcome is waited for.",
];

/// How long each is measured at a steady rate before it is the next one's turn.
const TURN: Duration = Duration::from_secs(1);

/// How many turns each has.
const TURNS: u32 = 10;

/// How the names of what is measured at a steady rate begin.
const STEADY_RAW: &str = "raw checked publish";
const STEADY_ASKED: &str = "request and reply";
const STEADY_FIRST: &str = "first request of a customer";

/// The servers of a run.
struct Servers {
    nats_url: String,
    nats_process: u32,
    postgres_url: String,
    vendors: PathBuf,
    home: PathBuf,
}

/// Measures, and prints JSON with a table beside it.
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
        nats_process: nats_server.child().id(),
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
    let nats = wanwright_nats::connect(&servers.nats_url, "wanwright-bench", args.partitions).await?;
    topology::apply(&nats, 1).await?;
    // Like the service, it has a connection of its own.
    let responder = wanwright_nats::connect(&servers.nats_url, "wanwright-bench", args.partitions).await?;
    let plan = Plan { commands: args.commands, customers: args.commands / 20, at_once: args.at_once };
    let service = CommandService::start(&servers.nats_url, &servers.home, &servers.vendors).await?;
    let all = Processes { service: service.process(), server: servers.nats_process };
    output::note("at a steady rate");
    // Before the storms: what they leave the disk to write would be in its way.
    let steady = paced(&nats, args.paced).await?;
    let mut measured = Vec::new();
    // Each is measured twice and the better one counts: the first one pays for what is cold.
    for round in 0..2 {
        output::note(format!("round {} of 2", round + 1));
        let these = vec![
            all.watched(plan.commands, bare::checked_publish(&nats, plan, round)).await?,
            all.watched(plan.commands, bare::bare_sequence(&nats, &responder, plan, round)).await?,
            all.watched(plan.commands, service::request_reply(&nats, plan, round)).await?,
            all.watched(plan.commands, service::durable_inbox(&nats, plan, round)).await?,
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
    measured.extend(steady);
    service.stop().await;
    Ok(measured)
}

/// All at a steady rate, by turns: a disk that stands still for a while does so to each. Requests are changes of customers
/// that the service knows, as most are; the first request of a customer makes it find out that there is nothing to know.
async fn paced(nats: &Nats, per_second: u32) -> Result<[Measured; 3]> {
    let (mut raw, mut asked, mut first) = (Vec::new(), Vec::new(), Vec::new());
    bare::beside_events(nats).await?;
    for turn in 0..=TURNS {
        let from = turn * per_second;
        raw.extend(bare::paced(nats, per_second, TURN, from).await?);
        asked.extend(service::paced_changes(nats, per_second, TURN, turn).await?);
        first.extend(service::paced_firsts(nats, per_second, TURN, from).await?);
        if turn == 0 {
            // It pays for what is cold, and makes the customers that are changed.
            raw.clear();
            asked.clear();
            first.clear();
        }
    }
    let measured = |name: &str, latencies| {
        Measured::new(&format!("{name}, steady at {per_second}/s"), latencies, TURN * TURNS)
    };
    Ok([measured(STEADY_RAW, raw), measured(STEADY_ASKED, asked), measured(STEADY_FIRST, first)])
}

fn report(args: &CommandsArgs, measured: &[Measured]) -> Result<()> {
    let row = |name: &str| measured.iter().find(|row| row.name.starts_with(name));
    let rate = |name: &str| row(name).map_or(f64::NAN, |row| row.per_second);
    let p99 = |name: &str| row(name).map_or(f64::NAN, |row| row.p99);
    let ratios = json!({
        "request_reply / bare_sequence": figures::ratio(rate("c "), rate("b ")),
        "request_reply / checked_publish": figures::ratio(rate("c "), rate("a ")),
        "request_reply / postgres_es_with_view": figures::ratio(rate("c "), rate("f ")),
        "p99 of request_reply / of checked_publish, steady": figures::ratio(p99(STEADY_ASKED), p99(STEADY_RAW)),
    });
    if !args.json {
        show(measured, &ratios);
    }
    let report = json!({ "measured": measured, "ratios": ratios, "writes": WRITES });
    output::line(serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// The table for people, beside the JSON.
fn show(measured: &[Measured], ratios: &Value) {
    let rows = measured
        .iter()
        .map(|row| {
            let millis = |time: f64| format!("{time:.2}");
            let micros =
                |of: fn(&Cpu) -> f64| row.cpu.as_ref().map_or(String::new(), |cpu| format!("{:.0}", of(cpu)));
            vec![
                row.name.clone(),
                format!("{:.0}", row.per_second),
                millis(row.p50),
                millis(row.p99),
                millis(row.max),
                micros(|cpu| cpu.service),
                micros(|cpu| cpu.server),
                micros(|cpu| cpu.asker),
            ]
        })
        .collect();
    let heads = ["what", "per second", "p50 ms", "p99 ms", "max ms", "service µs", "server µs", "asker µs"];
    output::note(output::table(&heads, rows));
    output::note("The last three columns are the processor time of one command, by process.");
    WRITES.iter().for_each(|writes| output::note(*writes));
    for (what, ratio) in ratios.as_object().into_iter().flatten() {
        output::note(format!("{what}: {:.2}", ratio.as_f64().unwrap_or(f64::NAN)));
    }
}
