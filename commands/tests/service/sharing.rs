//! Several services share the partitions; what one leaves, another takes up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wanwright_nats::topology::PARTITION_LEASE_TIME;
use wanwright_schemas::{CommandId, Envelope, Outcome, subjects};

use crate::world::{PARTITIONS, SITE, World, customer, with};

/// A customer of each partition.
fn one_of_each() -> Vec<String> {
    let of = |partition: u16| {
        let mut names = (0..).map(|number| format!("customer-{number}"));
        names.find(|name| subjects::partition(&customer(name), PARTITIONS) == partition).unwrap()
    };
    (0..PARTITIONS).map(of).collect()
}

/// The outcome of a command while partitions go from one service to another: whoever gets no answer asks again, as people do.
async fn asked_again(world: &World, tail: &str, body: &str) -> Outcome {
    let (id, began) = (CommandId::mint(), Instant::now());
    loop {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = world.nats.client.request_with_headers(format!("wan.do.{tail}"), with(id), body).await;
        if let Ok(answer) = answer {
            return serde_json::from_slice(&answer.payload).unwrap();
        }
        assert!(began.elapsed() < PARTITION_LEASE_TIME * 3, "nobody took {tail}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn partitions_are_shared_and_taken_over() {
    let world = World::empty("").await;
    let first = world.serve().await;
    let second = world.serve().await;
    world.shared_by(2).await;
    let customers = one_of_each();
    for name in &customers {
        let outcome = asked_again(&world, &format!("{name}.demo.site.oslo.create"), SITE).await;
        assert!(outcome.position().is_some(), "{outcome:?}");
    }

    // In the inbox of every partition when half of them lose their holder.
    let mut sent = Vec::new();
    for number in 0..20 {
        for name in &customers {
            let id = CommandId::mint();
            let body = format!(r#"{{"lan":["10.{number}.0.0/24"]}}"#);
            world.put(&format!("{name}.demo.site.oslo.change"), id, Bytes::from(body)).await;
            sent.push((name.clone(), id));
        }
    }
    first.kill().await;
    for name in &customers {
        let body = r#"{"settings":{"location":"here"}}"#;
        asked_again(&world, &format!("{name}.demo.site.oslo.change"), body).await;
    }
    for (name, id) in &sent {
        assert!(world.outcome(name, *id).await.refusal().is_none());
    }
    world.inbox_is_empty().await;
    for name in &customers {
        let history = world.history(name).await;
        let order: Vec<CommandId> =
            history.iter().map(|message| Envelope::decode(&message.payload).unwrap().command).collect();
        let expected: Vec<CommandId> = sent.iter().filter(|(of, _)| of == name).map(|(_, id)| *id).collect();
        let of_inbox: Vec<CommandId> = order.iter().copied().filter(|id| expected.contains(id)).collect();
        assert_eq!(of_inbox, expected, "in order, and each once");
        assert_eq!(history.len(), expected.len() + 2);
    }
    world.shared_by(1).await;
    second.stop().await;
    assert!(world.holders().await.iter().all(Option::is_none), "partitions are given back");
}

#[tokio::test]
async fn a_service_that_comes_later_gets_its_share_and_nothing_is_lost_between() {
    let world = World::empty("").await;
    let first = world.serve().await;
    let name = &one_of_each()[usize::from(PARTITIONS) - 1];
    world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), SITE).await;
    let subject = format!("{name}.demo.site.oslo.change");
    let asking = async {
        for number in 0..100 {
            let body = format!(r#"{{"lan":["10.{number}.0.0/24"]}}"#);
            let id = CommandId::mint();
            let mut outcome = None;
            while outcome.is_none() {
                let answer = world.nats.client.request_with_headers(
                    format!("wan.do.{subject}"),
                    with(id),
                    body.clone().into(),
                );
                outcome = answer.await.ok();
            }
        }
    };
    let ((), second) = tokio::join!(asking, world.serve());
    world.shared_by(2).await;
    assert_eq!(world.history(name).await.len(), 101);
    tokio::time::timeout(Duration::from_secs(20), async {
        first.stop().await;
        second.stop().await;
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_request_finds_its_partition_with_or_without_the_servers_mapping() {
    let world = World::new().await;
    let subject = |name: &str, partition: u16| format!("wan.decide.{partition}.{name}.demo.site.oslo.create");
    for name in one_of_each() {
        let partition = subjects::partition(&customer(&name), PARTITIONS);
        for wrong in [partition, (partition + 1) % PARTITIONS] {
            let answer = world.nats.client.request(subject(&name, wrong), SITE.into()).await.unwrap();
            let outcome: Outcome = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(outcome.position().is_some(), wrong == partition, "{outcome:?}");
        }
        assert_eq!(world.history(&name).await.len(), 1);
    }
    let answer = world.nats.client.request("wan.do.acme", SITE.into()).await.unwrap();
    let outcome: Outcome = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(crate::world::code(&outcome), Some(wanwright_schemas::Reason::BadSubject));
    world.stop().await;
}
