//! `wanwright nats`: the streams, shown and created.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use serde_json::Value;
use wanwright_nats::accounts::Role;
use wanwright_nats::{Nats, topology};
use wanwright_schemas::subjects::PARTITIONS;

use crate::cli::{NatsArgs, NatsWhat, PartitionsArg, Profile};
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
pub fn durability(profile: Profile) -> String {
    let rebuilt = topology::rebuilt_streams(PARTITIONS, 1).join(" and ");
    match profile {
        Profile::Durable => format!(
            "profile durable: one replica, each write synced to disk before it is acknowledged (but for {rebuilt}, made again from the others)"
        ),
        Profile::Fast => "profile FAST: a loss of power takes what was acknowledged in the last two minutes. Not for anything you would miss; without --profile it is durable".to_owned(),
    }
}

/// The profile that each server runs with, as the servers themselves say.
///
/// # Errors
/// When none answers whoever may ask them.
pub async fn profiles(system: &Nats) -> Result<BTreeMap<String, Profile>> {
    let inbox = system.client.new_inbox();
    let mut answers = system.client.subscribe(inbox.clone()).await?;
    system.client.publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, "".into()).await?;
    let mut found = BTreeMap::new();
    // Nobody says how many servers there are; those of one cluster answer together.
    let mut wait = Duration::from_secs(5);
    while let Ok(Some(answer)) = tokio::time::timeout(wait, answers.next()).await {
        let said: Value = serde_json::from_slice(&answer.payload)?;
        let name = said.pointer("/server/name").and_then(Value::as_str).unwrap_or_default();
        let is_synced = said.pointer("/data/jetstream/config/sync_always") == Some(&Value::Bool(true));
        found.insert(name.to_owned(), if is_synced { Profile::Durable } else { Profile::Fast });
        wait = Duration::from_millis(200);
    }
    anyhow::ensure!(!found.is_empty(), "no server says how it runs");
    Ok(found)
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
