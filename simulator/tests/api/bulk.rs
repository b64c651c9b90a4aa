use serde_json::{Value, json};
use wanwright_simulator::{Faults, Jobs, Refuse};

use crate::support::{Bench, device};

fn create(site: &str, names: &[&str]) -> Value {
    let item = |name: &&str| json!({ "key": format!("k-{name}"), "object": device(name, site, &format!("SN-{name}")) });
    json!({ "items": names.iter().map(item).collect::<Vec<_>>() })
}

fn statuses(results: &Value) -> Vec<u64> {
    results
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].as_u64().expect("a status"))
        .collect()
}

#[tokio::test]
async fn each_item_has_a_result_of_its_own_and_sees_the_ones_before() {
    let bench = Bench::start().await;
    let site = bench.caller.site("hq").await;
    let mut body = create(&site, &["a", "b"]);
    // The serial number of one before it, in the same call.
    body["items"]
        .as_array_mut()
        .expect("items")
        .push(json!({ "key": "k-c", "object": device("c", &site, "SN-a") }));
    let calls = bench.caller.stats().await.totals.calls;
    let made = bench.caller.post("/v1/devices/bulk-create", None, &body).await;
    assert_eq!((made.status, statuses(&made.body["results"])), (200, vec![201, 201, 409]), "{:?}", made.body);
    assert_eq!(made.body["results"][2]["error"]["code"], "serial_taken");
    assert_eq!(bench.caller.stats().await.totals.calls, calls + 1, "one call of the budget");
    // The same keys again make nothing.
    let again = bench.caller.post("/v1/devices/bulk-create", None, &create(&site, &["a", "b"])).await;
    assert_eq!(statuses(&again.body["results"]), [200, 200]);
    assert_eq!(again.body["results"][0]["object"], made.body["results"][0]["object"]);
    let counters = bench.caller.counters("device", "a").await;
    assert_eq!((counters.creations, counters.replays), (1, 1));

    let id = |at: usize| made.body["results"][at]["object"]["id"].as_str().expect("an id").to_owned();
    let mut other = device("a", &site, "SN-a");
    other["vlan"] = json!(7);
    let items = json!([{ "id": id(0), "object": other }, { "id": "dv-999999", "object": other }]);
    let changed = bench.caller.post("/v1/devices/bulk-update", None, &json!({ "items": items })).await;
    assert_eq!(statuses(&changed.body["results"]), [200, 404]);
    assert_eq!(changed.body["results"][0]["object"]["vlan"], 7);
    let items = json!([{ "id": id(0) }, { "id": id(0) }]);
    let gone = bench.caller.post("/v1/devices/bulk-delete", None, &json!({ "items": items })).await;
    assert_eq!(statuses(&gone.body["results"]), [204, 404]);

    let many: Vec<String> = (0..51).map(|number| format!("d{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = bench.caller.post("/v1/devices/bulk-create", None, &create(&site, &many)).await;
    assert_eq!((refused.status, refused.code()), (413, "too_many_items"));
    assert_eq!(bench.caller.post("/v1/sites/bulk-create", None, &json!({ "items": [] })).await.status, 405);
    // What was answered is on disk.
    let bench = bench.restart(crate::support::WIDE).await;
    assert_eq!(bench.caller.stats().await.kinds["device"].objects, 1);
}

#[tokio::test]
async fn an_item_is_refused_by_its_name_and_a_job_does_all_or_nothing() {
    let bench = Bench::start().await;
    let site = bench.caller.site("hq").await;
    let refuse = vec![Refuse { name: Some("b".into()), times: Some(1), ..Refuse::default() }];
    bench.caller.set_faults(&Faults { refuse, ..Faults::default() }).await;
    let made = bench.caller.post("/v1/devices/bulk-create", None, &create(&site, &["a", "b"])).await;
    assert_eq!(statuses(&made.body["results"]), [201, 422]);
    assert_eq!(bench.caller.counters("device", "b").await.refused_creations, 1);

    let jobs = |failure_rate| Some(Jobs { looks: 0, failure_rate, ..Jobs::default() });
    bench.caller.set_faults(&Faults { jobs: jobs(0.0), ..Faults::default() }).await;
    let begun = bench.caller.post("/v1/devices/bulk-create", None, &create(&site, &["b", "c"])).await;
    assert_eq!(begun.status, 202);
    let job = bench.caller.get("/v1/jobs/jb-000001").await.body["job"].clone();
    assert_eq!((&job["state"], statuses(&job["results"])), (&json!("succeeded"), vec![201, 201]));
    bench.caller.set_faults(&Faults { jobs: jobs(1.0), ..Faults::default() }).await;
    bench.caller.post("/v1/devices/bulk-create", None, &create(&site, &["d"])).await;
    let job = bench.caller.get("/v1/jobs/jb-000002").await.body["job"].clone();
    assert_eq!((&job["state"], &job["results"]), (&json!("failed"), &Value::Null));
    assert_eq!(bench.caller.stats().await.kinds["device"].objects, 3);
}
