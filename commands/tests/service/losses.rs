//! Where something is lost, nothing is decided that may rest on it: neither behind a restart nor behind a new connection.

use wanwright_commands::service::{Options, accept_losses, doubt};
use wanwright_nats::topology::{self, CLAIMS, COMMANDS, KEYS, VERDICTS};
use wanwright_nats::{Nats, load_subject};
use wanwright_schemas::{CommandId, Reason, subjects};
use wanwright_vendors::Catalogue;

use crate::inventory::{noted, remove, reported};
use crate::personal::{canary, site};
use crate::world::{LIMIT, PARTITIONS, SITE, Service, World, code, customer};

const NOWHERE: &str = "acme.demo.site.nowhere.retry";
const DEVICE: &str = r#"{"site":"oslo","serial":"SN-ACME","model":"edge-100"}"#;

/// A service whose connection the test can cut.
pub async fn serve(world: &World) -> (Service, Nats) {
    let nats = wanwright_nats::connect(&world.url(), "test", PARTITIONS).await.unwrap();
    let vendors = Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap();
    let (service, opened) = World::launch(nats.clone(), vendors, Options::default());
    tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap();
    (service, nats)
}

/// Cuts the connection, as a server does that is started again, and waits for the next one.
async fn reconnect(nats: &Nats) {
    let connects = || nats.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
    let before = connects();
    nats.client.force_reconnect().await.unwrap();
    let other = async {
        while connects() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, other).await.unwrap();
}

async fn refused(world: &World) -> CommandId {
    let id = CommandId::mint();
    assert_eq!(code(&world.ask(NOWHERE, id, "").await), Some(Reason::NotFound));
    id
}

#[tokio::test]
async fn a_command_whose_verdict_may_be_lost_is_not_judged_anew() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let [kept, lost] = [refused(&world).await, refused(&world).await];
    refused(&world).await;
    noted(&world, subjects::INVENTORY_OF_STREAMS, |body| body["streams"]["VERDICTS"]["last"] == 3).await;
    service.stop().await;
    remove(&world, VERDICTS, 2).await;
    let never_seen = CommandId::mint();

    let service = world.serve().await;
    // Nobody knows of the third command either, and it is as old.
    for id in [lost, never_seen] {
        let again = world.ask(NOWHERE, id, "").await;
        assert_eq!(code(&again), Some(Reason::StorageDamaged), "{again:?}");
        assert!(again.refusal().unwrap().next.contains("nats accept"), "{again:?}");
    }
    let again = world.ask(NOWHERE, kept, "").await;
    assert!(again.repeated && code(&again) == Some(Reason::NotFound), "{again:?}");
    // What is newer than the loss cannot be lost.
    let fresh = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(fresh.position().is_some(), "{fresh:?}");
    // A foreign id tells nothing of its age.
    let message = |id: &str| {
        let mut head = async_nats::HeaderMap::new();
        head.insert("Nats-Msg-Id", id);
        world.nats.client.request_with_headers(format!("wan.do.{NOWHERE}"), head, "".into())
    };
    let answer: wanwright_schemas::Outcome =
        serde_json::from_slice(&message("invoice-7").await.unwrap().payload).unwrap();
    assert_eq!(code(&answer), Some(Reason::StorageDamaged));
    service.stop().await;

    // It is still so for the next one, until somebody says that it is known.
    let service = world.serve().await;
    assert_eq!(code(&world.ask(NOWHERE, lost, "").await), Some(Reason::StorageDamaged));
    let told = doubt(&world.nats).await.unwrap().expect("a doubt");
    assert!(told.found() <= told.until() && told.until() <= jiff::Timestamp::now(), "{told:?}");
    accept_losses(&world.nats).await.unwrap();
    assert_eq!(doubt(&world.nats).await.unwrap(), None);
    service.stop().await;
    let service = world.serve().await;
    let anew = world.ask(NOWHERE, lost, "").await;
    assert!(!anew.repeated && code(&anew) == Some(Reason::NotFound), "{anew:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_durable_command_that_still_waits_is_decided_whatever_verdicts_are_lost() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let told = refused(&world).await;
    noted(&world, subjects::INVENTORY_OF_STREAMS, |body| body["streams"]["VERDICTS"]["last"] == 1).await;
    service.stop().await;
    let waits = CommandId::mint();
    world.put("acme.demo.site.oslo.create", waits, SITE.into()).await;
    world.put(NOWHERE, told, "".into()).await;
    remove(&world, VERDICTS, 1).await;
    let service = world.serve().await;
    assert!(world.outcome("acme", waits).await.position().is_some());
    // One that was answered before is not.
    world.inbox_is_empty().await;
    let dead = world.stored(topology::DEAD, "wan.dead.command.StorageDamaged").await;
    assert_eq!(dead.len(), 1);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn behind_a_new_connection_everything_is_compared_before_anything_is_decided() {
    let world = World::empty("").await;
    let (service, nats) = serve(&world).await;
    for (tail, body) in
        [("acme.demo.site.oslo", SITE), ("acme.demo.device.d1", DEVICE), ("globex.demo.site.oslo", SITE)]
    {
        let made = world.ask(&format!("{tail}.create"), CommandId::mint(), body).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    let lost = refused(&world).await;
    let is_noted = |body: &serde_json::Value| {
        body["streams"]["VERDICTS"]["last"] == 1 && body["streams"]["KV_claims"]["messages"] == 1
    };
    noted(&world, subjects::INVENTORY_OF_STREAMS, is_noted).await;
    // Both at once, as a disk that was put back: the watch looks every second, the thief comes before.
    remove(&world, VERDICTS, 1).await;
    world.nats.js.delete_stream(format!("KV_{CLAIMS}")).await.unwrap();
    topology::apply(&world.nats, 1).await.unwrap();
    reconnect(&nats).await;
    // The first one finds it, so its id is not younger than the loss.
    let steal = async || {
        let thief = world.ask("globex.demo.device.d1.create", CommandId::mint(), DEVICE).await;
        assert!(thief.position().is_none(), "{thief:?}");
        code(&thief)
    };
    assert!(matches!(steal().await, Some(Reason::StorageDamaged | Reason::SerialTaken)));
    assert_eq!(steal().await, Some(Reason::SerialTaken));
    let again = world.ask(NOWHERE, lost, "").await;
    assert_eq!(code(&again), Some(Reason::StorageDamaged), "{again:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_verdict_that_its_holder_remembers_is_not_judged_anew_when_it_is_gone() {
    let world = World::new().await;
    let lost = refused(&world).await;
    remove(&world, VERDICTS, 1).await;
    let again = world.ask(NOWHERE, lost, "").await;
    assert_eq!(code(&again), Some(Reason::StorageDamaged), "{again:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_customer_whose_key_is_lost_gets_no_other_one_until_it_is_erased() {
    let world = World::empty("").await;
    for subject in ["wan.key.wrapped.acme.*.*", "wan.key.current.acme"] {
        let name = "acme.demo.site";
        let site_name = if subject.contains("current") { "bergen" } else { "oslo" };
        let service = world.serve_sealing().await;
        let body = site(if subject.contains("current") { 2 } else { 1 }, canary(1));
        let made = world.ask(&format!("{name}.{site_name}.create"), CommandId::mint(), &body).await;
        assert!(made.position().is_some(), "{made:?}");
        service.stop().await;
        let stored = world.stored(KEYS, subject).await;
        remove(&world, KEYS, stored[0].sequence).await;

        let service = world.serve_sealing().await;
        let change = serde_json::json!({ "contact": canary(2) }).to_string();
        let tail = format!("{name}.{site_name}.change");
        let id = CommandId::mint();
        let kept = world.ask(&tail, id, &change).await;
        assert_eq!(code(&kept), Some(Reason::KeyUnreadable), "{kept:?}");
        let plain = world.ask(&tail, CommandId::mint(), r#"{"settings":{"location":"Oslo"}}"#).await;
        assert!(plain.position().is_some(), "{plain:?}");
        let erased = world.ask("acme.demo.customer.acme.erase", CommandId::mint(), "").await;
        assert!(erased.position().is_some(), "{erased:?}");
        let sealed = world.ask(&tail, id, &change).await;
        assert!(sealed.position().is_some(), "{sealed:?}");
        service.stop().await;
    }
    world.stop().await;
}

#[tokio::test]
async fn nothing_behind_a_lost_durable_command_is_decided_before_it_is_reported() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let partition = subjects::partition(&customer("acme"), PARTITIONS);
    // Nothing can be decided, so commands stay in the inbox.
    world.nats.js.delete_stream(subjects::events_stream(partition)).await.unwrap();
    let ids: Vec<CommandId> = (0..5).map(|_| CommandId::mint()).collect();
    for (number, id) in ids.iter().enumerate() {
        let body = SITE.replace("10.1", &format!("10.{number}"));
        world.put(&format!("acme.demo.site.s{number}.create"), *id, body.into()).await;
    }
    let inbox = subjects::inventory_of_inbox(partition);
    noted(&world, &inbox, |body| body["waiting"].as_array().map(Vec::len) == Some(5)).await;
    service.kill().await;
    // One in the middle, and the last one, behind which nothing comes.
    remove(&world, COMMANDS, 2).await;
    remove(&world, COMMANDS, 5).await;
    topology::apply(&world.nats, 1).await.unwrap();
    let service = world.serve().await;
    world.inbox_is_empty().await;
    let report = reported(&world, "inbox", "durable commands").await;
    let history = world.history("acme").await;
    assert_eq!(history.len(), 3);
    assert!(history.iter().all(|message| message.time > report.time), "{report:?} {history:?}");
    let reports = subjects::dead("inbox", Reason::StorageDamaged);
    let reports = load_subject(&world.nats, topology::DEAD, &reports, 0).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&reports[0].payload).unwrap();
    assert_eq!((reports.len(), &body["sequences"]), (1, &serde_json::json!([2, 5])));
    service.stop().await;
    world.stop().await;
}
