//! What every damage is done to a copy of: histories, rows, signed heads and claims that belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer;
use cqrs_es::EventStore;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio_util::sync::CancellationToken;
use wanwright_commands::Head;
use wanwright_commands::service::CustomerStore;
use wanwright_nats::evidence::{Evidence, Folder, Rolling, SigningKey, leaf};
use wanwright_nats::publish::publish;
use wanwright_nats::{Nats, stream_info, topology};
use wanwright_projections::{Config, Projections, Readiness, Signer};
use wanwright_schemas::ids::{Actor, CommandId, CustomerId};
use wanwright_schemas::subjects::{self, PARTITIONS, events_stream};
use wanwright_schemas::{Digest, Envelope};
use wanwright_supervisor::{NatsOptions, PostgresOptions};
use wanwright_vendors::Catalogue;

use super::harm::{self, Harm};
use crate::audit::live;
use crate::cli::DamageArgs;
use crate::send;

/// Customers whose commands the command service judged.
const JUDGED: u32 = 24;

/// Devices of each, and changes of one: enough for a snapshot.
const DEVICES: u32 = 6;
const CHANGES: u32 = 140;

/// Messages of the customer that fills several blocks of its stream, and what each weighs.
const LONG: u64 = 420;
const HEAVY: usize = 60_000;

/// The end of a customer's history.
pub type End = (u64, Option<Digest>);

/// The base.
pub struct Base {
    cache: PathBuf,
    home: PathBuf,
    /// The files as a server leaves them that was stopped, and as one leaves them that was killed.
    stores: [PathBuf; 2],
    postgres: wanwright_supervisor::Postgres,
    /// The customers and where their histories end.
    pub ends: BTreeMap<CustomerId, End>,
    /// The digest over each stream.
    pub streams: BTreeMap<String, Rolling>,
    /// A hash over every row.
    pub rows: String,
    /// Whose serial numbers are claimed.
    pub claims: BTreeMap<String, String>,
    /// Who signs.
    pub signer: Signer,
}

impl Base {
    /// Makes it.
    pub async fn make(args: &DamageArgs, home: &Path) -> Result<Self> {
        let cache = match &args.cache {
            Some(cache) => std::path::absolute(cache)?,
            None => home.join("cache"),
        };
        let postgres =
            wanwright_supervisor::Postgres::start(&PostgresOptions::new(home.join("postgres"), &cache))
                .await?;
        let options = NatsOptions::new(home.join("base"), &cache);
        let server = wanwright_supervisor::Nats::start(&options).await?;
        let url = server.url_with_login();
        let nats = wanwright_nats::connect(&url, "wanwright-damage", PARTITIONS).await?;
        topology::apply(&nats, 1).await?;
        let signer = Signer {
            key: SigningKey::load_or_make(&home.join("keys"))?,
            folder: Some(Folder::new(home.join("audit"))),
        };
        let vendors = Arc::new(Catalogue::load(std::path::absolute(&args.vendors.vendors)?)?);
        fill(&nats, vendors).await?;
        let pool = pool(&postgres.url()).await?;
        wanwright_projections::migrate(&pool).await?;
        project(&pool, &nats, &signer, true).await?;
        let mut base = Self {
            cache,
            home: home.to_owned(),
            stores: [home.join("stopped"), home.join("killed")],
            postgres,
            ends: ends(&nats, None)
                .await?
                .into_iter()
                .map(|(id, end)| Ok((id, end?)))
                .collect::<Result<_>>()?,
            streams: BTreeMap::new(),
            rows: rows(&pool).await?,
            claims: claims(&nats).await?,
            signer,
        };
        base.streams = rollings(&nats).await?;
        pool.close().await;
        // Everything is synced: what a killed server leaves is what is on the disk now.
        harm::copy(&home.join("base"), &base.stores[1])?;
        server.stop(Duration::from_secs(20)).await;
        harm::copy(&home.join("base"), &base.stores[0])?;
        Ok(base)
    }

    /// How many messages there are.
    pub fn messages(&self) -> u64 {
        self.streams.values().map(|rolling| rolling.sequence).sum()
    }

    /// Copies the files and damages the copy.
    pub fn damage(&self, case: &Path, random: &mut fastrand::Rng, number: u32) -> Result<Harm> {
        let killed = number % 2 == 1;
        harm::copy(&self.stores[usize::from(killed)], case)?;
        let harm = harm::damage(&case.join("jetstream/WAN"), random)?;
        let how = if killed { "killed" } else { "stopped" };
        Ok(Harm { what: format!("{} ({how})", harm.what), ..harm })
    }

    /// The options of a server over a copy.
    pub fn server(&self, case: &Path) -> NatsOptions {
        NatsOptions { start_limit: Duration::from_secs(30), ..NatsOptions::new(case, &self.cache) }
    }

    /// A database of a case's own, as it was.
    pub async fn database(&self, number: u32) -> Result<PgPool> {
        let admin = pool(&self.postgres.url_of("postgres")).await?;
        let url = self.postgres.url();
        let name = url.rsplit('/').next().context("no database")?;
        let case = format!("case_{number}");
        admin.execute(format!("CREATE DATABASE {case} TEMPLATE {name}").as_str()).await?;
        admin.close().await;
        pool(&self.postgres.url_of(&case)).await
    }

    /// Takes the database away.
    pub async fn drop_database(&self, number: u32) -> Result<()> {
        let admin = pool(&self.postgres.url_of("postgres")).await?;
        admin.execute(format!("DROP DATABASE case_{number} WITH (FORCE)").as_str()).await?;
        admin.close().await;
        Ok(())
    }

    /// The signer and the evidence of a case: heads of its own, as they were.
    pub fn evidence(&self, case: &Path) -> Result<(Signer, Evidence)> {
        let folder = Folder::new(case.join("audit"));
        harm::copy(&self.home.join("audit"), folder.path())?;
        let key = Some(self.signer.key.public());
        Ok((Signer { key: self.signer.key.clone(), folder: Some(folder.clone()) }, Evidence { folder, key }))
    }

    /// Stops what is left.
    pub async fn stop(self, limit: Duration) {
        self.postgres.stop(limit).await;
    }
}

async fn pool(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(20).acquire_timeout(Duration::from_secs(20)).connect(url).await?)
}

/// Runs the projections until they are caught up or every one that is not has stopped; answers who stopped and why.
pub async fn project(pool: &PgPool, nats: &Nats, signer: &Signer, all: bool) -> Result<Vec<String>> {
    use wanwright_projections::ReaderState::{CaughtUp, Stopped};
    let mut config = Config::new(pool.clone(), nats.clone());
    config.audit = Some(signer.clone());
    config.idle = Duration::from_millis(100);
    let projections = Projections::new(config);
    let mut readiness = projections.readiness();
    let stop = CancellationToken::new();
    let running = tokio::spawn(projections.run(stop.clone()));
    let settled = |now: &Readiness| now.readers.values().all(|state| matches!(state, CaughtUp | Stopped(_)));
    let waited =
        tokio::time::timeout(Duration::from_secs(if all { 60 } else { 20 }), readiness.wait_for(settled));
    let late = waited.await.is_err();
    let stopped: Vec<String> = readiness
        .borrow()
        .unready()
        .map(|(name, state)| match state {
            Stopped(why) => format!("{name}: {why}"),
            other => format!("{name}: {other:?}"),
        })
        .collect();
    stop.cancel();
    running.await?;
    anyhow::ensure!(!(late && all), "the projections did not catch up: {stopped:?}");
    Ok(stopped)
}

/// Loads every customer as the command service does.
pub async fn ends(nats: &Nats, evidence: Option<Evidence>) -> Result<Vec<(CustomerId, Result<End>)>> {
    let store = CustomerStore::believing(nats.clone(), 1 << 30, evidence);
    let names = (0..JUDGED).map(|number| format!("customer-{number:02}")).chain(["heavy".to_owned()]);
    let loads = futures::stream::iter(names).map(|name| {
        let store = store.clone();
        async move {
            let loaded = store.load_aggregate(&name).await;
            let end = loaded.map(|loaded| end(&loaded.head)).map_err(anyhow::Error::from);
            Ok((name.parse()?, end))
        }
    });
    loads.buffer_unordered(8).collect::<Vec<Result<_>>>().await.into_iter().collect()
}

fn end(head: &Head) -> End {
    (head.sequence, head.digest)
}

/// The digest over each stream, of whatever can be read.
pub async fn rollings(nats: &Nats) -> Result<BTreeMap<String, Rolling>> {
    let mut rollings = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let stream = events_stream(partition);
        let mut rolling = Rolling::default();
        live::read(nats, &stream, 0, |message| {
            rolling = rolling.with(message.sequence, leaf(&message));
            Ok(())
        })
        .await?;
        rollings.insert(stream, rolling);
    }
    Ok(rollings)
}

/// A hash over every row of the read models.
pub async fn rows(pool: &PgPool) -> Result<String> {
    let mut all = String::new();
    for table in
        ["customers", "sites", "tunnels", "devices", "drift_reports", "timeline", "customer_overview"]
    {
        let sql =
            format!("SELECT coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {table} t");
        let hash: String = sqlx::query_scalar(&sql).fetch_one(pool).await?;
        all.push_str(&hash);
    }
    Ok(all)
}

/// The claims, by serial number.
pub async fn claims(nats: &Nats) -> Result<BTreeMap<String, String>> {
    let bucket = nats.js.get_key_value(topology::CLAIMS).await?;
    let mut keys = bucket.keys().await?;
    let mut claims = BTreeMap::new();
    while let Some(Ok(key)) = keys.next().await {
        if let Some(value) = bucket.get(&key).await? {
            claims.insert(key, String::from_utf8_lossy(&value).into_owned());
        }
    }
    Ok(claims)
}

async fn fill(nats: &Nats, vendors: Arc<Catalogue>) -> Result<()> {
    let stop = CancellationToken::new();
    let (open, opened) = tokio::sync::oneshot::channel();
    let options = wanwright_commands::service::Options::default();
    let ready = move || {
        let _ = open.send(());
    };
    let running =
        tokio::spawn(wanwright_commands::service::run(nats.clone(), vendors, options, stop.clone(), ready));
    tokio::time::timeout(Duration::from_secs(60), opened).await??;
    let customers = futures::stream::iter(0..JUDGED).map(|number| judged(nats, number));
    customers.buffer_unordered(8).collect::<Vec<Result<()>>>().await.into_iter().collect::<Result<()>>()?;
    stop.cancel();
    running.await??;
    heavy(nats).await?;
    // A snapshot of the customer with many messages is made by who loads it.
    for _ in 0..2 {
        ends(nats, None).await?;
    }
    for partition in 0..PARTITIONS {
        read_some(nats, &events_stream(partition)).await?;
    }
    Ok(())
}

async fn judged(nats: &Nats, number: u32) -> Result<()> {
    let customer = format!("customer-{number:02}");
    let ask = async |kind: &str, verb: &str, id: &str, body: serde_json::Value| {
        let subject = send::subject("bench", kind, verb, &format!("{customer}/{id}"))?;
        let outcome = send::request(nats, &subject, HeaderMap::new(), body.to_string().into_bytes()).await?;
        anyhow::ensure!(outcome.position().is_some(), "{id}: {outcome:?}");
        anyhow::Ok(())
    };
    ask("site", "create", "oslo", json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] })).await?;
    for device in 0..DEVICES {
        let body = json!({ "site": "oslo", "serial": format!("SN-{number}-{device}"), "model": "edge-100" });
        ask("device", "create", &format!("device-{device}"), body).await?;
    }
    let changes = if number < 4 { CHANGES } else { 4 };
    for change in 0..changes {
        ask("device", "change", "device-0", json!({ "settings": { "vlan": 2 + change } })).await?;
    }
    Ok(())
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
