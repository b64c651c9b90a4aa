//! Processes die, two run at once, Postgres goes away: the rows are the same.

use std::time::Duration;

use serde_json::json;
use wanwright_projections::{rebuild, wait_for};
use wanwright_schemas::Position;
use wanwright_supervisor::{Nats, NatsOptions, Postgres, PostgresOptions};

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World, cache, connect, folder, until};

fn events(number: u64) -> Vec<serde_json::Value> {
    let site = format!("s-{}", number / 2);
    if number.is_multiple_of(2) { vec![site_created(&site)] } else { vec![site_applied(&site, 1)] }
}

fn call() -> (String, Vec<u8>) {
    let record = json!({"v": 1, "time": "2026-11-21T08:00:00Z", "customer": "acme", "vendor": "simwan",
        "order": order(1), "target": {"kind": "site", "id": "s-0"}, "what": "call", "method": "GET", "path": "/sites",
        "status": 200, "millis": 1, "waited_millis": 0, "attempt": 1});
    (format!("wan.run.acme.{}.call", order(1)), serde_json::to_vec(&record).unwrap())
}

#[tokio::test]
async fn two_projectors_at_once_and_a_rebuild_write_every_row_once() {
    let world = World::new().await;
    let acme = stream_of("acme");
    let mut writer = Writer::default();
    let mut one = world.project_with(|config| config.batch = 3);
    let mut two = world.project_with(|config| config.batch = 5);
    let mut sequence = 0;
    for number in 0..200 {
        sequence = world.publish(writer.next("acme", &events(number))).await;
        // Calls are added up: a record that is folded twice shows, and has no chain to be noticed by.
        world.publish(call()).await;
        if number == 100 {
            rebuild(&world.pool, &world.nats, &acme).await.unwrap();
        }
    }
    wait_for(&world.pool, &Position { stream: acme.clone(), sequence }, LIMIT).await.unwrap();
    one.ready().await;
    two.ready().await;
    let counted: (i64, i64, i64) = sqlx::query_as("SELECT sites, sites_healthy, messages FROM customers")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(counted, (100, 100, 200));
    until("the operations", || async { world.checkpoint("operations", "RUNS").await == 200 }).await;
    let calls: i64 = sqlx::query_scalar("SELECT calls FROM operations").fetch_one(&world.pool).await.unwrap();
    assert_eq!(calls, 200);
    assert!(
        wanwright_projections::verify(&world.pool, &world.nats, &acme).await.unwrap().different.is_empty()
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn projectors_that_are_cut_off_between_and_inside_batches_lose_nothing() {
    let world = World::new().await;
    let acme = stream_of("acme");
    let mut writer = Writer::default();
    for number in 0..120 {
        world.publish(writer.next("acme", &events(number))).await;
    }
    // Each one is dropped, not stopped, once it has committed something: its transaction ends where it stands.
    for at_least in [1, 30, 60] {
        let running =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = world.pool.connect_options();
        let nats = world.nats.clone();
        running.spawn(async move {
            let pool = sqlx::PgPool::connect_with((*url).clone()).await.unwrap();
            let mut config = wanwright_projections::Config::new(pool, nats);
            config.batch = 4;
            wanwright_projections::Projections::new(config)
                .run(tokio_util::sync::CancellationToken::new())
                .await;
        });
        until("some batches", || async { world.checkpoint("events", &acme).await >= at_least }).await;
        running.shutdown_background();
    }
    let mut last = world.project();
    last.ready().await;
    assert!(
        wanwright_projections::verify(&world.pool, &world.nats, &acme).await.unwrap().different.is_empty()
    );
    let messages: i64 =
        sqlx::query_scalar("SELECT messages FROM customers").fetch_one(&world.pool).await.unwrap();
    assert_eq!(messages, 120);
    last.stop().await;
}

#[tokio::test]
async fn a_postgres_that_goes_away_and_comes_back_costs_nothing() {
    let options = PostgresOptions::new(folder("own-postgres"), cache());
    let postgres = Postgres::start(&options).await.unwrap();
    let world = World::on(&postgres.url(), folder("own-nats")).await;
    let acme = stream_of("acme");
    let mut writer = Writer::default();
    let mut running = world.project_with(|config| config.batch = 2);
    for number in 0..20 {
        world.publish(writer.next("acme", &events(number))).await;
    }
    until("a beginning", || async { world.checkpoint("events", &acme).await > 0 }).await;
    postgres.stop(Duration::from_secs(10)).await;
    let mut sequence = 0;
    for number in 20..60 {
        sequence = world.publish(writer.next("acme", &events(number))).await;
    }
    running.until(|now| now.unready().count() > 0).await;
    let _postgres = Postgres::start(&options).await.unwrap();
    wait_for(&world.pool, &Position { stream: acme.clone(), sequence }, LIMIT).await.unwrap();
    running.ready().await;
    assert!(
        wanwright_projections::verify(&world.pool, &world.nats, &acme).await.unwrap().different.is_empty()
    );
    running.stop().await;
}

#[tokio::test]
async fn a_nats_server_that_goes_away_and_comes_back_costs_nothing() {
    let mut world = World::new().await;
    let acme = stream_of("acme");
    let mut writer = Writer::default();
    let mut running = world.project();
    world.publish(writer.next("acme", &events(0))).await;
    running.ready().await;
    let options = NatsOptions::new(&world.nats_dir, cache());
    world.server.stop(Duration::from_secs(10)).await;
    running.until(|now| now.unready().count() > 0).await;
    world.server = Nats::start(&options).await.unwrap();
    world.nats = connect(&world.server).await;
    let sequence = world.publish(writer.next("acme", &events(1))).await;
    wait_for(&world.pool, &Position { stream: acme, sequence }, LIMIT).await.unwrap();
    running.ready().await;
    running.stop().await;
}
