//! A run begins when the vendor's budget has room for its calls, and says so while it waits.

use serde_json::json;
use wanwright_executors::scheduler::Patience;
use wanwright_nats::{Budgets, topology};
use wanwright_schemas::Reason;
use wanwright_schemas::run::{RunEvent, Wait};
use wanwright_simulator::Faults;
use wanwright_tests::level;

use crate::world::{LIMIT, World};

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

/// Its calls would wait for longer than Terraform's providers do; who asked for a dry run is told before.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_admitted_as_runs_are_or_says_what_it_waited_for() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    let text = world.folder("vendor.toml");
    let slow =
        text.replace("[budget]\nper_second = 500\nburst = 50", "[budget.limits.calls]\nper_minute = 1");
    assert_ne!(text, slow, "the folder has changed");
    world.write_folder("vendor.toml", &slow);
    let scheduler = world.scheduler("one", Patience::default()).await;
    world.device(&acme, "edge").await;
    let attempts = world.nats.js.get_key_value(topology::ATTEMPTS).await.unwrap();
    let row = World::device_row(&acme, "edge");
    let begun = async || Ok(attempts.get(&row).await?.is_some());
    level::until("a run is admitted, and its call waits", LIMIT, begun).await.unwrap();
    let would = world.preview("acme.demo.site.hq.change", &json!({ "lan": ["10.9.0.0/24"] })).await;
    let trouble = would.trouble.unwrap();
    assert_eq!(trouble.code, Reason::PreviewUnavailable);
    assert!(trouble.message.contains("had no room for its calls within 25 s"), "{trouble}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_previewed_at_a_vendor_where_calls_only_fail() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    world.faults(Faults { down: true, ..Faults::default() }).await;
    let breaker = "\n[breaker]\nfailures = 2\nopen_seconds = 60\nlongest_open_seconds = 60\n";
    world.write_folder("vendor.toml", &(world.folder("vendor.toml") + breaker));
    let scheduler = world.scheduler("one", Patience::default()).await;
    for number in 0..2 {
        world.device(&acme, &format!("edge-{number}")).await;
    }
    let budgets = Budgets::open(&world.nats).await.unwrap();
    let open = async || {
        let record = budgets.get("simwan.default").await?;
        let record = record.map(|stored| serde_json::from_slice::<serde_json::Value>(&stored.value));
        Ok(record.transpose()?.is_some_and(|record| !record["breaker"].is_null()))
    };
    level::until("the breaker is open", LIMIT, open).await.unwrap();
    let would = world.preview("acme.demo.site.hq.change", &json!({ "lan": ["10.9.0.0/24"] })).await;
    let trouble = would.trouble.unwrap();
    assert_eq!(trouble.code, Reason::PreviewUnavailable);
    assert!(trouble.message.contains("is left alone until"), "{trouble}");
    scheduler.stop().await;
}
