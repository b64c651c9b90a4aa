//! What is stored and cannot be read is named, and holds up nobody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use wanwright_nats::topology::{CLAIMS, COMMANDS, DEAD, INVENTORY};
use wanwright_nats::{Follower, NatsError};
use wanwright_schemas::{CommandId, Reason, headers, subjects};

use crate::inventory::{noted, reported};
use crate::losses::serve;
use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer, stream_of};

/// Sends a message whose headers are none, as a damage of their length leaves them. No client library does.
async fn put_nonsense(world: &World, subject: &str) {
    let url = world.url();
    let (login, address) = url.trim_start_matches("nats://").rsplit_once('@').unwrap();
    let (user, pass) = login.split_once(':').unwrap();
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let (head, body) = ("NATS/1.0\r\nnonsense\r\n\r\n", SITE);
    let login = serde_json::json!({ "user": user, "pass": pass, "headers": true, "verbose": false });
    let sizes = format!("{} {}", head.len(), head.len() + body.len());
    let sent = format!("CONNECT {login}\r\nHPUB {subject} {sizes}\r\n{head}{body}\r\nPING\r\n");
    write.write_all(sent.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.starts_with("-ERR"), "{line}");
        if line == "PONG" {
            return;
        }
    }
    panic!("the server ended the connection");
}

#[tokio::test]
async fn a_durable_command_that_cannot_be_read_is_reported_and_the_others_are_decided() {
    let world = World::empty("").await;
    let [before, behind, other] = [(); 3].map(|()| CommandId::mint());
    world.put("acme.demo.site.oslo.create", before, SITE.into()).await;
    put_nonsense(&world, "wan.cmd.acme.demo.site.bergen.create").await;
    world.put("acme.demo.site.molde.create", behind, SITE.replace("10.1", "10.2").into()).await;
    world.put("globex.demo.site.oslo.create", other, SITE.into()).await;
    let service = world.serve().await;
    for (name, id) in [("acme", before), ("acme", behind), ("globex", other)] {
        assert!(world.outcome(name, id).await.position().is_some());
    }
    let report = reported(&world, "inbox", "durable commands cannot be read").await;
    let body: serde_json::Value = serde_json::from_slice(&report.payload).unwrap();
    assert_eq!(body["sequences"], serde_json::json!([2]));
    world.inbox_is_empty().await;
    // Nothing comes behind it.
    put_nonsense(&world, "wan.cmd.acme.demo.site.narvik.create").await;
    world.inbox_is_empty().await;
    assert_eq!(world.history("acme").await.len(), 2);
    assert_eq!(world.nats.js.get_stream(COMMANDS).await.unwrap().cached_info().state.last_sequence, 5);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_and_replaced() {
    let world = World::empty("").await;
    let of = subjects::inventory_of_inbox(subjects::partition(&customer("acme"), PARTITIONS));
    for of in [of.as_str(), subjects::INVENTORY_OF_STREAMS] {
        let sent = world.nats.js.publish(subjects::inventory_by(of, "somebody"), "{".into()).await.unwrap();
        sent.await.unwrap();
    }
    let service = world.serve().await;
    for of in [of.as_str(), subjects::INVENTORY_OF_STREAMS] {
        reported(&world, "inventory", of).await;
    }
    let id = CommandId::mint();
    world.put("acme.demo.site.oslo.create", id, SITE.into()).await;
    assert!(world.outcome("acme", id).await.position().is_some());
    noted(&world, &of, |body| body["seen"] == 1 && body["waiting"] == serde_json::json!([])).await;
    world.inbox_is_empty().await;
    service.stop().await;
    // The old one is removed: one message of each is left.
    let left = world.stored(INVENTORY, &subjects::inventory_by(&of, "*")).await;
    assert_eq!(left.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_message_of_a_history_that_cannot_be_read_is_its_customers_trouble_alone() {
    let world = World::empty("").await;
    let service = world.serve().await;
    for name in ["acme", "globex"] {
        let made = world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), SITE).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    let more =
        world.ask("acme.demo.site.bergen.create", CommandId::mint(), &SITE.replace("10.1", "10.2")).await;
    assert!(more.position().is_some(), "{more:?}");
    service.stop().await;
    put_nonsense(&world, &subjects::events(&customer("acme"), PARTITIONS)).await;
    let (service, nats) = serve(&world).await;
    let change = r#"{"lan":["10.3.0.0/24"]}"#;
    for _ in 0..5 {
        let damaged = world.ask("acme.demo.site.oslo.change", CommandId::mint(), change).await;
        assert_eq!(code(&damaged), Some(Reason::HistoryDamaged), "{damaged:?}");
    }
    let connects = nats.client.statistics().connects.load(Ordering::Relaxed);
    assert!(connects <= 2, "the connection was lost {} times", connects - 1);
    let changed = world.ask("globex.demo.site.oslo.change", CommandId::mint(), change).await;
    assert!(changed.position().is_some(), "{changed:?}");
    // Whoever follows the stream is told which message it is.
    let stream = stream_of(&customer("acme"));
    let mut follower = Follower::open(world.nats.js.clone(), &stream, 1).await.unwrap();
    let named = async {
        loop {
            match follower.next_batch(10, Duration::from_millis(100)).await {
                Ok(_) => {}
                Err(NatsError::Malformed { what, .. }) => return what,
                Err(_) => {}
            }
        }
    };
    let what = tokio::time::timeout(LIMIT, named).await.unwrap();
    assert!(what.contains("is there and cannot be read"), "{what}");
    let again = Follower::open(world.nats.js.clone(), &stream, 3).await;
    assert!(matches!(again, Err(NatsError::Malformed { .. })), "{again:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_request_whose_headers_are_none_disturbs_nothing_that_is_being_done() {
    let world = World::empty("").await;
    let (service, nats) = serve(&world).await;
    for number in 0..10 {
        put_nonsense(&world, "wan.do.acme.demo.site.oslo.create").await;
        put_nonsense(&world, "wan.submit.acme.demo.site.oslo.create").await;
        let id = CommandId::mint();
        let body = SITE.replace("10.1.", &format!("10.{number}."));
        world.put(&format!("globex.demo.site.s{number}.create"), id, body.into()).await;
        assert!(world.outcome("globex", id).await.position().is_some());
    }
    assert_eq!(nats.client.statistics().connects.load(Ordering::Relaxed), 1);
    // The door is open again: who was not answered asks again.
    let answered = async {
        loop {
            let asked = world.nats.client.request("wan.do.globex.demo.site.s1.retry", "".into());
            if asked.await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, answered).await.unwrap();
    assert!(world.history("acme").await.is_empty());
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_verdict_that_cannot_be_read_is_not_judged_anew() {
    let world = World::empty("").await;
    let [asked, waits] = [CommandId::mint(), CommandId::mint()];
    for id in [asked, waits] {
        let subject = subjects::verdict(&customer("acme"), id, PARTITIONS);
        world.nats.js.publish(subject, "{".into()).await.unwrap().await.unwrap();
    }
    let service = world.serve().await;
    let refused = world.ask("acme.demo.site.oslo.create", asked, SITE).await;
    assert_eq!(code(&refused), Some(Reason::StorageDamaged), "{refused:?}");
    world.put("acme.demo.site.oslo.create", waits, SITE.into()).await;
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.command.StorageDamaged").await;
    let ids: Vec<_> =
        dead.iter().map(|dead| dead.headers.get(headers::COMMAND_ID).unwrap().as_str()).collect();
    assert_eq!(ids, [waits.to_string()]);
    assert!(world.history("acme").await.is_empty(), "nothing was decided");
    let other = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(other.position().is_some(), "{other:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_serial_number_whose_claim_cannot_be_read_is_nobodys_to_take() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let made = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(made.position().is_some(), "{made:?}");
    // What is there and no client can read: whose it was nobody knows.
    put_nonsense(&world, &format!("$KV.{CLAIMS}.serial/SN-0001")).await;
    let device = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;
    let refused = world.ask("acme.demo.device.d1.create", CommandId::mint(), device).await;
    assert!(refused.position().is_none(), "{refused:?}");
    let free = device.replace("SN-0001", "SN-0002");
    let made = world.ask("acme.demo.device.d2.create", CommandId::mint(), &free).await;
    assert!(made.position().is_some(), "{made:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_inbox_whose_consumers_files_are_damaged_has_another_consumer() {
    let world = World::empty("").await;
    world.serve().await.stop().await;
    let usual = format!("commands-{}", subjects::partition(&customer("acme"), PARTITIONS));
    let world = world
        .started_again(|dir| {
            let state = dir.join("jetstream/WAN/streams/COMMANDS/obs").join(&usual).join("o.dat");
            let bytes = std::fs::read(&state).unwrap();
            std::fs::write(&state, vec![0xff; bytes.len()]).unwrap();
        })
        .await;
    let service = world.serve().await;
    let id = CommandId::mint();
    world.put("acme.demo.site.oslo.create", id, SITE.into()).await;
    assert!(world.outcome("acme", id).await.position().is_some());
    world.inbox_is_empty().await;
    let stream = world.nats.js.get_stream(COMMANDS).await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    assert!(names.contains(&format!("{usual}-other")) && !names.contains(&usual), "{names:?}");
    service.stop().await;
    world.stop().await;
}
