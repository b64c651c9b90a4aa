//! Neither door is blocked by what comes through it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use wanwright_nats::topology::DEAD;
use wanwright_schemas::{CommandId, Digest, Outcome, Reason, headers, subjects};

use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer, stream_of, with};

#[tokio::test]
async fn a_malformed_giant_goes_to_the_dead_letters_and_the_inbox_flows() {
    let world = World::new().await;
    let giant = Bytes::from(vec![b'x'; (4 << 20) - 400]);
    world.put("acme.demo.nothing", CommandId::mint(), giant.clone()).await;
    let id = CommandId::mint();
    world.put("acme.demo.site.oslo.create", id, SITE.into()).await;
    assert!(world.outcome("acme", id).await.position().is_some());
    let dead = world.first(DEAD, "wan.dead.command.BadSubject").await;
    let header = |name: &str| dead.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(dead.payload.len(), 64 * 1024);
    assert_eq!(header(headers::DEAD_SIZE), giant.len().to_string());
    assert_eq!(header(headers::DEAD_DIGEST), Digest::of(&giant).to_string());
    world.inbox_is_empty().await;
    world.stop().await;
}

/// Another customer, on another stream and in another lane.
fn elsewhere(from: &str) -> String {
    let of = |name: &str| {
        let customer = customer(name);
        (subjects::partition(&customer, PARTITIONS), subjects::partition(&customer, 16))
    };
    let stuck = of(from);
    let mut names = (0..).map(|number| format!("other-{number}"));
    names.find(|name| of(name).0 != stuck.0 && of(name).1 != stuck.1).unwrap()
}

#[tokio::test]
async fn a_customer_that_stands_still_stops_nobody_else() {
    let world = World::new().await;
    world.nats.js.delete_stream(stream_of(&customer("stuck"))).await.unwrap();
    for _ in 0..300 {
        world.put("stuck.demo.site.oslo.create", CommandId::mint(), SITE.into()).await;
    }
    let inbox = world.nats.client.new_inbox();
    let mut answers = world.nats.client.subscribe(inbox.clone()).await.unwrap();
    for _ in 0..300 {
        let (subject, head) = ("wan.do.stuck.demo.site.oslo.create", with(CommandId::mint()));
        let client = &world.nats.client;
        client.publish_with_reply_and_headers(subject, inbox.clone(), head, SITE.into()).await.unwrap();
    }
    let full = tokio::time::timeout(Duration::from_secs(2), answers.next()).await.unwrap().unwrap();
    let full: Outcome = serde_json::from_slice(&full.payload).unwrap();
    assert_eq!(code(&full), Some(Reason::Unavailable));

    let other = elsewhere("stuck");
    let site = |door: &str| format!("{other}.demo.site.{door}.create");
    assert!(world.ask(&site("oslo"), CommandId::mint(), SITE).await.position().is_some());
    let id = CommandId::mint();
    world.put(&site("bergen"), id, SITE.replace("10.1", "10.2").into()).await;
    assert!(world.outcome(&other, id).await.position().is_some());
    // Nobody waits for ever behind the command that the inbox does not give up.
    let rest = answers.take(299).collect::<Vec<_>>();
    assert_eq!(tokio::time::timeout(LIMIT, rest).await.unwrap().len(), 299);
    world.stop().await;
}

#[tokio::test]
async fn no_answer_goes_into_a_history() {
    let world = World::new().await;
    let history = subjects::events(&customer("acme"), PARTITIONS);
    for reply in [history.as_str(), "$JS.API.STREAM.PURGE.OUTCOMES", "wan.cmd.acme.demo.site.oslo.retry"] {
        let (subject, head) = ("wan.do.acme.demo.site.oslo.create", with(CommandId::mint()));
        let client = &world.nats.client;
        client.publish_with_reply_and_headers(subject, reply.to_owned(), head, SITE.into()).await.unwrap();
    }
    // The door takes one request after the other, so those before this one are done with.
    assert!(world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await.position().is_some());
    assert_eq!(world.history("acme").await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_decision_that_no_message_holds_is_refused() {
    let world = World::with("max_payload: 8192").await;
    let prefixes: Vec<String> = (0..256).map(|number| format!("\"10.100.{number}.0/24\"")).collect();
    let body = format!(r#"{{"vendor":"simwan","lan":[{}]}}"#, prefixes.join(","));
    let id = CommandId::mint();
    world.put("acme.demo.site.oslo.create", id, body.into()).await;
    let outcome = world.outcome("acme", id).await;
    assert_eq!(code(&outcome), Some(Reason::BodyTooLarge), "{outcome:?}");
    world.inbox_is_empty().await;
    world.stop().await;
}
