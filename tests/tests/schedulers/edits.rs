//! A hundred edits of one device in a second are two or three changes at its vendor.

use std::time::Instant;

use serde_json::json;
use wanwright_executors::scheduler::Patience;
use wanwright_nats::{load_subject, topology};
use wanwright_schemas::run::{Generations, RunEvent};
use wanwright_tests::level;

use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_edits_are_few_runs_and_the_last_one_wins() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    let one = world.scheduler("one", Patience::default()).await;
    let two = world.scheduler("two", Patience::default()).await;
    world.device(&acme, "edge").await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    let began = Instant::now();
    for vlan in 101..=200 {
        let body = json!({ "settings": { "vlan": vlan } });
        world.send("acme.demo.device.edge.change", &body).await;
    }
    let took = began.elapsed();
    let is_last = async || {
        let devices = world.at_vendor().await;
        Ok(devices.len() == 1 && devices[0]["vlan"] == 200)
    };
    level::until("the vendor has the last edit", LIMIT, is_last).await.unwrap();
    world.until_done("acme").await;
    let updates = world.devices().await.totals.updates;
    // One at once, and one for each second in which edits came.
    assert!(updates <= 2 + took.as_secs() + 1, "{updates} changes at the vendor for edits within {took:?}");
    let mut brought = Vec::new();
    let mut replaced = Vec::new();
    for record in world.records("acme").await {
        match record.event {
            RunEvent::Queued { generation, .. } => brought.push((record.order, generation)),
            RunEvent::Started { replaced: Some(range), .. } => replaced.push((record.order, range)),
            RunEvent::Unknown { .. } => panic!("every run has ended: {record:?}"),
            _ => {}
        }
    }
    // Each generation was brought by a run or taken the place of, and none both.
    let mut covered = vec![1];
    for (order, range) in &replaced {
        let generation = brought.iter().find(|(of, _)| of == order).unwrap().1;
        assert_eq!(range.to + 1, generation, "{replaced:?}");
        covered.extend(range.from..=generation);
    }
    let superseded: u64 = replaced.iter().map(|(_, range): &(_, Generations)| range.count()).sum();
    let runs = u64::try_from(101).unwrap() - 1 - superseded;
    println!(
        "100 edits in {took:?}: {updates} changes at the vendor, {superseded} generations superseded, {runs} runs"
    );
    assert_eq!(runs, updates, "{replaced:?}");
    if took.as_secs() == 0 {
        assert!(updates <= 3 && superseded >= 97, "{updates} {superseded}");
    }
    assert!(covered.contains(&101));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_left_nothing_open_has_nothing_to_settle() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    let one = world.scheduler("one", Patience::default()).await;
    world.device(&acme, "edge").await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    let words: Vec<&str> = world.records("acme").await.iter().map(|record| record.event.word()).collect();
    assert!(words.ends_with(&["started", "call", "succeeded"]), "{words:?}");
    let journal =
        load_subject(&world.nats, topology::EFFECTS, "wan.effect.acme.device.edge", 0).await.unwrap();
    assert_eq!(journal.len(), 2, "before and after; nothing was open that had to be settled");
    one.stop().await;
}
