//! What a vendor refuses, and one that is busy.

use serde_json::{Value, json};

use super::{Driver, errors, fine, sent};
use crate::proto::tfplugin6::attribute_path::step::Selector;
use crate::proto::tfplugin6::provider_server::Provider as _;

/// Creates a gadget and answers the errors.
async fn create(driver: &Driver, config: &Value) -> Vec<String> {
    let (planned, _) = driver.plan(&Value::Null, config).await;
    errors(&driver.applied([&Value::Null, &planned, config]).await.diagnostics)
}

#[tokio::test]
async fn a_refusal_points_at_the_place_inside() {
    let driver = Driver::new().await;
    let config =
        json!({"name": "a", "routes": [{"prefix": "p"}, {"prefix": "q"}], "peers": {"a.b": {"host": "h"}}});
    let name = |name: &str| Selector::AttributeName(name.to_owned());
    for (field, steps) in [
        ("note", vec![name("note")]),
        ("bgp.timers.hold", vec![name("bgp"), name("hold_time")]),
        ("bgp.hold_time", vec![name("bgp"), name("hold_time")]),
        ("/routes/1/metric", vec![name("routes"), Selector::ElementKeyInt(1), name("metric")]),
        ("routes[1].metric", vec![name("routes"), Selector::ElementKeyInt(1), name("metric")]),
        ("/peers/x/port", vec![name("peers"), Selector::ElementKeyString("x".to_owned()), name("port")]),
        (
            "rules.0.match.1.source",
            vec![
                name("rule"),
                Selector::ElementKeyInt(0),
                name("match"),
                Selector::ElementKeyInt(1),
                name("source"),
            ],
        ),
        ("somewhere", vec![]),
    ] {
        let refusal = json!({"error": {"message": "no", "field": field}});
        driver.world.lock().unwrap().refusal = Some((422, refusal));
        let (planned, _) = driver.plan(&Value::Null, &config).await;
        let response = driver.applied([&Value::Null, &planned, &config]).await;
        let found = &response.diagnostics[0];
        assert_eq!(found.summary, "VendorRefused: no");
        let path = found.attribute.clone().unwrap_or_default();
        assert_eq!(
            path.steps.into_iter().filter_map(|step| step.selector).collect::<Vec<_>>(),
            steps,
            "{field}"
        );
        assert_eq!(steps.is_empty(), found.detail.contains("It is about `somewhere`."));
    }
}

#[tokio::test]
async fn a_busy_vendor_is_tried_again_as_long_as_the_timeouts_say() {
    let driver = Driver::new().await;
    let busy = |times: u32| driver.world.lock().unwrap().busy = (times, "0");
    let mut config = json!({"name": "a", "idempotency_key": "k"});
    busy(1);
    assert!(create(&driver, &config).await[0].starts_with("VendorBusy: "), "no limit, so no waiting");
    config["timeouts"] = json!({"create": "1m", "update": "1m", "delete": "1m", "read": "1m"});
    busy(3);
    let (planned, _) = driver.plan(&Value::Null, &config).await;
    let state = driver.apply(&Value::Null, &planned, &config).await;
    assert_eq!(driver.world.lock().unwrap().take_changes(), ["POST /v1/gadgets"; 5]);
    config["note"] = json!("x");
    busy(2);
    let (planned, _) = driver.plan(&state, &config).await;
    let state = driver.apply(&state, &planned, &config).await;
    busy(2);
    assert!(driver.apply(&state, &Value::Null, &Value::Null).await.is_null());
    assert!(driver.world.lock().unwrap().objects.is_empty());

    // Without a key a create is not repeated: what was busy may have been the look after it.
    config["idempotency_key"] = Value::Null;
    busy(1);
    assert!(create(&driver, &config).await[0].starts_with("VendorBusy: "));
    // What would take longer than there is time is not waited for.
    config["idempotency_key"] = json!("k-2");
    driver.world.lock().unwrap().busy = (1, "120");
    assert!(create(&driver, &config).await[0].starts_with("VendorBusy: "));
}

#[tokio::test]
async fn nothing_is_waited_for_once_terraform_is_told_to_stop() {
    let driver = Driver::new().await;
    driver.world.lock().unwrap().busy = (u32::MAX, "3600");
    let config = json!({"name": "a", "idempotency_key": "k", "timeouts": {"create": "2h"}});
    let stop = async {
        while driver.world.lock().unwrap().changes.is_empty() {
            tokio::task::yield_now().await;
        }
        driver.service.stop_provider(sent(Default::default())).await.unwrap();
    };
    let (found, ()) = tokio::join!(create(&driver, &config), stop);
    assert!(found[0].starts_with("VendorBusy: "), "{found:?}");
    // The next run is another one.
    let configured = driver.service.configure_provider(sent(Default::default())).await.unwrap().into_inner();
    fine(&configured.diagnostics);
    driver.world.lock().unwrap().busy = (2, "0");
    assert_eq!(create(&driver, &config).await, [""; 0]);
}
