//! What every damage is done to a copy of: histories, rows, signed heads and claims that belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cqrs_es::EventStore;
use futures::StreamExt;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio_util::sync::CancellationToken;
use wanwright_commands::Head;
use wanwright_commands::service::CustomerStore;
use wanwright_nats::evidence::{Evidence, Folder, Rolling, SignedHead, SigningKey, leaf};
use wanwright_nats::keys::{Keys, master_key_file};
use wanwright_nats::{Nats, stream_info, topology};
use wanwright_projections::{Config, Projections, Readiness, Signer};
use wanwright_schemas::Digest;
use wanwright_schemas::contact::KeyId;
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::subjects::{self, PARTITIONS, events_stream};
use wanwright_supervisor::{NatsOptions, PostgresOptions};
use wanwright_vendors::Catalogue;

use super::fill::{self, BUSY, JUDGED, Told};
use super::harm::{self, Harm, Heads};
use super::pages::{self, Tables};
use crate::audit::live;
use crate::cli::DamageArgs;

/// The end of a customer's history, and the digest of the state there.
pub type End = (u64, Option<Digest>, Digest);

/// The database in which nothing was ever folded.
const NOTHING: &str = "nothing";

/// The base.
pub struct Base {
    cache: PathBuf,
    /// How the kinds of damages begin.
    kind: String,
    home: PathBuf,
    /// The files as a server leaves them that was stopped, and as one leaves them that was killed.
    stores: [PathBuf; 2],
    postgres: wanwright_supervisor::Postgres,
    /// The files of Postgres as it leaves them that was stopped.
    pages: PathBuf,
    /// What every table of it has, and in which file.
    pub tables: Tables,
    /// The vendors' folders.
    pub vendors: Arc<Catalogue>,
    /// What senders were told.
    pub told: Told,
    /// Whose personal data is sealed with which key.
    pub keys: BTreeMap<CustomerId, KeyId>,
    /// The customers and where their histories end.
    pub ends: BTreeMap<CustomerId, End>,
    /// The digest over each stream.
    pub streams: BTreeMap<String, Rolling>,
    /// Heads of each stream from when it was half as long.
    older: Vec<SignedHead>,
    /// A hash over every row that each reader folds.
    pub rows: BTreeMap<String, String>,
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
        let options_of_postgres = PostgresOptions::new(home.join("postgres"), &cache);
        let mut postgres = wanwright_supervisor::Postgres::start(&options_of_postgres).await?;
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
        let master_key = master_key_file(home);
        let told = fill::fill(&nats, Arc::clone(&vendors), &master_key).await?;
        let pool = pool(&postgres.url()).await?;
        let admin = self::pool(&postgres.url_of("postgres")).await?;
        admin.execute(format!("CREATE DATABASE {NOTHING}").as_str()).await?;
        admin.close().await;
        let nothing = self::pool(&postgres.url_of(NOTHING)).await?;
        wanwright_projections::migrate(&nothing).await?;
        nothing.close().await;
        wanwright_projections::migrate(&pool).await?;
        let stopped = project(&pool, &nats, &signer, ALL).await?;
        anyhow::ensure!(stopped.is_empty(), "the projections did not catch up: {stopped:?}");

        let pages = home.join("pages");
        let tables = pages::tables(&pool).await?;
        let ends = ends(&nats, None).await?;
        let rows = rows(&pool).await?;
        pool.close().await;
        let place = postgres.place().dir.clone();
        postgres.stop(Duration::from_secs(20)).await;
        harm::copy(&place, &pages)?;
        postgres = wanwright_supervisor::Postgres::start(&options_of_postgres).await?;
        let base = Self {
            cache,
            kind: args.kind.clone().unwrap_or_default(),
            home: home.to_owned(),
            stores: [home.join("stopped"), home.join("killed")],
            postgres,
            pages,
            tables,
            vendors,
            told,
            keys: keys(&Keys::new(nats.clone(), &master_key)).await?,
            ends: ends.into_iter().map(|(id, end)| Ok((id, end?))).collect::<Result<_>>()?,
            streams: rollings(&nats).await?,
            older: older(&nats, &signer.key).await?,
            rows,
            claims: claims(&nats).await?,
            signer,
        };
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
        if harm::is_page(random, &self.kind) {
            harm::copy(&self.pages, &case.join("postgres"))?;
            return self.tables.damage(&case.join("postgres/data"), random);
        }
        harm::copy(&self.stores[usize::from(killed)], case)?;
        let harm = harm::damage(&case.join("jetstream/WAN"), random, &self.kind)?;
        let how = if killed { "killed" } else { "stopped" };
        Ok(Harm { what: format!("{} ({how})", harm.what), ..harm })
    }

    /// The options of a Postgres over a copy.
    pub fn postgres(&self, case: &Path) -> PostgresOptions {
        PostgresOptions::new(case.join("postgres"), &self.cache)
    }

    /// The file of the master keys, which no case damages.
    pub fn master_key(&self) -> PathBuf {
        master_key_file(&self.home)
    }

    /// The options of a server over a copy.
    pub fn server(&self, case: &Path) -> NatsOptions {
        NatsOptions { start_limit: Duration::from_secs(15), ..NatsOptions::new(case, &self.cache) }
    }

    /// A database of a case's own, as it was.
    pub async fn database(&self, number: u32, heads: Heads) -> Result<PgPool> {
        let admin = pool(&self.postgres.url_of("postgres")).await?;
        let url = self.postgres.url();
        let name = match heads {
            Heads::All => url.rsplit('/').next().context("no database")?,
            Heads::Older | Heads::None => NOTHING,
        };
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
    pub fn evidence(&self, case: &Path, heads: Heads) -> Result<(Signer, Option<Evidence>)> {
        let folder = Folder::new(case.join("audit"));
        let _ = std::fs::remove_dir_all(folder.path());
        match heads {
            Heads::All => harm::copy(&self.home.join("audit"), folder.path())?,
            Heads::Older => self.older.iter().try_for_each(|head| folder.append(head))?,
            Heads::None => return Ok((Signer { key: self.signer.key.clone(), folder: None }, None)),
        }
        let key = Some(self.signer.key.public());
        let signer = Signer { key: self.signer.key.clone(), folder: Some(folder.clone()) };
        Ok((signer, Some(Evidence { folder, key })))
    }

    /// Stops what is left.
    pub async fn stop(self, limit: Duration) {
        self.postgres.stop(limit).await;
    }
}

/// Connects.
pub async fn pool(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(20).acquire_timeout(Duration::from_secs(20)).connect(url).await?)
}

/// How long the projections may take for everything there is.
pub const ALL: Duration = Duration::from_secs(60);

/// Runs the projections until they are caught up or every one that is not has stopped; answers who stopped and why.
pub async fn project(pool: &PgPool, nats: &Nats, signer: &Signer, limit: Duration) -> Result<Vec<String>> {
    use wanwright_projections::ReaderState::{CaughtUp, Stopped};
    let mut config = Config::new(pool.clone(), nats.clone());
    config.audit = Some(signer.clone());
    config.idle = Duration::from_millis(100);
    let projections = Projections::new(config);
    let mut readiness = projections.readiness();
    let stop = CancellationToken::new();
    let running = tokio::spawn(projections.run(stop.clone()));
    let settled = |now: &Readiness| now.readers.values().all(|state| matches!(state, CaughtUp | Stopped(_)));
    let _ = tokio::time::timeout(limit, readiness.wait_for(settled)).await;
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
    Ok(stopped)
}

/// Loads every customer as the command service does.
pub async fn ends(nats: &Nats, evidence: Option<Evidence>) -> Result<Vec<(CustomerId, Result<End>)>> {
    let store = CustomerStore::believing(nats.clone(), 1 << 30, evidence);
    let names =
        (0..JUDGED).map(|number| format!("customer-{number:02}")).chain(["heavy", BUSY].map(str::to_owned));
    let loads = futures::stream::iter(names).map(|name| {
        let store = store.clone();
        async move {
            let loaded = store.load_aggregate(&name).await;
            let end = loaded.map_err(anyhow::Error::from).and_then(|loaded| end(&loaded.head));
            Ok((name.parse()?, end))
        }
    });
    loads.buffer_unordered(8).collect::<Vec<Result<_>>>().await.into_iter().collect()
}

fn end(head: &Head) -> Result<End> {
    // By way of a value, so that equal states are equal texts.
    let state = serde_json::to_value(&head.state)?.to_string();
    Ok((head.sequence, head.digest, Digest::of(state.as_bytes())))
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

/// A head of each stream, as it would have been signed when there was half as much.
async fn older(nats: &Nats, key: &SigningKey) -> Result<Vec<SignedHead>> {
    let mut heads = Vec::new();
    for partition in 0..PARTITIONS {
        let stream = events_stream(partition);
        let info = stream_info(&nats.js, &stream).await?;
        let mut rolling = Rolling::default();
        live::read(nats, &stream, 0, |message| {
            let leaf = leaf(&message);
            rolling = rolling.with(message.sequence, leaf);
            if message.sequence == info.last / 2 {
                heads.push(SignedHead::sign(key, (&stream, info.incarnation), rolling, leaf, message.time));
            }
            Ok(())
        })
        .await?;
    }
    Ok(heads)
}

/// A hash over every row of the read models, by the reader that folds it.
pub async fn rows(pool: &PgPool) -> Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for table in ["customers", "sites", "tunnels", "devices", "drift_reports", "timeline"] {
        let sql = format!(
            "SELECT stream, md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t GROUP BY stream"
        );
        let hashes: Vec<(String, String)> = sqlx::query_as(&sql).fetch_all(pool).await?;
        for (stream, hash) in hashes {
            all.entry(format!("events {stream}")).or_default().push_str(&hash);
        }
    }
    // How often a document was written tells in how many steps, and nothing else.
    let sql = "SELECT view_id, md5(payload::text) FROM customer_overview ORDER BY view_id";
    let hashes: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(pool).await?;
    for (customer, hash) in hashes {
        let stream = events_stream(subjects::partition(&customer.parse()?, PARTITIONS));
        all.entry(format!("overview {stream}")).or_default().push_str(&hash);
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

/// Whose personal data is sealed with which key, of the keys that can be opened.
pub async fn keys(keys: &Keys) -> Result<BTreeMap<CustomerId, KeyId>> {
    let mut found = BTreeMap::new();
    for number in 0..JUDGED {
        let customer: CustomerId = format!("customer-{number:02}").parse()?;
        let Some(key) = keys.current(&customer).await?.key else { continue };
        if keys.get(&customer, key).await?.is_some() {
            found.insert(customer, key);
        }
    }
    Ok(found)
}
