//! A customer with 10,000 devices is decided on like any other.

use bytes::Bytes;
use serde_json::json;
use wanwright_commands::{Head, STATE_VERSION};
use wanwright_nats::{Snapshot, Snapshots, stream_info, topology};
use wanwright_schemas::{CommandId, Digest, Envelope, Reason, subjects};

use crate::world::{SITE, World, code, customer, stream_of};

const DEVICES: usize = 10_000;
const DEVICE: &str = r#"{"site":"oslo","serial":"SN-1","model":"edge-100"}"#;

/// Acme with one device at the vendor, as its history tells it.
async fn small(world: &World) -> Head {
    let created = CommandId::mint();
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask("acme.demo.device.d1.create", created, DEVICE).await;
    let found = json!({"kind": "device", "id": "d1", "uid": created, "result": "applied", "generation": 1,
        "outputs": {"id": "dv-1"}});
    let report = json!({"order": "00000000-0000-8000-8000-000000000000", "findings": [found]}).to_string();
    let applied = world.ask("acme.executor.device.d1.report", CommandId::mint(), &report).await;
    assert!(applied.position().is_some(), "{applied:?}");
    let mut head = Head::default();
    for message in world.history("acme").await {
        head.fold(message.sequence, &message.payload).unwrap();
    }
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_customer_with_10_000_devices_is_loaded_from_a_snapshot_in_parts_and_decided_on() {
    let world = World::new().await;
    let (acme, mut head) = (customer("acme"), small(&world).await);
    let (_, one) = head.state.devices.pop_first().expect("a device");
    for number in 0..DEVICES {
        let mut device = one.clone();
        device.spec.serial = Digest::of(&number.to_le_bytes()).to_string();
        head.state.devices.insert(format!("device-{number:05}").parse().unwrap(), device);
    }
    let incarnation = stream_info(&world.nats.js, &stream_of(&acme)).await.unwrap().incarnation;
    let state = Bytes::from(head.freeze().unwrap());
    let (sequence, messages) = (head.sequence, head.messages);
    let snapshot = Snapshot { version: STATE_VERSION, sequence, messages, incarnation, state };
    Snapshots::new(world.nats.clone()).put(&acme, &snapshot).await.unwrap();
    let parts = world.stored(topology::SNAPSHOTS, &subjects::snapshot(&acme)).await.len();
    assert!(parts > 1, "{} bytes are one message", snapshot.state.len());

    world.restart().await;
    let last = format!("acme.demo.device.device-{:05}", DEVICES - 1);
    let there = world.ask(&format!("{last}.create"), CommandId::mint(), DEVICE).await;
    assert_eq!(code(&there), Some(Reason::AlreadyExists), "{there:?}");
    // Everything at once, each in one message.
    let mut expected = 3;
    for (tail, body, least) in [
        ("acme.demo.customer.acme.check-drift", "", DEVICES),
        ("acme.demo.site.oslo.decommission", r#"{"cascade":true}"#, DEVICES + 1),
    ] {
        let done = world.ask(tail, CommandId::mint(), body).await;
        assert!(done.position().is_some(), "{tail}: {:?}", done.refusal());
        expected += 1;
        let history = world.history("acme").await;
        assert_eq!(history.len(), expected);
        let events = Envelope::decode(&history[expected - 1].payload).unwrap().events;
        assert_eq!(events.len(), least, "{tail}");
    }
    // And who comes later finds it so, from the snapshot and what came since.
    world.restart().await;
    let change = world.ask(&format!("{last}.change"), CommandId::mint(), r#"{"settings":{}}"#).await;
    assert_eq!(code(&change), Some(Reason::BeingRemoved), "{change:?}");
    world.stop().await;
}
