//! A hole is never read over: the reader stops by name, the others go on.

use serde_json::{Value, json};
use wanwright_nats::topology::INVENTORY;
use wanwright_projections::{WaitError, rebuild, restart, verify, wait_for};
use wanwright_schemas::subjects::{
    INVENTORY_ACCEPTED, INVENTORY_ALL, INVENTORY_OF_HISTORIES, inventory_by, partition_of_events_stream,
};
use wanwright_schemas::{Digest, Position};

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World, connect, create_stream, until};

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

/// Writes down what the command services saw of the histories.
async fn write_down(world: &World, record: &Value) {
    let subject = inventory_by(INVENTORY_OF_HISTORIES, "service");
    world.publish((subject, serde_json::to_vec(record).unwrap())).await;
}

/// A stream as the loss of its newest block leaves it: with these messages, under the same name.
async fn lose(world: &World, stream: &str, kept: &[(String, Vec<u8>)]) {
    let subject = world.nats.js.get_stream(stream).await.unwrap().cached_info().config.subjects[0].clone();
    world.nats.js.delete_stream(stream).await.unwrap();
    create_stream(&world.nats, stream, &subject).await;
    for message in kept {
        world.publish(message.clone()).await;
    }
}

#[tokio::test]
async fn what_was_seen_of_a_stream_is_missed_before_anything_is_folded() {
    let mut world = World::new().await;
    create_stream(&world.nats, INVENTORY, INVENTORY_ALL).await;
    let (acme, mut writer) = (stream_of("acme"), Writer::default());
    let messages = ["a", "b", "c"].map(|site| writer.next("acme", &[site_created(site)]));
    for message in &messages {
        world.publish(message.clone()).await;
    }
    let partition = partition_of_events_stream(&acme).unwrap();
    let end = json!({ "sequence": 3, "body": Digest::of(&messages[2].1) });
    let found = json!({ "sequence": 3, "body": Digest::of(&messages[2].1), "lost": 5 });
    let known = |end: &Value| json!({ "v": 1, "ends": { partition.to_string(): end } });
    write_down(&world, &known(&end)).await;
    rebuild(&world.pool, &world.nats, &acme).await.unwrap();
    for table in ["sites", "customers", "timeline", "outcomes", "projection_status"] {
        sqlx::query(&format!("DELETE FROM {table}")).execute(&world.pool).await.unwrap();
    }

    // Nobody signed it and nobody folded it: neither heads nor checkpoints tell that its end is gone.
    let other = (messages[2].0.clone(), b"another".to_vec());
    let (short, used) = (&messages[..2], [messages[0].clone(), messages[1].clone(), other]);
    for (kept, why) in [(short, "it ends at 2, and was seen up to 3"), (&used, "message 3 is missing or not")]
    {
        lose(&world, &acme, kept).await;
        for record in [known(&end), known(&found)] {
            write_down(&world, &record).await;
            // What a server has on its disk it reads again when it starts: then its clients connect again.
            world.nats = connect(&world.server).await;
            let mut running = world.project();
            for model in ["events", "overview"] {
                let said = running.stopped(&format!("{model} {acme}")).await;
                assert!(said.contains(&format!("{acme} lost messages that were seen: {why}")), "{said}");
                assert!(said.contains("wanwright nats accept"), "{said}");
            }
            running.until(|now| now.unready().count() == 2).await;
            running.stop().await;
            let refused = rebuild(&world.pool, &world.nats, &acme).await.unwrap_err().chain();
            assert!(refused.contains(why), "{refused}");
            let refused = verify(&world.pool, &world.nats, &acme).await.unwrap_err().chain();
            assert!(refused.contains(why), "{refused}");
            assert_eq!((world.checkpoint("events", &acme).await, world.rows().await.len()), (0, 0));
        }
    }

    // A word from before the loss was found is about another one; a later one is about this.
    lose(&world, &acme, short).await;
    for (at, is_known) in [(4, false), (5, true)] {
        let word = json!({ "v": 1, "at": at }).to_string();
        world.publish((inventory_by(INVENTORY_ACCEPTED, "admin"), word.into_bytes())).await;
        assert_eq!(rebuild(&world.pool, &world.nats, &acme).await.is_ok(), is_known);
    }
    let mut running = world.project();
    running.ready().await;
    assert_eq!(world.checkpoint("events", &acme).await, 2);
    running.stop().await;
}

#[tokio::test]
async fn a_reader_goes_on_when_what_was_seen_is_there_again() {
    let mut world = World::new().await;
    create_stream(&world.nats, INVENTORY, INVENTORY_ALL).await;
    let (acme, mut writer) = (stream_of("acme"), Writer::default());
    let messages = ["a", "b"].map(|site| writer.next("acme", &[site_created(site)]));
    let partition = partition_of_events_stream(&acme).unwrap();
    let end = json!({ "sequence": 2, "body": Digest::of(&messages[1].1) });
    write_down(&world, &json!({ "v": 1, "ends": { partition.to_string(): end } })).await;
    world.publish(messages[0].clone()).await;
    world.nats = connect(&world.server).await;
    let mut running = world.project();
    running.stopped(&format!("events {acme}")).await;
    assert_eq!(world.checkpoint("events", &acme).await, 0);
    world.publish(messages[1].clone()).await;
    running.ready().await;
    assert_eq!(world.checkpoint("events", &acme).await, 2);
    running.stop().await;
}
