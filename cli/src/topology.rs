//! `wanwright nats`: the streams, shown and created.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use async_nats::StatusCode;
use futures::StreamExt;
use serde_json::Value;
use wanwright_nats::accounts::Role;
use wanwright_nats::topology::{self, Plan, ReplicasChanged};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::subjects::PARTITIONS;

use crate::cli::{ApplyArgs, NatsArgs, NatsWhat, PartitionsArg, Profile};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::{accounts, output, repair, repartition};

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

/// How many replicas the streams have, and what is not as it should be at so many.
///
/// # Errors
/// When the server cannot be asked.
pub async fn compared(nats: &Nats) -> Result<(usize, Plan), NatsError> {
    let replicas = topology::replicas(nats).await?.unwrap_or(1);
    Ok((replicas, topology::plan(nats, replicas).await?))
}

/// What is certain about a message that was acknowledged, in a sentence.
pub fn durability(profile: Profile, replicas: usize) -> String {
    let kept = counted(replicas);
    let rebuilt = topology::rebuilt_streams(PARTITIONS, replicas).join(" and ");
    match (profile, replicas) {
        (Profile::Durable, 1) => format!(
            "profile durable: {kept}, each write synced to disk before it is acknowledged (but for {rebuilt}, made again from the others)"
        ),
        (Profile::Durable, _) => format!(
            "profile durable: {kept}, each write synced to disk by most of their servers before it is acknowledged"
        ),
        (Profile::Fast, _) => format!(
            "profile FAST: {kept}, and a loss of power takes what was acknowledged in the last two minutes. Not for anything you would miss; without --profile it is durable"
        ),
    }
}

/// So many replicas, in words.
pub fn counted(replicas: usize) -> String {
    match replicas {
        1 => "one replica".to_owned(),
        3 => "three replicas".to_owned(),
        5 => "five replicas".to_owned(),
        other => format!("{other} replicas"),
    }
}

/// The profile that each server runs with, as the servers themselves say.
///
/// # Errors
/// When none answers: the claims of the accounts may be older than this question, or the login may not ask it.
pub async fn profiles(nats: &Nats) -> Result<BTreeMap<String, Profile>> {
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await?;
    nats.client.publish_with_reply(topology::SERVERS, inbox, "".into()).await?;
    let mut found = BTreeMap::new();
    // Nobody says how many servers there are; those of one cluster answer together.
    let mut wait = Duration::from_secs(5);
    while let Ok(Some(answer)) = tokio::time::timeout(wait, answers.next()).await {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        let said: Value = serde_json::from_slice(&answer.payload)?;
        let name = said.pointer("/server/name").and_then(Value::as_str).unwrap_or_default();
        let is_synced = said.pointer("/data/config/sync_always") == Some(&Value::Bool(true));
        found.insert(name.to_owned(), if is_synced { Profile::Durable } else { Profile::Fast });
        wait = Duration::from_millis(200);
    }
    anyhow::ensure!(
        !found.is_empty(),
        "no server says how it stores; where the accounts were signed by an earlier version, `wanwright nats account config` signs them anew"
    );
    Ok(found)
}

/// Says what an acknowledged message survives, for each server that has a part in it.
pub async fn say_profiles(nats: Nats, replicas: usize) {
    match profiles(&nats).await {
        Ok(found) => found.into_iter().for_each(|(server, profile)| {
            output::note(format!("{server} runs with {}", durability(profile, replicas)))
        }),
        Err(error) => output::note(format!("profile of NATS unknown: {error:#}")),
    }
}

/// Shows, creates or changes the streams.
pub async fn run(args: NatsArgs) -> Result<Exit> {
    let nats = async || args.connection.nats_unasked(Login::Role(Role::Admin), "wanwright-nats").await;
    match &args.what {
        NatsWhat::Plan => plan(&nats().await?.with_servers_partitions().await?).await,
        NatsWhat::Apply(wanted) => {
            apply(&with_partitions(nats().await?, wanted.partitions).await?, wanted).await
        }
        NatsWhat::Repair(what) => repair::run(&nats().await?, *what).await,
        NatsWhat::Accept => {
            wanwright_commands::service::accept_losses(&nats().await?).await?;
            output::line("what was lost until now is known; the command services hear of it within a second");
            Ok(Exit::Done)
        }
        NatsWhat::Repartition(what) => repartition::run(&args.connection, *what).await,
        NatsWhat::Account(what) => accounts::account(&args.connection, what).await,
        NatsWhat::User(what) => accounts::user(&args.connection, what).await,
    }
}

async fn plan(nats: &Nats) -> Result<Exit> {
    let (replicas, plan) = compared(nats).await?;
    plan.create.iter().for_each(|name| output::line(format!("+ {name}")));
    plan.differences.iter().for_each(|difference| output::line(format!("!{difference}")));
    if plan == Plan::default() {
        output::note(format!("The server has every stream as it should be, with {}.", counted(replicas)));
        return Ok(Exit::Done);
    }
    if plan.differences.iter().any(|difference| difference.contains(": replicas is ")) {
        output::note(format!(
            "`wanwright nats apply --replicas {replicas}` gives every stream as many replicas."
        ));
    }
    Ok(Exit::Different)
}

async fn apply(nats: &Nats, wanted: &ApplyArgs) -> Result<Exit> {
    let there = topology::replicas(nats).await?;
    let replicas = wanted.replicas.or(there).unwrap_or(1);
    if wanted.replicas.is_some() && there.is_some() {
        let tell = |changed: &ReplicasChanged| output::line(sentence(changed));
        topology::change_replicas(nats, replicas, &tell).await?;
        in_step(nats).await?;
    }
    let created = topology::apply(nats, replicas).await?.create;
    created.iter().for_each(|name| output::line(format!("created {name}")));
    if !created.is_empty() {
        in_step(nats).await?;
    }
    output::note(format!("The server has every stream as it should be, with {}.", counted(replicas)));
    Ok(Exit::Done)
}

/// Waits until every server has what it keeps, which is said where it is not so at once.
async fn in_step(nats: &Nats) -> Result<(), NatsError> {
    if topology::behind(nats).await?.is_empty() {
        return Ok(());
    }
    output::note("waiting until every server has what it keeps");
    topology::wait_for_replicas(nats).await
}

fn sentence(ReplicasChanged { stream, from, to, remade }: &ReplicasChanged) -> String {
    let (from, to) = (counted(*from), counted(*to));
    if *remade {
        format!(
            "deleted {stream} with {from} and made it with {to}, empty: what it held is made again from the events"
        )
    } else {
        format!("changed {stream}: {from} before, {to} now")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_says_how_many_replicas_there_are() {
        let one = durability(Profile::Durable, 1);
        assert!(one.contains("one replica") && one.contains("OUTCOMES and SNAPSHOTS"), "{one}");
        let three = durability(Profile::Durable, 3);
        assert!(three.contains("three replicas") && !three.contains("OUTCOMES"), "{three}");
        assert!(durability(Profile::Fast, 3).contains("FAST: three replicas"));
    }
}
