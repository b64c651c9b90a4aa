//! Commands from other systems: CloudEvents, ids and traces of their own, and the server's tracing.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use serde_json::{Value, json};
use wanwright_schemas::{CommandId, Envelope, Outcome, Reason, headers, subjects};

use crate::world::{LIMIT, SITE, World, code, customer, with};

const CREATE: &str = "wan.do.acme.demo.site.oslo.create";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn head(fields: &[(&str, &str)]) -> HeaderMap {
    let mut head = HeaderMap::new();
    fields.iter().for_each(|(name, value)| head.insert(*name, *value));
    head
}

async fn ask(world: &World, subject: &str, head: HeaderMap, body: &str) -> Outcome {
    let answer =
        world.nats.client.request_with_headers(subject.to_owned(), head, body.to_owned().into()).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

fn binary(id: &str) -> HeaderMap {
    head(&[
        ("CE-SpecVersion", "1.0"),
        ("ce-id", id),
        ("Ce-Source", "/erp/%C3%B8st"),
        ("ce-type", "com.example.site.planned"),
        ("ce-subject", "site/oslo"),
        ("ce-datacontenttype", "application/json; charset=utf-8"),
        ("ce-traceparent", TRACE),
    ])
}

/// As Dapr wraps what an application publishes.
fn wrapped(id: &str, data: &Value) -> String {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "erp", "type": "com.dapr.event.sent", "data": data,
        "datacontenttype": "application/json", "pubsubname": "pubsub", "topic": "wan.cmd.acme", "traceid": TRACE,
        "traceparent": TRACE, "tracestate": "", "time": "2026-11-21T08:00:00Z",
    });
    event.to_string()
}

#[tokio::test]
async fn a_cloudevent_is_a_command_that_happens_once() {
    let world = World::new().await;
    let first = ask(&world, CREATE, binary("1"), SITE).await;
    assert!(first.position().is_some(), "{first:?}");
    let actor = "demo".parse().unwrap();
    assert_eq!(first.command, Some(CommandId::foreign(&actor, "/erp/øst", "1")));
    let again = Outcome { repeated: true, ..first.clone() };
    assert_eq!(ask(&world, CREATE, binary("1"), SITE).await, again);
    assert_eq!(code(&ask(&world, CREATE, binary("1"), "{}").await), Some(Reason::CommandIdReused));
    // The events alone are enough to know it again, and its first outcome is rebuilt from them.
    world.forget_outcome("acme", first.command.unwrap()).await;
    assert_eq!(ask(&world, CREATE, binary("1"), SITE).await, again);
    // Another actor's event of that name is another command.
    let other = ask(&world, &CREATE.replace("demo", "other"), binary("1"), SITE).await;
    assert_eq!(code(&other), Some(Reason::AlreadyExists));
    world.stop().await;
}

#[tokio::test]
async fn a_structured_event_comes_by_its_shape_or_its_content_type() {
    let world = World::new().await;
    let site: Value = serde_json::from_str(SITE).unwrap();
    let body = wrapped("7", &site);
    // Twice, as Dapr may send it.
    for _ in 0..2 {
        let subject = CREATE.replace("wan.do", "wan.cmd");
        world.nats.js.publish(subject, body.clone().into()).await.unwrap().await.unwrap();
    }
    let id = CommandId::foreign(&"demo".parse().unwrap(), "erp", "7");
    let outcome = world.outcome("acme", id).await;
    assert!(outcome.position().is_some(), "{outcome:?}");
    world.inbox_is_empty().await;
    assert_eq!(world.history("acme").await.len(), 1);
    let event = json!({"specversion": "1.0", "id": "8", "source": "erp", "type": "wan.site.decommission"})
        .to_string();
    let typed = head(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
    let gone = ask(&world, "wan.do.acme.demo.site.oslo.decommission", typed, &event).await;
    assert!(gone.position().is_some(), "{gone:?}");
    world.stop().await;
}

#[tokio::test]
async fn an_own_header_wins_and_a_message_id_is_an_id() {
    let world = World::new().await;
    let id = CommandId::mint();
    let mut own = binary("1");
    own.insert(headers::COMMAND_ID, id.to_string().as_str());
    own.insert(headers::MESSAGE_ID, "m");
    assert_eq!(ask(&world, CREATE, own, SITE).await.command, Some(id));
    let named = |body: &'static str| {
        ask(&world, "wan.do.acme.demo.site.bergen.create", head(&[("nats-msg-id", "m")]), body)
    };
    let site = r#"{"vendor":"simwan","lan":["10.2.0.0/24"]}"#;
    let first = named(site).await;
    assert!(first.position().is_some() && first.command.unwrap().is_foreign(), "{first:?}");
    assert_eq!(named(site).await, Outcome { repeated: true, ..first });
    world.stop().await;
}

#[tokio::test]
async fn an_event_that_is_no_command_is_refused_by_name() {
    let world = World::new().await;
    let field =
        |outcome: &Outcome| outcome.refusal().and_then(|refusal| refusal.field.clone()).unwrap_or_default();
    let mut old = binary("1");
    old.insert("CE-SpecVersion", "0.3");
    let mut twice = binary("1");
    twice.insert("ce-specversion", "1.0");
    let batch = head(&[("Content-Type", "application/cloudevents-batch+json")]);
    let mut foreign = binary("1");
    foreign.insert("ce-type", "wan.site.decommission");
    let mut text = binary("1");
    text.insert("ce-datacontenttype", "text/plain");
    for (head, body, expected) in [
        (old, SITE, "ce-specversion"),
        (twice, SITE, "ce-specversion"),
        (batch, "[]", "Content-Type"),
        (foreign, SITE, "type"),
        (text, SITE, "ce-datacontenttype"),
    ] {
        let outcome = ask(&world, CREATE, head, body).await;
        assert_eq!(field(&outcome), expected, "{outcome:?}");
    }
    let twice =
        ask(&world, CREATE, HeaderMap::new(), r#"{"vendor":"simwan","lan":[],"vendor":"simwan"}"#).await;
    assert_eq!((code(&twice), field(&twice)), (Some(Reason::InvalidValue), "vendor".to_owned()));
    assert!(world.history("acme").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_trace_goes_with_the_events_and_the_outcome() {
    let world = World::new().await;
    let id = CommandId::mint();
    let mut traced = with(id);
    traced.insert("TraceParent", TRACE);
    traced.insert("tracestate", "rojo=1");
    traced.insert(headers::CAUSATION_ID, "order-7");
    traced.insert(headers::CORRELATION_ID, "migration-2026");
    assert!(ask(&world, CREATE, traced, SITE).await.position().is_some());
    let stored = world.history("acme").await.remove(0);
    let outcome = world.first("OUTCOMES", &subjects::outcome(&customer("acme"), id)).await;
    for headers in [&stored.headers, &outcome.headers] {
        assert_eq!(headers.get("traceparent").map(|value| value.as_str()), Some(TRACE));
        assert_eq!(headers.get("tracestate").map(|value| value.as_str()), Some("rojo=1"));
    }
    let envelope = Envelope::decode(&stored.payload).unwrap();
    assert_eq!(envelope.command, id);
    assert_eq!(envelope.cause.as_deref(), Some("order-7"));
    assert_eq!(envelope.correlation.as_deref(), Some("migration-2026"));
    // A malformed one is nobody's trouble, and goes nowhere.
    let broken = head(&[("traceparent", "00-nonsense")]);
    let change = ask(&world, "wan.do.acme.demo.site.oslo.change", broken, r#"{"lan":["10.3.0.0/24"]}"#).await;
    assert!(change.position().is_some(), "{change:?}");
    let stored = world.history("acme").await.remove(1);
    assert!(stored.headers.get("traceparent").is_none());
    let envelope = Envelope::decode(&stored.payload).unwrap();
    assert_eq!((envelope.cause, envelope.correlation), (None, None), "who names none has none");
    world.stop().await;
}

#[tokio::test]
async fn the_servers_tracing_shows_the_way_and_creates_nothing() {
    let world = World::new().await;
    let mut seen = world.nats.client.subscribe("traces").await.unwrap();
    for door in ["do", "cmd"] {
        let subject = format!("wan.{door}.acme.demo.site.oslo.create");
        let only = head(&[("Nats-Trace-Dest", "traces"), ("Nats-Trace-Only", "true")]);
        world.nats.client.publish_with_headers(subject.clone(), only, SITE.into()).await.unwrap();
        let event = tokio::time::timeout(LIMIT, seen.next()).await.unwrap().unwrap();
        let event: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(event["events"][0]["subj"], subject, "{event}");
    }
    // What was sent before is done with when this is answered: each door takes its messages in order.
    let mut also = with(CommandId::mint());
    also.insert("Nats-Trace-Dest", "traces");
    assert!(ask(&world, CREATE, also, SITE).await.position().is_some());
    let id = CommandId::mint();
    world.put("acme.demo.site.oslo.check-drift", id, "".into()).await;
    assert_eq!(code(&world.outcome("acme", id).await), Some(Reason::NothingToCheck));
    assert_eq!(world.history("acme").await.len(), 1);
    assert!(tokio::time::timeout(Duration::from_secs(5), seen.next()).await.unwrap().is_some());
    world.stop().await;
}
