//! `wanwright log`: everything that was written down about one order, from the stream of run records.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use wanwright_nats::accounts::Role;
use wanwright_nats::topology::RUNS;
use wanwright_nats::{Follower, Nats, StoredMessage, load_subject};
use wanwright_schemas::OrderId;
use wanwright_schemas::run::{self, RunRecord};

use crate::cli::Connection;
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;
use crate::serve::stop_token;
use crate::watch;

/// Most messages that are read at once.
const BATCH: usize = 64;

/// `log`.
#[derive(Debug, Args)]
#[command(
    after_help = "Orders are named as `wanwright get operations -o name` prints them. What a run says is kept for 30 days; \
    secrets and tokens\nare not in it.\n\nExamples:\n  wanwright log 366040cb-7be2-87fe-b066-83ff228ab910\n  wanwright log \
    operation/366040cb-7be2-87fe-b066-83ff228ab910 --follow\n\nExit codes: 0 done; 1 there is nothing about this order."
)]
pub struct LogArgs {
    #[command(flatten)]
    connection: Connection,
    /// The order.
    order: String,
    /// Go on until the order has ended.
    #[arg(short, long)]
    follow: bool,
    /// Print the records as they are, a line each.
    #[arg(long)]
    json: bool,
}

/// Prints the log of an order.
pub async fn run(args: LogArgs) -> Result<Exit> {
    let order = args.order.strip_prefix("operation/").unwrap_or(&args.order);
    let order: OrderId = order.parse().map_err(|error| Usage(format!("{error}")))?;
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-log").await?;
    let filter = format!("wan.run.*.{order}.*");
    if args.follow {
        return follow(&nats, filter, args.json).await;
    }
    let mut ended = None;
    for message in load_subject(&nats, RUNS, &filter, 0).await? {
        print(&message, args.json, &mut ended)?;
    }
    if ended.is_none() {
        output::note(format!("there is nothing about order {order}"));
        return Ok(Exit::Different);
    }
    Ok(Exit::Done)
}

/// Prints what there is and what comes, until the order has ended.
async fn follow(nats: &Nats, filter: String, json: bool) -> Result<Exit> {
    let stop = stop_token()?;
    let mut follower = Follower::open_filtered(nats.js.clone(), RUNS, filter, 1).await?;
    let mut ended = None;
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Interrupted),
            batch = follower.next_batch(BATCH, Duration::from_secs(1)) => batch?,
        };
        for message in &batch {
            print(message, json, &mut ended)?;
        }
        // An order that ended may be wanted again; what is there already says so.
        if batch.is_empty() && ended == Some(true) {
            return Ok(Exit::Done);
        }
    }
}

/// Prints the records of a message, and notes whether the last one is the order's end.
fn print(message: &StoredMessage, json: bool, ended: &mut Option<bool>) -> Result<()> {
    for record in run::read(&message.payload)? {
        *ended = Some(record.event.is_end());
        output::line(if json { serde_json::to_string(&record)? } else { shown(&record) });
    }
    Ok(())
}

fn shown(record: &RunRecord) -> String {
    let time = record.time.strftime("%Y-%m-%d %H:%M:%S%.3f");
    format!("{time}  {:<10} {}", record.event.word(), watch::detail(&record.event))
}
