//! Jobs of the vendor that take longer than a run follows them, and executors that die meanwhile.

use serde_json::json;
use wanwright_executors::scheduler::Patience;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::run::RunEvent;
use wanwright_simulator::{Counters, Faults, Jobs};
use wanwright_tests::level;

use crate::child::kill;
use crate::together::JOB;
use crate::world::{LIMIT, World};

/// Six looks, and no more, are made by one run.
const SLOW: &str = "limit_seconds = 0.12\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_a_job_slower_than_its_run_is_asked_for_once_whoever_dies() {
    let world = World::many(5, &format!("{JOB}{SLOW}")).await;
    let jobs = |looks| Faults { jobs: Some(Jobs { looks, ..Jobs::default() }), ..Faults::default() };
    world.faults(jobs(40)).await;
    let acme = world.customer("acme").await;
    for device in ["edge-0", "edge-1", "edge-2"] {
        world.device(&acme, device).await;
    }
    let first = world.process("one").await;
    let waits = async |least: usize| {
        let records = world.records("acme").await;
        let waiting = records.iter().filter(|record| match &record.event {
            RunEvent::Retrying { code, message, .. } => {
                *code == Reason::VendorBusy && message.contains("still works on job jb-")
            }
            _ => false,
        });
        Ok(waiting.count() >= least)
    };
    level::until("each waits for the vendor, and why is said", LIMIT, async || waits(3).await).await.unwrap();
    kill(first).await;
    let two = world.scheduler("two", Patience::default()).await;
    world.until_done("acme").await;
    let Counters { creations, replays, updates, .. } = world.devices().await.totals;
    assert_eq!((creations, replays, updates), (3, 0, 0), "each was made by the job that was begun first");

    world.faults(jobs(15)).await;
    world.send("acme.demo.device.edge-0.change", &json!({ "settings": { "vlan": 7 } })).await;
    world.send("acme.demo.device.edge-1.decommission", &json!({})).await;
    let are_begun = async || {
        let totals = world.devices().await.totals;
        Ok(totals.updates + totals.deletions >= 2)
    };
    level::until("both are begun", LIMIT, are_begun).await.unwrap();
    world.until_done("acme").await;
    let Counters { updates, deletions, .. } = world.devices().await.totals;
    assert_eq!((updates, deletions), (1, 1));
    assert!(waits(5).await.unwrap(), "both took more than a run");
    world.until_event(&acme, "edge-0", "DeviceApplied").await;
    two.stop().await;
}
