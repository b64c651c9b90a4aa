use serde_json::json;

use crate::support::{Bench, device, site, tunnel};

#[tokio::test]
async fn a_create_answers_the_object_with_defaults_and_computed_values() {
    let bench = Bench::start().await;
    let made = bench.caller.post("/v1/sites", None, &site("berlin")).await;
    assert_eq!(made.status, 201);
    let expected = json!({
        "id": "st-000001", "name": "berlin", "lan": ["10.0.0.0/24"], "location": "",
        "address": "203.0.113.1", "status": "up",
    });
    assert_eq!(made.body, expected);
    assert_eq!(bench.caller.get("/v1/sites/st-000001").await.body, expected);
    assert_eq!(bench.caller.get("/v1/sites/st%2D000001").await.body, expected);

    let made = bench.caller.post("/v1/tunnels", None, &tunnel("t", "st-000001")).await;
    assert_eq!(made.body["mtu"], 1400);
    assert_eq!(made.body["local_asn"], 0);
    assert_eq!(made.body["status"], "up");

    let made = bench.caller.post("/v1/devices", None, &device("d", "st-000001", "s1")).await;
    assert_eq!(made.body["vlan"], 1);
    assert!(made.body["firmware"].is_string());
}

#[tokio::test]
async fn a_put_replaces_what_can_change() {
    let bench = Bench::start().await;
    let id = bench.caller.site("berlin").await;
    let path = format!("/v1/sites/{id}");
    let with_location = json!({ "name": "berlin", "lan": ["10.1.0.0/24"], "location": "Berlin" });
    let put = bench.caller.put(&path, &with_location).await;
    assert_eq!((put.status, &put.body["location"], &put.body["id"]), (200, &json!("Berlin"), &json!(id)));
    // What is left out goes back to its default.
    let put = bench.caller.put(&path, &site("berlin")).await;
    assert_eq!(put.body["location"], "");
    assert_eq!(put.body["address"], "203.0.113.1");

    let renamed = bench.caller.put(&path, &site("hamburg")).await;
    assert_eq!((renamed.status, renamed.code(), renamed.field()), (422, "immutable_field", "name"));
    assert_eq!(bench.caller.put("/v1/sites/st-000099", &site("x")).await.status, 404);
}

#[tokio::test]
async fn ids_and_addresses_are_never_used_again() {
    let bench = Bench::start().await;
    let id = bench.caller.site("a").await;
    assert_eq!(bench.caller.delete(&format!("/v1/sites/{id}")).await.status, 204);
    assert_eq!(bench.caller.delete(&format!("/v1/sites/{id}")).await.status, 404);
    assert_eq!(bench.caller.get(&format!("/v1/sites/{id}")).await.status, 404);
    let again = bench.caller.post("/v1/sites", None, &site("a")).await;
    assert_eq!(again.id(), "st-000002");
    assert_eq!(again.body["address"], "203.0.113.2");
}

#[tokio::test]
async fn each_name_has_its_counters() {
    let bench = Bench::start().await;
    let caller = &bench.caller;
    let id = caller.site("a").await;
    let path = format!("/v1/sites/{id}");
    caller.put(&path, &site("a")).await;
    caller.get(&path).await;
    caller.get(&path).await;
    caller.post("/v1/sites", None, &site("a")).await;
    caller.delete(&path).await;
    caller.site("a").await;
    caller.site("b").await;
    caller.get("/v1/sites").await;

    let stats = caller.stats().await;
    let sites = &stats.kinds["site"];
    let a = sites.names["a"];
    assert_eq!((a.creations, a.updates, a.reads, a.deletions, a.refused_creations), (2, 1, 2, 1, 1));
    assert_eq!(sites.names["b"].creations, 1);
    assert_eq!((sites.objects, sites.lists, sites.totals.creations), (2, 1, 3));
    assert_eq!((stats.totals.calls, stats.totals.above_limit), (9, 0));
}
