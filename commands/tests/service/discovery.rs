//! Whoever looks for services finds this one, and whoever asks learns what the vendors offer.

use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use serde_json::{Value, json};
use wanwright_schemas::{CommandId, headers, subjects};

use crate::world::*;

async fn request(world: &World, subject: &str, head: HeaderMap) -> (Value, Message) {
    let answer = world.nats.client.request_with_headers(subject.to_owned(), head, "".into()).await.unwrap();
    (serde_json::from_slice(&answer.payload).unwrap(), answer)
}

async fn asked(world: &World, subject: &str) -> Value {
    request(world, subject, HeaderMap::new()).await.0
}

async fn speaking(world: &World, subject: &str, version: &str) -> (Value, Message) {
    let mut head = HeaderMap::new();
    head.insert(headers::SCHEMA, version);
    request(world, subject, head).await
}

fn endpoint<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let endpoints = answer["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_found_as_any_nats_service() {
    let world = World::new().await;
    let ping = asked(&world, "$SRV.PING").await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(ping["name"], "wanwright-commands");
    let id = ping["id"].as_str().unwrap();
    for subject in ["$SRV.PING.wanwright-commands".to_owned(), format!("$SRV.PING.wanwright-commands.{id}")] {
        assert_eq!(asked(&world, &subject).await, ping);
    }
    let info = asked(&world, "$SRV.INFO.wanwright-commands").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let names: Vec<&str> =
        info["endpoints"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["customer", "site", "tunnel", "device", "explain"]);
    let device = endpoint(&info, "device");
    assert_eq!(device["subject"], "wan.do.*.*.device.*.*");
    assert_eq!(device["queue_group"], "commands");
    let metadata = &device["metadata"];
    assert!(metadata["verbs"].as_str().unwrap().starts_with("create,change,cancel,revert,approve"));
    assert!(!metadata["verbs"].as_str().unwrap().contains("report"));
    assert_eq!(metadata["schema"], "wan.explain.<vendor>.device");
    assert!(metadata["versions"].as_str().unwrap().contains("simwan: v1 v2 (stored v2)"), "{metadata}");
    assert!(metadata.as_object().unwrap().values().all(Value::is_string), "the protocol allows texts only");

    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    asked(&world, subjects::EXPLAIN).await;
    let stats = asked(&world, &format!("$SRV.STATS.wanwright-commands.{id}")).await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert!(stats["started"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let site = endpoint(&stats, "site");
    assert_eq!((&site["num_requests"], &site["num_errors"]), (&json!(2), &json!(1)));
    assert_eq!(site["last_error"], "2001:site/oslo exists already");
    let took = site["processing_time"].as_u64().unwrap();
    assert!(took > 0 && site["average_processing_time"].as_u64().unwrap() == took / 2);
    assert_eq!(endpoint(&stats, "device")["num_requests"], 0);
    let cache = &endpoint(&stats, "customer")["data"]["cache"];
    let bytes = |name: &str| cache[name].as_u64().unwrap();
    assert!(bytes("states") == 1 && (1..bytes("room")).contains(&bytes("bytes")), "{stats}");
    assert_eq!(endpoint(&stats, "explain")["num_requests"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_answers_for_itself() {
    let world = World::new().await;
    let second = world.serve().await;
    let inbox = world.nats.client.new_inbox();
    let mut answers = world.nats.client.subscribe(inbox.clone()).await.unwrap();
    world.nats.client.publish_with_reply("$SRV.PING", inbox, "".into()).await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < 2 {
        let answer = tokio::time::timeout(LIMIT, answers.next()).await.unwrap().unwrap();
        let ping: Value = serde_json::from_slice(&answer.payload).unwrap();
        ids.insert(ping["id"].as_str().unwrap().to_owned());
    }
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vendors_offer_can_be_asked() {
    let world = World::new().await;
    let all = asked(&world, subjects::EXPLAIN).await;
    assert_eq!(all["problem"], Value::Null);
    let vendors = all["vendors"].as_array().unwrap();
    let simwan = vendors.iter().find(|vendor| vendor["vendor"] == "simwan").unwrap();
    assert_eq!((&simwan["vendor"], &simwan["kinds"][3]["kind"]), (&json!("simwan"), &json!("device")));
    assert_eq!(asked(&world, "wan.explain.simwan").await, *simwan);
    let device = asked(&world, "wan.explain.simwan.device").await;
    assert_eq!(device["version"], "v2");
    let fields = device["fields"].as_array().unwrap();
    let field = |path: &str| fields.iter().find(|field| field["path"] == path).unwrap();
    assert_eq!(field("settings.vlan")["allowed"], "a whole number from 1 to 4094");
    assert_eq!(field("settings.vlan")["default"], 1);
    assert_eq!(field("model")["required"], true);
    assert_eq!(field("settings")["rules"][0]["field"], "vlan");
    let (older, _) = speaking(&world, "wan.explain.simwan.device", "v1").await;
    assert_eq!(older["version"], "v1");
    assert!(older["fields"].as_array().unwrap().iter().any(|field| field["path"] == "settings.hostname"));
    for (subject, version, code) in [
        ("wan.explain.nobody", "v1", "2005"),
        ("wan.explain.simwan.router", "v1", "1002"),
        ("wan.explain.simwan.device.vlan", "v1", "1001"),
        ("wan.explain.simwan.device", "v9", "2102"),
        ("wan.explain.simwan.customer", "v1", "2102"),
        ("wan.explain.simwan.device", "newest", "1004"),
    ] {
        let (body, answer) = speaking(&world, subject, version).await;
        let head = answer.headers.unwrap();
        assert_eq!(head.get(headers::SERVICE_ERROR_CODE).unwrap().as_str(), code, "{subject}: {body}");
        assert!(body["refused"]["next"].is_string());
    }
    // A question whose answer would go into a stream is not answered.
    let stream = world.nats.js.get_stream(wanwright_nats::topology::COMMANDS).await.unwrap();
    let into = "wan.cmd.acme.demo.site.oslo.create";
    world.nats.client.publish_with_reply("wan.explain", into, "".into()).await.unwrap();
    asked(&world, subjects::EXPLAIN).await;
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, 0);
    world.stop().await;
}
