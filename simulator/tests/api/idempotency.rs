use futures::future::join_all;
use serde_json::json;
use wanwright_simulator::Faults;

use crate::support::{Bench, site};

#[tokio::test]
async fn a_used_key_answers_the_object_as_it_is_now() {
    let bench = Bench::start().await;
    let first = bench.caller.post("/v1/sites", Some("k1"), &site("a")).await;
    assert_eq!((first.status, first.header("Idempotent-Replayed")), (201, None));
    let path = format!("/v1/sites/{}", first.id());
    let changed = bench.caller.put(&path, &json!({ "name": "a", "lan": [], "location": "x" })).await;

    // Whatever the body is, even no JSON at all.
    for body in [site("a"), site("other"), json!("nonsense")] {
        let again = bench.caller.post("/v1/sites", Some("k1"), &body).await;
        assert_eq!((again.status, again.header("Idempotent-Replayed")), (200, Some("true")));
        assert_eq!(again.body, changed.body);
    }
    let counters = bench.caller.counters("site", "a").await;
    assert_eq!((counters.creations, counters.replays), (1, 3));
    assert_eq!(bench.caller.counters("site", "other").await.creations, 0);
}

#[tokio::test]
async fn a_key_stays_bound_to_a_deleted_object() {
    let bench = Bench::start().await;
    let first = bench.caller.post("/v1/sites", Some("k1"), &site("a")).await;
    bench.caller.delete(&format!("/v1/sites/{}", first.id())).await;
    for _ in 0..2 {
        let again = bench.caller.post("/v1/sites", Some("k1"), &site("a")).await;
        assert_eq!((again.status, again.code()), (410, "gone"));
        assert_eq!(again.body["error"]["id"], json!(first.id()));
    }
    assert_eq!(bench.caller.post("/v1/sites", Some("k2"), &site("a")).await.status, 201);
    assert_eq!(bench.caller.counters("site", "a").await.creations, 2);
}

#[tokio::test]
async fn creates_at_the_same_time_make_one_object_and_are_noticed() {
    let bench = Bench::start().await;
    // The delay makes sure that they really overlap.
    bench.caller.set_faults(&Faults { latency_ms: 800, ..Faults::default() }).await;
    let body = site("a");
    let same_key = join_all((0..5).map(|_| bench.caller.post("/v1/sites", Some("k"), &body))).await;
    let created = same_key.iter().filter(|answer| answer.status == 201).count();
    let replayed = same_key.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((created, replayed), (1, 4));
    let counters = bench.caller.counters("site", "a").await;
    assert_eq!((counters.creations, counters.concurrent_creations), (1, 4));

    let body = site("b");
    let keys = ["1", "2", "3"];
    let other_keys = join_all(keys.map(|key| bench.caller.post("/v1/sites", Some(key), &body))).await;
    assert_eq!(other_keys.iter().filter(|answer| answer.status == 409).count(), 2);
    let counters = bench.caller.counters("site", "b").await;
    assert_eq!((counters.creations, counters.concurrent_creations, counters.refused_creations), (1, 2, 2));

    // One after the other is not at the same time.
    bench.caller.set_faults(&Faults::default()).await;
    bench.caller.post("/v1/sites", Some("k"), &site("a")).await;
    assert_eq!(bench.caller.counters("site", "a").await.concurrent_creations, 4);
}
