//! What a vendor may do wrong, against the engine and the gateway: the device is there once in the end, as it should be.

use serde_json::{Map, Value, json};
use wanwright_executors::engine::Outcome;
use wanwright_schemas::CommandId;
use wanwright_schemas::order::{DesiredDevice, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::Finding;
use wanwright_simulator::Counters;

use crate::api::{device, outcome};
use crate::world::World;

/// The simulated vendor's jobs.
const JOBS: &str = r#"
[job]
id = "/job/id"
path = "/v1/jobs/{job}"
state = "/job/state"
running = ["running"]
succeeded = ["succeeded"]
failed = ["failed"]
message = "/job/message"
object_id = "/job/object"
interval_seconds = 0.02
limit_seconds = 20
"#;

/// More runs than any of the jobs takes.
const MANY: u32 = 40;

async fn site(world: &World) -> Value {
    let (_, opened) = world.run("edge-01");
    let base = opened.base_url().to_owned();
    let (status, site) = World::create_site(world.http.clone(), base, "acme.one").await;
    assert_eq!(status, 201, "{site}");
    site["id"].clone()
}

#[tokio::test]
async fn whatever_goes_wrong_the_device_is_there_once() {
    each_fault(async || World::new(50).await).await;
}

#[tokio::test]
async fn without_a_key_its_name_finds_what_was_made() {
    each_fault(async || World::without_keys(50).await).await;
}

async fn each_fault(new: impl AsyncFn() -> World) {
    for (fault, passing) in [
        (json!({"error_rate": 1.0}), Some(Reason::VendorBusy)),
        (json!({"down": true}), Some(Reason::Network)),
        (json!({"accepted_but_answer_lost": 1.0}), Some(Reason::Network)),
        (json!({"cut_mid_response": 1.0}), Some(Reason::Network)),
        (json!({"refuse": [{"method": "POST", "times": 1, "status": 500}]}), Some(Reason::VendorBusy)),
        (json!({"storm_seconds": 1}), None),
        (json!({"latency_ms": 300, "answer_delay_ms": 300}), None),
    ] {
        let world = new().await;
        let site = site(&world).await;
        let uid = CommandId::mint();
        world.faults(&fault).await;
        let first = outcome(&world, Intent::Apply, device(uid, &site, None)).await;
        match (&first, passing) {
            (Outcome::Passing { code, .. }, Some(reason)) => assert_eq!(*code, reason, "{fault}"),
            (Outcome::Done(_), None) => {}
            other => panic!("{fault}: {other:?}"),
        }
        world.faults(&json!({})).await;
        let second = outcome(&world, Intent::Apply, device(uid, &site, None)).await;
        let Outcome::Done(findings) = second else { panic!("{fault}: {second:?}") };
        assert!(matches!(findings[0].finding, Finding::Applied { .. }), "{fault}: {findings:?}");
        let stats = world.stats().await;
        let made = &stats.kinds["device"];
        assert_eq!((made.objects, made.totals.creations), (1, 1), "{fault}");
    }
}

#[tokio::test]
async fn a_job_of_the_vendor_fails_and_the_next_one_does_not() {
    let world = World::with_devices(50, JOBS).await;
    let site = site(&world).await;
    let uid = CommandId::mint();
    world.faults(&json!({"jobs": {"failure_rate": 1.0, "message": "no licence left"}})).await;
    let failed = outcome(&world, Intent::Apply, device(uid, &site, None)).await;
    let Outcome::Done(findings) = failed else { panic!("{failed:?}") };
    let Finding::Failed { code: Reason::VendorRefused, message, .. } = &findings[0].finding else {
        panic!("{findings:?}")
    };
    assert!(message.contains("no licence left"), "{message}");

    world.faults(&json!({"jobs": {"looks": 3}})).await;
    let made = outcome(&world, Intent::Apply, device(uid, &site, None)).await;
    let Outcome::Done(findings) = made else { panic!("{made:?}") };
    let Finding::Applied { outputs, .. } = &findings[0].finding else { panic!("{findings:?}") };
    let known = outputs["id"].as_str().unwrap().to_owned();
    let gone = outcome(&world, Intent::Remove, device(uid, &site, Some(&known))).await;
    assert!(matches!(&gone, Outcome::Done(found) if found[0].finding == Finding::Removed), "{gone:?}");
    let stats = world.stats().await;
    assert_eq!((stats.kinds["device"].objects, stats.kinds["device"].totals.creations), (0, 1));
}

#[tokio::test]
async fn a_device_is_made_changed_and_removed_once_in_jobs_slower_than_a_run() {
    let world = World::with_devices(50, &JOBS.replace("limit_seconds = 20", "limit_seconds = 0.05")).await;
    let site = site(&world).await;
    let uid = CommandId::mint();
    world.faults(&json!({"jobs": {"looks": 12}})).await;
    // How many runs waited for the vendor, and what came of it then.
    let tried = async |intent: Intent, device: DesiredDevice| {
        for waited in 0..MANY {
            match outcome(&world, intent.clone(), device.clone()).await {
                Outcome::Passing { code: Reason::VendorBusy, ours: true, .. } => {}
                Outcome::Done(mut findings) => return (waited, findings.remove(0).finding),
                other => panic!("{other:?}"),
            }
        }
        panic!("it has no end: {:?}", world.stats().await.kinds["device"].totals);
    };
    let (waited, made) = tried(Intent::Apply, device(uid, &site, None)).await;
    let Finding::Applied { outputs, .. } = &made else { panic!("{made:?}") };
    assert!(waited >= 2, "{waited}");
    let known = outputs["id"].as_str().unwrap().to_owned();
    let mut changed = device(uid, &site, Some(&known));
    changed.settings = Map::from_iter([("vlan".to_owned(), json!(9))]).into_iter().collect();
    let (waited, done) = tried(Intent::Apply, changed.clone()).await;
    assert!(waited >= 2 && matches!(done, Finding::Applied { .. }), "{waited} {done:?}");
    let (waited, done) = tried(Intent::Remove, changed).await;
    assert!(waited >= 2 && done == Finding::Removed, "{waited} {done:?}");
    let Counters { creations, replays, updates, deletions, .. } = world.stats().await.kinds["device"].totals;
    assert_eq!((creations, replays, updates, deletions), (1, 0, 1, 1), "each was asked for once");
}

#[tokio::test]
async fn a_change_whose_job_the_vendor_does_not_know_makes_no_other_device() {
    let world = World::with_devices(50, JOBS).await;
    let site = site(&world).await;
    let uid = CommandId::mint();
    let made = outcome(&world, Intent::Apply, device(uid, &site, None)).await;
    let Outcome::Done(findings) = &made else { panic!("{made:?}") };
    let Finding::Applied { outputs, .. } = &findings[0].finding else { panic!("{made:?}") };
    let mut changed = device(uid, &site, outputs["id"].as_str());
    changed.settings = Map::from_iter([("vlan".to_owned(), json!(9))]).into_iter().collect();
    world.faults(&json!({"jobs": {"unknown": 1}})).await;
    let first = outcome(&world, Intent::Apply, changed.clone()).await;
    let Outcome::Passing { message, .. } = &first else { panic!("{first:?}") };
    assert!(message.contains("it began job jb-000001 and does not know it"), "{message}");
    let second = outcome(&world, Intent::Apply, changed).await;
    let Outcome::Done(findings) = &second else { panic!("{second:?}") };
    assert!(matches!(findings[0].finding, Finding::Applied { .. }), "{second:?}");
    let Counters { creations, replays, updates, .. } = world.stats().await.kinds["device"].totals;
    assert_eq!((creations, replays, updates), (1, 0, 1));
}
