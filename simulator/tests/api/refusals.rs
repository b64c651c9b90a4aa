use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bench, device, site, tunnel};

#[tokio::test]
async fn calls_without_the_token_are_refused_and_spend_nothing() {
    let bench = Bench::start().await;
    let client = reqwest::Client::new();
    let url = format!("{}/v1/sites", bench.caller.base);
    let none = bench.caller.send(client.get(&url)).await.unwrap();
    let wrong = bench.caller.send(client.get(&url).bearer_auth("wrong")).await.unwrap();
    let admin = bench.caller.send(client.get(&url).bearer_auth("admin")).await.unwrap();
    assert_eq!([none.status, wrong.status, admin.status], [401; 3]);
    assert_eq!(none.code(), "unauthorized");
    let totals = bench.caller.stats().await.totals;
    assert_eq!((totals.unauthorized, totals.calls), (3, 0));
}

#[tokio::test]
async fn fields_are_checked() {
    let bench = Bench::start().await;
    let id = bench.caller.site("s").await;
    let sites: &[(Value, &str)] = &[
        (json!({ "lan": [] }), "name"),
        (json!({ "name": "x" }), "lan"),
        (json!({ "name": "", "lan": [] }), "name"),
        (json!({ "name": "x", "lan": "10.0.0.0/8" }), "lan"),
        (json!({ "name": "x", "lan": [1] }), "lan"),
        (json!({ "name": "x", "lan": [], "colour": "red" }), "colour"),
        (json!({ "name": "x", "lan": [], "address": "1.2.3.4" }), "address"),
        (json!({ "name": "x", "lan": [], "id": "st-000009" }), "id"),
        (json!({ "name": 1, "lan": [] }), "name"),
    ];
    for (body, field) in sites {
        expect_invalid(&bench, "/v1/sites", body, field).await;
    }
    let tunnels = [
        ("mtu", json!(575)),
        ("mtu", json!(9001)),
        ("mtu", json!(1400.5)),
        ("mtu", json!("1400")),
        ("peer_address", json!("hub-eu")),
        ("peer_address", json!("::1")),
        ("local_asn", json!(-1)),
    ];
    for (field, value) in tunnels {
        expect_invalid(&bench, "/v1/tunnels", &changed(tunnel("t", &id), field, value), field).await;
    }
    for (field, value) in [("vlan", json!(0)), ("vlan", json!(4095)), ("hostname", json!("h".repeat(64)))] {
        expect_invalid(&bench, "/v1/devices", &changed(device("d", &id, "1"), field, value), field).await;
    }
    for (field, value) in [("vlan", json!(4094)), ("hostname", json!("h".repeat(63)))] {
        let body = changed(device(field, &id, field), field, value);
        assert_eq!(bench.caller.post("/v1/devices", None, &body).await.status, 201);
    }
}

fn changed(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

async fn expect_invalid(bench: &Bench, path: &str, body: &Value, field: &str) {
    let answer = bench.caller.post(path, None, body).await;
    assert_eq!((answer.status, answer.code(), answer.field()), (400, "invalid_field", field), "{body}");
    assert!(answer.body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
}

#[tokio::test]
async fn bodies_must_be_json_objects() {
    let bench = Bench::start().await;
    for body in ["", "{", "[]", "7"] {
        let request = bench.caller.request(Method::POST, "/v1/sites").body(body);
        let answer = bench.caller.send(request).await.unwrap();
        assert_eq!((answer.status, answer.code()), (400, "invalid_body"), "{body}");
    }
}

#[tokio::test]
async fn names_and_serials_are_unique() {
    let bench = Bench::start().await;
    let id = bench.caller.site("s").await;
    let again = bench.caller.post("/v1/sites", Some("k"), &site("s")).await;
    assert_eq!((again.status, again.code()), (409, "name_taken"));
    assert_eq!(again.body["error"]["id"], json!(id));
    // A refused create does not use its key up.
    assert_eq!(bench.caller.post("/v1/sites", Some("k"), &site("s2")).await.status, 201);
    // Names are unique per kind only.
    assert_eq!(bench.caller.post("/v1/tunnels", None, &tunnel("s", &id)).await.status, 201);

    assert_eq!(bench.caller.post("/v1/devices", None, &device("d1", &id, "1")).await.status, 201);
    let same = bench.caller.post("/v1/devices", None, &device("d2", &id, "1")).await;
    assert_eq!((same.status, same.code(), same.field()), (409, "serial_taken", "serial"));
    let put = bench.caller.put("/v1/devices/dv-000001", &device("d1", &id, "1")).await;
    assert_eq!(put.status, 200, "its own serial is not taken");
}

#[tokio::test]
async fn sites_must_exist_and_stay_while_used() {
    let bench = Bench::start().await;
    for (path, body) in
        [("/v1/tunnels", tunnel("t", "st-000001")), ("/v1/devices", device("d", "tn-000001", "1"))]
    {
        let answer = bench.caller.post(path, None, &body).await;
        assert_eq!((answer.status, answer.code(), answer.field()), (422, "unknown_reference", "site_id"));
    }
    let id = bench.caller.site("s").await;
    let tunnel = bench.caller.post("/v1/tunnels", None, &tunnel("t", &id)).await.id();
    let device = bench.caller.post("/v1/devices", None, &device("d", &id, "1")).await.id();
    let site = format!("/v1/sites/{id}");
    for user in [format!("/v1/tunnels/{tunnel}"), format!("/v1/devices/{device}")] {
        let refused = bench.caller.delete(&site).await;
        assert_eq!((refused.status, refused.code()), (409, "in_use"));
        assert_eq!(bench.caller.delete(&user).await.status, 204);
    }
    assert_eq!(bench.caller.delete(&site).await.status, 204);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let bench = Bench::start().await;
    assert_eq!(bench.caller.get("/v1/routers").await.status, 404);
    assert_eq!(bench.caller.get("/v1/sites/1").await.status, 404);
    assert_eq!(bench.caller.get("/v1/sites/st-1").await.status, 404);
    assert_eq!(bench.caller.delete("/v1/sites").await.status, 405);
    assert_eq!(bench.caller.patch("/v1/sites/st-000001", &json!({})).await.code(), "method_not_allowed");
}
