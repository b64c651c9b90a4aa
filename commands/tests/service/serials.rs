//! A serial number is claimed as long as its device is there, and no longer.

use bytes::Bytes;
use wanwright_nats::claim::{Claimed, Claims};
use wanwright_schemas::{CommandId, Outcome, Reason, headers};

use crate::world::{SITE, World, code, with};

const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;

#[tokio::test]
async fn a_repeat_gives_back_what_the_first_try_did_not() {
    let world = World::new().await;
    let created = CommandId::mint();
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask("acme.demo.device.d1.create", created, DEVICE).await;
    world.ask("acme.demo.device.d1.decommission", CommandId::mint(), "").await;
    let order = "00000000-0000-8000-8000-000000000000";
    let gone = format!(
        r#"{{"order":"{order}","findings":[{{"kind":"device","id":"d1","uid":"{created}","result":"removed"}}]}}"#
    );
    let (report, id) = ("acme.executor.device.d1.report", CommandId::mint());
    let outcome = world.ask(report, id, &gone).await;
    assert!(outcome.position().is_some(), "{outcome:?}");

    // As if the service had ended right after the append.
    let claims = Claims::open(&world.nats).await.unwrap();
    assert_eq!(claims.claim("serial/SN-0001", "acme/d1").await.unwrap(), Claimed::New);
    world.forget_outcome("acme", id).await;
    assert!(world.ask(report, id, &gone).await.repeated);
    assert_eq!(claims.claim("serial/SN-0001", "other/d9").await.unwrap(), Claimed::New);
    world.stop().await;
}

#[tokio::test]
async fn a_refused_command_keeps_no_claim() {
    let world = World::with("max_payload: 4800").await;
    let site = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(site.position().is_some(), "{site:?}");
    let mut head = with(CommandId::mint());
    head.insert(headers::CAUSATION_ID, "c".repeat(200).as_str());
    head.insert(headers::CORRELATION_ID, "c".repeat(200).as_str());
    let (subject, body) = ("wan.do.acme.demo.device.d1.create", Bytes::from(DEVICE));
    let answer = world.nats.client.request_with_headers(subject, head, body).await.unwrap();
    let answer: Outcome = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(code(&answer), Some(Reason::BodyTooLarge), "{answer:?}");
    let claims = Claims::open(&world.nats).await.unwrap();
    assert_eq!(claims.claim("serial/SN-0001", "other/d9").await.unwrap(), Claimed::New);
    world.stop().await;
}
