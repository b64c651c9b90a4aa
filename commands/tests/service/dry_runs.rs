//! A dry run writes nothing, wherever it is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use serde_json::json;
use wanwright_commands::STATE_VERSION;
use wanwright_nats::claim::{Claimed, Claims};
use wanwright_nats::{Snapshots, topology};
use wanwright_schemas::{CommandId, Outcome, Reason, headers};

use crate::personal::{canary, site};
use crate::world::{LIMIT, SITE, World, code, customer, with};

const CREATE: &str = "acme.demo.site.oslo.create";
const CHANGE: &str = "acme.demo.site.oslo.change";
const ERASE: &str = "acme.demo.customer.acme.erase";
const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;

pub async fn dry(world: &World, tail: &str, id: CommandId, body: &str) -> Outcome {
    let mut head = with(id);
    head.insert(headers::DRY_RUN, "true");
    let asked =
        world.nats.client.request_with_headers(format!("wan.do.{tail}"), head, body.to_owned().into());
    serde_json::from_slice(&asked.await.unwrap().payload).unwrap()
}

/// The last sequence and the number of messages of every stream, buckets among them; but for the leases, which are
/// renewed whatever is asked.
pub async fn positions(world: &World) -> BTreeMap<String, (u64, u64)> {
    let leases = [topology::LEASES, topology::PARTITIONS].map(|bucket| format!("KV_{bucket}"));
    let mut streams = world.nats.js.streams();
    let mut found = BTreeMap::new();
    while let Some(info) = streams.try_next().await.unwrap() {
        if !leases.contains(&info.config.name) {
            found.insert(info.config.name, (info.state.last_sequence, info.state.messages));
        }
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

/// The same, once what the service writes down by the way, a moment behind, is there too.
async fn settled(world: &World) -> BTreeMap<String, (u64, u64)> {
    let mut before = positions(world).await;
    loop {
        tokio::time::sleep(Duration::from_millis(1300)).await;
        let now = positions(world).await;
        if now == before {
            return now;
        }
        before = now;
    }
}

/// Waits until nothing comes any more of what was asked for before: outcomes are published without waiting.
async fn told(world: &World, name: &str, ids: &[CommandId]) {
    for id in ids {
        world.outcome(name, *id).await;
    }
}

#[tokio::test]
async fn a_dry_run_leaves_every_stream_as_it_is() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    let ids: Vec<CommandId> = (0..5).map(|_| CommandId::mint()).collect();
    let created = site(1, canary(1));
    let first = world.ask(CREATE, ids[0], &created).await;
    assert!(first.position().is_some(), "{first:?}");
    let retry = "acme.demo.site.none.retry";
    let refused = world.ask(retry, ids[1], "").await;
    let same = world.ask(CHANGE, ids[2], r#"{"lan":["10.1.0.0/24"]}"#).await;
    assert!(same.refusal().is_none() && same.position().is_none(), "{same:?}");
    world.ask("acme.demo.device.d1.create", ids[3], DEVICE).await;
    world.ask("beta.demo.site.oslo.create", ids[4], SITE).await;
    told(&world, "acme", &ids[..4]).await;
    told(&world, "beta", &ids[4..]).await;
    // A repeat whose outcome is not there, which a command that is carried out makes again.
    for id in &ids[..3] {
        world.forget_outcome("acme", *id).await;
    }

    let before = settled(&world).await;
    let new = CommandId::mint;
    let accepted = |outcome: &Outcome| outcome.refusal().is_none() && outcome.dry_run;
    let dry = async |tail: &str, id: CommandId, body: &str| dry(&world, tail, id, body).await;
    assert!(accepted(&dry(CHANGE, new(), r#"{"lan":["10.3.0.0/24"]}"#).await));
    assert!(accepted(&dry(CHANGE, new(), r#"{"lan":["10.1.0.0/24"]}"#).await), "nothing to change");
    assert!(accepted(&dry(CHANGE, new(), &json!({ "contact": canary(2) }).to_string()).await));
    assert!(accepted(&dry("acme.demo.site.rome.create", new(), &site(2, canary(3))).await));
    assert!(accepted(&dry("beta.demo.site.rome.create", new(), &site(2, canary(4))).await), "a first key");
    let device = DEVICE.replace("0001", "0002");
    assert!(accepted(&dry("acme.demo.device.d2.create", new(), &device).await));
    assert_eq!(code(&dry("acme.demo.device.d3.create", new(), DEVICE).await), Some(Reason::SerialTaken));
    let cancelled = dry("acme.demo.device.d1.cancel", new(), "").await;
    assert!(accepted(&cancelled), "{cancelled:?}");
    assert!(json!(cancelled).to_string().contains("DeviceCancelled"), "it says what would be taken back");
    assert_eq!(code(&dry("acme.demo.site.oslo.cancel", new(), "").await), Some(Reason::SiteInUse));
    assert!(accepted(&dry(ERASE, new(), "").await));
    assert_eq!(code(&dry(retry, new(), "").await), Some(Reason::NotFound));
    assert_eq!(code(&dry(CREATE, new(), "{").await), Some(Reason::BrokenJson));
    assert_eq!(code(&dry("acme.demo.router.r1.create", new(), "").await), Some(Reason::UnknownKind));
    let old = CommandId::of_message(1, 1);
    assert_eq!(code(&dry(CHANGE, old, "{}").await), Some(Reason::CommandTooOld));
    for (tail, id, body, first) in [(CREATE, ids[0], created.as_str(), &first), (retry, ids[1], "", &refused)]
    {
        let again = dry(tail, id, body).await;
        assert_eq!(again, Outcome { repeated: true, ..first.clone() });
    }
    assert_eq!(code(&dry(CREATE, ids[0], SITE).await), Some(Reason::CommandIdReused));
    assert_eq!(positions(&world).await, before);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_dry_run_of_a_used_id_finishes_nothing() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    let (made, removed, erased) = (CommandId::mint(), CommandId::mint(), CommandId::mint());
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    let key = world.key_of("acme").await;
    world.ask("acme.demo.device.d1.create", made, DEVICE).await;
    world.ask("acme.demo.device.d1.decommission", CommandId::mint(), "").await;
    let gone = json!({ "order": "00000000-0000-8000-8000-000000000000",
        "findings": [{ "kind": "device", "id": "d1", "uid": made, "result": "removed" }] })
    .to_string();
    let report = "acme.executor.device.d1.report";
    assert!(world.ask(report, removed, &gone).await.position().is_some());
    assert!(world.ask(ERASE, erased, "").await.position().is_some());
    told(&world, "acme", &[removed, erased]).await;

    // As if the service had ended right after each append.
    world.forget_outcome("acme", removed).await;
    world.forget_outcome("acme", erased).await;
    let claims = Claims::open(&world.nats).await.unwrap();
    assert!(matches!(claims.claim("serial/SN-0001", "acme/d1").await.unwrap(), Claimed::New(_)));
    let current = world.keys().current(&customer("acme")).await.unwrap();
    assert!(world.keys().store(&customer("acme"), &key, current).await.unwrap());

    let before = settled(&world).await;
    assert!(dry(&world, report, removed, &gone).await.repeated);
    assert!(dry(&world, ERASE, erased, "").await.repeated);
    let contact = json!({ "contact": canary(2) }).to_string();
    assert!(dry(&world, CHANGE, CommandId::mint(), &contact).await.refusal().is_none());
    assert_eq!(positions(&world).await, before);

    // Carried out, each of them does what was left.
    assert!(world.ask(report, removed, &gone).await.repeated);
    let is_free = async {
        while !matches!(claims.claim("serial/SN-0001", "other/d9").await.unwrap(), Claimed::New(_)) {}
    };
    tokio::time::timeout(LIMIT, is_free).await.unwrap();
    assert!(world.ask(ERASE, erased, "").await.repeated);
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_durable_dry_run_is_refused_at_both_doors() {
    let world = World::new().await;
    let mut head = with(CommandId::mint());
    head.insert(headers::DRY_RUN, "true");
    let submitted = world.nats.client.request_with_headers(
        "wan.submit.acme.demo.site.oslo.create",
        head.clone(),
        SITE.into(),
    );
    let refused: Outcome = serde_json::from_slice(&submitted.await.unwrap().payload).unwrap();
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.code, refusal.field.as_deref()), (Reason::BadHeader, Some(headers::DRY_RUN)));
    assert!(refusal.next.contains("wan.do."), "{refusal:?}");
    assert_eq!(positions(&world).await[topology::COMMANDS], (0, 0));

    let sent = world.nats.js.publish_with_headers("wan.cmd.acme.demo.site.oslo.create", head, SITE.into());
    sent.await.unwrap().await.unwrap();
    let dead = world.first(topology::DEAD, "wan.dead.command.BadHeader").await;
    assert!(dead.headers.get(headers::DEAD_MESSAGE).unwrap().as_str().contains(headers::DRY_RUN));
    world.inbox_is_empty().await;
    assert!(world.history("acme").await.is_empty());
    // What says that it is none is a command like any other.
    let id = CommandId::mint();
    let mut head = with(id);
    head.insert(headers::DRY_RUN, "false");
    let sent = world.nats.js.publish_with_headers("wan.cmd.acme.demo.site.oslo.create", head, SITE.into());
    sent.await.unwrap().await.unwrap();
    assert!(world.outcome("acme", id).await.position().is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_load_for_a_dry_run_makes_no_snapshot() {
    let world = World::new().await;
    world.ask(CREATE, CommandId::mint(), SITE).await;
    let (snapshots, acme) = (Snapshots::new(world.nats.clone()), customer("acme"));
    let mut number = 0_u32;
    while snapshots.get(&acme, STATE_VERSION).await.unwrap().is_none() {
        number += 1;
        assert!(number < 2000, "no snapshot was made");
        let id = CommandId::mint();
        world.ask(CHANGE, id, &json!({ "lan": [format!("10.{}.0.0/24", number % 250)] }).to_string()).await;
        world.outcome("acme", id).await;
    }
    let stream = world.nats.js.get_stream_no_info(topology::SNAPSHOTS).await.unwrap();
    stream.purge().await.unwrap();
    world.restart().await;

    let before = settled(&world).await;
    // Each is loaded anew, and a snapshot would be there long before the last.
    for _ in 0..50 {
        let change = dry(&world, CHANGE, CommandId::mint(), r#"{"lan":["10.251.0.0/24"]}"#).await;
        assert!(change.dry_run && change.refusal().is_none(), "{change:?}");
    }
    assert_eq!(positions(&world).await, before);
    // The first load for a command that is carried out makes it.
    world.ask(CHANGE, CommandId::mint(), r#"{"lan":["10.251.0.0/24"]}"#).await;
    let made = async { while snapshots.get(&acme, STATE_VERSION).await.unwrap().is_none() {} };
    tokio::time::timeout(LIMIT, made).await.unwrap();
    world.stop().await;
}
