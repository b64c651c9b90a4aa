//! Fills the base: histories, refusals, personal data, and durable commands that wait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wanwright_nats::evidence::check;
use wanwright_nats::inventory::{End, Ends};
use wanwright_nats::publish::publish;
use wanwright_nats::topology::{COMMANDS, INVENTORY};
use wanwright_nats::{Nats, load_subject, stream_info};
use wanwright_schemas::ids::{Actor, CommandId, CustomerId};
use wanwright_schemas::subjects::{self, PARTITIONS, events_stream};
use wanwright_schemas::{Digest, Envelope, Outcome};
use wanwright_vendors::Catalogue;

use super::base;
use crate::bench::ask::{ask, with};
use crate::send;

/// Customers whose commands the command service judged.
pub const JUDGED: u32 = 24;

/// Of these sites it is known whom to talk to.
const PERSONAL: u32 = 6;

/// Devices of each, and changes of one: enough for a snapshot.
const DEVICES: u32 = 6;
const CHANGES: u32 = 140;

/// Messages of the customer that fills several blocks of its stream, and what each weighs.
const LONG: u64 = 420;
const HEAVY: usize = 60_000;

/// Who has durable commands in the inbox, and how many were stored; some are decided before the service dies.
pub const BUSY: &str = "busy";
const DURABLE: usize = 400;

/// What senders were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Commands that were refused, by customer.
    pub refused: Vec<(CustomerId, CommandId, Outcome)>,
    /// Durable commands that were stored, in this order.
    pub durable: Vec<CommandId>,
}

/// What every refused command asks for.
pub const REFUSED: (&str, &str, &str) = ("site", "retry", "nowhere");

/// Fills the streams. Whoever fills them dies with commands in the inbox.
pub async fn fill(nats: &Nats, vendors: Arc<Catalogue>, master_key: &Path) -> Result<Told> {
    let stop = CancellationToken::new();
    let (open, opened) = tokio::sync::oneshot::channel();
    let master_key = Some(master_key.to_owned());
    let options = wanwright_commands::service::Options { master_key, ..Default::default() };
    let ready = move || {
        let _ = open.send(());
    };
    let running = tokio::spawn(wanwright_commands::service::run(nats.clone(), vendors, options, stop, ready));
    tokio::time::timeout(Duration::from_secs(60), opened).await??;
    let customers = futures::stream::iter(0..JUDGED).map(|number| judged(nats, number));
    let judged = customers.buffer_unordered(8).collect::<Vec<Result<_>>>().await;
    let refused = judged.into_iter().collect::<Result<Vec<_>>>()?.concat();
    // What is written down about the streams is a second behind.
    noted(nats, subjects::INVENTORY_OF_STREAMS, |body| {
        let last = body["streams"]["VERDICTS"]["last"].as_u64();
        last.is_some_and(|last| last >= refused.len() as u64)
    })
    .await?;
    noted(nats, subjects::INVENTORY_OF_KEYS, |body| body["keyed"].as_u64() == Some(u64::from(PERSONAL)))
        .await?;
    let durable = durable(nats).await?;
    running.abort();
    let _ = running.await;
    heavy(nats).await?;
    // A snapshot of the customer with many messages is made by who loads it.
    for _ in 0..2 {
        base::ends(nats, None).await?;
    }
    for partition in 0..PARTITIONS {
        read_some(nats, &events_stream(partition)).await?;
    }
    seen(nats).await?;
    Ok(Told { refused, durable })
}

/// Waits until something is written down about what should be in the streams.
async fn noted(nats: &Nats, subject: &str, is_it: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
    let noted = async {
        loop {
            let newest = load_subject(nats, INVENTORY, &subjects::inventory_by(subject, "*"), 0).await?.pop();
            let body = newest.and_then(|newest| serde_json::from_slice(&newest.payload).ok());
            if body.is_some_and(|body| is_it(&body)) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted)
        .await
        .with_context(|| format!("{subject} is not written"))?
}

/// Stores durable commands until they are delivered and written down, most of them undecided.
async fn durable(nats: &Nats) -> Result<Vec<CommandId>> {
    let ids: Vec<CommandId> = (0..DURABLE).map(|_| CommandId::mint()).collect();
    for (page, some) in ids.chunks(200).enumerate() {
        let mut stored = FuturesUnordered::new();
        for (at, id) in some.iter().enumerate() {
            let number = page * 200 + at;
            let verb = if number == 0 { "create" } else { "change" };
            let body = json!({ "vendor": "simwan", "lan": [format!("10.{}.0.0/24", number % 250)] });
            let subject = format!("wan.cmd.{BUSY}.bench.site.oslo.{verb}");
            let sent = nats.js.publish_with_headers(subject, with(*id), body.to_string().into()).await?;
            stored.push(async { sent.await });
        }
        while let Some(stored) = stored.next().await {
            stored?;
        }
    }
    let partition = subjects::partition(&BUSY.parse()?, PARTITIONS);
    let last = stream_info(&nats.js, COMMANDS).await?.last;
    noted(nats, &subjects::inventory_of_inbox(partition), |body| body["seen"].as_u64() == Some(last)).await?;
    Ok(ids)
}

async fn judged(nats: &Nats, number: u32) -> Result<Vec<(CustomerId, CommandId, Outcome)>> {
    let customer = format!("customer-{number:02}");
    let accepted = async |kind: &str, verb: &str, id: &str, body: serde_json::Value| {
        let subject = send::subject("bench", kind, verb, &format!("{customer}/{id}"))?;
        let outcome = ask(nats, &subject, CommandId::mint(), body.to_string().into_bytes()).await?;
        anyhow::ensure!(outcome.position().is_some(), "{id}: {outcome:?}");
        anyhow::Ok(())
    };
    let mut site = json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] });
    if number < PERSONAL {
        site["contact"] = json!({ "name": format!("Person {number}"), "phone": "+47 1" });
    }
    accepted("site", "create", "oslo", site).await?;
    for device in 0..DEVICES {
        let body = json!({ "site": "oslo", "serial": format!("SN-{number}-{device}"), "model": "edge-100" });
        accepted("device", "create", &format!("device-{device}"), body).await?;
    }
    let changes = if number < 4 { CHANGES } else { 4 };
    for change in 0..changes {
        accepted("device", "change", "device-0", json!({ "settings": { "vlan": 2 + change } })).await?;
    }
    let (kind, verb, id) = REFUSED;
    let subject = send::subject("bench", kind, verb, &format!("{customer}/{id}"))?;
    let mut refused = Vec::new();
    for _ in 0..4 {
        let id = CommandId::mint();
        let outcome = ask(nats, &subject, id, Vec::new()).await?;
        anyhow::ensure!(outcome.refusal().is_some(), "{outcome:?}");
        refused.push((customer.parse()?, id, outcome));
    }
    Ok(refused)
}

/// A customer whose messages fill several blocks.
async fn heavy(nats: &Nats) -> Result<()> {
    let customer: CustomerId = "heavy".parse()?;
    let subject = subjects::events(&customer, PARTITIONS);
    let mut prev = None;
    for generation in 1..=LONG {
        let kind = if generation == 1 { "SiteCreated" } else { "SiteChanged" };
        let text = format!("{generation} {}", "x".repeat(HEAVY));
        let event = json!({ "type": kind, "v": 1, "site": "oslo", "generation": generation,
            "spec": { "vendor": "simwan", "lan": ["10.0.0.0/24"], "settings": { "location": text } } });
        let envelope = Envelope {
            v: wanwright_schemas::envelope::ENVELOPE_VERSION,
            command: CommandId::mint(),
            body_sha256: Digest::of(text.as_bytes()),
            actor: "bench".parse::<Actor>()?,
            cause: None,
            correlation: None,
            time: Timestamp::now(),
            prev,
            key: None,
            events: vec![serde_json::from_value(event)?],
        };
        let bytes = envelope.encode()?;
        prev = Some(Digest::of(&bytes));
        publish(&nats.js, subject.clone(), HeaderMap::new(), bytes.into()).await?;
    }
    Ok(())
}

/// Writes down up to where the streams of events were seen, as a service does a second after it saw the last of them.
async fn seen(nats: &Nats) -> Result<()> {
    let mut known = Ends { v: 1, ..Ends::default() };
    for partition in 0..PARTITIONS {
        let stream = events_stream(partition);
        let sequence = stream_info(&nats.js, &stream).await?.last;
        if let Some(last) = check::message(nats, &stream, sequence).await? {
            known.ends.insert(partition, End { sequence, body: Digest::of(&last.payload), lost: None });
        }
    }
    let subject = subjects::inventory_by(subjects::INVENTORY_OF_HISTORIES, "bench");
    publish(&nats.js, subject, HeaderMap::new(), serde_json::to_vec(&known)?.into()).await?;
    Ok(())
}

/// A durable consumer like the dispatcher's, with something acknowledged.
async fn read_some(nats: &Nats, stream: &str) -> Result<()> {
    let last = stream_info(&nats.js, stream).await?.last;
    let config = consumer::pull::Config { durable_name: Some("dispatcher".to_owned()), ..Default::default() };
    let consumer = nats.js.get_stream(stream).await?.get_or_create_consumer("dispatcher", config).await?;
    let mut messages = consumer.fetch().max_messages(usize::try_from(last / 2)?.max(1)).messages().await?;
    while let Some(Ok(message)) = messages.next().await {
        message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
    }
    Ok(())
}
