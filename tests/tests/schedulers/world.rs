//! A nats-server, a command service, a dispatcher and a vendor for one test; schedulers come and go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_commands::service;
use wanwright_executors::dispatcher;
use wanwright_executors::gateway::Gateway;
use wanwright_executors::scheduler::{self, Patience};
use wanwright_executors::terraform::{self, TerraformEngine};
use wanwright_nats::{Nats, NatsError, OrderTable, StateKeys, StoredMessage, load_subject, topology};
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::outcome::{Verdict, WouldPlan};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::run::{self, RunRecord};
use wanwright_schemas::{CommandId, CustomerId, ObjectRef, Outcome, headers, subjects};
use wanwright_simulator::{Call, Calls, Config, Faults, KindStats, Limit, Running, Simulator, Stats};
use wanwright_supervisor::{NatsOptions, SyncInterval};
use wanwright_tests::level;
use wanwright_vendors::Vendors;

pub const PARTITIONS: u16 = 8;
pub const LIMIT: Duration = Duration::from_secs(120);
pub const TOKEN: &str = "the-vendors-token";
pub const ADMIN: &str = "admin";

/// What a scheduler needs to find its way, wherever it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    pub nats: String,
    pub vendors: PathBuf,
    pub vendor_url: String,
    pub work: PathBuf,
    pub name: String,
}

/// Runs a scheduler until it is told to stop. Orders about sites are nothing for it: there is no Terraform here.
pub async fn schedule(
    place: Place,
    patience: Patience,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) {
    let nats = wanwright_nats::connect(&place.nats, &place.name, PARTITIONS).await.unwrap();
    let vendors = Vendors::open(&place.vendors).unwrap();
    let _watching = vendors.watch(|_| {});
    let urls = HashMap::from([("simwan".to_owned(), place.vendor_url)]);
    let gateway = Gateway::start(nats.clone(), vendors.clone(), &urls, stop.clone()).await.unwrap();
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
    // With a key file at hand nobody asks Postgres whether there ought to be one.
    let keys = StateKeys::new(place.work.join("state.key"));
    std::fs::create_dir_all(&place.work).unwrap();
    keys.check(None).unwrap();
    let terraform = terraform::Config {
        pool,
        nats: nats.clone(),
        keys,
        work: place.work,
        vendors: vendors.clone(),
        mirror: "/nowhere".into(),
        program: "/bin/false".into(),
        version: "0".to_owned(),
        at_once: 2,
        limit: LIMIT,
    };
    let terraform = Arc::new(TerraformEngine::start(terraform).await.unwrap());
    let executor = place.name;
    let config = scheduler::Config { nats, vendors, gateway, terraform, executor, patience };
    scheduler::run(config, stop, ready).await.unwrap();
}

/// A scheduler in this process.
pub struct InProcess {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl InProcess {
    /// Has it end its runs.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap();
    }
}

pub struct World {
    pub nats: Nats,
    pub table: OrderTable,
    http: reqwest::Client,
    vendor: Running,
    server: wanwright_supervisor::Nats,
    _service: JoinHandle<Result<(), NatsError>>,
    _dispatcher: JoinHandle<Result<(), NatsError>>,
    _stop: DropGuard,
    vendors: Vendors,
    via: Option<String>,
    dir: TempDir,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &to) } else { std::fs::copy(&entry, &to).map(drop).unwrap() }
    }
}

/// The vendors' folders, with the credential in a file and a budget of so many calls a second and at once. With more to say
/// about devices, many of them go in one call.
fn vendors(dir: &Path, many: Option<&str>, (per_second, burst): (u32, u32)) -> PathBuf {
    let vendors = dir.join("vendors");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
    copy(&from, &vendors.join("simwan"));
    let credential = dir.join("credential");
    std::fs::write(&credential, TOKEN).unwrap();
    let file = vendors.join("simwan/vendor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let budget = format!("per_second = {per_second}\nburst = {burst}\n");
    let text = text
        .replace("env = \"WANWRIGHT_SIMWAN_TOKEN\"", &format!("file = \"{}\"", credential.display()))
        .replace("per_second = 50\nburst = 50\n", &budget);
    assert!(text.contains(&budget) && text.contains("file = "), "the folder has changed: {text}");
    std::fs::write(file, text).unwrap();
    if let Some(more) = many {
        let file = vendors.join("simwan/api/device.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace("used = false", "used = true");
        assert!(text.contains("used = true"), "the folder has changed: {text}");
        std::fs::write(file, text + more).unwrap();
    }
    vendors
}

impl World {
    /// A vendor that takes so many milliseconds for an answer.
    pub async fn new(latency_ms: u64) -> Self {
        Self::made(latency_ms, None, None).await
    }

    /// A vendor that counts calls as its folder says: a bucket of so many, filled with so many a second.
    pub async fn tight(per_second: u32, burst: u32) -> Self {
        Self::made(0, None, Some((per_second, burst))).await
    }

    /// The same, where many devices go in one call; `more` is added to what its folder says about devices.
    pub async fn many(latency_ms: u64, more: &str) -> Self {
        Self::made(latency_ms, Some(more), None).await
    }

    /// Without a limit the vendor and its folder hold nothing up.
    async fn made(latency_ms: u64, many: Option<&str>, limit: Option<(u32, u32)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let mut options = NatsOptions::new(dir.path().join("nats"), cache);
        options.sync_interval = SyncInterval::Lazy;
        let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", PARTITIONS).await.unwrap();
        topology::apply(&nats, 1).await.unwrap();
        let vendors = vendors(dir.path(), many, limit.unwrap_or((500, 50)));
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config = Config::new(listen, dir.path().join("vendor"), vendors.join("simwan"), TOKEN, ADMIN);
        let (per_second, burst) = limit.unwrap_or((100_000, 100_000));
        config.limit = Some(Limit { per_second: per_second.into(), burst });
        config.faults = Faults { latency_ms, ..Faults::default() };
        let vendor = Simulator::start(config).await.unwrap();
        let stop = CancellationToken::new();
        let known = Vendors::open(&vendors).unwrap();
        let (open, opened) = tokio::sync::oneshot::channel();
        let ready = move || open.send(()).unwrap();
        let options = service::Options::default();
        let service = service::run(nats.clone(), known.clone(), options, stop.clone(), ready);
        let service = tokio::spawn(service);
        tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap();
        let dispatcher =
            tokio::spawn(dispatcher::run(nats.clone(), known.clone(), None, stop.clone(), || ()));
        Self {
            table: OrderTable::new(nats.clone()),
            nats,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            vendor,
            server,
            _service: service,
            _dispatcher: dispatcher,
            _stop: stop.drop_guard(),
            vendors: known,
            via: None,
            dir,
        }
    }

    /// Where the vendor is.
    pub fn url(&self) -> String {
        self.vendor.url().to_string().trim_end_matches('/').to_owned()
    }

    /// Has schedulers that begin from now on reach the vendor by way of this address.
    pub fn go_via(&mut self, url: String) {
        self.via = Some(url);
    }

    pub fn place(&self, name: &str) -> Place {
        Place {
            nats: self.server.url_with_login(),
            vendors: self.dir.path().join("vendors"),
            vendor_url: self.via.clone().unwrap_or_else(|| self.vendor.url().to_string()),
            work: self.dir.path().join("work").join(name),
            name: name.to_owned(),
        }
    }

    /// Starts a scheduler in this process.
    pub async fn scheduler(&self, name: &str, patience: Patience) -> InProcess {
        let stop = CancellationToken::new();
        let (open, opened) = tokio::sync::oneshot::channel();
        let ready = move || open.send(()).unwrap();
        let running = tokio::spawn(schedule(self.place(name), patience, stop.clone(), ready));
        tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap();
        InProcess { stop, running }
    }

    /// Sends a command and answers its outcome.
    pub async fn ask(&self, tail: &str, body: &Value) -> Outcome {
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
        let body = body.to_string().into();
        let reply =
            self.nats.client.request_with_headers(format!("wan.do.{tail}"), head, body).await.unwrap();
        serde_json::from_slice(&reply.payload).unwrap()
    }

    /// What a dry run of a command is told that Terraform would do about the one stack it is about, or why nobody says it.
    pub async fn preview(&self, tail: &str, body: &Value) -> WouldPlan {
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
        head.insert(headers::DRY_RUN, "true");
        head.insert(headers::PLAN, "true");
        let request = Request::new().headers(head).payload(body.to_string().into()).timeout(Some(LIMIT));
        let reply = self.nats.client.send_request(format!("wan.do.{tail}"), request).await.unwrap();
        let outcome: Outcome = serde_json::from_slice(&reply.payload).unwrap();
        let Verdict::Accepted { would_plan: Some(plans), .. } = outcome.verdict else {
            panic!("{outcome:?}")
        };
        let [plan] = plans.try_into().unwrap();
        plan
    }

    /// A file of the vendor's folder.
    pub fn folder(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("vendors/simwan").join(file)).unwrap()
    }

    /// Replaces it at once, as an operator would.
    pub fn write_folder(&self, file: &str, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join("vendors/simwan").join(file)).unwrap();
    }

    /// Sends a command until it is accepted: the vendor's folder has changed, and roles look at it once a second.
    pub async fn until_accepted(&self, tail: &str, body: &Value) {
        let accepted = async || {
            self.vendors.refresh();
            Ok(self.ask(tail, body).await.refusal().is_none())
        };
        level::until(tail, LIMIT, accepted).await.unwrap();
    }

    /// Sends a command that has to be accepted.
    pub async fn send(&self, tail: &str, body: &Value) {
        let outcome = self.ask(tail, body).await;
        assert!(outcome.refusal().is_none(), "{tail}: {outcome:?}");
    }

    async fn row(&self, row: &str) -> Order {
        let found = level::reach(row, LIMIT, async || {
            let newest = self.table.get(row).await?.filter(|newest| !newest.is_done());
            Ok(newest.map(|newest| serde_json::from_slice(&newest.payload)).transpose()?)
        });
        found.await.unwrap().0
    }

    /// A customer with a site that is at its vendor: the test does what the Terraform engine would.
    pub async fn customer(&self, name: &str) -> CustomerId {
        let customer: CustomerId = name.parse().unwrap();
        let lan = json!({ "vendor": "simwan", "lan": ["10.1.0.0/24"] });
        self.send(&format!("{name}.demo.site.hq.create"), &lan).await;
        let row = format!("wan.order.simwan.{name}.site.hq");
        let order = self.row(&row).await;
        let Desired::Site { site, .. } = &order.desired else { panic!("{order:?}") };
        let url = format!("{}/v1/sites", self.vendor.url().to_string().trim_end_matches('/'));
        let body = json!({ "name": site.name, "lan": site.lan, "location": "Oslo" });
        let made = self.http.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap();
        let made: Value = made.error_for_status().unwrap().json().await.unwrap();
        let outputs = json!({ "id": made["id"], "address": made["address"] });
        let finding = ObjectFinding {
            object: ObjectRef::Site(site.id.clone()),
            uid: site.uid,
            finding: Finding::Applied { generation: 1, outputs: outputs.as_object().unwrap().clone() },
        };
        let report = Report { order: order.id, findings: vec![finding], state: None };
        self.send(&format!("{name}.executor.site.hq.report"), &serde_json::to_value(report).unwrap()).await;
        let sequence = self.table.get(&row).await.unwrap().unwrap().sequence;
        assert!(self.table.done(&row, sequence).await.unwrap());
        customer
    }

    pub async fn device(&self, customer: &CustomerId, device: &str) {
        let serial = format!("{customer}-{device}").to_uppercase();
        let body = json!({ "site": "hq", "model": "edge-100", "serial": serial, "settings": { "vlan": 1 } });
        self.send(&format!("{customer}.demo.device.{device}.create"), &body).await;
    }

    pub fn device_row(customer: &CustomerId, device: &str) -> String {
        format!("wan.order.simwan.{customer}.device.{device}")
    }

    /// Whether nothing is left to be done about the devices of these customers.
    pub async fn is_done(&self, customer: &str) -> anyhow::Result<bool> {
        let filter = format!("wan.order.*.{customer}.device.*");
        let rows = load_subject(&self.nats, topology::ORDERS, &filter, 0).await?;
        Ok(!rows.is_empty() && rows.iter().all(|row| row.payload.is_empty()))
    }

    /// How many changes of the devices of a customer have rows that have not ended.
    pub async fn open_rows(&self, customer: &str) -> usize {
        self.open(&format!("wan.order.*.{customer}.device.*")).await
    }

    /// The same, of looks.
    pub async fn open_looks(&self, customer: &str) -> usize {
        self.open(&format!("wan.order.*.{customer}.observe-device.*")).await
    }

    async fn open(&self, filter: &str) -> usize {
        let rows = load_subject(&self.nats, topology::ORDERS, filter, 0).await.unwrap();
        rows.iter().filter(|row| !row.payload.is_empty()).count()
    }

    /// Waits until the table has nothing left to do.
    pub async fn until_done(&self, customer: &str) {
        level::until("every row is done", LIMIT, async || self.is_done(customer).await).await.unwrap();
    }

    /// Waits until a device's newest event is of this type.
    pub async fn until_event(&self, customer: &CustomerId, device: &str, event: &str) {
        let is_there = async || Ok(self.last_event(customer, device).await == event);
        level::until(event, LIMIT, is_there).await.unwrap();
    }

    /// The records about the orders of a customer (or `*`), as they were written.
    pub async fn records(&self, customer: &str) -> Vec<RunRecord> {
        self.record_messages(customer).await.into_iter().flatten().collect()
    }

    /// The same, message by message.
    pub async fn record_messages(&self, customer: &str) -> Vec<Vec<RunRecord>> {
        let messages =
            load_subject(&self.nats, topology::RUNS, &format!("wan.run.{customer}.*.*"), 0).await.unwrap();
        messages.iter().map(|message| run::read(&message.payload).unwrap()).collect()
    }

    pub async fn letters(&self) -> Vec<StoredMessage> {
        wanwright_nats::dead::open(&self.nats, 0, 1000).await.unwrap()
    }

    fn back_door(&self, path: &str) -> String {
        format!("{}/_sim/{path}", self.vendor.url().to_string().trim_end_matches('/'))
    }

    async fn stats(&self) -> Stats {
        let asked = self.http.get(self.back_door("stats")).bearer_auth(ADMIN).send().await.unwrap();
        asked.json().await.unwrap()
    }

    /// How many calls the vendor has got.
    pub async fn calls(&self) -> u64 {
        self.stats().await.totals.calls
    }

    /// How many of them were more than it allows.
    pub async fn above_limit(&self) -> u64 {
        self.stats().await.totals.above_limit
    }

    /// The calls that the vendor has got, in the order in which they ended.
    pub async fn calls_heard(&self) -> Vec<Call> {
        let asked = self.http.get(self.back_door("calls")).bearer_auth(ADMIN).send().await.unwrap();
        let heard: Calls = asked.json().await.unwrap();
        heard.calls
    }

    /// What the vendor counted about devices.
    pub async fn devices(&self) -> KindStats {
        self.stats().await.kinds.get("device").cloned().unwrap_or_default()
    }

    /// The devices as the vendor has them.
    pub async fn at_vendor(&self) -> Vec<Value> {
        let asked = self.http.get(self.back_door("objects/device")).bearer_auth(ADMIN).send().await.unwrap();
        let objects: Value = asked.json().await.unwrap();
        objects["items"].as_array().unwrap().clone()
    }

    /// The outcome of a command from the inbox, once it has one.
    pub async fn outcome(&self, customer: &str, id: CommandId) -> Option<Outcome> {
        let subject = subjects::outcome(&customer.parse().unwrap(), id);
        let stored = load_subject(&self.nats, topology::OUTCOMES, &subject, 0).await.unwrap();
        stored.last().map(|message| serde_json::from_slice(&message.payload).unwrap())
    }

    /// Has these things go wrong at the vendor, and no others.
    pub async fn faults(&self, faults: Faults) {
        let set = self.http.put(self.back_door("faults")).bearer_auth(ADMIN).json(&faults).send().await;
        assert!(set.unwrap().status().is_success());
    }

    /// Changes a device behind everybody's back.
    pub async fn drift(&self, device: &str, change: &Value) {
        let devices = self.at_vendor().await;
        let is_it = |object: &&Value| object["name"].as_str().is_some_and(|name| name.ends_with(device));
        let id = devices.iter().find(is_it).unwrap()["id"].as_str().unwrap().to_owned();
        let url = self.back_door(&format!("objects/device/{id}"));
        let changed = self.http.patch(url).bearer_auth(ADMIN).json(change).send().await.unwrap();
        assert!(changed.status().is_success(), "{}", changed.text().await.unwrap());
    }

    /// Removes a device behind everybody's back.
    pub async fn lose(&self, device: &str) {
        let devices = self.at_vendor().await;
        let is_it = |object: &&Value| object["name"].as_str().is_some_and(|name| name.ends_with(device));
        let id = devices.iter().find(is_it).unwrap()["id"].as_str().unwrap().to_owned();
        let url = self.back_door(&format!("objects/device/{id}"));
        let removed = self.http.delete(url).bearer_auth(ADMIN).send().await.unwrap();
        assert!(removed.status().is_success(), "{}", removed.text().await.unwrap());
    }

    /// Has every device of a customer looked at, and waits until there is an answer about each.
    pub async fn look_at_all(&self, customer: &CustomerId) {
        self.send(&format!("{customer}.demo.customer.{customer}.check-drift"), &json!({})).await;
        self.until_looked_at(customer).await;
    }

    /// Waits until every look that was asked for has its answer.
    pub async fn until_looked_at(&self, customer: &CustomerId) {
        let is_answered = async || {
            let last = self.last_events(customer).await;
            Ok(last.values().all(|event| event["type"] != "DeviceDriftCheckRequested"))
        };
        level::until("every look has its answer", LIMIT, is_answered).await.unwrap();
    }

    /// Waits until so many messages are in the stream of a customer's history, which has it to itself.
    pub async fn until_messages(&self, customer: &CustomerId, messages: u64, limit: Duration) {
        let stream = subjects::events_stream(subjects::partition(customer, PARTITIONS));
        let are_there = async || {
            let mut stream = self.nats.js.get_stream(&stream).await?;
            Ok(stream.info().await?.state.messages >= messages)
        };
        level::until("all messages of the history", limit, are_there).await.unwrap();
    }

    /// The newest event about each device of a customer.
    pub async fn last_events(&self, customer: &CustomerId) -> HashMap<String, Value> {
        let subject = subjects::events(customer, PARTITIONS);
        let stream = subjects::events_stream(subjects::partition(customer, PARTITIONS));
        let messages = load_subject(&self.nats, &stream, &subject, 0).await.unwrap();
        let mut last = HashMap::new();
        for message in messages {
            let envelope: Value = serde_json::from_slice(&message.payload).unwrap();
            for event in envelope["events"].as_array().unwrap() {
                if let Some(device) = event["device"].as_str() {
                    last.insert(device.to_owned(), event.clone());
                }
            }
        }
        last
    }

    /// The type of a device's newest event.
    pub async fn last_event(&self, customer: &CustomerId, device: &str) -> String {
        let subject = subjects::events(customer, PARTITIONS);
        let stream = subjects::events_stream(subjects::partition(customer, PARTITIONS));
        let messages = load_subject(&self.nats, &stream, &subject, 0).await.unwrap();
        let events = messages.iter().flat_map(|message| {
            let envelope: Value = serde_json::from_slice(&message.payload).unwrap();
            envelope["events"].as_array().unwrap().clone()
        });
        let about = events.filter(|event| event["device"] == device).last();
        about.map(|event| event["type"].as_str().unwrap().to_owned()).unwrap_or_default()
    }
}
