//! Foreign providers: real processes, a real Terraform, a real NATS and Postgres, and the simulated vendor. The foreign
//! provider is our own program under another name.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_nats::{load_subject, topology};
use wanwright_provider::release::{Release, ReleaseArgs, release};
use wanwright_schemas::effect::{Effect, Phase};
use wanwright_schemas::order::{Desired, DesiredSite, Intent, Order};
use wanwright_schemas::outcome::Position;
use wanwright_schemas::plan::PlanCounts;
use wanwright_schemas::report::StateMark;
use wanwright_schemas::run::{self, RunEvent, RunUsage};
use wanwright_schemas::{CommandId, subjects};
use wanwright_simulator::{Config, Faults, Limit, Running, Simulator};
use wanwright_vendors::{ForeignProvider, Vendor, Vendors};

use super::{Package, Pool, package};
use crate::engine::{Begun, Log, Measure, Outcome, Run, Scans, Stored, Together};
use crate::gateway::Gateway;
use crate::records::context_of;
use crate::terraform::tests::{Servers, servers};
use crate::terraform::{self, TerraformEngine};

pub(super) const ADDRESS: &str = "registry.terraform.io/other/other";
pub(super) const VERSION: &str = "1.2.3";
const LIMIT: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program of another crate of ours, built as this test was.
pub(super) fn built(package: &str, kind: &str, name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // What Cargo tells a test about its own crate would have build scripts run again, here and then there.
    let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        if about.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let args = ["build", "--offline", "--quiet", "--message-format=json", "-p", package, kind, name];
    let output = cargo.args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut programs = messages.filter_map(|message| Some(message["executable"].as_str()?.to_owned()));
    programs.rfind(|path| path.contains(name)).expect("a program").into()
}

pub(super) fn provider() -> &'static Path {
    static PROVIDER: OnceLock<PathBuf> = OnceLock::new();
    PROVIDER.get_or_init(|| built("wanwright-provider", "--bin", "terraform-provider-wanwright"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() { copy(&from, &to) } else { std::fs::copy(&from, &to).map(drop).expect("copied") }
    }
}

pub(super) fn released(to: &Path, program: &Path) -> Release {
    let args = ReleaseArgs {
        to: to.to_owned(),
        vendors: root().join("vendors"),
        address: ADDRESS.parse().expect("an address"),
        version: VERSION.to_owned(),
        program: Some(program.to_owned()),
    };
    release(&args).expect("a release")
}

fn settings(hashes: &[String], processes: u32, reuse: bool) -> ForeignProvider {
    ForeignProvider {
        address: ADDRESS.to_owned(),
        version: VERSION.to_owned(),
        hashes: hashes.to_vec(),
        path: String::new(),
        base_url: "base_url".to_owned(),
        processes,
        reuse,
        adopts: true,
    }
}

/// The package in a mirror, as if it had been taken over.
pub(super) fn unpacked(release: &Release, processes: u32, reuse: bool) -> Package {
    Package::among(&settings(&release.hashes, processes, reuse), &release.unpacked).expect("a package")
}

pub(super) fn private(dir: &Path) -> PathBuf {
    let sockets = dir.join("s");
    std::fs::create_dir(&sockets).expect("a folder");
    std::fs::set_permissions(&sockets, std::fs::Permissions::from_mode(0o700)).expect("a mode");
    sockets
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = status.rsplit_once(')') else { return false };
    // One that is dead and not reaped runs nothing any more, once the last of its threads is gone too: until then its
    // parent cannot see that it has ended.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !rest.trim().starts_with('Z') || threads > 1
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

pub(super) async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let wait = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_run_after_run_and_is_replaced_or_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    let release = released(&dir.path().join("r"), provider());
    let pool = Pool::new(private(dir.path()));
    let reused = unpacked(&release, 2, true);
    for _ in 0..3 {
        let both = [pool.lease(&reused, 9).await, pool.lease(&reused, 9).await];
        assert!(both.iter().all(Result::is_ok), "{both:?}");
        let third = tokio::time::timeout(Duration::from_millis(50), pool.lease(&reused, 9)).await;
        assert!(third.is_err(), "only two at once");
    }
    let [first, second] = pool.started()[..] else { panic!("{:?}", pool.started()) };
    assert!(is_alive(first) && is_alive(second));

    // One that died while nobody used it is not handed out.
    kill(first);
    kill(second);
    until("both are gone", async || !is_alive(first) && !is_alive(second)).await;
    drop(pool.lease(&reused, 9).await.expect("another"));
    let third = *pool.started().last().expect("three");
    assert_eq!(pool.started().len(), 3);
    // One that is in doubt is given to nobody.
    let lease = pool.lease(&reused, 9).await.expect("the same");
    lease.spoil();
    drop(lease);
    until("the third is gone", async || !is_alive(third)).await;
    // One that nobody needs is ended.
    drop(pool.lease(&reused, 9).await.expect("a fourth"));
    let fourth = *pool.started().last().expect("four");
    pool.end_idle(Duration::from_secs(3600));
    assert!(is_alive(fourth), "it has not waited long");
    pool.end_idle(Duration::ZERO);
    until("the fourth is gone", async || !is_alive(fourth)).await;

    // Whoever may not serve twice does not.
    let single = Pool::new(dir.path().join("s"));
    let once = unpacked(&release, 2, false);
    for _ in 0..2 {
        drop(single.lease(&once, 9).await.expect("a process"));
    }
    let [fifth, sixth] = single.started()[..] else { panic!("{:?}", single.started()) };
    until("nothing is left", async || !is_alive(fifth) && !is_alive(sixth)).await;
    let left = std::fs::read_dir(dir.path().join("s")).expect("sockets").count();
    assert_eq!(left, 0, "their folders are gone with them");
}

#[tokio::test]
async fn what_the_lock_file_does_not_name_is_not_executed() {
    let dir = tempfile::tempdir().expect("a folder");
    let release = released(&dir.path().join("r"), provider());
    let taken = |mirror: &Path, hashes: &[&str]| {
        let to = tempfile::tempdir().expect("a folder");
        let hashes: Vec<String> = hashes.iter().map(|&hash| hash.to_owned()).collect();
        let named = settings(&hashes, 1, true);
        package::take(mirror, &named, to.path())?;
        Package::among(&named, to.path())?.check()
    };
    let [h1, zh] = release.hashes.each_ref().map(String::as_str);
    for mirror in [&release.packed, &release.unpacked] {
        taken(mirror, &[h1, zh]).expect("it is what is named");
        taken(mirror, &[h1]).expect("what is in it is what is named");
        for other in [&["h1:AAAA", "zh:00"][..], &["h1:AAAA"], &[]] {
            let error = taken(mirror, other).expect_err("another hash").to_string();
            assert!(error.contains("terraform.lock.hcl does not name"), "{error}");
            assert!(error.contains(&mirror.display().to_string()), "{error}");
        }
    }
    taken(&release.packed, &["h1:AAAA", zh]).expect_err("what is executed is what counts");
    let error = taken(&dir.path().join("nothing"), &[h1]).expect_err("nothing").to_string();
    assert!(error.contains("terraform providers mirror") && error.contains(ADDRESS), "{error}");

    let package = unpacked(&release, 1, true);
    let pool = Pool::new(private(dir.path()));
    let program = package.program().expect("a program");
    let file = std::fs::File::options().read(true).write(true).open(program).expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], 4096).expect("another byte");
    let error = pool.lease(&package, 9).await.expect_err("another program").to_string();
    assert!(error.contains("terraform.lock.hcl does not name"), "{error}");
    assert_eq!(pool.started(), [0; 0]);
}

const CHILD: &str = "WANWRIGHT_TEST_POOL";

/// No test: what is killed in the next one. Without its folder there is nothing to do.
#[tokio::test]
async fn an_executor() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (dir, hash) = dir.split_once('=').expect("folder and hash");
    let taken = Path::new(dir).join("r/unpacked");
    let package = Package::among(&settings(&[hash.to_owned()], 2, true), &taken).expect("a package");
    let pool = Pool::new(private(Path::new(dir)));
    let leased = pool.lease(&package, 9).await.expect("a process");
    drop(pool.lease(&package, 9).await.expect("another"));
    let pids: Vec<String> = pool.started().iter().map(u32::to_string).collect();
    println!("\nprocesses {}", pids.join(" "));
    std::future::pending::<()>().await;
    drop(leased);
}

#[tokio::test]
async fn an_executor_that_is_killed_leaves_no_provider() {
    let dir = tempfile::tempdir().expect("a folder");
    let release = released(&dir.path().join("r"), provider());
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "terraform::foreign::tests::an_executor", "--nocapture"])
        .env(CHILD, format!("{}={}", dir.path().display(), release.hashes[0]))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let said = lines.into_iter().find_map(|line| line.strip_prefix("processes ").map(str::to_owned));
    let pids: Vec<u32> =
        said.expect("its processes").split(' ').map(|pid| pid.parse().expect("a pid")).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    child.kill().expect("killed");
    child.wait().expect("ended");
    until("none is left", async || !pids.iter().any(|pid| is_alive(*pid))).await;
}

/// An engine with a vendor whose template uses the foreign provider.
pub(in crate::terraform) struct World {
    pub(in crate::terraform) engine: TerraformEngine,
    pub(in crate::terraform) gateway: Gateway,
    pub(in crate::terraform) vendors: Vendors,
    pub(in crate::terraform) servers: Servers,
    pub(in crate::terraform) vendor: Running,
    stop: CancellationToken,
    _guard: DropGuard,
}

const MAIN_HEAD: &str = "wanwright = { source = \"wanwright/wanwright\" }";

/// The vendor's folder, whose template is anybody's.
pub(in crate::terraform) struct VendorFolder(PathBuf);

impl VendorFolder {
    pub(in crate::terraform) fn new(dir: &Path) -> Self {
        let folder = Self(dir.join("vendors/simwan"));
        copy(&root().join("vendors/simwan"), &folder.0);
        std::fs::write(dir.join("credential"), "token").expect("a file");
        let credential = format!("file = \"{}\"", dir.join("credential").display());
        let budget = "per_second = 500\nburst = 50".to_owned();
        folder.change(
            "vendor.toml",
            &[("env = \"WANWRIGHT_SIMWAN_TOKEN\"", credential), ("per_second = 50\nburst = 50", budget)],
        );
        folder
    }

    pub(in crate::terraform) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).expect("a file");
    }

    pub(super) fn change(&self, file: &str, from: &[(&str, String)]) {
        let mut text = std::fs::read_to_string(self.0.join(file)).expect("a file");
        for (from, to) in from {
            assert!(text.contains(from), "the folder has changed: {text}");
            text = text.replace(from, to);
        }
        self.write(file, &text);
    }

    /// Says which foreign provider the template uses.
    pub(in crate::terraform) fn uses(&self, release: &Release, reuse: bool, adopts: bool) {
        let toml =
            format!("[other]\nbase_url = \"base_url\"\nprocesses = 2\nreuse = {reuse}\nadopts = {adopts}\n");
        self.write("terraform/providers.toml", &toml);
        let hash = &release.hashes[0];
        let lock = format!(
            "provider \"{ADDRESS}\" {{\n  version     = \"{VERSION}\"\n  constraints = \"{VERSION}\"\n  hashes = [\n    \"{hash}\",\n  ]\n}}\n"
        );
        self.write("terraform/.terraform.lock.hcl", &lock);
    }
}

/// The vendor's folder with the foreign provider in its template.
fn vendors(dir: &Path, release: &Release, reuse: bool) -> Vendors {
    let folder = VendorFolder::new(dir);
    uses_other(&folder);
    folder.uses(release, reuse, true);
    Vendors::open(dir.join("vendors")).expect("the vendors' folders")
}

/// Has the template's resources made by the foreign provider.
pub(super) fn uses_other(folder: &VendorFolder) {
    let source = format!("other = {{ source = \"other/other\", version = \"{VERSION}\" }}");
    let ours = |name: &str| format!("resource \"wanwright_simwan_{name}\" \"{name}\" {{\n");
    let resource = |name: &str| ours(name) + "  provider = other\n";
    folder.change(
        "terraform/main.tf",
        &[
            (MAIN_HEAD, source),
            (ours("site").as_str(), resource("site")),
            (ours("tunnel").as_str(), resource("tunnel")),
        ],
    );
}

impl World {
    async fn new(latency_ms: u64, reuse: bool) -> Self {
        let servers = servers().await;
        let dir = servers.dir.path().to_owned();
        let release = released(&dir.join("r"), provider());
        let vendors = vendors(&dir, &release, reuse);
        let vendor = Self::vendor(&dir, latency_ms).await;
        Self::of(servers, vendors, vendor, release.packed).await
    }

    /// A vendor beside these servers.
    pub(in crate::terraform) async fn vendor(dir: &Path, latency_ms: u64) -> Running {
        Self::vendor_with(dir, Faults { latency_ms, ..Faults::default() }).await
    }

    /// The same, with these faults.
    pub(super) async fn vendor_with(dir: &Path, faults: Faults) -> Running {
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config =
            Config::new(listen, dir.join("vendor"), dir.join("vendors/simwan"), "token", "admin");
        config.limit = Some(Limit { per_second: 100_000.0, burst: 100_000 });
        config.faults = faults;
        Simulator::start(config).await.expect("a vendor")
    }

    /// An engine with these servers, folders and vendor.
    pub(in crate::terraform) async fn of(
        servers: Servers,
        vendors: Vendors,
        vendor: Running,
        mirror: PathBuf,
    ) -> Self {
        Self::within(servers, vendors, vendor, mirror, terraform::USUAL_LIMIT).await
    }

    /// The same, whose runs may take that long.
    pub(super) async fn within(
        servers: Servers,
        vendors: Vendors,
        vendor: Running,
        mirror: PathBuf,
        limit: Duration,
    ) -> Self {
        let urls = HashMap::from([("simwan".to_owned(), vendor.url().to_string())]);
        let stop = CancellationToken::new();
        let gateway = Gateway::start(servers.nats.clone(), vendors.clone(), &urls, stop.clone());
        let gateway = gateway.await.expect("a gateway");
        let terraform = wanwright_supervisor::find_terraform().await.expect("Terraform");
        let config = terraform::Config {
            pool: servers.store.pool.clone(),
            nats: servers.nats.clone(),
            keys: servers.store.keys.clone(),
            work: servers.dir.path().join("work"),
            vendors: vendors.clone(),
            mirror,
            program: terraform.path,
            version: terraform.version,
            at_once: 2,
            limit,
        };
        let engine = TerraformEngine::start(config).await.expect("an engine");
        let guard = stop.clone().drop_guard();
        Self { engine, gateway, vendors, servers, vendor, stop, _guard: guard }
    }

    /// An order for a site of a customer of its own.
    pub(in crate::terraform) fn order(number: usize, intent: Intent) -> Order {
        let site = DesiredSite {
            id: "oslo".parse().expect("a site"),
            uid: format!("0191f000-0000-7000-8000-{number:012}").parse::<CommandId>().expect("an id"),
            generation: 1,
            name: format!("c{number}.oslo"),
            lan: vec!["10.7.0.0/24".to_owned()],
            settings: serde_json::from_value(json!({"location": ""})).expect("settings"),
        };
        let desired = Desired::Site { site, tunnels: BTreeMap::new(), leaving: BTreeMap::new() };
        let position = Position { stream: "EVENTS-0".to_owned(), sequence: 1 };
        let customer = format!("c{number}").parse().expect("a customer");
        Order::new(customer, "simwan".parse().expect("a vendor"), intent, 0, desired, position)
    }

    /// Carries an order out, and says how many calls the vendor got for it.
    pub(in crate::terraform) async fn run(&self, order: &Order, attempt: u32) -> (Outcome, u64) {
        let vendors = self.vendors.snapshot();
        self.run_with(vendors.get("simwan").expect("the vendor"), order, attempt).await
    }

    /// The same with a vendor of the caller's.
    pub(in crate::terraform) async fn run_with(
        &self,
        vendor: &Vendor,
        order: &Order,
        attempt: u32,
    ) -> (Outcome, u64) {
        self.run_until(vendor, order, attempt, &self.stop).await
    }

    /// Carries an order out, and says up to which version the state was seen stored.
    pub(super) async fn run_storing(&self, order: &Order, attempt: u32) -> (Outcome, Option<StateMark>) {
        let (vendors, stored) = (self.vendors.snapshot(), Stored::default());
        let vendor = vendors.get("simwan").expect("the vendor");
        let (outcome, _) = self.run_noting(vendor, order, attempt, &self.stop, &stored).await;
        (outcome, stored.get())
    }

    /// The same, until it is told to stop.
    pub(super) async fn run_until(
        &self,
        vendor: &Vendor,
        order: &Order,
        attempt: u32,
        stop: &CancellationToken,
    ) -> (Outcome, u64) {
        self.run_noting(vendor, order, attempt, stop, &Stored::default()).await
    }

    async fn run_noting(
        &self,
        vendor: &Vendor,
        order: &Order,
        attempt: u32,
        stop: &CancellationToken,
        stored: &Stored,
    ) -> (Outcome, u64) {
        let context = context_of(order, None);
        let opened = self.gateway.open(context);
        let run = Run {
            order,
            vendor,
            gateway: &opened,
            observe_first: attempt > 1,
            scans: &Scans::default(),
            together: &Together::new(self.gateway.clone()),
            attempt,
            unsettled: attempt > 1,
            held: None,
            measure: &Measure::begin(),
            begun: &Begun::default(),
            stored,
            log: Log::new(&self.servers.nats, &opened),
        };
        let outcome = self.engine.run(&run, stop).await;
        opened.store_records().await;
        (outcome, opened.calls())
    }

    /// What Terraform would do, how many calls the vendor got for the answer, and what it took.
    async fn preview(&self, order: &Order) -> (Result<PlanCounts, String>, u64, RunUsage) {
        let opened = self.gateway.open(context_of(order, None));
        let vendors = self.vendors.snapshot();
        let measure = Measure::begin();
        let run = Run {
            order,
            vendor: vendors.get("simwan").expect("the vendor"),
            gateway: &opened,
            observe_first: false,
            scans: &Scans::default(),
            together: &Together::new(self.gateway.clone()),
            attempt: 0,
            unsettled: false,
            held: None,
            measure: &measure,
            log: Log::new(&self.servers.nats, &opened),
            begun: &Begun::default(),
            stored: &Stored::default(),
        };
        let planned = self.engine.preview(&run, &self.stop).await;
        opened.store_records().await;
        (planned.map(|plan| plan.counts).map_err(|refusal| refusal.message), opened.calls(), measure.usage())
    }

    pub(super) async fn effects(&self, order: &Order) -> Vec<Effect> {
        let subject = subjects::effect(&order.customer, &order.target());
        let messages = load_subject(&self.servers.nats, topology::EFFECTS, &subject, 0).await;
        let messages = messages.expect("the journal");
        messages.iter().map(|m| serde_json::from_slice(&m.payload).expect("an effect")).collect()
    }

    pub(in crate::terraform) async fn records(&self, order: &Order) -> Vec<RunEvent> {
        let subject = subjects::run(&order.customer, order.id, "*");
        let messages = load_subject(&self.servers.nats, topology::RUNS, &subject, 0).await;
        let messages = messages.expect("the records");
        messages.iter().flat_map(|m| run::read(&m.payload).expect("records")).map(|r| r.event).collect()
    }
}

pub(in crate::terraform) fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(findings) if !findings.is_empty()
        && findings.iter().all(|found| !format!("{found:?}").contains("Failed")))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_runs_on_two_processes_are_journalled_each_under_its_own_order() {
    let world = World::new(0, true).await;
    let orders: Vec<Order> = (0..20).map(|number| World::order(number, Intent::Apply)).collect();
    let runs = futures::stream::iter(&orders).map(|order| world.run(order, 1)).buffer_unordered(4);
    let outcomes: Vec<(Outcome, u64)> = runs.collect().await;
    assert!(outcomes.iter().all(|(outcome, calls)| is_done(outcome) && *calls >= 1), "{outcomes:?}");
    let processes = world.engine.pool.started();
    assert_eq!(processes.len(), 2, "{processes:?}");
    for order in &orders {
        let effects = world.effects(order).await;
        let of_provider: Vec<(&str, &Phase)> = effects
            .iter()
            .filter(|effect| effect.path == "wanwright_simwan_site")
            .map(|effect| (effect.method.as_str(), &effect.phase))
            .collect();
        let [("create", Phase::Before), ("create", Phase::After { status: 200, id: Some(id) })] =
            of_provider[..]
        else {
            panic!("{effects:?}")
        };
        // The gateway's own entries are between them, of the very same object.
        let posts: Vec<&Effect> = effects.iter().filter(|effect| effect.method == "POST").collect();
        assert_eq!(posts.len(), 2, "{effects:?}");
        assert!(matches!(&posts[1].phase, Phase::After { status: 201, id: Some(same) } if same == id));
        let records = world.records(order).await;
        let called = |event: &RunEvent| matches!(event, RunEvent::Call { method, .. } if method == "POST");
        assert_eq!(records.iter().filter(|event| called(event)).count(), 1, "{records:?}");
        let planned = |event: &RunEvent| {
            matches!(event, RunEvent::Log { message, .. }
                if message == "the provider plans to create wanwright_simwan_site")
        };
        assert!(records.iter().any(planned), "{records:?}");
    }
    // What was applied is as wanted, and can be taken down.
    let (again, calls) = world.run(&orders[0], 1).await;
    assert!(is_done(&again) && calls >= 1, "{again:?}");
    assert_eq!(
        world.effects(&orders[0]).await.iter().filter(|e| !e.method.is_empty()).count(),
        4,
        "nothing to do"
    );
    let (gone, _) = world.run(&World::order(0, Intent::Remove), 1).await;
    assert!(is_done(&gone), "{gone:?}");
    let deleted = world.effects(&orders[0]).await;
    assert!(deleted.iter().any(|e| e.method == "delete" && e.path.starts_with("wanwright_simwan_site/")));
    assert_eq!(world.engine.pool.started(), processes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_uses_a_process_of_the_pool_is_measured_and_changes_nothing() {
    let world = World::new(0, true).await;
    let order = World::order(1, Intent::Apply);
    let plans = World::order(1, Intent::Plan { remove: false, number: 0 });
    let (planned, _, usage) = world.preview(&plans).await;
    assert_eq!(planned, Ok(PlanCounts { create: 1, ..PlanCounts::default() }));
    assert!(usage.processes.is_some_and(|took| took.cpu_millis > 0 && took.peak_kib > 0), "{usage:?}");
    assert!(usage.running_millis > 0, "{usage:?}");
    assert!(world.effects(&order).await.is_empty(), "nothing was asked of the vendor that changes anything");
    let processes = world.engine.pool.started();
    assert_eq!(processes.len(), 1);

    // It has left neither a state nor a lock behind, and the process serves the next one.
    assert!(is_done(&world.run(&order, 1).await.0));
    let applied = world.effects(&order).await.len();
    let (again, calls, _) = world.preview(&plans).await;
    assert_eq!(again, Ok(PlanCounts::default()), "it is as wanted");
    assert!(calls >= 1, "the provider asked the vendor");
    assert_eq!(world.effects(&order).await.len(), applied);
    assert_eq!(world.engine.pool.started(), processes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_killed_in_the_middle_fails_the_run_in_passing_and_nothing_is_made_twice() {
    let world = World::new(2_000, true).await;
    let order = World::order(1, Intent::Apply);
    let killed = async {
        let asked = async || {
            let effects = world.effects(&order).await;
            effects.iter().any(|effect| effect.method == "POST")
        };
        until("the vendor was asked", asked).await;
        kill(world.engine.pool.started()[0]);
    };
    let ((outcome, _), ()) = tokio::join!(world.run(&order, 1), killed);
    assert!(matches!(outcome, Outcome::Passing { ours: true, .. }), "{outcome:?}");
    let effects = world.effects(&order).await;
    let of_provider: Vec<&Phase> = effects
        .iter()
        .filter(|effect| effect.path == "wanwright_simwan_site")
        .map(|effect| &effect.phase)
        .collect();
    assert_eq!(of_provider, [&Phase::Before, &Phase::After { status: 0, id: None }]);

    let (outcome, _) = world.run(&order, 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    let processes = world.engine.pool.started();
    assert_eq!(processes.len(), 2, "a new one took its place");
    assert!(!is_alive(processes[0]));
    let effects = world.effects(&order).await;
    let ids: std::collections::BTreeSet<&str> = effects
        .iter()
        .filter_map(|effect| match &effect.phase {
            Phase::After { id: Some(id), .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 1, "one object: {effects:?}");
    assert_eq!(effects.last().map(|effect| &effect.phase), Some(&Phase::Settled));
}

/// CPU seconds of the children of this process that have ended.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a file");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // Fields 16 and 17 of the file, in hundredths of a second.
    fields[13..15].iter().map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// What a process kept ready saves: the same applies, one after the other, with one process for all and with one each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn what_a_warm_process_saves() {
    for (name, reuse) in [("cold", false), ("warm", true), ("cold", false), ("warm", true)] {
        let world = World::new(0, reuse).await;
        let order = |number| World::order(number, Intent::Apply);
        // The first one initialises the template.
        assert!(is_done(&world.run(&order(0), 1).await.0));
        let (cpu, began) = (children_cpu(), std::time::Instant::now());
        for number in 1..=15 {
            assert!(is_done(&world.run(&order(number), 1).await.0));
        }
        let wall = began.elapsed().as_secs_f64() / 15.0;
        let processes = world.engine.pool.started();
        world.engine.pool.end_idle(Duration::ZERO);
        until("all have ended", async || !processes.iter().any(|pid| is_alive(*pid))).await;
        let cpu = (children_cpu() - cpu) / 15.0;
        println!("{name}: {wall:.3} s, {cpu:.3} s of CPU an apply; {} processes", processes.len());
    }
}
