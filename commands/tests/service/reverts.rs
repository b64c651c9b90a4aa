//! A revert looks the former specification up in the customer's history, which has to be the one that is decided on.

use serde_json::{Value, json};
use wanwright_commands::Head;
use wanwright_nats::{Snapshots, topology};
use wanwright_schemas::{CommandId, Envelope, Outcome, Reason, headers};

use crate::world::{PARTITIONS, SITE, World, code, customer, stream_of, with};

const REVERT: &str = "acme.demo.site.oslo.revert";

async fn send(world: &World, tail: &str, body: &str) -> Outcome {
    world.ask(tail, CommandId::mint(), body).await
}

async fn change(world: &World, number: usize) {
    let body = format!(r#"{{"lan":["10.{}.{}.0/24"]}}"#, number / 200 + 2, number % 200);
    let outcome = send(world, "acme.demo.site.oslo.change", &body).await;
    assert_eq!(outcome.refusal(), None);
}

/// The networks of Oslo, as its history tells.
async fn lan(world: &World) -> Vec<String> {
    let mut head = Head::default();
    for message in world.history("acme").await {
        head.fold(message.sequence, &message.payload).unwrap();
    }
    head.state.sites[&"oslo".parse().unwrap()].spec.lan.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_revert_is_found_however_far_back_and_its_event_says_all() {
    let world = World::new().await;
    send(&world, "acme.demo.site.oslo.create", SITE).await;
    // More than a page of history, and a snapshot that knows nothing of its beginning.
    for number in 0..600 {
        change(&world, number).await;
    }
    let snapshots = Snapshots::new(world.nats.clone());
    assert!(snapshots.get(&customer("acme"), wanwright_commands::STATE_VERSION).await.unwrap().is_some());
    world.restart().await;

    // A dry run says the same and writes nothing.
    let mut head = with(CommandId::mint());
    head.insert(headers::DRY_RUN, "true");
    let body = r#"{"to_generation":1}"#;
    let asked = world.nats.client.request_with_headers(format!("wan.do.{REVERT}"), head, body.into()).await;
    let would: Value = serde_json::from_slice(&asked.unwrap().payload).unwrap();
    assert_eq!(would["would_follow"][0]["reverted_to"], json!(1), "{would}");
    assert_eq!(world.history("acme").await.len(), 601);

    let id = CommandId::mint();
    let reverted = world.ask(REVERT, id, body).await;
    assert_eq!(reverted.refusal(), None);
    assert_eq!(lan(&world).await, ["10.1.0.0/24"]);
    let last = world.history("acme").await.pop().unwrap();
    let event = serde_json::to_value(&Envelope::decode(&last.payload).unwrap().events[0]).unwrap();
    assert_eq!((&event["type"], &event["generation"]), (&json!("SiteChanged"), &json!(602)));
    assert_eq!((&event["reverted_to"], &event["spec"]["lan"]), (&json!(1), &json!(["10.1.0.0/24"])));
    // Sent again it is the same command, though generation 1 is another wish away by then.
    change(&world, 1000).await;
    let repeated = world.ask(REVERT, id, body).await;
    assert!(repeated.repeated && repeated.position() == reverted.position(), "{repeated:?}");

    let refused = send(&world, REVERT, r#"{"to_generation":603}"#).await;
    assert_eq!(code(&refused), Some(Reason::PresentGeneration));
    let refused = send(&world, REVERT, r#"{"to_generation":9000}"#).await;
    assert_eq!(code(&refused), Some(Reason::UnknownGeneration));
    world.stop().await;
}

#[tokio::test]
async fn a_former_generation_is_taken_from_no_other_history() {
    let world = World::new().await;
    send(&world, "acme.demo.site.oslo.create", SITE).await;
    for number in 0..3 {
        change(&world, number).await;
    }
    // The state is in memory, so nothing else would read the beginning again.
    let first = world.history("acme").await.remove(0);
    let forged = String::from_utf8(first.payload.to_vec()).unwrap().replace("10.1.0.0", "10.9.0.0");
    let rest = world.history("acme").await.split_off(1);
    let name = stream_of(&customer("acme"));
    world.nats.js.delete_stream(&name).await.unwrap();
    let config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name);
    world.nats.js.create_stream(config.unwrap()).await.unwrap();
    world.nats.js.publish(first.subject, forged.into()).await.unwrap().await.unwrap();
    for message in rest {
        world.nats.js.publish(message.subject, message.payload).await.unwrap().await.unwrap();
    }
    let refused = send(&world, REVERT, r#"{"to_generation":1}"#).await;
    assert_eq!(code(&refused), Some(Reason::HistoryDamaged), "{refused:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_window_says_so_in_its_outcome() {
    let world = World::new().await;
    let now = jiff::Timestamp::now();
    let clock = |hours: i64| (now + jiff::SignedDuration::from_hours(hours)).strftime("%H:%M").to_string();
    let window = json!({"zone": "UTC", "from": clock(2), "to": clock(3)});
    let body = json!({"windows": {"w": window}}).to_string();
    assert_eq!(send(&world, "acme.demo.customer.acme.change", &body).await.refusal(), None);
    let events = |outcome: Outcome| serde_json::to_value(outcome).unwrap()["events"].clone();
    let created = events(send(&world, "acme.demo.site.oslo.create", SITE).await);
    assert_eq!(created, json!(["SiteCreated", "SitePostponed"]));
    let last = world.history("acme").await.pop().unwrap();
    let event = serde_json::to_value(&Envelope::decode(&last.payload).unwrap().events[1]).unwrap();
    let until: jiff::Timestamp = event["until"].as_str().unwrap().parse().unwrap();
    assert!(now < until && until <= now + jiff::SignedDuration::from_hours(2), "{until}");
    let body = r#"{"reason":"the line is down"}"#;
    assert_eq!(events(send(&world, "acme.demo.site.oslo.release", body).await), json!(["SiteReleased"]));
    let again = send(&world, "acme.demo.site.oslo.release", body).await;
    assert_eq!(code(&again), Some(Reason::NothingToRelease));
    // An executor reports, and does nothing else.
    let executor = send(&world, "acme.executor.site.oslo.release", body).await;
    assert_eq!(code(&executor), Some(Reason::NotAllowed));
    world.stop().await;
}
