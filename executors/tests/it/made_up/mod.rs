//! Vendors that the code knows nothing of: a folder and a stand-in server, made here, carried out by the engine through
//! the gateway.

mod jobs;
mod vendor;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_executors::engine::{Begun, Log, Measure, Outcome, Run, Scans, Stored, Together, api};
use wanwright_executors::gateway::{Gateway, Priority, RunContext};
use wanwright_nats::{Nats, topology};
use wanwright_schemas::order::{Desired, DesiredDevice, Intent, Order, Target};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{DriftField, Finding};
use wanwright_schemas::{CommandId, OrderId, Position};
use wanwright_supervisor::NatsOptions;
use wanwright_vendors::Catalogue;

use vendor::{Mode, Shared};

struct World {
    gateway: Gateway,
    nats: Nats,
    catalogue: Catalogue,
    vendor: Shared,
    uid: CommandId,
    scans: Scans,
    _server: wanwright_supervisor::Nats,
    _stop: DropGuard,
    _dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let server = wanwright_supervisor::Nats::start(&NatsOptions::new(dir.path().join("nats"), cache))
            .await
            .unwrap();
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", 1).await.unwrap();
        topology::apply(&nats, 1).await.unwrap();
        let folders = dir.path().join("vendors");
        vendor::write_folders(&folders);
        let catalogue = Catalogue::load(&folders).unwrap();
        let (vendor, url) = vendor::serve().await;
        let urls = vendor::NAMES.map(|name| (name.to_owned(), url.clone()));
        let stop = CancellationToken::new();
        let gateway =
            Gateway::start(nats.clone(), &catalogue, &HashMap::from(urls), stop.clone()).await.unwrap();
        let uid = CommandId::mint();
        Self {
            gateway,
            nats,
            catalogue,
            vendor,
            uid,
            scans: Scans::default(),
            _server: server,
            _stop: stop.drop_guard(),
            _dir: dir,
        }
    }

    fn device(&self, vlan: u32, known: Option<&str>) -> DesiredDevice {
        DesiredDevice {
            id: "edge-01".parse().unwrap(),
            uid: self.uid,
            generation: 2,
            name: "acme.edge-01".to_owned(),
            serial: "SN1".to_owned(),
            model: "m1".to_owned(),
            settings: Map::from_iter([("vlan".to_owned(), json!(vlan))]).into_iter().collect(),
            inputs: Map::new(),
            known: known.map(|id| ("id".to_owned(), json!(id))).into_iter().collect(),
        }
    }

    async fn run(&self, vendor: &str, intent: Intent, retries: u64, device: DesiredDevice) -> Outcome {
        let context = RunContext {
            customer: "acme".parse().unwrap(),
            vendor: vendor.parse().unwrap(),
            order: OrderId::of_digest([7; 32]),
            target: Target::Device("edge-01".parse().unwrap()),
            account: None,
            secrets: Vec::new(),
            may_change: true,
            priority: Priority::Intent,
            trace: None,
        };
        let opened = self.gateway.open(context.clone());
        let position = Position { stream: "EVENTS-0".to_owned(), sequence: 1 };
        let (customer, vendor) = (context.customer.clone(), context.vendor.clone());
        let order = Order::new(customer, vendor, intent, retries, Desired::Device(device), position);
        let measure = Measure::begin();
        let run = Run {
            order: &order,
            vendor: self.catalogue.get(context.vendor.as_str()).unwrap(),
            gateway: &opened,
            observe_first: false,
            scans: &self.scans,
            together: &Together::new(self.gateway.clone()),
            attempt: 1,
            unsettled: true,
            held: None,
            log: Log::new(&self.nats, &opened),
            measure: &measure,
            begun: &Begun::default(),
            stored: &Stored::default(),
        };
        api::run(&run).await
    }

    async fn finding(&self, vendor: &str, intent: Intent, device: DesiredDevice) -> Finding {
        done(self.run(vendor, intent, 0, device).await)
    }

    fn asked(&self, what: &str) -> usize {
        self.vendor.lock().unwrap().asked.iter().filter(|line| line.starts_with(what)).count()
    }

    fn set(&self, mode: Mode) {
        self.vendor.lock().unwrap().mode = mode;
    }
}

fn done(outcome: Outcome) -> Finding {
    match outcome {
        Outcome::Done(mut findings) => findings.remove(0).finding,
        Outcome::Passing { message, .. } => panic!("{message}"),
    }
}

fn id(finding: &Finding) -> String {
    match finding {
        Finding::Applied { generation: 2, outputs } => outputs["id"].as_str().unwrap().to_owned(),
        other => panic!("not applied: {other:?}"),
    }
}

#[tokio::test]
async fn a_vendor_with_another_api_is_a_folder_alone() {
    let world = World::new().await;
    for number in 0..5 {
        world.vendor.lock().unwrap().make(&format!("other-{number}"));
    }
    let made = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    let made = id(&made);
    let stored = world.vendor.lock().unwrap().edges[&made].clone();
    assert_eq!(stored["net"], json!({"vlan": "7"}));
    assert!(world.asked("GET /api/edges?page=3&per_page=2") >= 1, "it looked for the name on every page");
    assert!(world.asked("GET /api/jobs/j-1") >= 2, "{:?}", world.vendor.lock().unwrap().asked);

    let check = CommandId::mint();
    let observed = world.finding("taskwan", Intent::Observe { check }, world.device(7, Some(&made))).await;
    assert_eq!(observed, Finding::InSync { check });
    world.vendor.lock().unwrap().edges.get_mut(&made).unwrap()["net"]["vlan"] = json!("9");
    let observed = world.finding("taskwan", Intent::Observe { check }, world.device(7, Some(&made))).await;
    let fields = vec![DriftField { field: "vlan".to_owned(), desired: json!(7), observed: json!(9) }];
    assert_eq!(observed, Finding::Drifted { check, fields });

    let changed = world.finding("taskwan", Intent::Apply, world.device(8, Some(&made))).await;
    assert_eq!(id(&changed), made);
    assert_eq!(world.asked("PATCH /api/edges/e-6"), 1);
    let removed = world.finding("taskwan", Intent::Remove, world.device(8, Some(&made))).await;
    assert_eq!(removed, Finding::Removed);
    assert_eq!(world.vendor.lock().unwrap().edges.len(), 5);
    let again = world.finding("taskwan", Intent::Remove, world.device(8, Some(&made))).await;
    assert_eq!(again, Finding::Removed);
}

#[tokio::test]
async fn a_run_that_dies_over_a_job_is_gone_on_with_by_the_next() {
    let world = World::new().await;
    world.set(Mode::JobsStand);
    // The first run dies while the vendor works.
    let looked = world.vendor.lock().unwrap().looked.clone();
    tokio::select! {
        outcome = world.run("taskwan", Intent::Apply, 0, world.device(7, None)) => panic!("{outcome:?}"),
        () = async { while *looked.borrow() < 2 { looked.clone().changed().await.unwrap(); } } => {}
    }
    world.set(Mode::JobsEnd);
    let made = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    assert_eq!(id(&made), "e-1");
    assert_eq!(
        world.asked("POST /api/edges"),
        1,
        "the same job was followed: {:?}",
        world.vendor.lock().unwrap().asked
    );
    // Nothing is left of the note.
    let next = world.finding("taskwan", Intent::Apply, world.device(7, Some("e-1"))).await;
    assert_eq!((id(&next).as_str(), world.asked("GET /api/jobs/j-2")), ("e-1", 0));
}

#[tokio::test]
async fn a_job_that_fails_is_the_vendors_refusal() {
    let world = World::new().await;
    world.set(Mode::JobsFail);
    let failed = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    let Finding::Failed { code: Reason::VendorRefused, message, .. } = &failed else { panic!("{failed:?}") };
    assert!(message.contains("no power at the site"), "{message}");
    world.set(Mode::JobsEnd);
    let made = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    assert_eq!((id(&made).as_str(), world.asked("POST /api/edges")), ("e-1", 2));
}

#[tokio::test]
async fn a_lost_answer_that_nothing_can_find_again_is_for_a_person() {
    let world = World::new().await;
    world.set(Mode::AnswersLost);
    let unknown = |finding: Finding| match finding {
        Finding::Failed { code: Reason::OutcomeUnknown, message, .. } => message,
        other => panic!("{other:?}"),
    };
    unknown(world.finding("linkwan", Intent::Apply, world.device(7, None)).await);
    world.set(Mode::JobsEnd);
    // Whatever comes next, a change of mind included, does not create a second one.
    unknown(world.finding("linkwan", Intent::Apply, world.device(8, None)).await);
    unknown(world.finding("linkwan", Intent::Remove, world.device(8, None)).await);
    assert_eq!(world.asked("POST /link/edges"), 1);
    // A person has looked and sends `retry`.
    let made = done(world.run("linkwan", Intent::Apply, 1, world.device(8, None)).await);
    assert_eq!(
        (id(&made).as_str(), world.asked("POST /link/edges")),
        ("e-2", 2),
        "the id is in the location"
    );
    let refused: Value = json!(world.finding("linkwan", Intent::Remove, world.device(8, Some("e-2"))).await);
    assert_eq!(refused["result"], "removed");
}

#[tokio::test]
async fn a_vendor_without_a_credential_holds_up_nobody_else() {
    let world = World::new().await;
    let waits = world.run("keylesswan", Intent::Apply, 0, world.device(7, None)).await;
    assert!(matches!(&waits, Outcome::Passing { ours: true, .. }), "{waits:?}");
    assert_eq!(world.vendor.lock().unwrap().asked, [""; 0], "nobody was called");
    id(&world.finding("taskwan", Intent::Apply, world.device(7, None)).await);
}

#[tokio::test]
async fn a_job_whose_begin_was_not_heard_of_is_begun_once() {
    let world = World::new().await;
    world.set(Mode::AnswersLost);
    let unknown = |finding: &Finding| matches!(finding, Finding::Failed { code: Reason::OutcomeUnknown, .. });
    let first = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    assert!(unknown(&first), "{first:?}");
    world.set(Mode::JobsStand);
    // The vendor still works, so nothing has the name yet.
    let second = world.finding("taskwan", Intent::Apply, world.device(8, None)).await;
    assert!(unknown(&second), "{second:?}");
    assert_eq!(world.asked("POST /api/edges"), 1);
    // Once it has ended, the name tells.
    world.set(Mode::JobsEnd);
    world.vendor.lock().unwrap().end_jobs();
    let third = world.finding("taskwan", Intent::Apply, world.device(8, None)).await;
    assert_eq!((id(&third).as_str(), world.asked("POST /api/edges")), ("e-1", 1));
    assert_eq!(world.vendor.lock().unwrap().edges.len(), 1);
}

#[tokio::test]
async fn a_create_without_a_key_whose_answer_was_lost_is_found_by_its_name() {
    let world = World::new().await;
    world.set(Mode::AnswersLost);
    let lost = world.run("namewan", Intent::Apply, 0, world.device(7, None)).await;
    assert!(matches!(&lost, Outcome::Passing { code: Reason::Network, .. }), "{lost:?}");
    world.set(Mode::JobsEnd);
    let made = world.finding("namewan", Intent::Apply, world.device(7, None)).await;
    assert_eq!((id(&made).as_str(), world.asked("POST /name/edges")), ("e-1", 1));
    assert_eq!(world.vendor.lock().unwrap().edges.len(), 1);
}
