use serde_json::json;
use wanwright_simulator::{Faults, Jobs};

use crate::support::{Bench, site};

#[tokio::test]
async fn a_change_may_be_a_job_that_succeeds_or_fails() {
    let bench = Bench::start().await;
    let jobs = |failure_rate| {
        Some(Jobs {
            kinds: vec!["site".into()],
            looks: 1,
            failure_rate,
            message: "no power".into(),
            ..Jobs::default()
        })
    };
    bench.caller.set_faults(&Faults { jobs: jobs(0.0), ..Faults::default() }).await;
    let begun = bench.caller.post("/v1/sites", Some("k"), &site("a")).await;
    assert_eq!((begun.status, &begun.body), (202, &json!({"job": {"id": "jb-000001"}})));
    let look = bench.caller.get("/v1/jobs/jb-000001").await;
    assert_eq!((look.status, &look.body["job"]["state"]), (200, &json!("running")));
    let look = bench.caller.get("/v1/jobs/jb-000001").await;
    let ended = json!({"id": "jb-000001", "state": "succeeded", "object": "st-000001", "message": null});
    assert_eq!(look.body["job"], ended);
    // The key's object is there, so nothing is left to do.
    assert_eq!(bench.caller.post("/v1/sites", Some("k"), &site("a")).await.status, 200);

    // Faults that are set anew forget no job.
    bench.caller.set_faults(&Faults { jobs: jobs(1.0), ..Faults::default() }).await;
    assert_eq!(bench.caller.get("/v1/jobs/jb-000001").await.body["job"], ended);
    assert_eq!(bench.caller.post("/v1/sites", None, &site("b")).await.status, 202);
    bench.caller.get("/v1/jobs/jb-000002").await;
    let look = bench.caller.get("/v1/jobs/jb-000002").await;
    assert_eq!(
        (&look.body["job"]["state"], &look.body["job"]["message"]),
        (&json!("failed"), &json!("no power"))
    );
    assert_eq!(bench.caller.counters("site", "b").await.creations, 0, "it has done nothing");
    assert_eq!(bench.caller.get("/v1/jobs/jb-000003").await.status, 404);

    bench.caller.set_faults(&Faults::default()).await;
    assert_eq!(bench.caller.post("/v1/sites", None, &site("b")).await.status, 201, "off by default");
}
