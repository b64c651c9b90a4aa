//! What the server itself can do: the ceilings.

use anyhow::Result;
use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use tokio::time::Instant;
use wanwright_nats::Nats;
use wanwright_nats::publish::publish_expecting;
use wanwright_nats::topology::OUTCOMES;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::{CustomerId, subjects};

use super::work::{Measured, Plan, spread};

/// As long as the envelope of one of the measured commands.
const EVENT: usize = 620;

/// As long as its outcome.
const OUTCOME: usize = 230;

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

/// The messages that one of our commands costs: a look for its outcome, its events, its outcome.
pub async fn bare_sequence(nats: &Nats, plan: Plan, round: u32) -> Result<Measured> {
    spread("b the same messages, bare", plan, |number| async move {
        let customer = customer("bare", round, number)?;
        let subject = subjects::events(&customer, nats.partitions);
        let outcomes = nats.js.get_stream_no_info(OUTCOMES).await?;
        let (mut last, mut latencies) = (0, Vec::new());
        for _ in 0..plan.each() {
            let outcome = subjects::outcome(&customer, CommandId::mint());
            let began = Instant::now();
            match outcomes.direct_get_last_for_subject(outcome.as_str()).await {
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                Ok(_) => anyhow::bail!("a new command has an outcome"),
                Err(error) => return Err(error.into()),
            }
            last = publish_expecting(
                &nats.js,
                subject.clone(),
                last,
                HeaderMap::new(),
                vec![b'x'; EVENT].into(),
            )
            .await?;
            publish_expecting(&nats.js, outcome, 0, HeaderMap::new(), vec![b'x'; OUTCOME].into()).await?;
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    })
    .await
}
