//! A partition changes hands: what its former holder still does, late, is part of the history like everything else.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::{FutureExt, StreamExt};
use wanwright_nats::History;
use wanwright_nats::topology::{self, VERDICTS};
use wanwright_schemas::outcome::Verdict;
use wanwright_schemas::{CommandId, Digest, Envelope, Event, Outcome, Reason, headers, subjects};

use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer, stream_of, with};

const CHANGE: &str = "acme.demo.site.oslo.change";

/// The events that a command would have.
async fn would_follow(world: &World, tail: &str, body: &str) -> Vec<Event> {
    let mut head = with(CommandId::mint());
    head.insert(headers::DRY_RUN, "true");
    let asked =
        world.nats.client.request_with_headers(format!("wan.do.{tail}"), head, body.to_owned().into());
    let outcome: Outcome = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
    match outcome.verdict {
        Verdict::Accepted { would_follow: Some(events), .. } => events,
        other => panic!("{other:?}"),
    }
}

/// Appends what somebody else decided. The service has the state before it in memory.
async fn append_late(world: &World, events: Vec<Event>) {
    let refused = world.ask("acme.demo.site.nowhere.retry", CommandId::mint(), "").await;
    assert!(refused.refusal().is_some(), "{refused:?}");
    let (acme, last) = (customer("acme"), world.history("acme").await.pop().unwrap());
    let before = Envelope::decode(&last.payload).unwrap();
    let (command, prev) = (CommandId::mint(), Some(Digest::of(&last.payload)));
    let bytes = Envelope { command, prev, events, ..before }.encode().unwrap();
    let history = History::new(world.nats.clone());
    history.append(&acme, last.sequence, command, HeaderMap::new(), bytes.into()).await.unwrap();
}

#[tokio::test]
async fn what_changes_nothing_is_not_decided_on_a_state_that_somebody_changed() {
    let world = World::new().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let late = would_follow(&world, CHANGE, r#"{"lan":["10.2.0.0/24"]}"#).await;
    append_late(&world, late).await;

    let id = CommandId::mint();
    let back = world.ask(CHANGE, id, r#"{"lan":["10.1.0.0/24"]}"#).await;
    assert!(back.position().is_some(), "it changes what was changed meanwhile: {back:?}");
    assert_eq!(world.history("acme").await.len(), 3);
    assert!(world.stored(VERDICTS, &subjects::verdict(&customer("acme"), id, PARTITIONS)).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_refused_on_a_state_that_somebody_changed() {
    let world = World::new().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let site = SITE.replace("10.1", "10.2");
    let late = would_follow(&world, "acme.demo.site.bergen.create", &site).await;
    append_late(&world, late).await;

    let device = r#"{"site":"bergen","serial":"SN-0001","model":"edge-100"}"#;
    let id = CommandId::mint();
    world.put("acme.demo.device.d1.create", id, device.into()).await;
    let created = world.outcome("acme", id).await;
    assert!(created.position().is_some(), "{created:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_waits_when_a_partition_is_lost_is_left_to_its_next_holder() {
    const ASKED: usize = 20;
    let world = World::new().await;
    let acme = customer("acme");
    let partition = subjects::partition(&acme, PARTITIONS).to_string();
    let leases = world.nats.js.get_key_value(topology::PARTITIONS).await.unwrap();
    let held = leases.get(&partition).await.unwrap().unwrap();
    // Without its stream the first command is tried for longer than a lost lease goes unnoticed.
    world.nats.js.delete_stream(stream_of(&acme)).await.unwrap();
    leases.delete(&partition).await.unwrap();
    let inbox = world.nats.client.new_inbox();
    let mut answers = world.nats.client.subscribe(inbox.clone()).await.unwrap();
    for _ in 0..ASKED {
        let head = with(CommandId::mint());
        let (subject, body) = ("wan.do.acme.demo.site.oslo.create", SITE.into());
        world.nats.client.publish_with_reply_and_headers(subject, inbox.clone(), head, body).await.unwrap();
    }
    // Its lanes have ended before the partition is taken again.
    let taken = async {
        while leases.get(&partition).await.unwrap().is_none_or(|value| value == held) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, taken).await.unwrap();
    // On the connection of the lanes' answers, so these are here already.
    let told = async {
        // The lease comes before the subscription.
        let request = || world.nats.client.request("wan.do.acme.demo.router.r1.create", "".into());
        while request().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.unwrap();
    // Each was tried for more than a second before the loss was noticed, and not at all afterwards.
    let (mut tried, mut untried) = (0, 0);
    while let Some(Some(answer)) = answers.next().now_or_never() {
        let outcome: Outcome = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(code(&outcome), Some(Reason::Unavailable), "{outcome:?}");
        let is_untried = outcome.refusal().unwrap().message.contains("was not tried");
        *(if is_untried { &mut untried } else { &mut tried }) += 1;
    }
    assert!(tried <= ASKED / 4, "{tried} of {ASKED} were tried by who had lost the partition");
    assert_eq!(tried + untried, ASKED, "some were left without an answer");
    world.stop().await;
}
