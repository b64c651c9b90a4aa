//! What waits and why: paused vendors, open breakers, superseded generations, dead letters and what became of them.

use async_nats::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use wanwright_nats::dead::{Settled, Settlement};
use wanwright_projections::ReadModel;
use wanwright_projections::models::{OperationRow, WaitingFor};
use wanwright_projections::read::{self, Filter, Page};
use wanwright_schemas::control::{ControlRequest, Scope};
use wanwright_schemas::run::{Generations, RUN_VERSION, RunEvent, RunRecord, Wait};
use wanwright_schemas::{Reason, Target, headers, subjects};

use crate::given::*;
use crate::servers::{World, until};

async fn run(world: &World, event: RunEvent) {
    let record = RunRecord {
        v: RUN_VERSION,
        time: Timestamp::now(),
        customer: id("acme"),
        vendor: id("simwan"),
        order: id(&order(1)),
        target: Target::Device(id("ap-1")),
        event,
    };
    let subject = subjects::run(&record.customer, record.order, record.event.word());
    world.publish((subject, serde_json::to_vec(&record).unwrap())).await;
}

async fn operation(world: &World) -> Option<OperationRow> {
    read::operations(&world.pool, &Filter::default(), &Page::default()).await.unwrap().rows.pop()
}

/// Waits until the only operation waits for this.
async fn waits_for(world: &World, what: Option<WaitingFor>) -> OperationRow {
    until(&format!("{what:?}"), async || operation(world).await.is_some_and(|row| row.waiting_for == what))
        .await;
    operation(world).await.unwrap()
}

async fn control(world: &World, scope: &str, name: &str, paused: bool, until: Option<Timestamp>) {
    let scope = Scope::parse(scope, name).unwrap();
    let request = ControlRequest { reason: "maintenance".to_owned(), until };
    let control = request.judge(scope, id("anna"), paused, Timestamp::UNIX_EPOCH).unwrap();
    let subject = format!("$KV.controls.{}", control.scope.key());
    world.publish((subject, serde_json::to_vec(&control).unwrap())).await;
}

async fn budget(world: &World, breaker: Option<i64>) {
    let now = Timestamp::now().as_microsecond();
    let open = breaker.map(
        |seconds| json!({ "since": now, "until": now + seconds * 1_000_000, "reason": "503", "times": 1 }),
    );
    let record = json!({ "v": 1, "limits": { "all": { "due": now, "interval": 20_000, "burst": 25 } },
        "takers": { "one": now }, "breaker": open });
    world.publish(("$KV.budgets.simwan.default".to_owned(), record.to_string().into_bytes())).await;
}

#[tokio::test]
async fn an_order_says_what_it_waits_for() {
    let world = World::new().await;
    let running = world.project();
    run(&world, RunEvent::Queued { intent: "apply".into(), generation: 11 }).await;
    waits_for(&world, Some(WaitingFor::Lane)).await;
    run(&world, RunEvent::Waiting { why: Wait::Budget }).await;
    waits_for(&world, Some(WaitingFor::Budget)).await;
    budget(&world, Some(600)).await;
    let held = waits_for(&world, Some(WaitingFor::Breaker)).await;
    assert!(held.next_at.is_some_and(|at| at > Timestamp::now()));
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    control(&world, "customer", "acme", true, Some(end)).await;
    let paused = waits_for(&world, Some(WaitingFor::Paused)).await;
    assert_eq!(paused.next_at.map(|at| at.as_second()), Some(end.as_second()));
    control(&world, "vendor", "simwan", true, None).await;
    until("the vendor's pause", async || operation(&world).await.unwrap().next_at.is_none()).await;
    let why: Vec<Option<String>> = sqlx::query_scalar("SELECT waiting_because FROM operations_now")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(why, [Some("vendor simwan paused by anna: maintenance".to_owned())]);
    let budgets = read::vendor_budgets(&world.pool).await.unwrap();
    let [simwan] = budgets.as_slice() else { panic!("{budgets:?}") };
    assert_eq!((simwan.waiting, simwan.breaker.as_str(), simwan.paused), (1, "open", true));
    assert_eq!((simwan.limits[0].per_second, simwan.processes), (50.0, Some(1)));
    control(&world, "customer", "acme", false, None).await;
    control(&world, "vendor", "simwan", false, None).await;
    budget(&world, None).await;
    waits_for(&world, Some(WaitingFor::Budget)).await;
    run(
        &world,
        RunEvent::Call {
            method: "PUT".into(),
            path: "/v1/devices/1".into(),
            status: 200,
            millis: 3,
            waited_millis: 0,
            attempt: 1,
            shared: None,
        },
    )
    .await;
    let replaced = Some(Generations { from: 2, to: 10 });
    run(&world, RunEvent::Started { attempt: 1, executor: "one".into(), replaced }).await;
    let started = waits_for(&world, None).await;
    assert_eq!((started.replaced_from, started.replaced_to), (Some(2), Some(10)));
    let superseded: Vec<(i64, i64)> =
        sqlx::query_as("SELECT generation, replaced_by FROM superseded_generations ORDER BY generation")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(superseded, (2..=10).map(|generation| (generation, 11)).collect::<Vec<_>>());
    let budgets = read::vendor_budgets(&world.pool).await.unwrap();
    assert_eq!(
        (budgets[0].used_last_minute, budgets[0].running, budgets[0].breaker.as_str()),
        (1, 1, "closed")
    );
    running.stop().await;
}

#[tokio::test]
async fn what_became_of_a_letter_is_told_by_the_stream() {
    let world = World::new().await;
    let mut head = HeaderMap::new();
    head.insert(headers::DEAD_ROW, "wan.order.simwan.acme.device.ap-1");
    head.insert(headers::DEAD_SUBJECT, "wan.order.simwan.acme.device.ap-1");
    head.insert(headers::DEAD_ORDER, order(1).as_str());
    let letter = (subjects::dead("order", Reason::RunDied), b"{}".to_vec());
    let dropped = world.publish_with(head.clone(), letter.clone()).await;
    let open = world.publish_with(head, letter).await;
    let running = world.project();
    let letters = async |attention| {
        let filter = Filter { customer: Some(id("acme")), attention, ..Filter::default() };
        read::dead_letters(&world.pool, &filter, &Page::default()).await.unwrap().rows
    };
    until("both letters", async || letters(true).await.len() == 2).await;
    let note = Settled {
        letter: dropped,
        how: Settlement::Dropped,
        by: "anna".to_owned(),
        reason: Some("a test".to_owned()),
        time: Timestamp::now(),
    };
    world.publish((subjects::dead_settled(dropped), serde_json::to_vec(&note).unwrap())).await;
    // Neither a note about nothing nor one that is no note stops the reader, or makes a row.
    let nothing = Settled { letter: 999, ..note };
    world.publish((subjects::dead_settled(999), serde_json::to_vec(&nothing).unwrap())).await;
    world.publish((subjects::dead_settled(open), b"dropped".to_vec())).await;
    until("one is settled", async || letters(true).await.len() == 1).await;
    let all = letters(false).await;
    assert_eq!(all.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [open, dropped]);
    assert_eq!((all[1].settled.as_deref(), all[1].settled_by.as_deref()), (Some("dropped"), Some("anna")));
    assert_eq!((all[1].payload.as_str(), all[0].payload.as_str()), ("", "{}"));
    assert_eq!(all[0].order_id, Some(id(&order(1))));
    running.stop().await;
    let before = letters(false).await;
    assert_eq!(wanwright_projections::restart(&world.pool, ReadModel::DeadLetters, "DEAD").await.unwrap(), 2);
    let mut again = world.project();
    again.ready().await;
    assert_eq!(letters(false).await, before, "the stream tells all of it");
    again.stop().await;
}
