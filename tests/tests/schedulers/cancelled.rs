//! A change that was not begun is taken back; one that an executor has taken up is not; the two are told apart once.

use serde_json::{Value, json};
use wanwright_executors::scheduler::Patience;
use wanwright_nats::{Leases, lease};
use wanwright_schemas::control::Scope;
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::{CustomerId, Kind, Outcome, Reason};
use wanwright_simulator::{Faults, Refuse};
use wanwright_tests::level;

use crate::child::kill;
use crate::paused::pause;
use crate::world::{LIMIT, World};

const CANCEL: &str = "acme.demo.device.edge.cancel";

async fn vlan(world: &World, device: &str, vlan: u32) {
    let body = json!({ "settings": { "vlan": vlan } });
    world.send(&format!("acme.demo.device.{device}.change"), &body).await;
}

/// The device as the vendor has it.
async fn at_vendor(world: &World, device: &str) -> Option<Value> {
    let name = format!("acme.{device}");
    world.at_vendor().await.into_iter().find(|object| object["name"] == name.as_str())
}

fn code(outcome: &Outcome) -> Option<Reason> {
    outcome.refusal().map(|refusal| refusal.code)
}

async fn until_waiting(world: &World, customer: &CustomerId, device: &str) {
    let row = World::device_row(customer, device);
    let waits = async || Ok(world.table.get(&row).await?.is_some_and(|row| !row.is_done()));
    level::until("the order waits", LIMIT, waits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_never_reaches_the_vendor() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    let one = world.scheduler("one", Patience::default()).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    one.stop().await;
    vlan(&world, "edge", 7).await;
    until_waiting(&world, &acme, "edge").await;
    let outcome = world.ask(CANCEL, &json!({})).await;
    assert_eq!(code(&outcome), None, "{outcome:?}");
    assert!(world.is_done("acme").await.unwrap(), "its row is done when it is answered");
    let again = world.ask(CANCEL, &json!({})).await;
    assert_eq!(code(&again), Some(Reason::NothingToCancel));
    let records = world.records("acme").await;
    assert!(records.iter().any(|record| matches!(record.event, RunEvent::Cancelled { .. })), "{records:?}");

    // One that the vendor never had is gone, and its serial number is free.
    world.device(&acme, "new").await;
    until_waiting(&world, &acme, "new").await;
    world.send("acme.demo.device.new.cancel", &json!({})).await;
    let other = json!({ "site": "hq", "model": "edge-100", "serial": "ACME-NEW", "settings": { "vlan": 1 } });
    world.send("acme.demo.device.other.create", &other).await;
    let two = world.scheduler("two", Patience::default()).await;
    world.until_event(&acme, "other", "DeviceApplied").await;
    world.until_done("acme").await;
    let stats = world.devices().await;
    assert_eq!((stats.objects, stats.totals.creations, stats.totals.updates), (2, 2, 0));
    assert_eq!(at_vendor(&world, "edge").await.unwrap()["vlan"], 1);
    assert_eq!(at_vendor(&world, "new").await, None);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_not_cancelled_and_what_died_is_put_right() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    let one = world.process("one").await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    // The vendor does what it is asked for at once, and is long in saying so.
    world.faults(Faults { answer_delay_ms: 60_000, ..Faults::default() }).await;
    vlan(&world, "edge", 7).await;
    let changed = async || Ok(at_vendor(&world, "edge").await.is_some_and(|device| device["vlan"] == 7));
    level::until("the vendor has the change", LIMIT, changed).await.unwrap();
    let refused = world.ask(CANCEL, &json!({})).await;
    assert_eq!(code(&refused), Some(Reason::OrderRunning), "{refused:?}");
    kill(one).await;
    world.faults(Faults::default()).await;
    // Until the dead executor's lease has run out, nobody knows that it is dead.
    let cancelled = async || {
        let outcome = world.ask(CANCEL, &json!({})).await;
        let code = code(&outcome);
        assert!(matches!(code, None | Some(Reason::OrderRunning)), "{outcome:?}");
        Ok(code.is_none())
    };
    level::until("it is cancelled", LIMIT, cancelled).await.unwrap();
    let two = world.scheduler("two", Patience::default()).await;
    let restored = async || Ok(at_vendor(&world, "edge").await.is_some_and(|device| device["vlan"] == 1));
    level::until("the vendor has what it had", LIMIT, restored).await.unwrap();
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    two.stop().await;
}

/// The failure is of a generation that is not wanted any more, so the history does not tell of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_while_something_newer_was_asked_for_counts_as_tried() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    let one = world.scheduler("one", Patience::default()).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    let forbidden = Refuse { status: 403, ..Refuse::default() };
    world.faults(Faults { latency_ms: 1000, refuse: vec![forbidden], ..Faults::default() }).await;
    vlan(&world, "edge", 7).await;
    let leases = Leases::open(&world.nats, "a test").await.unwrap();
    let key = lease::key_of_target(&"simwan".parse().unwrap(), &acme, Kind::Device, "edge");
    let is_run = async |run: bool| Ok(leases.holder(&key).await?.is_some() == run);
    level::until("it is taken up", LIMIT, async || is_run(true).await).await.unwrap();
    // What is asked for now waits.
    pause(&world, &Scope::Customer(acme.clone()), true).await;
    vlan(&world, "edge", 8).await;
    level::until("it has ended", LIMIT, async || is_run(false).await).await.unwrap();
    assert_eq!(world.last_event(&acme, "edge").await, "DeviceChanged", "the failure is not this change's");
    world.faults(Faults::default()).await;
    world.send(CANCEL, &json!({})).await;
    pause(&world, &Scope::Customer(acme.clone()), false).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    assert_eq!(world.devices().await.totals.updates, 1, "nobody knows what the vendor has, so it is told");
    one.stop().await;
}

/// Whoever takes the lease of a target first: both ways, without a clock.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_the_target_decides() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    until_waiting(&world, &acme, "edge").await;
    let leases = Leases::open(&world.nats, "an executor").await.unwrap();
    let key = lease::key_of_target(&"simwan".parse().unwrap(), &acme, Kind::Device, "edge");
    let held = leases.take(&key).await.unwrap().unwrap();
    let refused = world.ask(CANCEL, &json!({})).await;
    assert_eq!(code(&refused), Some(Reason::OrderRunning));
    held.release().await.unwrap();
    world.send(CANCEL, &json!({})).await;
    // It is given back with the answer.
    assert!(leases.take(&key).await.unwrap().is_some());
    assert!(world.is_done("acme").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_cancels_at_once_leave_the_vendor_with_what_is_wanted() {
    const DEVICES: usize = 40;
    let world = World::new(20).await;
    let acme = world.customer("acme").await;
    let one = world.scheduler("one", Patience::default()).await;
    let name = |number: usize| format!("edge-{number}");
    for number in 0..DEVICES {
        world.device(&acme, &name(number)).await;
    }
    world.until_done("acme").await;
    let leases = &Leases::open(&world.nats, "a test").await.unwrap();
    let (world, acme) = (&world, &acme);
    let each = (0..DEVICES).map(|number| async move {
        vlan(world, &name(number), 9).await;
        // Some at once, some when an executor has taken the order up, some a few questions later.
        let key = lease::key_of_target(&"simwan".parse().unwrap(), acme, Kind::Device, &name(number));
        if number % 4 > 0 {
            let is_taken = async || Ok(leases.holder(&key).await?.is_some());
            level::until("it is taken up", LIMIT, is_taken).await.unwrap();
        }
        for _ in 0..(number % 4) * 3 {
            world.table.get(&World::device_row(acme, &name(number))).await.unwrap();
        }
        let outcome = world.ask(&format!("acme.demo.device.{}.cancel", name(number)), &json!({})).await;
        let code = code(&outcome);
        assert!(matches!(code, None | Some(Reason::OrderRunning | Reason::NothingToCancel)), "{outcome:?}");
        code.is_none()
    });
    let outcomes = futures::future::join_all(each).await;
    let settled = async || {
        let devices = world.at_vendor().await;
        let is_so = |(number, cancelled): (usize, &bool)| {
            let name = format!("acme.{}", name(number));
            let device = devices.iter().find(|device| device["name"] == name.as_str());
            device.is_some_and(|device| device["vlan"] == if *cancelled { 1 } else { 9 })
        };
        Ok(outcomes.iter().enumerate().all(is_so))
    };
    level::until("the vendor has what was decided", LIMIT, settled).await.unwrap();
    world.until_done("acme").await;
    let cancelled = outcomes.iter().filter(|cancelled| **cancelled).count();
    let updates = world.devices().await.totals.updates;
    println!("{cancelled} of {DEVICES} changes were cancelled; the vendor got {updates}");
    assert_eq!(updates as usize, DEVICES - cancelled, "what was cancelled never reached the vendor");
    one.stop().await;
}
