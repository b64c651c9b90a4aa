//! What waits and why: paused vendors, open breakers, superseded generations, dead letters and what became of them.

use async_nats::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use wanwright_nats::dead::{Settled, Settlement};
use wanwright_projections::ReadModel;
use wanwright_projections::models::{
    DeadLetterRow, OperationRow, QueueRow, RolloutCustomer, VendorBudget, WaitingFor,
};
use wanwright_projections::read::{self, Filter, Page};
use wanwright_schemas::control::{ControlRequest, Scope};
use wanwright_schemas::rollout::RolloutState;
use wanwright_schemas::run::{Generations, RUN_VERSION, RunEvent, RunRecord, SharedCall, Wait};
use wanwright_schemas::{Reason, Target, headers, subjects};

use crate::given::*;
use crate::servers::{World, until};

async fn run(world: &World, event: RunEvent) {
    run_of(world, "acme", 1, event).await;
}

/// A record of a customer's order.
async fn run_of(world: &World, customer: &str, number: u8, event: RunEvent) {
    let record = RunRecord {
        v: RUN_VERSION,
        time: Timestamp::now(),
        customer: id(customer),
        vendor: id("simwan"),
        order: id(&order(number)),
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
    budget_of(world, "default", breaker).await;
}

/// The record of an account, whose breaker is open for so many seconds.
async fn budget_of(world: &World, account: &str, breaker: Option<i64>) {
    let now = Timestamp::now().as_microsecond();
    let open = breaker.map(
        |seconds| json!({ "since": now, "until": now + seconds * 1_000_000, "reason": "503", "times": 1 }),
    );
    let record = json!({ "v": 1, "limits": { "all": { "due": now, "interval": 20_000, "burst": 25 } },
        "takers": { "one": now }, "breaker": open });
    world.publish((format!("$KV.budgets.simwan.{account}"), record.to_string().into_bytes())).await;
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

fn call(attempt: u32, status: u16, shared: Option<SharedCall>) -> RunEvent {
    let (method, path) = ("GET".to_owned(), "/v1/devices".to_owned());
    RunEvent::Call { method, path, status, millis: 3, waited_millis: 0, attempt, shared }
}

#[tokio::test]
async fn each_account_of_a_vendor_has_its_own_breaker_and_its_own_queue() {
    let world = World::new().await;
    let mut writer = Writer::default();
    // Two customers at the vendor's own account, one of them by an account at another vendor; and two with one budget.
    let account = |customer: &str, vendor: &str| {
        let spec = json!({"accounts": {vendor: {"credential": customer, "budget": "shared"}}});
        vec![about("customer", customer, "CustomerChanged", json!({"generation": 1, "spec": spec}))]
    };
    for (customer, events) in [
        ("acme", account("acme", "simwan")),
        ("globex", account("globex", "simwan")),
        ("initech", account("initech", "versa")),
        ("umbrella", vec![site_created("oslo-01")]),
    ] {
        world.publish(writer.next(customer, &events)).await;
    }
    let mut running = world.project();
    running.ready().await;
    for (number, customer) in (1..).zip(["acme", "globex", "initech", "umbrella"]) {
        run_of(&world, customer, number, RunEvent::Queued { intent: "apply".into(), generation: 1 }).await;
    }
    run_of(&world, "globex", 2, RunEvent::Started { attempt: 1, executor: "one".into(), replaced: None })
        .await;
    let waits = async || {
        let sql =
            "SELECT customer || ' ' || coalesce(waiting_for, '-') || ' ' || coalesce(waiting_because, '-')
                   FROM operations_now ORDER BY customer";
        sqlx::query_scalar::<_, String>(sql).fetch_all(&world.pool).await.unwrap()
    };
    for (open, closed, wanted) in [
        ("shared", "default", ["acme breaker 503", "globex - -", "initech lane -", "umbrella lane -"]),
        ("default", "shared", ["acme lane -", "globex - -", "initech breaker 503", "umbrella breaker 503"]),
    ] {
        budget_of(&world, closed, None).await;
        budget_of(&world, open, Some(600)).await;
        until(&format!("only {open} is held back"), async || waits().await == wanted).await;
    }
    // One call for two orders is one call.
    let shared = |call| Some(SharedCall { call: uuid::Uuid::from_u128(call), orders: 2 });
    for (customer, number, event) in [
        ("acme", 1, call(1, 200, shared(7))),
        ("globex", 2, call(1, 200, shared(7))),
        ("globex", 2, call(1, 200, None)),
        ("initech", 3, call(1, 503, None)),
        ("initech", 3, call(2, 200, None)),
        ("umbrella", 4, call(1, 200, shared(8))),
    ] {
        run_of(&world, customer, number, event).await;
    }
    let standing = async || {
        let rows = read::vendor_budgets(&world.pool).await.unwrap();
        let of = |row: &VendorBudget| {
            let counts = [row.waiting, row.running, row.retrying, row.used_last_minute];
            (row.account.clone(), row.breaker.clone(), counts)
        };
        rows.iter().map(of).collect::<Vec<_>>()
    };
    let wanted = [("default", "open", [2, 0, 0, 3]), ("shared", "closed", [1, 1, 0, 2])]
        .map(|(account, breaker, counts)| (account.to_owned(), breaker.to_owned(), counts));
    until(&format!("{wanted:?}"), async || standing().await == wanted).await;
    let tries: Vec<(i64, i32)> = sqlx::query_as(
        "SELECT attempt, status FROM run_log WHERE customer = 'initech' AND what = 'call' ORDER BY sequence",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(tries, [(1, 503), (2, 200)]);
    // A paused vendor is told of though nobody ever called it.
    control(&world, "vendor", "versa", true, None).await;
    until("the paused vendor's row", async || standing().await.len() == 3).await;
    running.stop().await;
}

#[tokio::test]
async fn what_has_not_ended_is_counted_by_customer_and_vendor() {
    let world = World::new().await;
    let mut running = world.project();
    running.ready().await;
    let queued = || RunEvent::Queued { intent: "apply".into(), generation: 1 };
    let started = || RunEvent::Started { attempt: 1, executor: "one".into(), replaced: None };
    let at = |second| Timestamp::from_second(second).unwrap();
    let retrying = |code, second| RunEvent::Retrying {
        attempt: 1,
        code,
        message: "not now".into(),
        at: at(second),
        usage: None,
    };
    for (customer, number, events) in [
        ("acme", 1, vec![queued()]),
        ("acme", 2, vec![queued(), RunEvent::Waiting { why: Wait::Budget }]),
        ("acme", 3, vec![queued(), started()]),
        ("acme", 4, vec![queued(), retrying(Reason::VendorBusy, 4_000_000_002)]),
        ("acme", 5, vec![queued(), retrying(Reason::VendorBusy, 4_000_000_001)]),
        ("acme", 6, vec![queued(), retrying(Reason::Network, 4_000_000_003)]),
        ("acme", 7, vec![started(), RunEvent::Unknown { attempt: 1, executor: "one".into() }]),
        ("acme", 8, vec![started(), RunEvent::Succeeded { calls: 1, millis: 1, usage: None }]),
        ("globex", 9, vec![queued()]),
        ("initech", 10, vec![started(), RunEvent::failed(Reason::VendorRefused, "no")]),
    ] {
        for event in events {
            run_of(&world, customer, number, event).await;
        }
    }
    let queue =
        async |filter: Filter| read::queue(&world.pool, &filter, &Page::default()).await.unwrap().rows;
    let all = async || queue(Filter::default()).await;
    let is =
        |row: &QueueRow, counts: [u64; 4]| [row.waiting, row.running, row.retrying, row.unknown] == counts;
    until("both customers", async || {
        let rows = all().await;
        matches!(&rows[..], [acme, globex] if is(acme, [2, 1, 3, 1]) && is(globex, [1, 0, 0, 0]))
    })
    .await;
    let [acme, globex] = all().await.try_into().unwrap();
    let reasons = [(WaitingFor::Budget, 1), (WaitingFor::Retry, 3), (WaitingFor::Lane, 1)];
    assert_eq!((acme.customer.as_str(), acme.vendor.as_str()), ("acme", "simwan"));
    assert_eq!(acme.waiting_for, reasons.into());
    assert_eq!(acme.retrying_after, [("Network".to_owned(), 1), ("VendorBusy".to_owned(), 2)].into());
    assert_eq!((acme.next_at, globex.next_at), (Some(at(4_000_000_001)), None));
    assert!(globex.retrying_after.is_empty());
    // What is paused says so here as well.
    control(&world, "customer", "globex", true, None).await;
    until("globex is paused", async || all().await[1].waiting_for == [(WaitingFor::Paused, 1)].into()).await;
    let of = Filter { customer: Some(id("globex")), vendor: Some("simwan".to_owned()), ..Filter::default() };
    assert_eq!(queue(of).await.len(), 1);
    assert_eq!(queue(Filter { vendor: Some("versa".to_owned()), ..Filter::default() }).await, []);
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
    let of_vendor = async |vendor: Option<&str>| {
        let filter = Filter { vendor: vendor.map(str::to_owned), ..Filter::default() };
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
    // A command is about no vendor.
    world.publish((subjects::dead("command", Reason::BadSubject), b"{}".to_vec())).await;
    until("the command's letter", async || of_vendor(None).await.len() == 3).await;
    let sequences = |rows: Vec<DeadLetterRow>| rows.iter().map(|row| row.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(of_vendor(Some("simwan")).await), [open, dropped]);
    assert!(of_vendor(Some("versa")).await.is_empty());
    running.stop().await;
    let before = letters(false).await;
    assert_eq!(wanwright_projections::restart(&world.pool, ReadModel::DeadLetters, "DEAD").await.unwrap(), 3);
    let mut again = world.project();
    again.ready().await;
    assert_eq!(letters(false).await, before, "the stream tells all of it");
    again.stop().await;
}

#[tokio::test]
async fn a_batch_looks_its_rows_up_and_reads_no_table_whole() {
    let world = World::new().await;
    let running = world.project();
    run(&world, RunEvent::Queued { intent: "apply".into(), generation: 1 }).await;
    until("the operation", async || operation(&world).await.is_some()).await;
    sqlx::query(
        "INSERT INTO operations
         SELECT (jsonb_populate_record(o, jsonb_build_object('order_id', gen_random_uuid()))).*
         FROM operations o, generate_series(1, 20000)",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    for sequence in 1..=10_i64 {
        run(&world, RunEvent::Waiting { why: Wait::Budget }).await;
        let waited = "SELECT sequence > $2 FROM operations WHERE customer = 'acme' AND order_id = $1::uuid";
        until("the record's row", async || {
            let asked = sqlx::query_scalar(waited).bind(order(1)).bind(sequence);
            asked.fetch_one(&world.pool).await.unwrap()
        })
        .await;
    }
    running.stop().await;
    // What a connection read is told when it ends at the latest.
    let options = world.pool.connect_options();
    world.pool.close().await;
    let asked = sqlx::PgPool::connect_with((*options).clone()).await.unwrap();
    let read: i64 =
        sqlx::query_scalar("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'operations'")
            .fetch_one(&asked)
            .await
            .unwrap();
    assert!(read < 20_000, "{read} rows were read in passing");
}

#[tokio::test]
async fn a_rollout_has_a_row_and_each_of_its_customers_as_well() {
    let world = World::new().await;
    let running = world.project();
    let assigned = |version: u32| {
        let fields = json!({"generation": 2, "template": {"version": version, "digest": "5f"}, "rollout": 3});
        vec![about("site", "oslo-01", "SiteTemplateAssigned", fields)]
    };
    let mut writer = Writer::default();
    let created = vec![site_created("oslo-01")];
    for (customer, events) in [
        ("waits", vec![created.clone(), vec![site_applied("oslo-01", 1)]]),
        ("progresses", vec![created.clone(), vec![site_applied("oslo-01", 1)], assigned(2)]),
        ("has", vec![created.clone(), assigned(2), vec![site_applied("oslo-01", 2)]]),
        ("failed", vec![created.clone(), assigned(2), vec![site_failed("oslo-01", 2)]]),
        // What fails once the version is there is no failure of it.
        (
            "later",
            vec![
                created.clone(),
                assigned(2),
                vec![site_applied("oslo-01", 2)],
                vec![site_failed("oslo-01", 2)],
            ],
        ),
        ("other", vec![created, assigned(1)]),
    ] {
        for events in events {
            world.publish(writer.next(customer, &events)).await;
        }
    }
    let record = json!({"v": 1, "vendor": "simwan", "number": 3, "from": 1, "to": 2, "digest": "5f",
        "waves": {"canaries": ["has"], "steps": [50, 100], "max_failures": 1, "at_once": 20}, "state": "stopped",
        "why": "1 of 5 stacks failed", "wave": 1, "counts": {"customers": 5, "stacks": 5, "waiting": 1,
        "progressing": 1, "applied": 1, "failed": 1, "held": 0, "taken_back": 1}, "by": "olga",
        "began": "2026-11-21T07:00:00Z", "time": "2026-11-21T08:00:00Z"});
    world.publish(("$KV.rollouts.simwan".to_owned(), record.to_string().into_bytes())).await;
    until("the row", async || !read::rollouts(&world.pool).await.unwrap().is_empty()).await;
    let row = read::rollouts(&world.pool).await.unwrap().remove(0);
    assert_eq!(
        (row.number, row.to_version, row.state, row.wave, row.waves),
        (3, 2, RolloutState::Stopped, 1, 2)
    );
    assert_eq!((row.why.as_deref(), row.policy.max_failures), (Some("1 of 5 stacks failed"), Some(1)));
    let simwan = id("simwan");
    let standing = async || {
        let rows = read::rollout_customers(&world.pool, &simwan).await.unwrap();
        let of = |row: &RolloutCustomer| {
            let counts = [row.waiting, row.progressing, row.applied, row.failed, row.held, row.taken_back];
            (row.customer.to_string(), counts)
        };
        rows.iter().map(of).collect::<Vec<_>>()
    };
    let wanted = [
        ("failed", [0, 0, 0, 1, 0, 0]),
        ("has", [0, 0, 1, 0, 0, 0]),
        ("later", [0, 0, 1, 0, 0, 0]),
        ("other", [0, 0, 0, 0, 0, 1]),
        ("progresses", [0, 1, 0, 0, 0, 0]),
        ("waits", [1, 0, 0, 0, 0, 0]),
    ]
    .map(|(customer, counts)| (customer.to_owned(), counts));
    until("every customer stands where its history says", async || standing().await == wanted).await;
    running.stop().await;
}
