//! `wanwright nats`: the streams, shown and created.

use anyhow::Result;
use wanwright_nats::accounts::Role;
use wanwright_nats::{Nats, topology};
use wanwright_schemas::subjects::PARTITIONS;

use crate::cli::{NatsArgs, NatsWhat, PartitionsArg};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::{accounts, output, repartition};

/// The connection with the partition count of the server, or with the one that was asked for where there is none yet.
pub async fn with_partitions(mut nats: Nats, wanted: PartitionsArg) -> Result<Nats> {
    nats.partitions = wanted.partitions.unwrap_or(nats.partitions);
    let nats = nats.with_servers_partitions().await?;
    match wanted.partitions.filter(|wanted| *wanted != nats.partitions) {
        None => Ok(nats),
        Some(wanted) => Err(Usage(format!(
            "customers are spread over {} partitions here; `wanwright nats repartition {wanted}` changes that",
            nats.partitions
        ))
        .into()),
    }
}

/// What is certain about a message that was acknowledged, in a sentence.
pub fn durability() -> String {
    let rebuilt = topology::rebuilt_streams(PARTITIONS, 1).join(" and ");
    format!(
        "one replica, each write synced to disk before it is acknowledged (but for {rebuilt}, made again from the others)"
    )
}

/// Shows or creates the streams.
pub async fn run(args: NatsArgs) -> Result<Exit> {
    let nats = async || args.connection.nats_unasked(Login::Role(Role::Admin), "wanwright-nats").await;
    let plan = match &args.what {
        NatsWhat::Plan => topology::plan(&nats().await?.with_servers_partitions().await?, 1).await?,
        NatsWhat::Apply(wanted) => {
            topology::apply(&with_partitions(nats().await?, *wanted).await?, 1).await?
        }
        NatsWhat::Repartition(what) => return repartition::run(&args.connection, *what).await,
        NatsWhat::Account(what) => return accounts::account(&args.connection, what).await,
        NatsWhat::User(what) => return accounts::user(&args.connection, what).await,
    };
    let mark = if matches!(args.what, NatsWhat::Plan) { "+" } else { "created" };
    plan.create.iter().for_each(|name| output::line(format!("{mark} {name}")));
    plan.differences.iter().for_each(|difference| output::line(format!("!{difference}")));
    if plan.create.is_empty() && plan.differences.is_empty() {
        output::note("The server has every stream as it should be.");
    }
    let differs =
        matches!(args.what, NatsWhat::Plan) && !(plan.create.is_empty() && plan.differences.is_empty());
    Ok(if differs { Exit::Different } else { Exit::Done })
}
