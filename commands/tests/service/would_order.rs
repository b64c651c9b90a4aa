//! The answer to a dry run: the events that would follow, and what the dispatcher would order then.

use serde_json::{Value, json};
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;

use crate::world::{World, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_answers_events_and_orders_and_writes_nothing() {
    let world = World::new().await;
    let body = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;
    let dry = async |tail: &str, body: &str| -> Value {
        let mut head = with(CommandId::mint());
        head.insert(headers::DRY_RUN, "true");
        let asked =
            world.nats.client.request_with_headers(format!("wan.do.{tail}"), head, body.to_owned().into());
        serde_json::from_slice(&asked.await.unwrap().payload).unwrap()
    };
    let would = dry("acme.demo.site.oslo.create", body).await;
    assert_eq!(would["would_follow"][0]["type"], "SiteCreated");
    let order = &would["would_order"][0];
    assert_eq!(order["target"], json!({"kind": "site", "id": "oslo"}));
    let brief = (&order["vendor"], &order["intent"]["do"], &order["generation"]);
    assert_eq!(brief, (&json!("simwan"), &json!("apply"), &json!(1)));
    assert_eq!(order["desired"]["site"]["lan"], json!(["10.1.0.0/24"]));
    assert_eq!(would["would_order"].as_array().unwrap().len(), 1);
    assert!(world.history("acme").await.is_empty());

    // What waits for an approval would be ordered once that is given, and not before.
    let outcome =
        world.ask("acme.demo.customer.acme.change", CommandId::mint(), r#"{"policy":{"site":"approve"}}"#);
    assert_eq!(outcome.await.refusal(), None);
    let would = dry("acme.demo.site.oslo.create", body).await;
    assert_eq!(
        (&would["would_follow"][1]["type"], &would["would_order"]),
        (&json!("SiteApprovalRequested"), &json!([]))
    );
    assert_eq!(world.ask("acme.demo.site.oslo.create", CommandId::mint(), body).await.refusal(), None);
    let would = dry("acme.boss.site.oslo.approve", r#"{"generation":1}"#).await;
    assert_eq!(would["would_order"][0]["target"]["id"], "oslo");
    // A real answer says nothing of orders.
    let done = world.ask("acme.boss.site.oslo.approve", CommandId::mint(), r#"{"generation":1}"#).await;
    assert!(!serde_json::to_string(&done).unwrap().contains("would_order"));
    world.stop().await;
}
