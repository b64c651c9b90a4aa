//! One customer's flood of durable commands delays another customer's single one by a bounded number of them.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use wanwright_nats::stream_info;
use wanwright_schemas::{CommandId, CustomerId, Digest, Envelope, subjects};

use crate::world::{PARTITIONS, SITE, World, customer, with};

/// As many as one customer may have in the inbox.
const FLOOD: usize = 10_000;

/// How many of them may be decided before another customer's single one.
const BOUND: usize = 100;

/// Stores commands of one customer, in this order.
async fn flood(world: &World, name: &str, ids: &[CommandId]) {
    // As many at once as the client lets be unanswered; more would wait for themselves.
    for (page, some) in ids.chunks(200).enumerate() {
        let mut stored = FuturesOrdered::new();
        for (at, id) in some.iter().enumerate() {
            let subject =
                format!("wan.cmd.{name}.demo.site.oslo.{}", if page + at == 0 { "create" } else { "change" });
            let number = page * 200 + at;
            let body = SITE.replace("10.1.", &format!("10.{}.", number % 200));
            let sent = world.nats.js.publish_with_headers(subject, with(*id), Bytes::from(body)).await;
            stored.push_back(async { sent.unwrap().await });
        }
        stored.try_collect::<Vec<_>>().await.unwrap();
    }
}

/// A customer of the same partition.
fn neighbour(of: &CustomerId) -> CustomerId {
    let partition = subjects::partition(of, PARTITIONS);
    let names = (0..).map(|number| customer(&format!("small-{number}")));
    names.into_iter().find(|name| subjects::partition(name, PARTITIONS) == partition).unwrap()
}

/// The commands of a customer's history, in order.
async fn commands(world: &World, name: &str) -> Vec<CommandId> {
    let history = world.history(name).await;
    let mut prev = None;
    let read = history.iter().map(|message| {
        let envelope = Envelope::decode(&message.payload).unwrap();
        assert_eq!(envelope.prev, prev);
        prev = Some(Digest::of(&message.payload));
        envelope.command
    });
    read.collect()
}

/// The sequences of a customer's events in the stream of its partition.
async fn sequences(world: &World, name: &str) -> Vec<u64> {
    world.history(name).await.iter().map(|message| message.sequence).collect()
}

#[tokio::test]
async fn a_flood_of_one_customer_delays_anothers_command_by_a_bounded_number() {
    let world = World::empty("").await;
    let acme = customer("acme");
    let small = neighbour(&acme);
    let ids: Vec<CommandId> = (0..FLOOD).map(|_| CommandId::mint()).collect();
    flood(&world, "acme", &ids).await;
    let single = CommandId::mint();
    world.put(&format!("{small}.demo.site.oslo.create"), single, SITE.into()).await;

    let service = world.serve().await;
    let first = world.outcome(small.as_str(), single).await;
    let first = first.position().expect("accepted").sequence;

    // A second one, behind all that still waits; killed after it, with thousands waiting.
    let again = CommandId::mint();
    world
        .put(&format!("{small}.demo.site.bergen.create"), again, SITE.replace("10.1", "10.250").into())
        .await;
    let stored = *sequences(&world, "acme").await.last().unwrap();
    let second = world.outcome(small.as_str(), again).await;
    let second = second.position().expect("accepted").sequence;
    service.kill().await;
    let killed = sequences(&world, "acme").await;
    assert!(killed.len() < FLOOD / 2, "{} were decided before the kill", killed.len());
    let killed = *killed.last().unwrap();

    let last = CommandId::mint();
    world.put(&format!("{small}.demo.site.tromso.create"), last, SITE.replace("10.1", "10.251").into()).await;
    let service = world.serve().await;
    let third = world.outcome(small.as_str(), last).await;
    let third = third.position().expect("accepted").sequence;

    let all = async {
        while stream_info(&world.nats.js, wanwright_nats::topology::COMMANDS).await.unwrap().messages > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), all).await.expect("the flood is decided");
    assert_eq!(commands(&world, "acme").await, ids, "each once, in the order in which they were stored");
    let floods = sequences(&world, "acme").await;
    let before = [(0, first), (stored, second), (killed, third)]
        .map(|(from, to)| floods.iter().filter(|sequence| (from + 1..to).contains(sequence)).count());
    println!("{before:?} of the flood came before the others' commands");
    assert!(before.iter().all(|before| *before <= BOUND), "{before:?} of the flood came first");
    service.stop().await;
    world.stop().await;
}
