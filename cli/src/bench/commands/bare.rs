//! What the server itself can do: the ceilings.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::stream;
use async_nats::{HeaderMap, Message, Subscriber};
use futures::StreamExt;
use tokio::time::Instant;
use wanwright_nats::publish::publish_expecting;
use wanwright_nats::topology::OUTCOMES;
use wanwright_nats::{Nats, stream_info};
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::{CustomerId, subjects};

use crate::output;

use super::work::{Measured, Plan, spread, steady};

/// As long as the envelope of one of the measured commands.
const EVENT: usize = 620;

/// As long as its outcome.
const OUTCOME: usize = 230;

/// As long as its body.
const REQUEST: usize = 90;

/// Where the bare requests go.
const BARE: &str = "bare";

/// The header of an answer that says where the events are.
const SEQUENCE: &str = "Sequence";

fn customer(what: &str, round: u32, number: u32) -> Result<CustomerId> {
    Ok(format!("{what}-{round}-{number}").parse()?)
}

/// The checked publish alone.
pub async fn checked_publish(nats: &Nats, plan: Plan, round: u32) -> Result<Measured> {
    spread("a raw checked publish", plan, |number| async move {
        let subject = subjects::events(&customer("raw", round, number)?, nats.partitions);
        let (mut last, mut latencies) = (0, Vec::new());
        for _ in 0..plan.each() {
            let began = Instant::now();
            last = publish_expecting(
                &nats.js,
                subject.clone(),
                last,
                HeaderMap::new(),
                vec![b'x'; EVENT].into(),
            )
            .await?;
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    })
    .await
}

/// Makes streams like those of the events, which nobody reads: a command service takes what somebody else appends to its
/// own for the work of another one, and reads it before it goes on.
pub async fn beside_events(nats: &Nats) -> Result<()> {
    for partition in 0..nats.partitions {
        let mut stream = nats.js.get_stream(subjects::events_stream(partition)).await?;
        let config = stream.info().await?.config.clone();
        let (name, subjects) = (format!("STEADY-{partition}"), vec![format!("steady.{partition}.*")]);
        nats.js.create_stream(stream::Config { name, subjects, ..config }).await?;
    }
    Ok(())
}

/// The checked publish alone at a steady rate, beside the events: what the disk does to latencies.
pub async fn paced(nats: &Nats, per_second: u32, time: Duration, from: u32) -> Result<Vec<Duration>> {
    steady(per_second, time, from, |number| {
        let nats = nats.clone();
        async move {
            let subject = format!("steady.{}.{number}", number % u32::from(nats.partitions));
            publish_expecting(&nats.js, subject, 0, HeaderMap::new(), vec![b'x'; EVENT].into()).await?;
            Ok(())
        }
    })
    .await
}

/// The messages that one of our commands costs, with nothing decided: request, events, outcome, reply.
pub async fn bare_sequence(nats: &Nats, responder: &Nats, plan: Plan, round: u32) -> Result<Measured> {
    let requests = responder.client.subscribe(format!("{BARE}.>")).await?;
    // Whatever the server answers on this connection, it has taken the subscription before.
    stream_info(&responder.js, OUTCOMES).await?;
    let responding = tokio::spawn(respond(responder.clone(), requests));
    let measured = spread("b the same messages, bare", plan, |number| async move {
        let customer = customer("bare", round, number)?;
        let (mut last, mut latencies) = (0, Vec::new());
        for _ in 0..plan.each() {
            let began = Instant::now();
            let request = vec![b'x'; REQUEST];
            let subject = format!("{BARE}.{customer}.{last}");
            let answer = nats.client.request(subject, request.into()).await?;
            last = answer
                .headers
                .as_ref()
                .and_then(|head| head.get(SEQUENCE)?.as_str().parse().ok())
                .context("the bare responder could not append")?;
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    })
    .await;
    responding.abort();
    measured
}

/// Does for each request what the command service does on NATS.
async fn respond(nats: Nats, mut requests: Subscriber) {
    while let Some(request) = requests.next().await {
        let nats = nats.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(&nats, &request).await {
                output::note(format!("the bare responder: {error:#}"));
            }
        });
    }
}

async fn answer(nats: &Nats, request: &Message) -> Result<()> {
    let mut tokens = request.subject.split('.').skip(1);
    let (Some(customer), Some(last)) = (tokens.next(), tokens.next()) else {
        anyhow::bail!("a strange request")
    };
    let (customer, last): (CustomerId, u64) = (customer.parse()?, last.parse()?);
    let subject = subjects::events(&customer, nats.partitions);
    let event = vec![b'x'; EVENT];
    let sequence = publish_expecting(&nats.js, subject, last, HeaderMap::new(), event.into()).await?;
    let mut head = HeaderMap::new();
    head.insert(SEQUENCE, sequence.to_string().as_str());
    let reply = request.reply.clone().context("a request without reply")?;
    nats.client.publish_with_headers(reply, head, vec![b'x'; OUTCOME].into()).await?;
    let mut head = HeaderMap::new();
    head.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let outcome = subjects::outcome(&customer, CommandId::mint());
    nats.client.publish_with_headers(outcome, head, vec![b'x'; OUTCOME].into()).await?;
    Ok(())
}
