//! A hole is never read over: the reader stops by name, the others go on.

use wanwright_projections::{WaitError, rebuild, restart, wait_for};
use wanwright_schemas::Position;

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World, create_stream, until};

async fn last_error(world: &World, model: &str, stream: &str) -> Option<String> {
    let all = wanwright_projections::read::projection_status(&world.pool).await.unwrap();
    all.into_iter().find(|row| row.read_model == model && row.stream == stream).and_then(|row| row.last_error)
}

#[tokio::test]
async fn a_gap_stops_its_partition_and_no_other() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let (acme, globex) = (stream_of("acme"), stream_of("globex"));
    assert_ne!(acme, globex);
    world.publish(writer.next("acme", &[site_created("a")])).await;
    world.publish(writer.next("initech-0", &[site_created("b")])).await;
    let lost = world.publish(writer.next("acme", &[site_created("c")])).await;
    world.publish(writer.next("acme", &[site_created("d")])).await;
    world.nats.js.get_stream(&acme).await.unwrap().delete_message(lost).await.unwrap();

    let mut running = world.project();
    let why = running.stopped(&format!("events {acme}")).await;
    assert!(why.contains(&format!("message {lost} is missing")), "{why}");
    running.stopped(&format!("overview {acme}")).await;
    // What comes before the hole is there, what comes behind it is not.
    assert_eq!(world.checkpoint("events", &acme).await, lost - 1);
    until("the error is written down", || async {
        last_error(&world, "events", &acme).await.is_some_and(|error| error.contains("has a gap"))
    })
    .await;

    let sequence = world.publish(writer.next("globex", &[site_created("e")])).await;
    wait_for(&world.pool, &Position { stream: globex, sequence }, LIMIT).await.unwrap();
    let position = Position { stream: acme, sequence: lost };
    let error = wait_for(&world.pool, &position, LIMIT).await.unwrap_err();
    assert!(matches!(error, WaitError::Stopped { .. }), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn a_message_that_names_another_predecessor_stops_its_partition() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let acme = stream_of("acme");
    world.publish(writer.next("acme", &[site_created("a")])).await;
    let _never_stored = writer.next("acme", &[site_created("b")]);
    world.publish(writer.next("acme", &[site_created("c")])).await;
    let mut running = world.project();
    let why = running.stopped(&format!("events {acme}")).await;
    assert!(why.contains("message 2 does not continue the history of acme"), "{why}");
    assert_eq!(world.checkpoint("events", &acme).await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_made_anew_stops_its_readers_until_it_is_rebuilt() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let acme = stream_of("acme");
    for site in ["a", "b"] {
        world.publish(writer.next("acme", &[site_created(site)])).await;
    }
    let mut running = world.project();
    running.ready().await;

    let subject = world.nats.js.get_stream(&acme).await.unwrap().cached_info().config.subjects[0].clone();
    world.nats.js.delete_stream(&acme).await.unwrap();
    create_stream(&world.nats, &acme, &subject).await;
    let mut anew = Writer::default();
    for site in ["x", "y", "z"] {
        world.publish(anew.next("acme", &[site_created(site)])).await;
    }
    let why = running.stopped(&format!("events {acme}")).await;
    assert!(why.contains("another stream of the same name"), "{why}");
    running.stopped(&format!("overview {acme}")).await;

    // The operator looks, finds the new stream right and says so; nobody has to restart anything.
    let rebuilt = rebuild(&world.pool, &world.nats, &acme).await.unwrap();
    assert_eq!((rebuilt.sequence, rebuilt.deleted), (3, 2));
    restart(&world.pool, wanwright_projections::ReadModel::Overview, &acme).await.unwrap();
    running.ready().await;
    let sites: Vec<String> =
        sqlx::query_scalar("SELECT id FROM sites ORDER BY id").fetch_all(&world.pool).await.unwrap();
    assert_eq!(sites, ["x", "y", "z"]);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_not_what_was_read_stops_its_readers() {
    let world = World::new().await;
    let acme = stream_of("acme");
    world.publish(Writer::default().next("acme", &[site_created("a")])).await;
    let mut running = world.project();
    running.ready().await;
    running.stop().await;
    sqlx::query("UPDATE projection_status SET digest = 'sha256:' || repeat('0', 64) WHERE stream = $1")
        .bind(&acme)
        .execute(&world.pool)
        .await
        .unwrap();
    let mut running = world.project();
    let why = running.stopped(&format!("events {acme}")).await;
    assert!(why.contains("is not the one that had been read"), "{why}");
    running.stop().await;

    sqlx::query("UPDATE projection_status SET sequence = 9 WHERE stream = $1")
        .bind(&acme)
        .execute(&world.pool)
        .await
        .unwrap();
    let mut running = world.project();
    let why = running.stopped(&format!("events {acme}")).await;
    assert!(why.contains("its last message is 1, but 9 had been read"), "{why}");
    running.stop().await;
}

#[tokio::test]
async fn an_unreadable_record_stops_operations_only() {
    let world = World::new().await;
    let subject = format!("wan.run.acme.{}.queued", order(1));
    world.publish((subject, br#"{"v":99}"#.to_vec())).await;
    let mut running = world.project();
    let why = running.stopped("operations RUNS").await;
    assert!(why.contains("RUNS message 1"), "{why}");
    running.until(|now| now.unready().count() == 1).await;
    running.stop().await;
}
