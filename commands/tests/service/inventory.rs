//! What a stream lost without a word is missed by name, and claims are given back before anybody else can have them.

use wanwright_nats::topology::{CLAIMS, COMMANDS, DEAD, INVENTORY, KEYS, VERDICTS};
use wanwright_nats::{StoredMessage, load_subject};
use wanwright_schemas::{CommandId, Reason, headers, subjects};

use crate::personal::{canary, site};
use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer};

const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;

/// Waits for a report that says this.
pub async fn reported(world: &World, what: &str, words: &str) -> StoredMessage {
    let subject = subjects::dead(what, Reason::StorageDamaged);
    let found = async {
        loop {
            let reports = load_subject(&world.nats, DEAD, &subject, 0).await.unwrap();
            let says = |report: &StoredMessage| {
                report.headers.get(headers::DEAD_MESSAGE).is_some_and(|text| text.as_str().contains(words))
            };
            if let Some(report) = reports.into_iter().find(says) {
                return report;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("nobody reported `{words}`"))
}

/// Waits until it is written down what there is.
pub async fn noted(world: &World, subject: &str, is_it: impl Fn(&serde_json::Value) -> bool) {
    let noted = async {
        loop {
            let newest = load_subject(&world.nats, INVENTORY, &subjects::inventory_by(subject, "*"), 0)
                .await
                .unwrap()
                .pop();
            let body = newest.and_then(|newest| serde_json::from_slice(&newest.payload).ok());
            if body.is_some_and(|body| is_it(&body)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, noted).await.unwrap_or_else(|_| panic!("{subject} was not written"));
}

pub async fn remove(world: &World, stream: &str, sequence: u64) {
    let stream = world.nats.js.get_stream(stream).await.unwrap();
    assert!(stream.delete_message(sequence).await.unwrap());
}

#[tokio::test]
async fn a_durable_command_that_is_gone_is_missed() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let partition = subjects::partition(&customer("acme"), PARTITIONS);
    // Nothing can be decided, so commands stay in the inbox.
    world.nats.js.delete_stream(subjects::events_stream(partition)).await.unwrap();
    let ids: Vec<CommandId> = (0..3).map(|_| CommandId::mint()).collect();
    for id in &ids {
        world.put("acme.demo.site.oslo.create", *id, SITE.into()).await;
    }
    let inbox = subjects::inventory_of_inbox(partition);
    noted(&world, &inbox, |body| body["seen"] == 3 && body["waiting"].as_array().map(Vec::len) == Some(3))
        .await;
    service.kill().await;
    remove(&world, COMMANDS, 2).await;
    wanwright_nats::topology::apply(&world.nats, 1).await.unwrap();

    let service = world.serve().await;
    let report = reported(&world, "inbox", "durable commands").await;
    let body: serde_json::Value = serde_json::from_slice(&report.payload).unwrap();
    assert_eq!((&body["lost"], &body["sequences"]), (&1.into(), &serde_json::json!([2])));
    // The others are decided, and nothing is missed twice, nor because it was handled.
    assert!(world.outcome("acme", ids[0]).await.position().is_some());
    assert_eq!(code(&world.outcome("acme", ids[2]).await), Some(Reason::AlreadyExists));
    world.inbox_is_empty().await;
    service.stop().await;
    let service = world.serve().await;
    let again = CommandId::mint();
    world.put("acme.demo.site.bergen.create", again, SITE.replace("10.1", "10.2").into()).await;
    assert!(world.outcome("acme", again).await.position().is_some());
    let subject = subjects::dead("inbox", Reason::StorageDamaged);
    assert_eq!(load_subject(&world.nats, DEAD, &subject, 0).await.unwrap().len(), 1);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn nothing_that_was_handled_is_missed() {
    let world = World::empty("").await;
    for round in 0..4 {
        let service = world.serve().await;
        let mut last = CommandId::mint();
        for number in 0..50 {
            last = CommandId::mint();
            let tail = format!("acme.demo.site.s{}.create", round * 50 + number);
            let lan = SITE.replace("10.1.0", &format!("10.{round}.{number}"));
            world.put(&tail, last, lan.into()).await;
        }
        world.outcome("acme", last).await;
        // Sometimes with acknowledgements under way.
        if round % 2 == 0 { service.kill().await } else { service.stop().await }
    }
    let service = world.serve().await;
    world.inbox_is_empty().await;
    assert_eq!(world.history("acme").await.len(), 200);
    assert!(load_subject(&world.nats, DEAD, subjects::DEAD_ALL, 0).await.unwrap().is_empty());
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_verdict_that_is_gone_is_missed() {
    let world = World::new().await;
    for _ in 0..3 {
        let refused = world.ask("acme.demo.site.nowhere.retry", CommandId::mint(), "").await;
        assert_eq!(code(&refused), Some(Reason::NotFound));
    }
    remove(&world, VERDICTS, 2).await;
    reported(&world, "stream", "VERDICTS: it has 2 messages from 1 to 3").await;
    world.stop().await;
}

#[tokio::test]
async fn lost_claims_are_given_back_before_anybody_else_has_them() {
    let world = World::empty("").await;
    let service = world.serve().await;
    for (tail, body) in [("site.oslo.create", SITE), ("device.d1.create", DEVICE)] {
        for name in ["acme", "globex"] {
            let body = body.replace("SN-0001", &format!("SN-{}", name.to_uppercase()));
            let outcome = world.ask(&format!("{name}.demo.{tail}"), CommandId::mint(), &body).await;
            assert!(outcome.position().is_some(), "{outcome:?}");
        }
    }
    let streams = subjects::INVENTORY_OF_STREAMS;
    noted(&world, streams, |body| body["streams"]["KV_claims"]["messages"] == 2).await;
    service.stop().await;
    // All of them: no claim is left from which the sweeper would know whom to ask.
    world.nats.js.delete_stream(format!("KV_{CLAIMS}")).await.unwrap();
    wanwright_nats::topology::apply(&world.nats, 1).await.unwrap();

    let service = world.serve().await;
    let stolen = DEVICE.replace("SN-0001", "SN-ACME");
    let outcome = world.ask("globex.demo.device.d2.create", CommandId::mint(), &stolen).await;
    assert_eq!(code(&outcome), Some(Reason::SerialTaken));
    reported(&world, "stream", "KV_claims: it was made anew").await;
    service.stop().await;
    world.stop().await;
}

/// A server that was stopped in peace believes its index, and reads a block when somebody asks for something in it.
#[tokio::test]
async fn a_claim_that_is_lost_when_it_is_asked_for_is_given_back_before_anybody_else_has_it() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let made = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(made.position().is_some(), "{made:?}");
    for number in 0..20 {
        let body = DEVICE.replace("SN-0001", &format!("SN-{number}-A"));
        let made = world.ask(&format!("acme.demo.device.d{number}.create"), CommandId::mint(), &body).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    world.ask("globex.demo.site.oslo.create", CommandId::mint(), SITE).await;
    noted(&world, subjects::INVENTORY_OF_STREAMS, |body| body["streams"]["KV_claims"]["messages"] == 20)
        .await;
    service.stop().await;
    let world = world
        .started_again(|dir| {
            let block = block_of(dir, "KV_claims");
            let mut bytes = std::fs::read(&block).unwrap();
            let at = bytes.windows(6).position(|some| some == b"SN-11-").expect("the claim");
            bytes[at + 1] ^= 4;
            std::fs::write(block, bytes).unwrap();
        })
        .await;

    let service = world.serve().await;
    // One more than there were, and one is gone: as many as before.
    for serial in ["SN-NEW", "SN-11-A"] {
        let body = DEVICE.replace("SN-0001", serial);
        let tail = format!("globex.demo.device.{}.create", serial.to_lowercase());
        let outcome = world.ask(&tail, CommandId::mint(), &body).await;
        let is_free = serial == "SN-NEW";
        assert_eq!(code(&outcome), (!is_free).then_some(Reason::SerialTaken), "{serial}: {outcome:?}");
    }
    reported(&world, "stream", "KV_claims: a claim that is there cannot be read").await;
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_lost_claim_whose_device_nobody_can_tell_of_is_given_to_nobody() {
    let world = World::empty("").await;
    let service = world.serve().await;
    for name in ["acme", "globex"] {
        world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), SITE).await;
    }
    for serial in ["SN-11-A", "SN-12-A"] {
        let body = DEVICE.replace("SN-0001", serial);
        let tail = format!("acme.demo.device.{}.create", serial.to_lowercase());
        let made = world.ask(&tail, CommandId::mint(), &body).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    noted(&world, subjects::INVENTORY_OF_STREAMS, |body| body["streams"]["KV_claims"]["messages"] == 2).await;
    service.stop().await;
    let acme = subjects::events_stream(subjects::partition(&"acme".parse().unwrap(), PARTITIONS));
    let world = world
        .started_again(|dir| {
            // The claim, and the event that says whose device has that number.
            for stream in ["KV_claims", &acme] {
                let block = block_of(dir, stream);
                let mut bytes = std::fs::read(&block).unwrap();
                let at = bytes.windows(6).position(|some| some == b"SN-11-").expect("the number");
                bytes[at + 1] ^= 4;
                std::fs::write(block, bytes).unwrap();
            }
        })
        .await;

    let service = world.serve().await;
    for (serial, is) in [("SN-NEW", None), ("SN-11-A", Some(Reason::StorageDamaged)), ("SN-13-A", None)] {
        let body = DEVICE.replace("SN-0001", serial);
        let tail = format!("globex.demo.device.{}.create", serial.to_lowercase());
        let outcome = world.ask(&tail, CommandId::mint(), &body).await;
        assert_eq!(code(&outcome), is, "{serial}: {outcome:?}");
    }
    service.stop().await;
    world.stop().await;
}

/// The file that holds the first messages of a stream.
fn block_of(below: &std::path::Path, stream: &str) -> std::path::PathBuf {
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        let block = folder.join(stream).join("msgs/1.blk");
        if block.exists() {
            return block;
        }
        let inside = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        folders.extend(inside.filter(|path| path.is_dir()));
    }
    panic!("there is no stream {stream}");
}

#[tokio::test]
async fn a_key_that_no_event_ended_is_missed_and_one_that_was_erased_is_not() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    for name in ["acme", "globex", "initech"] {
        let outcome =
            world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), &site(1, canary(1))).await;
        assert!(outcome.position().is_some(), "{outcome:?}");
    }
    let erased = world.ask("globex.demo.customer.globex.erase", CommandId::mint(), "").await;
    assert!(erased.position().is_some(), "{erased:?}");
    noted(&world, subjects::INVENTORY_OF_KEYS, |body| body["keyed"] == 3).await;
    service.stop().await;
    let wrapped = world.stored(KEYS, "wan.key.wrapped.acme.*.*").await;
    remove(&world, KEYS, wrapped[0].sequence).await;

    let service = world.serve_sealing().await;
    let report = reported(&world, "keys", "no event says why").await;
    let body: serde_json::Value = serde_json::from_slice(&report.payload).unwrap();
    assert_eq!(body["customers"], serde_json::json!(["acme"]));
    let current = world.stored(KEYS, "wan.key.current.initech").await;
    remove(&world, KEYS, current[0].sequence).await;
    service.stop().await;
    // Whoever counts again finds one customer less.
    let service = world.serve_sealing().await;
    reported(&world, "keys", "1 customers had a key").await;
    service.stop().await;
    world.stop().await;
}
