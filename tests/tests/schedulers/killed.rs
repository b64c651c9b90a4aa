//! Three executors share the customers; one is killed; every target is done exactly once.

use std::collections::{BTreeMap, BTreeSet};

use wanwright_schemas::OrderId;
use wanwright_schemas::run::{RunEvent, RunRecord};
use wanwright_tests::level;

use crate::child::kill;
use crate::world::{LIMIT, World};

const CUSTOMERS: usize = 12;
const DEVICES: usize = 30;

/// Who is at an order, as its records tell it. A second one that begins before the first has ended, or was found dead,
/// is two runs of one target at once.
fn one_at_a_time(records: &[RunRecord]) -> BTreeMap<String, BTreeSet<String>> {
    let mut at: BTreeMap<OrderId, Option<String>> = BTreeMap::new();
    let mut customers_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in records {
        let now = at.entry(record.order).or_default();
        match &record.event {
            RunEvent::Started { executor, .. } => {
                assert_eq!(*now, None, "{executor} began {} too", record.target);
                *now = Some(executor.clone());
                customers_of.entry(executor.clone()).or_default().insert(record.customer.to_string());
            }
            // It may have died before it could say that it began, or after it said that it had ended.
            RunEvent::Unknown { executor, .. } => assert!(now.take().is_none_or(|at| at == *executor)),
            RunEvent::Succeeded { .. } | RunEvent::Retrying { .. } | RunEvent::Failed { .. } => *now = None,
            _ => {}
        }
    }
    assert!(at.values().all(Option::is_none), "runs that never ended");
    customers_of
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_is_done_once_whoever_dies() {
    let world = World::new(40).await;
    let mut customers = Vec::new();
    for number in 0..CUSTOMERS {
        customers.push(world.customer(&format!("customer-{number}")).await);
    }
    let mut processes = Vec::new();
    for name in ["one", "two", "three"] {
        processes.push(world.process(name).await);
    }
    let has = async |least: u64| Ok(world.devices().await.objects >= least);
    let create = async {
        for number in 0..DEVICES {
            for customer in &customers {
                world.device(customer, &format!("edge-{number}")).await;
            }
        }
    };
    let first = processes.remove(0);
    let killed = async {
        level::until("a part of the devices", LIMIT, async || has(60).await).await.unwrap();
        kill(first).await;
        world.devices().await.objects
    };
    let ((), at_kill) = tokio::join!(create, killed);
    let all = u64::try_from(CUSTOMERS * DEVICES).unwrap();
    level::until("all devices", LIMIT, async || has(all).await).await.unwrap();
    world.until_done("*").await;
    let stats = world.devices().await;
    assert!(at_kill < all, "the kill came too late to say anything");
    assert_eq!((stats.objects, stats.totals.creations), (all, all));
    assert!(stats.names.values().all(|name| name.creations == 1), "made twice");
    assert_eq!(stats.totals.concurrent_creations, 0);
    let records = world.records("*").await;
    let customers_of = one_at_a_time(&records);
    assert_eq!(customers_of.len(), 3, "all three worked: {customers_of:?}");
    let unknown = records.iter().filter(|record| matches!(record.event, RunEvent::Unknown { .. })).count();
    let shared = customers_of["two"].intersection(&customers_of["three"]).count();
    println!(
        "{at_kill} of {all} made at the kill; {unknown} runs died and were looked at first; {shared} shared"
    );
    let moved = |customer: &&String| {
        customers_of["two"].contains(*customer) || customers_of["three"].contains(*customer)
    };
    assert!(customers_of["one"].iter().any(|customer| moved(&customer)), "{customers_of:?}");
    assert_eq!(shared, 0, "the living ones did not fight for customers: {customers_of:?}");
    for process in processes {
        kill(process).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tight_budget_is_kept_whoever_dies() {
    const PER_SECOND: u32 = 20;
    let world = World::tight(PER_SECOND, 6).await;
    let mut customers = Vec::new();
    for number in 0..4 {
        customers.push(world.customer(&format!("customer-{number}")).await);
    }
    let mut processes = Vec::new();
    for name in ["one", "two", "three"] {
        processes.push(world.process(name).await);
    }
    for number in 0..25 {
        for customer in &customers {
            world.device(customer, &format!("edge-{number}")).await;
        }
    }
    // Each dies with slots that it has taken, and another one takes its place.
    for (least, name) in [(15, "four"), (35, "five"), (55, "six")] {
        let has = async || Ok(world.devices().await.objects >= least);
        level::until("a part of the devices", LIMIT, has).await.unwrap();
        kill(processes.remove(0)).await;
        processes.push(world.process(name).await);
    }
    for customer in &customers {
        world.until_done(customer.as_str()).await;
    }
    let stats = world.devices().await;
    assert_eq!((stats.objects, stats.totals.creations), (100, 100));
    assert_eq!(world.above_limit().await, 0);
    // It was the budget that calls waited for.
    let records = world.records("*").await;
    let waits = records.iter().filter_map(|record| match record.event {
        RunEvent::Call { waited_millis, .. } => Some(waited_millis),
        _ => None,
    });
    let waits: Vec<u64> = waits.collect();
    let waited = waits.iter().filter(|millis| **millis > 1000 / u64::from(PER_SECOND)).count();
    println!("{} calls, {waited} of them waited for the budget", waits.len());
    assert!(waits.len() > 60 && waited > waits.len() / 2, "{waited} of {} waited", waits.len());
    for process in processes {
        kill(process).await;
    }
}
