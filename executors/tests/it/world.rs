//! A nats-server, a vendor and a gateway between them, for one test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_executors::gateway::{Gateway, Opened, Priority, RunContext};
use wanwright_nats::{Nats, load_subject, topology};
use wanwright_schemas::effect::{Effect, Phase};
use wanwright_schemas::order::Target;
use wanwright_schemas::run::{self, RunEvent, RunRecord};
use wanwright_schemas::{OrderId, subjects};
use wanwright_simulator::{Config, Limit, Running, Simulator, Stats};
use wanwright_supervisor::NatsOptions;
use wanwright_vendors::{Catalogue, Vendors};

const TOKEN: &str = "the-vendors-token";
const ADMIN: &str = "admin";

pub struct World {
    pub gateway: Gateway,
    pub http: reqwest::Client,
    pub nats: Nats,
    pub catalogue: Catalogue,
    vendor: Running,
    server: Option<wanwright_supervisor::Nats>,
    url: String,
    _stop: DropGuard,
    dir: TempDir,
}

/// A gateway with a connection of its own, as another process has it.
pub struct Process {
    pub gateway: Gateway,
    pub stop: CancellationToken,
}

/// What becomes of `api/device.toml`.
type DeviceApi<'a> = dyn Fn(String) -> String + Sync + 'a;

/// The vendor's folder with another budget, its credential in a file, and another `api/device.toml`.
fn vendors(dir: &Path, budget: &str, proxy: Option<&str>, device_api: &DeviceApi<'_>) -> Catalogue {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
    let to = dir.join("vendors/simwan");
    copy(&from, &to);
    let credential = dir.join("credential");
    std::fs::write(&credential, TOKEN).unwrap();
    let file = to.join("vendor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("env = \"WANWRIGHT_SIMWAN_TOKEN\"", &format!("file = \"{}\"", credential.display()))
        .replace("per_second = 50\nburst = 50\n", budget);
    assert!(text.contains(budget) && text.contains("file = "), "the folder has changed: {text}");
    let proxy = proxy.map(|proxy| format!("proxy = \"{proxy}\"\n")).unwrap_or_default();
    std::fs::write(file, proxy + &text).unwrap();
    let file = to.join("api/device.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, device_api(text)).unwrap();
    Catalogue::load(dir.join("vendors")).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap().path(), to);
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &to) } else { std::fs::copy(&entry, &to).map(drop).unwrap() }
    }
}

async fn start_nats(dir: &Path) -> wanwright_supervisor::Nats {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    wanwright_supervisor::Nats::start(&NatsOptions::new(dir.join("nats"), cache)).await.unwrap()
}

impl World {
    /// A vendor with a bucket of one call.
    pub async fn new(per_second: u32) -> Self {
        Self::with(&format!("per_second = {per_second}\nburst = 1\n"), per_second, 1).await
    }

    /// A vendor with this bucket, and a folder that says so in its own words.
    pub async fn with(budget: &str, per_second: u32, burst: u32) -> Self {
        Self::made(budget, None, &|text| text, per_second, burst).await
    }

    /// A vendor that is reached through a proxy.
    pub async fn with_proxy(budget: &str, proxy: &str) -> Self {
        Self::made(budget, Some(proxy), &|text| text, 50, 50).await
    }

    /// A vendor with a bucket of one call, whose folder says more about devices.
    pub async fn with_devices(per_second: u32, more: &str) -> Self {
        let budget = format!("per_second = {per_second}\nburst = 1\n");
        Self::made(&budget, None, &|text| text + more, per_second, 1).await
    }

    /// A vendor with a bucket of one call that takes no key with a create of a device.
    pub async fn without_keys(per_second: u32) -> Self {
        let budget = format!("per_second = {per_second}\nburst = 1\n");
        let without = |text: String| {
            let (single, _bulk) = text.split_once("# One call for many devices.").unwrap();
            let without = single.replace("idempotency_header = \"Idempotency-Key\"\n", "");
            assert!(!without.to_lowercase().contains("idempotency"), "the folder has changed: {text}");
            without
        };
        Self::made(&budget, None, &without, per_second, 1).await
    }

    async fn made(
        budget: &str,
        proxy: Option<&str>,
        device_api: &DeviceApi<'_>,
        per_second: u32,
        burst: u32,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = start_nats(dir.path()).await;
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", 1).await.unwrap();
        topology::apply(&nats, 1).await.unwrap();
        let catalogue = vendors(dir.path(), budget, proxy, device_api);
        // What the simulator reads of a budget is one bucket; its limit is told below.
        let folder = dir.path().join("simulated");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan"), &folder);
        std::fs::copy(dir.path().join("vendors/simwan/api/device.toml"), folder.join("api/device.toml"))
            .unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let limit = Some(Limit { per_second: per_second.into(), burst });
        let config = Config { limit, ..Config::new(listen, dir.path().join("vendor"), folder, TOKEN, ADMIN) };
        let vendor = Simulator::start(config).await.unwrap();
        let stop = CancellationToken::new();
        let urls = HashMap::from([("simwan".to_owned(), vendor.url().to_string())]);
        let gateway = Gateway::start(nats.clone(), &catalogue, &urls, stop.clone()).await.unwrap();
        Self {
            gateway,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            nats,
            catalogue,
            vendor,
            url: server.url_with_login(),
            server: Some(server),
            _stop: stop.drop_guard(),
            dir,
        }
    }

    /// Another gateway to the same vendor, with a connection of its own.
    pub async fn process(&self) -> Process {
        let url = self.vendor.url().to_string();
        self.process_to(&url).await
    }

    /// Another gateway that takes this for the vendor.
    pub async fn process_to(&self, url: &str) -> Process {
        self.process_of(&Vendors::from(&self.catalogue), url).await
    }

    /// The folders as a role has them, which may look at them again.
    pub fn vendors(&self) -> Vendors {
        Vendors::open(self.dir.path().join("vendors")).unwrap()
    }

    /// Another gateway with these folders, which takes this for the vendor.
    pub async fn process_of(&self, vendors: &Vendors, url: &str) -> Process {
        let nats = wanwright_nats::connect(&self.url, "test", 1).await.unwrap();
        let stop = CancellationToken::new();
        let urls = HashMap::from([("simwan".to_owned(), url.to_owned())]);
        let gateway = Gateway::start(nats, vendors.clone(), &urls, stop.clone()).await.unwrap();
        Process { gateway, stop }
    }

    /// Changes the vendor's folder; gateways that are started from now on see it.
    pub fn replace_in_folder(&mut self, from: &str, to: &str) {
        self.write_in_folder(from, to);
        self.catalogue = Catalogue::load(self.dir.path().join("vendors")).unwrap();
    }

    /// Changes the vendor's folder; who looks at it again sees it.
    pub fn write_in_folder(&self, from: &str, to: &str) {
        let file = self.dir.path().join("vendors/simwan/vendor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }

    /// Kills the nats-server.
    pub async fn stop_nats(&mut self) {
        if let Some(server) = self.server.take() {
            server.child().kill().await;
        }
    }

    /// Starts it again where it was.
    pub async fn start_nats(&mut self) {
        self.server = Some(start_nats(self.dir.path()).await);
    }

    /// The file with the credential.
    pub fn credential(&self) -> PathBuf {
        self.dir.path().join("credential")
    }

    /// A run about the device of this name.
    pub fn run(&self, device: &str) -> (RunContext, Opened) {
        let context = Self::context(device);
        (context.clone(), self.gateway.open(context))
    }

    /// The context of such a run.
    pub fn context(device: &str) -> RunContext {
        RunContext {
            customer: "acme".parse().unwrap(),
            vendor: "simwan".parse().unwrap(),
            order: OrderId::of_digest([7; 32]),
            target: Target::Device(device.parse().unwrap()),
            account: None,
            secrets: Vec::new(),
            may_change: true,
            priority: Priority::Intent,
            trace: None,
        }
    }

    /// Creates a site through a run's path: status and body.
    pub async fn create_site(http: reqwest::Client, base: String, name: &str) -> (u16, Value) {
        let site = json!({"name": name, "lan": ["10.0.0.0/24"], "location": "Oslo"});
        let answer = http.post(format!("{base}/v1/sites")).json(&site).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    async fn loaded<T: DeserializeOwned>(&self, stream: &str, subject: &str) -> Vec<T> {
        let messages = load_subject(&self.nats, stream, subject, 0).await.unwrap();
        messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
    }

    /// The phases in a target's journal.
    pub async fn journal(&self, of: &RunContext) -> Vec<Phase> {
        let subject = subjects::effect(&of.customer, &of.target);
        let effects: Vec<Effect> = self.loaded(topology::EFFECTS, &subject).await;
        effects.into_iter().map(|effect| effect.phase).collect()
    }

    /// The statuses of the calls that were recorded for a run.
    pub async fn recorded(&self, run: &Opened) -> Vec<u16> {
        run.store_records().await;
        let of = run.context();
        let subject = subjects::run(&of.customer, of.order, "call");
        let messages = load_subject(&self.nats, topology::RUNS, &subject, 0).await.unwrap();
        let records = messages.iter().flat_map(|message| run::read(&message.payload).unwrap());
        let calls = records.filter_map(|record| match record.event {
            RunEvent::Call { status, .. } => Some(status),
            _ => None,
        });
        calls.collect()
    }

    /// The records about a run that are stored, message by message.
    pub async fn stored(&self, of: &RunContext) -> Vec<Vec<RunRecord>> {
        let subject = subjects::run(&of.customer, of.order, "*");
        let messages = load_subject(&self.nats, topology::RUNS, &subject, 0).await.unwrap();
        messages.iter().map(|message| run::read(&message.payload).unwrap()).collect()
    }

    fn back_door(&self, path: &str) -> String {
        format!("{}/_sim/{path}", self.vendor.url().to_string().trim_end_matches('/'))
    }

    /// What the vendor counted.
    pub async fn stats(&self) -> Stats {
        let request =
            self.http.get(self.back_door("stats")).bearer_auth(ADMIN).timeout(Duration::from_secs(10));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Has the vendor answer 429 for so long.
    pub async fn storm(&self, seconds: u32) {
        self.faults(&json!({"storm_seconds": seconds})).await;
    }

    /// Has the vendor misbehave so.
    pub async fn faults(&self, faults: &Value) {
        let request = self.http.put(self.back_door("faults")).bearer_auth(ADMIN).json(faults);
        assert!(request.send().await.unwrap().status().is_success());
    }
}
