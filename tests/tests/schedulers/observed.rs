//! Whoever comes after an executor that died looks at the vendor before it asks for anything.

use jiff::Timestamp;
use wanwright_executors::scheduler::Patience;
use wanwright_simulator::Faults;
use wanwright_tests::level;

use crate::child::kill;
use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_after_a_death_is_a_look() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    // The device is made at once, and the executor never hears of it.
    world.faults(Faults { answer_delay_ms: 30_000, ..Faults::default() }).await;
    let first = world.process("one").await;
    world.device(&acme, "edge").await;
    let is_made = async || Ok(world.devices().await.objects == 1);
    level::until("the device at the vendor", LIMIT, is_made).await.unwrap();
    kill(first).await;
    let killed = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
    world.faults(Faults::default()).await;
    let second = world.scheduler("two", Patience::default()).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    world.until_done("acme").await;
    let mut after = world.calls_heard().await;
    after.retain(|call| call.at_ms >= killed);
    let methods: Vec<&str> = after.iter().map(|call| call.method.as_str()).collect();
    assert_eq!(methods.first(), Some(&"GET"), "{after:?}");
    assert!(after[0].path.contains("acme.edge"), "it looks for the device by its name: {after:?}");
    assert!(!methods.contains(&"POST"), "what is there is not asked for again: {after:?}");
    assert_eq!(world.devices().await.totals.creations, 1);
    second.stop().await;
}
