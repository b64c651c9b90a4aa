//! `wanwright bench customers`: many customers through the command service, and what that takes: time, disk, memory, the
//! restart afterwards, and loads of customers from deep histories.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cqrs_es::EventStore;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;
use wanwright_commands::STATE_VERSION;
use wanwright_commands::service::CustomerStore;
use wanwright_nats::evidence::{Evidence, Folder, Rolling, SignedHead, SigningKey, check, leaf};
use wanwright_nats::{History, Nats, Snapshots, stream_info, topology};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_schemas::{CommandId, CustomerId};
use wanwright_supervisor::NatsOptions;

use super::commands::work::Measured;
use super::figures;
use super::role::CommandService;
use crate::bench::ask::ask;
use crate::cli::CustomersArgs;
use crate::exit::Exit;
use crate::output::{line, note};
use crate::send;

/// How long after one cold load the next one begins at the earliest: ten times the usual load of 500 commands a minute is
/// 83 a second.
const BETWEEN_LOADS: Duration = Duration::from_millis(12);

/// After how many loads the customer changes.
const LOADS_A_CHANGE: u32 = 20;

/// Runs the campaign.
pub async fn run(args: CustomersArgs) -> Result<Exit> {
    let home = std::env::temp_dir().join(format!("wanwright-customers-{}", std::process::id()));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let cache = match &args.cache {
        Some(cache) => std::path::absolute(cache)?,
        None => home.join("cache"),
    };
    let options = NatsOptions::new(home.join("nats"), &cache);
    let server = wanwright_supervisor::Nats::start(&options).await?;
    let campaign = Campaign { args, home: home.clone(), options, nats_url: server.url_with_login() };
    let report = campaign.run(server).await;
    let _ = std::fs::remove_dir_all(&home);
    line(serde_json::to_string_pretty(&report?)?);
    Ok(Exit::Done)
}

struct Campaign {
    args: CustomersArgs,
    home: PathBuf,
    options: NatsOptions,
    nats_url: String,
}

impl Campaign {
    async fn service(&self) -> Result<CommandService> {
        let vendors = std::path::absolute(&self.args.vendors.vendors)?;
        CommandService::start(&self.nats_url, &self.home, &vendors).await
    }

    async fn run(&self, server: wanwright_supervisor::Nats) -> Result<Value> {
        let nats = wanwright_nats::connect(&self.nats_url, "wanwright-bench", PARTITIONS).await?;
        topology::apply(&nats, 1).await?;
        let service = self.service().await?;
        let fleet = self.fleet(&nats).await?;
        let memory = json!({
            "command_service_mb": resident_mb(service.process())?,
            "nats_server_mb": resident_mb(server.child().id())?,
            "cache": cache(&nats).await?,
        });
        note(format!("loaded: {fleet}, resident: {memory}"));
        note("a large customer and a deep one");
        let large = self.large(&nats).await?;
        self.deep(&nats).await?;
        let loads = {
            // One of a customer with many devices takes twenty times as long.
            let (many, few) = (self.args.loads, self.args.loads.div_ceil(10));
            json!({ "deep": self.loads("deep", many).await?, "large": self.loads("large", few).await? })
        };
        let disk_mb = size_mb(&self.options.dir)?;

        note("killing and starting again");
        service.kill().await;
        let began = Instant::now();
        let service = self.service().await?;
        let service_ready = figures::seconds(began.elapsed().as_secs_f64());
        service.stop().await;
        server.child().kill().await;
        drop(server);
        let began = Instant::now();
        let server = wanwright_supervisor::Nats::start(&self.options).await?;
        let server_ready = figures::seconds(began.elapsed().as_secs_f64());
        let service = self.service().await?;
        let all_ready = figures::seconds(began.elapsed().as_secs_f64());
        service.stop().await;
        server.stop(Duration::from_secs(20)).await;
        Ok(json!({
            "customers": self.args.customers,
            "devices_each": self.args.devices,
            "load": fleet,
            "large_customer": large,
            "memory_after_load": memory,
            "disk_mb": disk_mb,
            "cold_loads": loads,
            "restart_seconds": {
                "command_service_after_kill": service_ready,
                "nats_server_after_kill": server_ready,
                "both_after_kill": all_ready,
            },
        }))
    }

    /// Every customer with its site and devices.
    async fn fleet(&self, nats: &Nats) -> Result<Value> {
        let (customers, devices) = (self.args.customers, self.args.devices);
        let began = Instant::now();
        let tenth = (customers / 10).max(1);
        let latencies: Vec<Vec<Duration>> = stream::iter(0..customers)
            .map(|number| async move {
                let name = format!("customer-{number:05}");
                let taken = fill(nats, &name, &format!("{number:05}"), devices).await?;
                if (number + 1) % tenth == 0 {
                    note(format!("{} of {customers} customers", number + 1));
                }
                anyhow::Ok(taken)
            })
            .buffer_unordered(self.args.at_once)
            .try_collect()
            .await?;
        Ok(json!(Measured::new("site and device creations", latencies.concat(), began.elapsed())))
    }

    /// One customer with many devices, and what a command to it takes then.
    async fn large(&self, nats: &Nats) -> Result<Value> {
        let began = Instant::now();
        let taken = fill(nats, "large", "LARGE", self.args.large).await?;
        let created = Measured::new("creations", taken, began.elapsed());
        let began = Instant::now();
        let taken = changes(nats, "large", self.args.large.min(1000)).await?;
        Ok(json!({
            "devices": self.args.large,
            "created": created,
            "changed": Measured::new("changes", taken, began.elapsed()),
        }))
    }

    /// A customer of usual size with a long history.
    async fn deep(&self, nats: &Nats) -> Result<()> {
        fill(nats, "deep", "DEEP", 100).await?;
        changes(nats, "deep", self.args.deep - 101).await.map(drop)
    }

    /// Signs the newest message of the customer's stream, as the projections do: a load looks for it.
    async fn vouched(&self, nats: &Nats, customer: &CustomerId) -> Result<Evidence> {
        let key = SigningKey::load_or_make(&self.home.join("keys"))?;
        let evidence = Evidence { folder: Folder::new(self.home.join("audit")), key: Some(key.public()) };
        let stream = History::new(nats.clone()).position(customer, 0).stream;
        let info = stream_info(&nats.js, &stream).await?;
        let newest = check::message(nats, &stream, info.last).await?.context("the newest message is gone")?;
        // What is rolled up there is not looked at by a load.
        let (rolling, leaf) = (Rolling::default().with(info.last, leaf(&newest)), leaf(&newest));
        evidence.folder.append(&SignedHead::sign(
            &key,
            (&stream, info.incarnation),
            rolling,
            leaf,
            newest.time,
        ))?;
        Ok(evidence)
    }

    /// Loads that find nothing in memory, as many a second as a burst of commands would need that all go to other customers,
    /// and between them the same questions to the server bare, whose answers nobody looks at: what is slow there is the
    /// server or the machine. The customer goes on changing meanwhile, so its newest snapshot is of every age.
    async fn loads(&self, customer: &str, times: u32) -> Result<Value> {
        let nats = wanwright_nats::connect(&self.nats_url, "wanwright-bench", PARTITIONS).await?;
        let (history, snapshots) = (History::new(nats.clone()), Snapshots::new(nats.clone()));
        let id: CustomerId = customer.parse()?;
        let evidence = self.vouched(&nats, &id).await?;
        let (mut loads, mut bare) = (Vec::new(), Vec::new());
        let mut next = tokio::time::interval(BETWEEN_LOADS);
        for number in 0..times {
            if number % LOADS_A_CHANGE == 0 {
                // None that it has: that would change nothing.
                let body = json!({ "settings": { "vlan": 2000 + number / LOADS_A_CHANGE % 2000 } });
                let device = format!("{customer}/device-00000");
                accepted(&nats, "device", "change", &device, &body).await?;
            }
            next.tick().await;
            let began = Instant::now();
            let (proven, head, snapshot) = tokio::join!(
                history.prove(&id, Some(&evidence)),
                history.head(&id),
                snapshots.get(&id, STATE_VERSION)
            );
            proven?;
            head?;
            history.load(&id, snapshot?.map_or(0, |snapshot| snapshot.sequence)).await?;
            bare.push(began.elapsed());

            let store = CustomerStore::believing(nats.clone(), 1 << 30, Some(evidence.clone()));
            let began = Instant::now();
            let loaded = store.load_aggregate(customer).await?;
            loads.push(began.elapsed());
            anyhow::ensure!(!loaded.head.state.devices.is_empty(), "{customer} has no devices");
        }
        let measured = |name, taken: Vec<Duration>| {
            let sum = taken.iter().sum();
            json!(Measured::new(name, taken, sum))
        };
        Ok(
            json!({ "load": measured("cold loads", loads), "bare": measured("the same questions bare", bare) }),
        )
    }
}

async fn accepted(nats: &Nats, kind: &str, verb: &str, object: &str, body: &Value) -> Result<Duration> {
    let subject = send::subject("bench", kind, verb, object)?;
    let began = Instant::now();
    let outcome = ask(nats, &subject, CommandId::mint(), body.to_string().into_bytes()).await?;
    anyhow::ensure!(outcome.position().is_some(), "{object}: {outcome:?}");
    Ok(began.elapsed())
}

/// A site and its devices.
async fn fill(nats: &Nats, customer: &str, serials: &str, devices: u32) -> Result<Vec<Duration>> {
    let site = json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] });
    let mut taken = vec![accepted(nats, "site", "create", &format!("{customer}/site-01"), &site).await?];
    for number in 0..devices {
        let serial = format!("SN-{serials}-{number:05}");
        let device = json!({ "site": "site-01", "serial": serial, "model": "edge-100" });
        let object = format!("{customer}/device-{number:05}");
        taken.push(accepted(nats, "device", "create", &object, &device).await?);
    }
    Ok(taken)
}

/// Changes of a customer's first hundred devices.
async fn changes(nats: &Nats, customer: &str, times: u32) -> Result<Vec<Duration>> {
    let mut taken = Vec::new();
    for number in 0..times {
        let object = format!("{customer}/device-{:05}", number % 100);
        let body = json!({ "settings": { "vlan": 2 + (number / 100 + number) % 1000 } });
        taken.push(accepted(nats, "device", "change", &object, &body).await?);
    }
    Ok(taken)
}

/// How full the command service's cache is, as it says itself.
async fn cache(nats: &Nats) -> Result<Value> {
    let asked = format!("$SRV.STATS.{}", wanwright_commands::service::NAME);
    let answer = nats.client.request(asked, "".into()).await?;
    let said: Value = serde_json::from_slice(&answer.payload)?;
    let endpoints = said["endpoints"].as_array().context("the service's endpoints")?;
    let told = endpoints.iter().find_map(|endpoint| endpoint.pointer("/data/cache"));
    told.cloned().context("the service says nothing of its cache")
}

/// The resident memory of a process.
fn resident_mb(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024)
}

/// What the files of a folder take on the disk.
fn size_mb(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut folders, mut bytes) = (vec![dir.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if facts.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += facts.blocks() * 512;
            }
        }
    }
    Ok(bytes.div_ceil(1 << 20))
}
