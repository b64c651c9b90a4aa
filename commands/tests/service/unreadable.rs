//! What is stored and cannot be read is named, and holds up nobody.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use wanwright_nats::topology::{COMMANDS, INVENTORY};
use wanwright_schemas::{CommandId, subjects};

use crate::inventory::{noted, reported};
use crate::world::{PARTITIONS, SITE, World, customer};

/// Stores a durable command whose headers are none, as a damage of their length leaves them. No client library sends one.
async fn put_nonsense(world: &World, tail: &str) {
    let url = world.url();
    let (login, address) = url.trim_start_matches("nats://").rsplit_once('@').unwrap();
    let (user, pass) = login.split_once(':').unwrap();
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let (head, body) = ("NATS/1.0\r\nnonsense\r\n\r\n", SITE);
    let login = serde_json::json!({ "user": user, "pass": pass, "headers": true, "verbose": false });
    let sizes = format!("{} {}", head.len(), head.len() + body.len());
    let sent = format!("CONNECT {login}\r\nHPUB wan.cmd.{tail} {sizes}\r\n{head}{body}\r\nPING\r\n");
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
    put_nonsense(&world, "acme.demo.site.bergen.create").await;
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
    put_nonsense(&world, "acme.demo.site.narvik.create").await;
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
