//! A serial number is claimed as long as its device is there, and no longer.

use bytes::Bytes;
use wanwright_commands::service::Options;
use wanwright_nats::claim::{Claimed, Claims};
use wanwright_schemas::{CommandId, Outcome, Reason, headers};
use wanwright_vendors::Catalogue;

use crate::proxy::Proxy;
use crate::world::{LIMIT, SITE, Service, World, code, with};

const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;
const CREATE: &str = "acme.demo.device.d1.create";
const REPORT: &str = "acme.executor.device.d1.report";
const NAME: &str = "serial/SN-0001";

/// A report that the device which this command created is gone.
fn gone(created: CommandId) -> String {
    let order = "00000000-0000-8000-8000-000000000000";
    format!(
        r#"{{"order":"{order}","findings":[{{"kind":"device","id":"d1","uid":"{created}","result":"removed"}}]}}"#
    )
}

/// Acme with a site, and a device that is on its way out.
async fn leaving(world: &World) -> CommandId {
    let created = CommandId::mint();
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask(CREATE, created, DEVICE).await;
    world.ask("acme.demo.device.d1.decommission", CommandId::mint(), "").await;
    created
}

async fn is_free(claims: &Claims) -> bool {
    !claims.is_taken(NAME, "other/d9").await.unwrap()
}

/// A command service that hears the server through a proxy.
async fn behind(world: &World, proxy: &Proxy) -> Service {
    let nats = wanwright_nats::connect(&proxy.url, "test", crate::world::PARTITIONS).await.unwrap();
    let vendors = Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap();
    let (service, ready) = World::launch(nats, vendors, Options::default());
    tokio::time::timeout(LIMIT, ready).await.unwrap().unwrap();
    assert!(world.holders().await.iter().all(Option::is_some));
    service
}

#[tokio::test]
async fn a_removal_gives_its_claim_back_unless_it_was_claimed_again() {
    for claims_again in [false, true] {
        let world = World::empty("").await;
        let claims = Claims::open(&world.nats).await.unwrap();
        let proxy = Proxy::new(&world.url(), r#""stream":"EVENTS-"#).await;
        let service = behind(&world, &proxy).await;
        let created = leaving(&world).await;
        assert!(!is_free(&claims).await);
        // The removal is appended, and its writer does not know yet. Another process goes on from there: it creates the
        // device again, and has claimed its serial number.
        proxy.arm();
        let meanwhile = async {
            proxy.met().await;
            if claims_again {
                let again = claims.claim(NAME, "acme/d1").await.unwrap();
                assert!(matches!(again, Claimed::Again { .. }), "{again:?}");
            }
            proxy.go_on();
        };
        let report = gone(created);
        let (outcome, ()) = tokio::join!(world.ask(REPORT, CommandId::mint(), &report), meanwhile);
        assert!(outcome.position().is_some(), "{outcome:?}");
        assert_eq!(is_free(&claims).await, !claims_again);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_refused_command_gives_its_claim_back_unless_it_was_claimed_again() {
    for claims_again in [false, true] {
        let world = World::empty("max_payload: 4800").await;
        let claims = Claims::open(&world.nats).await.unwrap();
        let proxy = Proxy::new(&world.url(), r#""stream":"KV_claims""#).await;
        let service = behind(&world, &proxy).await;
        let site = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
        assert!(site.position().is_some(), "{site:?}");
        let mut head = with(CommandId::mint());
        head.insert(headers::CAUSATION_ID, "c".repeat(200).as_str());
        head.insert(headers::CORRELATION_ID, "c".repeat(200).as_str());
        let (subject, body) = (format!("wan.do.{CREATE}"), Bytes::from(DEVICE));
        proxy.arm();
        let meanwhile = async {
            proxy.met().await;
            if claims_again {
                let again = claims.claim(NAME, "acme/d1").await.unwrap();
                assert!(matches!(again, Claimed::Again { .. }), "{again:?}");
            }
            proxy.go_on();
        };
        let (answer, ()) =
            tokio::join!(world.nats.client.request_with_headers(subject, head, body), meanwhile);
        let answer: Outcome = serde_json::from_slice(&answer.unwrap().payload).unwrap();
        assert_eq!(code(&answer), Some(Reason::BodyTooLarge), "{answer:?}");
        assert_eq!(is_free(&claims).await, !claims_again);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_repeat_asks_about_what_the_first_try_did_not_give_back() {
    let world = World::new().await;
    let created = leaving(&world).await;
    let (report, id) = (gone(created), CommandId::mint());
    let outcome = world.ask(REPORT, id, &report).await;
    assert!(outcome.position().is_some(), "{outcome:?}");
    let claims = Claims::open(&world.nats).await.unwrap();
    assert!(is_free(&claims).await);

    // As if the service had ended right after the append.
    assert!(matches!(claims.claim(NAME, "acme/d1").await.unwrap(), Claimed::New(_)));
    world.forget_outcome("acme", id).await;
    assert!(world.ask(REPORT, id, &report).await.repeated);
    let freed = async {
        while !is_free(&claims).await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, freed).await.expect("the claim of a device that is gone");

    // The device is there again when the report is repeated once more: its claim is its own.
    let again = world.ask(CREATE, CommandId::mint(), DEVICE).await;
    assert!(again.position().is_some(), "{again:?}");
    world.forget_outcome("acme", id).await;
    assert!(world.ask(REPORT, id, &report).await.repeated);
    assert!(!is_free(&claims).await);
    world.stop().await;
}
