use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use wanwright_simulator::{Calls, Delay, Fate, Faults, Refuse};

use crate::support::{Bench, TOKEN, WIDE, site};

#[tokio::test]
async fn a_lost_answer_leaves_the_change_done() {
    let bench = Bench::start().await;
    let lossy = Faults { accepted_but_answer_lost: 1.0, ..Faults::default() };
    bench.caller.set_faults(&lossy).await;
    assert!(bench.caller.try_post("/v1/sites", Some("k"), &site("a")).await.is_err());
    assert_eq!(bench.caller.counters("site", "a").await.creations, 1);
    // Only changes lose their answer, so the caller can find out.
    let again = bench.caller.post("/v1/sites", Some("k"), &site("b")).await;
    assert_eq!((again.status, &again.body["name"]), (200, &json!("a")));
    assert_eq!(bench.caller.get("/v1/sites?name=a").await.status, 200);
    let calls: Calls = bench.caller.look("/_sim/calls").await;
    assert_eq!((calls.calls[0].status, calls.calls[0].fate), (201, Fate::Lost));
}

#[tokio::test]
async fn a_cut_answer_arrives_in_part() {
    let bench = Bench::start().await;
    bench.caller.site("a").await;
    bench.caller.set_faults(&Faults { cut_mid_response: 1.0, ..Faults::default() }).await;
    let response = bench.caller.request(Method::GET, "/v1/sites/st-000001").send().await.unwrap();
    assert_eq!(response.status(), 200, "the head arrives");
    assert!(response.bytes().await.is_err(), "the body does not");
    let path = "/v1/sites/st-000001";
    assert!(bench.caller.request(Method::DELETE, path).send().await.is_err(), "there is no body to cut");
    let stats = bench.caller.stats().await;
    assert_eq!((stats.kinds["site"].totals.reads, stats.kinds["site"].objects), (1, 0));
}

#[tokio::test]
async fn when_down_every_connection_is_closed_and_nothing_is_spent() {
    let bench = Bench::start().await;
    bench.caller.set_faults(&Faults { down: true, ..Faults::default() }).await;
    for _ in 0..3 {
        assert!(bench.caller.try_post("/v1/sites", None, &site("a")).await.is_err());
    }
    let calls: Calls = bench.caller.look("/_sim/calls?after=1").await;
    assert_eq!((calls.calls.len(), calls.last), (2, 3));
    assert!(calls.calls.iter().all(|call| call.fate == Fate::Down && call.status == 0));
    assert_eq!(bench.caller.stats().await.totals.calls, 0);
    bench.caller.set_faults(&Faults::default()).await;
    bench.caller.site("a").await;
}

#[tokio::test]
async fn errors_follow_the_seed_and_do_nothing() {
    let bench = Bench::start().await;
    let mut runs = Vec::new();
    for run in 0..3 {
        let seed = if run == 2 { 8 } else { 7 };
        bench.caller.set_faults(&Faults { seed, error_rate: 0.5, ..Faults::default() }).await;
        let mut statuses = Vec::new();
        for number in 0..40 {
            let name = format!("{run}-{number}");
            let status = bench.caller.post("/v1/sites", None, &site(&name)).await.status;
            let made = bench.caller.counters("site", &name).await.creations;
            assert_eq!((status, made), if made == 1 { (201, 1) } else { (503, 0) });
            statuses.push(status);
        }
        assert!(statuses.contains(&201) && statuses.contains(&503));
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn a_storm_refuses_calls_that_are_within_the_limit() {
    let bench = Bench::start().await;
    bench.caller.set_faults(&Faults { storm_seconds: 60, ..Faults::default() }).await;
    let answer = bench.caller.get("/v1/sites").await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    let totals = bench.caller.stats().await.totals;
    assert_eq!((totals.calls, totals.stormed, totals.above_limit), (1, 1, 0));
    bench.caller.set_faults(&Faults { storm_seconds: 1, ..Faults::default() }).await;
    let start = Instant::now();
    while bench.caller.get("/v1/sites").await.status == 429 {
        assert!(start.elapsed() < Duration::from_secs(5), "the storm does not end");
    }
}

#[tokio::test]
async fn delays_add_up_by_path() {
    let bench = Bench::start().await;
    let delay = Delay { path_prefix: "/v1/devices".into(), ms: 200 };
    let slow = Faults {
        latency_ms: 50,
        jitter_ms: 10,
        answer_delay_ms: 50,
        delays: vec![delay],
        ..Faults::default()
    };
    bench.caller.set_faults(&slow).await;
    let start = Instant::now();
    bench.caller.get("/v1/sites").await;
    assert!(start.elapsed() >= Duration::from_millis(100));
    let start = Instant::now();
    bench.caller.get("/v1/devices").await;
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn the_back_door_has_no_faults() {
    let bench = Bench::start().await;
    let all = Faults {
        latency_ms: 600_000,
        error_rate: 1.0,
        cut_mid_response: 1.0,
        storm_seconds: 600,
        down: true,
        ..Faults::default()
    };
    bench.caller.set_faults(&all).await;
    bench.caller.stats().await;
}

#[tokio::test]
async fn a_call_is_done_though_its_caller_went_away() {
    let bench = Bench::start().await;
    bench.caller.set_faults(&Faults { latency_ms: 300, ..Faults::default() }).await;
    let body = site("a").to_string();
    let head = format!("Authorization: Bearer {TOKEN}\r\nContent-Length: {}", body.len());
    let mut stream = TcpStream::connect(bench.running.address).unwrap();
    write!(stream, "POST /v1/sites HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}").unwrap();
    drop(stream);
    let start = Instant::now();
    while bench.caller.counters("site", "a").await.creations == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it was never done");
    }
}

#[tokio::test]
async fn rules_refuse_single_objects() {
    let bench = Bench::start().await;
    let rule = Refuse {
        method: Some("POST".into()),
        path_prefix: Some("/v1/sites".into()),
        name: Some("bad".into()),
        times: Some(2),
        code: "quota".into(),
        message: "no more sites".into(),
        ..Refuse::default()
    };
    let deletes =
        Refuse { method: Some("DELETE".into()), name: Some("good".into()), status: 500, ..Refuse::default() };
    bench.caller.set_faults(&Faults { refuse: vec![rule, deletes], ..Faults::default() }).await;
    let id = bench.caller.site("good").await;
    for _ in 0..2 {
        let refused = bench.caller.post("/v1/sites", None, &site("bad")).await;
        assert_eq!((refused.status, refused.code()), (422, "quota"));
        assert_eq!(refused.body["error"]["message"], "no more sites");
    }
    bench.caller.site("bad").await;
    let counters = bench.caller.counters("site", "bad").await;
    assert_eq!((counters.creations, counters.refused_creations), (1, 2));
    let refused = bench.caller.delete(&format!("/v1/sites/{id}")).await;
    assert_eq!((refused.status, refused.code()), (500, "refused"));
    let left: Faults = bench.caller.look("/_sim/faults").await;
    assert_eq!((left.refuse[0].times, left.refuse[1].times), (Some(0), None));
}

#[tokio::test]
async fn impossible_faults_are_refused() {
    let bench = Bench::start().await;
    for body in [json!({ "error_rate": 2 }), json!({ "colour": 1 }), json!({ "refuse": [{ "status": 200 }] })]
    {
        assert_eq!(bench.caller.put("/_sim/faults", &body).await.status, 400, "{body}");
    }
    assert_eq!(bench.caller.look::<Faults>("/_sim/faults").await, Faults::default());
}

#[tokio::test]
async fn a_stop_ends_delayed_calls_without_doing_them() {
    let bench = Bench::start().await;
    bench.caller.set_faults(&Faults { latency_ms: 600_000, ..Faults::default() }).await;
    let caller = bench.caller.clone();
    let delayed = tokio::spawn(async move { caller.try_post("/v1/sites", None, &site("a")).await });
    while bench.caller.stats().await.totals.calls == 0 {
        tokio::task::yield_now().await;
    }
    let bench = bench.restart(WIDE).await;
    assert!(delayed.await.unwrap().is_err());
    let stats = bench.caller.stats().await;
    assert_eq!((stats.kinds["site"].objects, stats.totals.calls), (0, 1));
}
