//! From the streams to the tables and out again.

use std::time::Duration;

use serde_json::json;
use wanwright_projections::models::Health;
use wanwright_projections::read::{self, Filter, Page};
use wanwright_projections::{WaitError, customer_overview, migrate, wait_for};
use wanwright_schemas::run::{RUN_BATCH_VERSION, RUN_VERSION, RunBatch, RunEntry, RunEvent, RunRecord};
use wanwright_schemas::{Outcome, Position, Reason, Refusal, Target, subjects};

use crate::given::*;
use crate::servers::{LIMIT, World};

/// `acme` is in EVENTS-0 and `globex` in EVENTS-1, if anybody asks.
pub fn stream_of(customer: &str) -> String {
    subjects::events_stream(subjects::partition(&id(customer), PARTITIONS))
}

#[tokio::test]
async fn every_read_model_follows_its_stream() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let mut running = world.project();
    running.ready().await;

    let mut listener = world.nats.client.subscribe("wan.live.acme.site.oslo-01").await.unwrap();
    world.nats.client.flush().await.unwrap();
    let created =
        [site_created("oslo-01"), tunnel_created("t1", "oslo-01"), device_created("ap-1", "oslo-01")];
    world.publish(writer.next("acme", &created)).await;
    world.publish(writer.next("acme", &[site_applied("oslo-01", 1)])).await;
    let sequence = world.publish(writer.next("acme", &[site_drifted("oslo-01", 50)])).await;
    let position = Position { stream: stream_of("acme"), sequence };
    wait_for(&world.pool, &position, LIMIT).await.unwrap();

    let filter = Filter { customer: Some(id("acme")), ..Filter::default() };
    let sites = read::sites(&world.pool, &filter, &Page::default()).await.unwrap();
    assert_eq!(sites.rows.len(), 1);
    assert_eq!(sites.rows[0].life.state.health, Health::Healthy);
    assert_eq!(sites.rows[0].lan, ["10.7.0.0/24"]);
    let devices = read::devices(&world.pool, &filter, &Page::default()).await.unwrap();
    assert_eq!(devices.rows[0].spec.settings["hostname"], "a\u{fffd}b", "Postgres keeps no U+0000");
    assert_eq!(
        read::tunnels(&world.pool, &filter, &Page::default()).await.unwrap().rows[0].inside,
        "169.254.10.0/30"
    );
    assert_eq!(read::drift(&world.pool, &filter, &Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(
        read::customers(&world.pool, &filter, &Page::default()).await.unwrap().rows[0].counts.sites,
        1
    );
    let timeline =
        read::timeline(&world.pool, &id("acme"), &Filter::default(), &Page::default()).await.unwrap();
    assert_eq!(timeline.rows.len(), 5);
    assert_eq!(timeline.rows[0].name, "SiteDriftFound");
    let told = tokio::time::timeout(LIMIT, futures::StreamExt::next(&mut listener)).await.unwrap().unwrap();
    assert_eq!(told.payload, "{}", "customers hear this: no place in a stream, which counts what others do");

    let seen: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, id FROM status ORDER BY kind").fetch_all(&world.pool).await.unwrap();
    assert_eq!(seen.len(), 3);
    let fields: i64 = sqlx::query_scalar("SELECT count(*) FROM drift_report WHERE observed = '\"Bergen\"'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(fields, 1);

    crate::servers::until("the overview", || async {
        let found = customer_overview(&world.pool, &id("acme")).await.unwrap();
        found.is_some_and(|overview| {
            overview.sequence == sequence && overview.sites.len() == 1 && overview.devices.len() == 1
        })
    })
    .await;

    let late = Position { stream: stream_of("acme"), sequence: sequence + 1 };
    let error = wait_for(&world.pool, &late, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, WaitError::Late { at, .. } if at == sequence), "{error}");
    migrate(&world.pool).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn runs_verdicts_and_dead_letters_become_rows() {
    let world = World::new().await;
    let record = |event| RunRecord {
        v: RUN_VERSION,
        time: jiff::Timestamp::now(),
        customer: id("acme"),
        vendor: id("simwan"),
        order: id(&order(1)),
        target: Target::Site(id("oslo-01")),
        event,
    };
    for event in [
        RunEvent::Queued { intent: "apply".into(), generation: 1 },
        RunEvent::Started { attempt: 1, executor: "e1".into(), replaced: None },
        RunEvent::log("loud", "planning"),
        RunEvent::failed(Reason::VendorRefused, "no"),
    ] {
        let subject = subjects::run(&id("acme"), id(&order(1)), event.word());
        world.publish((subject, serde_json::to_vec(&record(event)).unwrap())).await;
    }
    // What a second try did is one message.
    let entry = |event| RunEntry { time: jiff::Timestamp::now(), event };
    let RunRecord { customer, vendor, order: of, target, .. } = record(RunEvent::Withdrawn);
    let call = |status| RunEvent::Call {
        method: "PUT".into(),
        path: "/v1/sites/1".into(),
        status,
        millis: 3,
        waited_millis: 20,
        attempt: 1,
        shared: None,
    };
    let records = vec![
        entry(RunEvent::Started { attempt: 2, executor: "e1".into(), replaced: None }),
        entry(call(503)),
        entry(call(200)),
        entry(RunEvent::failed(Reason::VendorRefused, "no again")),
    ];
    let batch = RunBatch { v: RUN_BATCH_VERSION, customer, vendor, order: of, target, records };
    let subject = subjects::run(&id("acme"), of, "failed");
    world.publish((subject, serde_json::to_vec(&batch).unwrap())).await;
    let refusal = Refusal::new(Reason::SiteMissing, "there is no site x");
    let outcome = Outcome::refused(Some(command(1)), None, refusal);
    let subject = subjects::verdict(&id("acme"), command(1), PARTITIONS);
    world.publish((subject, serde_json::to_vec(&outcome).unwrap())).await;
    world.publish((subjects::dead("command", Reason::BadSubject), vec![0xff, 0, b'x'])).await;

    let mut running = world.project();
    running.ready().await;
    let all = (Filter::default(), Page::default());
    let operations = read::operations(&world.pool, &all.0, &all.1).await.unwrap();
    assert_eq!(operations.rows.len(), 1);
    assert_eq!(operations.rows[0].error_code.as_deref(), Some("VendorRefused"));
    let log = read::run_log(&world.pool, &id("acme"), id(&order(1)), &all.1).await.unwrap();
    let words: Vec<&str> = log.rows.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(words, ["queued", "started", "log", "failed", "started", "call", "call", "failed"]);
    let statuses: Vec<_> = log.rows.iter().filter_map(|line| line.status).collect();
    assert_eq!(statuses, [503, 200], "each call has its line, in their order");
    assert!(log.rows.iter().map(|line| line.sequence).is_sorted_by(|before, after| before < after));
    let operation = &operations.rows[0];
    assert_eq!((operation.calls, operation.budget_wait_millis, operation.attempts), (2, 40, 2));
    let outcome = read::outcome(&world.pool, &id("acme"), command(1)).await.unwrap().unwrap();
    assert_eq!((outcome.status.as_str(), outcome.number), ("refused", Some(2008)));
    assert_eq!((outcome.stream.as_str(), outcome.sequence), ("VERDICTS", 1));
    let dead = read::dead_letters(&world.pool, &all.0, &all.1).await.unwrap();
    assert_eq!((dead.rows[0].what.as_str(), dead.rows[0].reason.as_str()), ("command", "BadSubject"));
    assert_eq!(dead.rows[0].payload_bytes, 3);
    running.stop().await;

    // What was read stays read: a second process starts where the first one ended.
    let before = world.rows().await;
    let mut again = world.project();
    again.ready().await;
    assert_eq!(world.rows().await, before);
    again.stop().await;

    let none = Duration::ZERO;
    let keep = wanwright_projections::Keep { runs: none, outcomes: none, dead_letters: none };
    assert_eq!(wanwright_projections::prune(&world.pool, keep).await.unwrap(), 8 + 1 + 1 + 1);
}

#[tokio::test]
async fn lists_are_paged_by_key() {
    let world = World::new().await;
    let mut writer = Writer::default();
    for number in 0..25 {
        world.publish(writer.next("acme", &[site_created(&format!("s-{number:02}"))])).await;
    }
    let mut running = world.project();
    running.ready().await;
    let (mut seen, mut page) = (Vec::new(), Page { after: None, limit: 10 });
    loop {
        let listed = read::sites(&world.pool, &Filter::default(), &page).await.unwrap();
        seen.extend(listed.rows.iter().map(|row| row.id.to_string()));
        match listed.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).map(|number| format!("s-{number:02}")).collect::<Vec<_>>());
    let newest = Page { after: None, limit: 7 };
    let first = read::timeline(&world.pool, &id("acme"), &Filter::default(), &newest).await.unwrap();
    let second = Page { after: first.next.clone(), limit: 7 };
    let second = read::timeline(&world.pool, &id("acme"), &Filter::default(), &second).await.unwrap();
    assert_eq!((first.rows[0].sequence, first.rows[6].sequence, second.rows[0].sequence), (25, 19, 18));
    let none = Filter { health: Some(Health::Degraded), attention: true, ..Filter::default() };
    assert_eq!(read::sites(&world.pool, &none, &Page::default()).await.unwrap().rows.len(), 0);
    let _ = json!(first.next);
    running.stop().await;
}

#[tokio::test]
async fn every_column_is_documented() {
    let world = World::new().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || '.' || coalesce(a.attname, '') FROM pg_class c
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> '_sqlx_migrations'
           AND (obj_description(c.oid) IS NULL OR (a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL))",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(bare.is_empty(), "{bare:?}");
}
