//! A run begins when the vendor's budget has room for its calls, and says so while it waits.

use wanwright_executors::scheduler::Patience;
use wanwright_schemas::run::{RunEvent, Wait};

use crate::world::World;

/// More than are served in the time that a call may wait.
const DEVICES: usize = 36;

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_the_budget_before_they_begin_and_no_call_waits_in_vain() {
    let world = World::new(0).await;
    let text = world.folder("vendor.toml");
    let slow = text.replace("per_second = 500\nburst = 50", "per_second = 1\nburst = 1");
    assert_ne!(text, slow, "the folder has changed");
    world.write_folder("vendor.toml", &slow);
    let acme = world.customer("acme").await;
    for number in 0..DEVICES {
        world.device(&acme, &format!("edge-{number:02}")).await;
    }
    let scheduler = world.scheduler("one", Patience::default()).await;
    world.until_done("acme").await;
    scheduler.stop().await;
    let messages = world.record_messages("acme").await;
    for records in &messages {
        let words: Vec<&str> = records.iter().map(|record| record.event.word()).collect();
        // Each call is answered at once. What a run waited before that is no reason for another message.
        assert!(
            !words.contains(&"started") || words.ends_with(&["started", "call", "succeeded"]),
            "{words:?}"
        );
    }
    let begun = messages.iter().flatten().filter(|record| record.event.word() == "started").count();
    assert_eq!(begun, DEVICES);
    let records: Vec<_> = messages.into_iter().flatten().collect();
    let waited = |record: &&wanwright_schemas::run::RunRecord| {
        matches!(record.event, RunEvent::Waiting { why: Wait::Budget })
    };
    let waiting = records.iter().filter(waited).count();
    assert!(waiting >= DEVICES / 4, "{waiting} of {DEVICES} runs said that they wait for the budget");
    let calls = records.iter().filter_map(|record| match record.event {
        RunEvent::Call { waited_millis, .. } => Some(waited_millis),
        _ => None,
    });
    let longest = calls.max().unwrap();
    assert!(longest < 25_000, "a call that had begun waited {longest} ms");
    for record in &records {
        assert!(!matches!(record.event, RunEvent::Retrying { .. }), "no turn in time: {record:?}");
    }
    let stats = world.devices().await;
    assert_eq!(stats.totals.creations, u64::try_from(DEVICES).unwrap());
}
