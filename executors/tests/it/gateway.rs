//! Calls pass with a credential, a turn and a record, and only as long as their run is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use tokio_util::sync::CancellationToken;
use wanwright_executors::gateway::{Gateway, RunContext};
use wanwright_schemas::effect::Phase;
use wanwright_schemas::run::{RunEvent, RunRecord};
use wanwright_schemas::trace::TraceContext;

use crate::world::World;

#[tokio::test]
async fn a_queued_call_of_a_run_that_ended_is_not_sent() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    let base = opened.base_url().to_owned();
    // The vendor wants to be left alone for longer than this test lasts, so the call waits for another turn.
    world.storm(25).await;
    let waiting = tokio::spawn(World::create_site(world.http.clone(), base.clone(), "acme.one"));
    while world.recorded(&opened).await != [429] {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    assert_eq!(opened.calls(), 1);
    drop(opened);
    let (status, body) = waiting.await.unwrap();
    assert_eq!((status, body.pointer("/error/code").unwrap().as_str()), (503, Some("gateway")));
    assert!(body.to_string().contains("has ended"), "{body}");

    let (status, _) = World::create_site(world.http.clone(), base, "acme.late").await;
    assert_eq!(status, 503, "404 would mean that the vendor does not have it");
    assert_eq!(world.stats().await.totals.calls, 1);
    let journal = world.journal(&context).await;
    assert!(
        matches!(&journal[..], [Phase::Before, Phase::After { status: 429, .. }]),
        "a call that was not sent is no change: {journal:?}"
    );
}

#[tokio::test]
async fn a_429_is_waited_out() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    world.storm(1).await;
    let (status, body) =
        World::create_site(world.http.clone(), opened.base_url().to_owned(), "acme.storm").await;
    assert_eq!(status, 201, "{body}");
    let recorded = world.recorded(&opened).await;
    assert_eq!((recorded.first(), recorded.last()), (Some(&429), Some(&201)));
    let journal = world.journal(&context).await;
    assert!(
        matches!(journal.last(), Some(Phase::After { status: 201, id: Some(_) })),
        "the vendor took the credential, and the change is in the journal: {journal:?}"
    );
    let stats = world.stats().await;
    assert!(stats.totals.stormed >= 1);
    assert_eq!(stats.totals.above_limit, 0);
    assert!(!opened.failed_by_us());
}

#[tokio::test]
async fn the_records_of_a_run_are_few_messages_and_none_is_lost_with_it() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    let base = opened.base_url().to_owned();
    for name in ["acme.one", "acme.two"] {
        let (status, body) = World::create_site(world.http.clone(), base.clone(), name).await;
        assert_eq!(status, 201, "{body}");
    }
    assert_eq!(world.stored(&context).await.len(), 0);
    opened.store_records().await;
    opened.store_records().await;
    let stored = world.stored(&context).await;
    assert_eq!(stored.iter().map(Vec::len).collect::<Vec<_>>(), [2], "both calls are one message");
    let (status, _) = World::create_site(world.http.clone(), base, "acme.three").await;
    assert_eq!(status, 201);
    // The run is given up, as when its lease is lost.
    drop(opened);
    while world.stored(&context).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    let stored = world.stored(&context).await;
    assert!(
        matches!(&stored[1][..], [RunRecord { event: RunEvent::Call { status: 201, .. }, .. }]),
        "{stored:?}"
    );
}

#[tokio::test]
async fn a_call_names_the_trace_of_its_order_to_the_vendor() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let world = World::new(50).await;
    // What a vendor is sent only a vendor can tell; this one keeps the headers of all calls.
    let calls: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let kept = Arc::clone(&calls);
    let routes = Router::new().fallback(async move |headers: HeaderMap| {
        kept.lock().unwrap().push(headers);
        "{}"
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let urls = HashMap::from([("simwan".to_owned(), format!("http://{}", listener.local_addr().unwrap()))]);
    let vendor = tokio::spawn(async move { axum::serve(listener, routes).await });
    let stop = CancellationToken::new();
    let gateway = Gateway::start(world.nats.clone(), &world.catalogue, &urls, stop.clone()).await.unwrap();
    // A run that only looks changes nothing, whatever its calls say of themselves.
    let looking = gateway.open(RunContext { may_change: false, ..World::context("edge-01") });
    let ask = async |method: &str, says: bool| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let call = world.http.request(method, format!("{}/v1/sites", looking.base_url()));
        let call = if says { call.header("wan-looks", "true") } else { call };
        call.body("{}").send().await.unwrap().status().as_u16()
    };
    for (method, says, status) in [
        ("POST", false, 403),
        ("PUT", false, 403),
        ("PATCH", true, 403),
        ("DELETE", true, 403),
        ("PURGE", true, 403),
        ("GET", false, 200),
        ("POST", true, 200),
    ] {
        assert_eq!(ask(method, says).await, status, "{method}, {says}");
    }
    assert_eq!(std::mem::take(&mut *calls.lock().unwrap()).len(), 2);
    let trace = TraceContext::read(Some(PARENT), Some("rojo=1"));
    for trace in [trace, None] {
        let opened = gateway.open(RunContext { trace, ..World::context("edge-01") });
        let called = world.http.get(format!("{}/v1/sites", opened.base_url())).send().await.unwrap();
        assert_eq!(called.status(), 200);
    }
    let calls: Vec<_> = calls.lock().unwrap().iter().map(|call| call.get("traceparent").cloned()).collect();
    assert_eq!(calls, [Some(PARENT.parse().unwrap()), None]);
    stop.cancel();
    vendor.abort();
}
