//! Many devices of one customer in one call: few calls, each device once, whatever fails.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use serde_json::json;
use wanwright_executors::scheduler::Patience;
use wanwright_schemas::CustomerId;
use wanwright_schemas::run::RunEvent;
use wanwright_simulator::{Faults, Jobs, Refuse};
use wanwright_tests::level;

use crate::child::kill;
use crate::world::{LIMIT, World};

/// How the simulated vendor's jobs are followed.
pub const JOB: &str = r#"
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
"#;

async fn create(world: &World, customer: &CustomerId, devices: usize) {
    let each = stream::iter(0..devices).map(async |number| world.device(customer, &name(number)).await);
    each.buffer_unordered(32).collect::<Vec<()>>().await;
}

fn name(number: usize) -> String {
    format!("edge-{number:03}")
}

/// Waits until the vendor has so many devices and nothing is left to do.
async fn until_there(world: &World, devices: u64) {
    let is_there = async || Ok(world.devices().await.objects == devices);
    level::until("all devices", LIMIT, is_there).await.unwrap();
    world.until_done("*").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_devices_are_made_changed_and_removed_in_few_calls() {
    const DEVICES: usize = 500;
    // Fifty go in one call; where little is ready when a call may be made, fewer.
    const FEW: std::ops::RangeInclusive<u64> = 10..=80;
    let world = World::many(5, "").await;
    let acme = world.customer("acme").await;
    create(&world, &acme, DEVICES).await;
    let before = world.calls().await;
    let one = world.scheduler("one", Patience::default()).await;
    until_there(&world, 500).await;
    let created = world.calls().await - before;
    let stats = world.devices().await;
    assert_eq!(stats.totals.creations, 500);
    assert!(stats.names.values().all(|name| name.creations == 1 && name.replays == 0), "made twice");
    assert!(FEW.contains(&created), "{created} calls for {DEVICES} devices");
    let records = world.records("acme").await;
    let calls: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            RunEvent::Call { shared: Some(shared), .. } => Some((record.order, *shared)),
            _ => None,
        })
        .collect();
    let orders: BTreeSet<_> = calls.iter().map(|(order, _)| *order).collect();
    assert!(orders.len() >= DEVICES - 10, "each order has its call: {}", orders.len());
    for (_, shared) in &calls {
        let of_call = calls.iter().filter(|(_, other)| other.call == shared.call).count();
        assert_eq!(of_call, shared.orders as usize, "every order of a call has it");
    }
    one.stop().await;

    let before = world.calls().await;
    let change = async |number: usize| {
        let tail = format!("acme.demo.device.{}.change", name(number));
        world.send(&tail, &json!({ "settings": { "vlan": 7 } })).await;
    };
    stream::iter(0..DEVICES).map(change).buffer_unordered(32).collect::<Vec<()>>().await;
    let two = world.scheduler("two", Patience::default()).await;
    let changed = async || {
        let stats = world.devices().await;
        Ok(stats.names.values().all(|name| name.updates == 1))
    };
    level::until("all are changed", LIMIT, changed).await.unwrap();
    world.until_done("acme").await;
    let updated = world.calls().await - before;
    assert!(FEW.contains(&updated), "{updated} calls for {DEVICES} changes");
    two.stop().await;

    let before = world.calls().await;
    let remove = async |number: usize| {
        world.send(&format!("acme.demo.device.{}.decommission", name(number)), &json!({})).await;
    };
    stream::iter(0..DEVICES).map(remove).buffer_unordered(32).collect::<Vec<()>>().await;
    let three = world.scheduler("three", Patience::default()).await;
    until_there(&world, 0).await;
    let removed = world.calls().await - before;
    assert!(FEW.contains(&removed), "{removed} calls for {DEVICES} removals");
    println!(
        "{DEVICES} devices: {created} calls to make them, {updated} to change them, {removed} to remove them"
    );
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_fails_alone_and_a_call_that_is_refused_is_made_one_by_one() {
    let world = World::many(5, "").await;
    let acme = world.customer("acme").await;
    create(&world, &acme, 20).await;
    let refuse = Refuse { name: Some(format!("acme.{}", name(7))), ..Refuse::default() };
    world.faults(Faults { refuse: vec![refuse], ..Faults::default() }).await;
    let one = world.scheduler("one", Patience::default()).await;
    until_there(&world, 19).await;
    world.until_event(&acme, &name(7), "DeviceFailed").await;
    world.until_event(&acme, &name(6), "DeviceApplied").await;
    assert_eq!(world.devices().await.totals.creations, 19);
    one.stop().await;
    // A call for many that the vendor does not take at all says nothing about any of its devices.
    let prefix = Some("/v1/devices/bulk-create".to_owned());
    world
        .faults(Faults {
            refuse: vec![Refuse { path_prefix: prefix, ..Refuse::default() }],
            ..Faults::default()
        })
        .await;
    let globex = world.customer("globex").await;
    create(&world, &globex, 10).await;
    let two = world.scheduler("two", Patience::default()).await;
    until_there(&world, 29).await;
    assert!(world.devices().await.names.values().all(|name| name.creations <= 1), "made twice");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_about_many_succeed_or_fail() {
    let world = World::many(5, JOB).await;
    let acme = world.customer("acme").await;
    create(&world, &acme, 30).await;
    let jobs = |failure_rate| Some(Jobs { looks: 1, failure_rate, ..Jobs::default() });
    world.faults(Faults { jobs: jobs(0.0), ..Faults::default() }).await;
    let one = world.scheduler("one", Patience::default()).await;
    until_there(&world, 30).await;
    assert_eq!(world.devices().await.totals.creations, 30);
    one.stop().await;
    // A job that failed as a whole: each device is tried alone, and all of those fail.
    world.faults(Faults { jobs: jobs(1.0), ..Faults::default() }).await;
    let globex = world.customer("globex").await;
    create(&world, &globex, 5).await;
    let two = world.scheduler("two", Patience::default()).await;
    for number in 0..5 {
        world.until_event(&globex, &name(number), "DeviceFailed").await;
    }
    assert_eq!(world.devices().await.objects, 30, "they have done nothing");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_is_made_once_whatever_is_lost_and_whoever_dies() {
    const DEVICES: usize = 240;
    let world = World::many(30, "").await;
    let (acme, globex) = (world.customer("acme").await, world.customer("globex").await);
    let faults = Faults {
        seed: 11,
        latency_ms: 30,
        error_rate: 0.05,
        accepted_but_answer_lost: 0.15,
        cut_mid_response: 0.05,
        ..Faults::default()
    };
    world.faults(faults).await;
    let first = world.process("one").await;
    let second = world.process("two").await;
    let has = async |least: u64| Ok(world.devices().await.objects >= least);
    let killed = async {
        level::until("a part of the devices", LIMIT, async || has(60).await).await.unwrap();
        kill(first).await;
    };
    let made = async {
        tokio::join!(create(&world, &acme, DEVICES / 2), create(&world, &globex, DEVICES / 2));
    };
    tokio::join!(made, killed);
    kill(second).await;
    let third = world.process("three").await;
    level::until("all devices", LIMIT, async || has(240).await).await.unwrap();
    // With every fourth call failing, one of so many orders would now and then wait for minutes between its tries.
    world.faults(Faults::default()).await;
    until_there(&world, 240).await;
    let stats = world.devices().await;
    assert_eq!((stats.objects, stats.totals.creations, stats.totals.concurrent_creations), (240, 240, 0));
    assert!(stats.names.values().all(|name| name.creations == 1), "made twice");
    kill(third).await;
}
