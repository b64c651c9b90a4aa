//! What a vendor says in its own ways: that it is busy, that it is broken, that it moved, that a credential is no more.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use tokio::time::Instant;
use wanwright_executors::gateway::{Admission, Gateway, Standing, unblock};
use wanwright_schemas::VendorId;

use crate::world::World;

/// A vendor that answers as it is told.
struct Told {
    url: String,
    status: Arc<AtomicU16>,
    calls: Arc<AtomicU64>,
}

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

async fn told(status: u16) -> Told {
    let (status, calls) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicU64::new(0)));
    let (answer, counted) = (Arc::clone(&status), Arc::clone(&calls));
    let routes = Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        (StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap(), "{}")
    });
    Told { url: serve(routes).await, status, calls }
}

fn vendor() -> VendorId {
    "simwan".parse().unwrap()
}

async fn level(gateway: &Gateway, reached: impl Fn(&Standing) -> bool) {
    let mut standing = gateway.watch(&vendor()).unwrap();
    let reached = standing.wait_for(|standing| reached(standing));
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").unwrap();
}

const BUDGET: &str = "per_second = 100\nburst = 100\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_only_fails_is_left_alone_by_all_processes_until_one_call_works() {
    let breaker = "[breaker]\nfailures = 5\nopen_seconds = 2\n";
    let world = World::with(&format!("{BUDGET}{breaker}"), 50, 50).await;
    let vendor = told(500).await;
    let (one, other) = (world.process_to(&vendor.url).await, world.process_to(&vendor.url).await);
    for process in [&one, &other] {
        level(&process.gateway, |standing| standing.admission == Admission::Open).await;
    }
    let failing = one.gateway.open(World::context("edge-01"));
    for _ in 0..5 {
        let answer = world.http.get(format!("{}/x", failing.base_url())).send().await.unwrap();
        assert_eq!(answer.status(), 500);
    }
    let held_back = |standing: &Standing| matches!(standing.admission, Admission::HeldBack { .. });
    level(&other.gateway, held_back).await;
    let refused = other.gateway.open(World::context("edge-02"));
    let asked = Instant::now();
    let answer = world.http.get(format!("{}/x", refused.base_url())).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let text = answer.text().await.unwrap();
    assert!(text.contains("held back until") && text.contains("500"), "{text}");
    assert!(refused.failed_by_us() && refused.calls() == 0 && asked.elapsed() < Duration::from_secs(1));
    assert_eq!(vendor.calls.load(Ordering::SeqCst), 5);

    // One call is tried when the time is over, whoever makes it; it fails, and all wait longer.
    let trial = |standing: &Standing| matches!(standing.admission, Admission::Trial { .. });
    level(&other.gateway, trial).await;
    let mut trying = tokio::task::JoinSet::new();
    for run in [&failing, &refused] {
        for _ in 0..4 {
            trying.spawn(world.http.get(format!("{}/x", run.base_url())).send());
        }
    }
    let statuses: Vec<_> =
        trying.join_all().await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(vendor.calls.load(Ordering::SeqCst), 6, "{statuses:?}");
    level(&one.gateway, held_back).await;
    level(&other.gateway, held_back).await;

    // The next one works, and all go on.
    vendor.status.store(200, Ordering::SeqCst);
    level(&one.gateway, trial).await;
    let answer = world.http.get(format!("{}/x", failing.base_url())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    level(&other.gateway, |standing| standing.admission == Admission::Open && standing.closed.is_some())
        .await;
    let answer = world.http.get(format!("{}/x", refused.base_url())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_told_in_an_answer_that_looks_fine_is_obeyed_and_told_as_busy() {
    let budget = "[budget.limits.query]\nper_minute = 600\neach_operation = true\n\
                  [budget.busy.hidden]\nstatus = 200\npointer = \"/errors/*/message\"\n\
                  contains = [\"rate limit\"]\nlimit = \"query\"\npause_seconds = 60\n";
    let world = World::with(&format!("{BUDGET}{budget}"), 50, 50).await;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let routes = Router::new().fallback(async move |body: String| {
        counted.fetch_add(1, Ordering::SeqCst);
        if body.contains("sites") {
            r#"{"errors":[{"message":"API Rate Limit for this query"}]}"#
        } else {
            r#"{"data":{}}"#
        }
    });
    let url = serve(routes).await;
    let (one, other) = (world.process_to(&url).await, world.process_to(&url).await);
    let run = one.gateway.open(World::context("edge-01"));
    let post = |base: &str, query: &str| {
        let body = serde_json::json!({ "query": query });
        world.http.post(format!("{base}/graphql")).header("idempotency-key", "k").json(&body).send()
    };
    let answer = post(run.base_url(), "{ sites { id } }").await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "60");
    // Others of that query wait, in every process; other queries do not.
    let blocked = |standing: &Standing| {
        standing.limits.iter().any(|limit| limit.name == "query/sites" && limit.blocked.is_some())
    };
    level(&other.gateway, blocked).await;
    let run = other.gateway.open(World::context("edge-02"));
    let waiting = tokio::spawn(post(run.base_url(), "{ sites { name } }"));
    assert_eq!(post(run.base_url(), "{ hubs { id } }").await.unwrap().status(), 200);
    level(&other.gateway, |standing| standing.waiting == 1).await;
    assert!(!waiting.is_finished());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_away_and_says_when_it_is_back_is_left_alone_until_then() {
    let world = World::with(BUDGET, 50, 50).await;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let routes = Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let in_an_hour =
            [("date", "Sun, 06 Nov 1994 08:00:00 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:59:30 GMT")];
        (StatusCode::SERVICE_UNAVAILABLE, in_an_hour, "{}")
    });
    let url = serve(routes).await;
    let (one, other) = (world.process_to(&url).await, world.process_to(&url).await);
    let run = one.gateway.open(World::context("edge-01"));
    let answer = world.http.get(format!("{}/x", run.base_url())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "3570"));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "it is not asked again at once");
    // Nor by anybody else.
    let longest = |standing: &Standing| {
        let now = standing.now.map(|(now, _)| now)?;
        standing.limits.iter().filter_map(|limit| Some(limit.blocked?.duration_since(now).as_secs())).max()
    };
    level(&other.gateway, |standing| longest(standing).is_some_and(|left| (3500..=3570).contains(&left)))
        .await;
    let run = other.gateway.open(World::context("edge-02"));
    let waiting = tokio::spawn(world.http.get(format!("{}/x", run.base_url())).send());
    level(&other.gateway, |standing| standing.waiting == 1).await;
    assert!(!waiting.is_finished());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_when_to_come_again_is_not_taken_for_broken() {
    let world = World::with(&format!("{BUDGET}[breaker]\nfailures = 2\nopen_seconds = 2\n"), 50, 50).await;
    let (calls, says) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU16::new(1)));
    let (counted, when) = (Arc::clone(&calls), Arc::clone(&says));
    let routes = Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", when.load(Ordering::SeqCst).to_string())], "{}")
    });
    let process = world.process_to(&serve(routes).await).await;
    let run = process.gateway.open(World::context("edge-01"));
    // Without a key it is not made again by the gateway.
    let post = || world.http.post(format!("{}/x", run.base_url())).body("{}").send();
    for _ in 0..4 {
        assert_eq!(post().await.unwrap().headers()["retry-after"], "1");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    // It says so, and not when.
    says.store(0, Ordering::SeqCst);
    for _ in 0..2 {
        post().await.unwrap();
    }
    level(&process.gateway, |standing| matches!(standing.admission, Admission::HeldBack { .. })).await;
    assert!(post().await.unwrap().text().await.unwrap().contains("held back until"));
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vendor_said_in_error_is_taken_back_for_all() {
    let world = World::with(BUDGET, 50, 50).await;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let routes = Router::new().fallback(async move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")]).into_response(),
        _ => "{}".into_response(),
    });
    let url = serve(routes).await;
    let (one, other) = (world.process_to(&url).await, world.process_to(&url).await);
    let run = one.gateway.open(World::context("edge-01"));
    assert_eq!(world.http.get(format!("{}/x", run.base_url())).send().await.unwrap().status(), 429);
    let is_blocked = |standing: &Standing| standing.limits.iter().any(|limit| limit.blocked.is_some());
    level(&other.gateway, is_blocked).await;
    let run = other.gateway.open(World::context("edge-02"));
    let waiting = tokio::spawn(world.http.get(format!("{}/x", run.base_url())).send());
    level(&other.gateway, |standing| standing.waiting == 1).await;

    let away: VendorId = "versa".parse().unwrap();
    assert_eq!(unblock(&world.nats, &away, None).await.unwrap(), []);
    assert_eq!(unblock(&world.nats, &vendor(), Some("other")).await.unwrap(), []);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let taken_back = unblock(&world.nats, &vendor(), Some("default")).await.unwrap();
    let [unblocked] = &taken_back[..] else { panic!("{taken_back:?}") };
    let left = unblocked.until.duration_since(jiff::Timestamp::now()).as_secs();
    assert_eq!((unblocked.account.as_str(), unblocked.limit.as_str()), ("default", "calls"));
    assert!((3500..=3600).contains(&left), "{unblocked:?}");
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("its turn").unwrap();
    assert_eq!(answer.unwrap().status(), 200);
    level(&one.gateway, |standing| !is_blocked(standing)).await;
    assert_eq!(unblock(&world.nats, &vendor(), None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_out_a_503_that_says_when_if_it_may_be_made_twice() {
    let world = World::with(BUDGET, 50, 50).await;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let routes = Router::new().fallback(async move || match counted.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "2")]).into_response(),
        _ => "{}".into_response(),
    });
    let process = world.process_to(&serve(routes).await).await;
    let run = process.gateway.open(World::context("edge-01"));
    let url = format!("{}/x", run.base_url());
    let began = Instant::now();
    assert_eq!(world.http.get(&url).send().await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // It may have been made all the same.
    let answer = world.http.post(&url).body("{}").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_made_is_not_made_again_because_its_answer_asks_to_slow_down() {
    let budget = "[budget.busy.hidden]\nstatus = 200\npointer = \"/errors/*/message\"\n\
                  contains = [\"rate limit\"]\n";
    let world = World::with(&format!("{BUDGET}{budget}"), 50, 50).await;
    const MADE: &str = r#"{"data":{"addSite":{"id":"1"}},"errors":[{"message":"rate limit ahead"}]}"#;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let routes = Router::new().fallback(async move |body: String| {
        let mut heard = kept.lock().unwrap();
        let again = heard.contains(&body);
        heard.push(body.clone());
        match (body.contains("addSite"), again) {
            (_, true) => r#"{"data":{"addSite":{"id":"2"}}}"#,
            (true, false) => MADE,
            (false, false) => r#"{"data":null,"errors":[{"message":"rate limit"}]}"#,
        }
    });
    let process = world.process_to(&serve(routes).await).await;
    let run = process.gateway.open(World::context("edge-01"));
    let post = async |query: &str, key: bool| {
        let body = serde_json::json!({ "query": query });
        let mut call = world.http.post(format!("{}/graphql", run.base_url())).json(&body);
        if key {
            call = call.header("idempotency-key", "k");
        }
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let calls = || heard.lock().unwrap().len();
    // It was done: its caller is told what the vendor said.
    assert_eq!(post("mutation { addSite { id } }", false).await, (200, MADE.to_owned()));
    assert_eq!(calls(), 1);
    // It was not done, or may be done twice.
    assert!(post("mutation { moveSite { id } }", false).await.1.contains("\"2\""));
    assert!(post("mutation { addSite { name } }", true).await.1.contains("\"2\""));
    assert_eq!(calls(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_in_answers_lead_back_through_the_gateway_or_nowhere() {
    let answers = "[answers]\naddresses = [\"/next\"]\n";
    let world = World::with(&format!("{BUDGET}{answers}"), 50, 50).await;
    let here: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&here);
    let routes = Router::new().fallback(async move |request: Request| -> Response {
        let base = known.lock().unwrap().clone();
        let location = |to: String| (StatusCode::FOUND, [("location", to)], "").into_response();
        match request.uri().path() {
            "/moved" => location(format!("{base}/there?x=1")),
            "/away" => location("http://other.example/there".to_owned()),
            "/beside" => location("//other.example/there".to_owned()),
            "/page" => {
                let link = format!("<{base}/page?2>; rel=next, <http://other.example/>; rel=help");
                ([("link", link)], format!(r#"{{"next":"{base}/page?2"}}"#)).into_response()
            }
            "/middle-page" => {
                let link = |rel: &str, page: u8| ("link", format!("<{base}/page?{page}>; rel={rel}"));
                let broken = ("link", format!(", what, <{base}/page?0>; rel=first"));
                (AppendHeaders([broken, link("prev", 1), link("next", 3)]), "{}").into_response()
            }
            "/bad-page" => r#"{"next":"http://other.example/page?2"}"#.into_response(),
            _ => "there".into_response(),
        }
    });
    *here.lock().unwrap() = serve(routes).await;
    let url = here.lock().unwrap().clone();
    let process = world.process_to(&url).await;
    let run = process.gateway.open(World::context("edge-01"));
    let base = run.base_url();
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |path: &str| http.get(format!("{base}{path}")).send();
    let moved = get("/moved").await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()),
        (302, &*format!("{base}/there?x=1"))
    );
    for path in ["/away", "/beside", "/bad-page"] {
        let away = get(path).await.unwrap();
        assert_eq!((away.status().as_u16(), away.headers().get("location")), (502, None), "{path}");
        assert!(!away.text().await.unwrap().contains("other.example"), "{path}");
    }
    let page = get("/page").await.unwrap();
    assert_eq!(page.headers()["link"].to_str().unwrap(), format!("<{base}/page?2>; rel=next"));
    assert_eq!(page.text().await.unwrap(), format!(r#"{{"next":"{base}/page?2"}}"#));
    let page = get("/middle-page").await.unwrap();
    let links: Vec<_> = page.headers().get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    let wanted = ["0>; rel=first", "1>; rel=prev", "3>; rel=next"];
    assert_eq!(links, wanted.map(|link| format!("<{base}/page?{link}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_changes_is_used_at_once_and_never_shown() {
    let world = World::with(BUDGET, 50, 50).await;
    // The vendor quotes what it was sent, and takes the second credential only.
    let routes = Router::new().fallback(async |headers: HeaderMap| {
        let sent = headers["authorization"].to_str().unwrap().to_owned();
        let status = if sent == "Bearer second-secret" { 200 } else { 401 };
        let quoted = [("etag", sent.clone())];
        (StatusCode::from_u16(status).unwrap(), quoted, serde_json::json!({ "you": sent }).to_string())
    });
    let url = serve(routes).await;
    std::fs::write(world.credential(), "first-secret").unwrap();
    let process = world.process_to(&url).await;
    let run = process.gateway.open(World::context("edge-01"));
    let get = || world.http.get(format!("{}/x", run.base_url())).send();
    let refused = get().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["etag"]),
        (401, &"Bearer ***".parse().unwrap())
    );
    assert!(run.failed_by_us());
    std::fs::write(world.credential(), "second-secret\n").unwrap();
    let taken = get().await.unwrap();
    assert_eq!(taken.status(), 200);
    assert_eq!(taken.text().await.unwrap(), r#"{"you":"Bearer ***"}"#);
}
