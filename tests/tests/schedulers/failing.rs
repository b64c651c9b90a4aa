//! Whose failure it was decides what becomes of an order.

use serde_json::json;
use wanwright_executors::scheduler::Patience;
use wanwright_nats::Budgets;
use wanwright_schemas::run::RunEvent;
use wanwright_simulator::{Faults, Refuse};
use wanwright_tests::level;

use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_the_vendor_forbids_fails_and_can_be_retried() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    let forbidden = Refuse { method: Some("POST".to_owned()), status: 403, ..Refuse::default() };
    world.faults(Faults { refuse: vec![forbidden], ..Faults::default() }).await;
    let scheduler = world.scheduler("one", Patience { failures: 3, ..Patience::default() }).await;
    world.device(&acme, "edge").await;
    world.until_event(&acme, "edge", "DeviceFailed").await;
    world.faults(Faults::default()).await;
    world.send("acme.demo.device.edge.retry", &json!({})).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_down_uses_up_nobodys_tries() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    world.faults(Faults { down: true, ..Faults::default() }).await;
    // Without the breaker they would all have failed within seven seconds.
    let scheduler = world.scheduler("one", Patience { failures: 4, ..Patience::default() }).await;
    let devices: Vec<String> = (0..15).map(|number| format!("edge-{number}")).collect();
    for device in &devices {
        world.device(&acme, device).await;
    }
    let budgets = Budgets::open(&world.nats).await.unwrap();
    // Open for the second time: a call has been tried, and failed.
    let twice = async || {
        let record = budgets.get("simwan.default").await?;
        let record =
            record.and_then(|stored| serde_json::from_slice::<serde_json::Value>(&stored.value).ok());
        Ok(record.is_some_and(|record| record["breaker"]["times"].as_u64() >= Some(2)))
    };
    level::until("the breaker is open", LIMIT, twice).await.unwrap();
    world.faults(Faults::default()).await;
    for device in &devices {
        world.until_event(&acme, device, "DeviceApplied").await;
    }
    let records = world.records("acme").await;
    assert!(!records.iter().any(|record| matches!(record.event, RunEvent::Failed { .. })), "{records:?}");
    let tries = records.iter().filter(|record| matches!(record.event, RunEvent::Started { .. })).count();
    println!("{tries} tries for {} devices of a vendor that was down", devices.len());
    assert_eq!(world.devices().await.totals.creations, 15);
    scheduler.stop().await;
}
