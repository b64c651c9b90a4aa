use reqwest::Method;
use serde_json::json;
use wanwright_simulator::{Calls, Fate, Health, Limit, Objects, Totals};

use crate::support::{Bench, Folder, TOKEN, config, site, tunnel};

#[tokio::test]
async fn objects_drift_behind_the_customers_back() {
    let bench = Bench::start().await;
    let caller = &bench.caller;
    let id = caller.site("a").await;
    let other = caller.site("b").await;
    let before = caller.stats().await.totals;

    let drifted =
        caller.patch(&format!("/_sim/objects/site/{id}"), &json!({ "location": "x", "status": null })).await;
    assert_eq!((drifted.status, &drifted.body["location"]), (200, &json!("x")));
    assert!(drifted.body.get("status").is_none());
    assert_eq!(caller.patch(&format!("/_sim/objects/site/{id}"), &json!({ "id": "st-9" })).await.status, 400);
    assert_eq!(caller.delete(&format!("/_sim/objects/site/{other}")).await.status, 204);
    assert_eq!(caller.delete(&format!("/_sim/objects/site/{other}")).await.status, 404);
    assert_eq!(caller.stats().await.totals, before, "the back door is not counted");
    let (a, b) = (caller.counters("site", "a").await, caller.counters("site", "b").await);
    assert_eq!((a.drifts, a.updates, b.drifts, b.deletions), (1, 0, 1, 0));

    assert_eq!(caller.get(&format!("/v1/sites/{id}")).await.body, drifted.body);
    assert_eq!(caller.get(&format!("/v1/sites/{other}")).await.status, 404);
    // A renamed object is found, and its name taken, under the new name.
    caller.patch(&format!("/_sim/objects/site/{id}"), &json!({ "name": "c" })).await;
    assert_eq!(caller.post("/v1/sites", None, &site("c")).await.code(), "name_taken");
    caller.site("a").await;
}

#[tokio::test]
async fn objects_are_shown_whole_and_by_name() {
    let bench = Bench::start().await;
    for number in 0..120 {
        bench.caller.site(&format!("s{number}")).await;
    }
    let all: Objects = bench.caller.look("/_sim/objects/site").await;
    let one: Objects = bench.caller.look("/_sim/objects/site?name=s7").await;
    assert_eq!((all.items.len(), one.items.len()), (120, 1));
    assert_eq!(one.items[0]["id"], "st-000008");
    assert_eq!(bench.caller.get("/_sim/objects/router").await.status, 404);
}

#[tokio::test]
async fn the_log_of_calls_is_a_bounded_ring() {
    let folder = Folder::new();
    let mut config = config(folder.path(), Limit { per_second: 0.0, burst: 5 });
    config.calls_kept = 4;
    let running = wanwright_simulator::Simulator::start(config).await.unwrap();
    let caller = crate::support::Caller::new(running.url());
    let id = caller.post("/v1/sites", Some("key-1"), &site("a")).await.id();
    caller.post("/v1/tunnels", Some("key-2"), &tunnel("t", &id)).await;
    caller.get("/v1/sites?name=a").await;
    for _ in 0..3 {
        caller.get("/v1/devices").await;
    }
    let calls: Calls = caller.look("/_sim/calls").await;
    let shown: Vec<_> = calls.calls.iter().map(|call| (call.seq, call.path.as_str(), call.status)).collect();
    let devices = "/v1/devices";
    let expected = [(3, "/v1/sites?name=a", 200), (4, devices, 200), (5, devices, 200), (6, devices, 429)];
    assert_eq!(shown, expected);
    assert!(calls.calls.iter().all(|call| call.fate == Fate::Answered && call.method == "GET"));
    let after: Calls = caller.look("/_sim/calls?after=5").await;
    assert_eq!((after.calls.len(), after.last), (1, 6));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn keys_are_in_the_log_of_calls() {
    let bench = Bench::start().await;
    bench.caller.post("/v1/sites", Some("key-1"), &site("a")).await;
    let calls: Calls = bench.caller.look("/_sim/calls").await;
    assert_eq!(calls.calls[0].key.as_deref(), Some("key-1"));
}

#[tokio::test]
async fn the_back_door_has_its_own_token() {
    let bench = Bench::start().await;
    let client = reqwest::Client::new();
    for (method, path) in [
        (Method::GET, "/_sim/stats"),
        (Method::GET, "/_sim/calls"),
        (Method::PUT, "/_sim/faults"),
        (Method::DELETE, "/_sim/objects/site/st-000001"),
        (Method::GET, "/_sim/nothing"),
    ] {
        let url = format!("{}{path}", bench.caller.base);
        let answer = bench.caller.send(client.request(method, url).bearer_auth(TOKEN)).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(bench.caller.get("/_sim/nothing").await.status, 404);
    assert_eq!(bench.caller.get("/_sim").await.status, 404);
    assert_eq!(bench.caller.stats().await.totals, Totals::default());
    let health = bench.caller.send(client.get(format!("{}/_sim/health", bench.caller.base))).await.unwrap();
    let health: Health = serde_json::from_value(health.body).unwrap();
    assert_eq!(
        (health.status.as_str(), health.kinds),
        ("ok", ["device", "site", "tunnel"].map(str::to_owned).to_vec())
    );
}
