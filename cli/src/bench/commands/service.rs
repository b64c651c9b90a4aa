//! The command service, as a process of its own, by both doors.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use tokio::time::Instant;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::OUTCOMES;
use wanwright_nats::{Follower, Nats, stream_info};
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::subjects::CommandSubject;

use super::work::{Measured, Plan, command, spread, steady};
use crate::send;

fn subject(what: &str, round: u32, number: u32, verb: &str) -> Result<CommandSubject> {
    send::subject("bench", "site", verb, &format!("{what}-{round}-{number}/oslo-01"))
}

fn head(id: CommandId) -> HeaderMap {
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    head
}

/// Request and reply: the answer is the outcome.
pub async fn request_reply(nats: &Nats, plan: Plan, round: u32) -> Result<Measured> {
    spread("c request and reply", plan, |number| async move {
        let mut latencies = Vec::new();
        for index in 0..plan.each() {
            let (verb, body) = command(index);
            let subject = subject("ask", round, number, verb)?;
            let began = Instant::now();
            let outcome = send::request(nats, &subject, head(CommandId::mint()), body.into_bytes()).await?;
            latencies.push(began.elapsed());
            anyhow::ensure!(outcome.position().is_some(), "{outcome:?}");
        }
        Ok(latencies)
    })
    .await
}

/// The durable inbox: from the first publish to the last outcome. Latencies are those of the publishes.
pub async fn durable_inbox(nats: &Nats, plan: Plan, round: u32) -> Result<Measured> {
    let from = stream_info(&nats.js, OUTCOMES).await?.last + 1;
    let mut outcomes = Follower::open_filtered(nats.js.clone(), OUTCOMES, "wan.out.*.*".into(), from).await?;
    let began = Instant::now();
    let counting = tokio::spawn(async move {
        let mut seen = 0;
        while seen < plan.commands {
            let batch = outcomes.next_batch(1000, Duration::from_secs(10)).await?;
            anyhow::ensure!(!batch.is_empty(), "the inbox stands still at {seen}");
            seen += u32::try_from(batch.len())?;
        }
        Ok(())
    });
    let published = spread("d durable inbox", plan, |number| async move {
        let mut latencies = Vec::new();
        for index in 0..plan.each() {
            let (verb, body) = command(index);
            let subject = subject("post", round, number, verb)?.durable();
            let began = Instant::now();
            publish(&nats.js, subject, head(CommandId::mint()), body.into_bytes().into()).await?;
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    })
    .await?;
    counting.await.context("counting outcomes")??;
    let per_second = f64::from(plan.commands) / began.elapsed().as_secs_f64();
    Ok(Measured { per_second, ..published })
}

/// Requests at a steady rate, whether or not earlier ones were answered: the latency that people see. Each customer has one
/// in each turn, which makes it in the first and changes it in the later ones.
pub async fn paced_changes(nats: &Nats, per_second: u32, time: Duration, turn: u32) -> Result<Vec<Duration>> {
    steady(per_second, time, 0, |number| paced(nats.clone(), "pace", number, turn)).await
}

/// The same, each the first one of its customer; their numbers begin with `from`.
pub async fn paced_firsts(nats: &Nats, per_second: u32, time: Duration, from: u32) -> Result<Vec<Duration>> {
    steady(per_second, time, from, |number| paced(nats.clone(), "first", number, 0)).await
}

async fn paced(nats: Nats, what: &'static str, number: u32, index: u32) -> Result<()> {
    let (verb, body) = command(index);
    let subject = subject(what, 0, number, verb)?;
    let outcome = send::request(&nats, &subject, head(CommandId::mint()), body.into_bytes()).await?;
    anyhow::ensure!(outcome.position().is_some(), "{outcome:?}");
    Ok(())
}
