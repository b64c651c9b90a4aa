//! Access tokens: the committed folder of Versa against a Director that answers in the documented shapes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wanwright_executors::gateway::{Gateway, RunContext};
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::Catalogue;

use crate::standin::{Heard, StandIn, answer};
use crate::versa::Workflows;
use crate::world::{World, copy};

const LOGIN: &str =
    r#"{"client_id":"app-1","client_secret":"cl1ent/secret","username":"wan","password":"pa\"ss wörd"}"#;

/// What the Director does.
#[derive(Default)]
pub struct Director {
    given: AtomicU32,
    /// Tokens up to this number are taken no longer.
    pub ended: AtomicU32,
    /// How long tokens are good for.
    seconds: AtomicU32,
    /// What it keeps.
    pub workflows: Workflows,
}

impl Director {
    fn answer(&self, heard: &Heard) -> axum::response::Response {
        if heard.path == "/auth/token" {
            let asked: Value = serde_json::from_str(&heard.body).unwrap_or_default();
            if asked["grant_type"] != "password" || asked["password"] != "pa\"ss wörd" {
                return answer(
                    401,
                    format!(r#"{{"error":"invalid_grant","error_description":{}}}"#, heard.body),
                );
            }
            let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
            let seconds = self.seconds.load(Ordering::SeqCst).to_string();
            let given = json!({
                "access_token": format!("token-number-{number}"), "issued_at": "1795000000000",
                "expires_in": seconds, "token_type": "Bearer", "refresh_token": "refresh-1"
            });
            return answer(200, given.to_string());
        }
        let token = heard.header("authorization");
        let number: u32 = token.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        if number <= self.ended.load(Ordering::SeqCst) {
            return answer(401, format!(r#"{{"message":"{token} has ended"}}"#));
        }
        if heard.path.starts_with("/vnms/") {
            return self.workflows.answer(heard);
        }
        answer(200, format!(r#"{{"token":"{token}","login":["cl1ent\/secret","wan"]}}"#))
    }
}

pub struct Versa {
    pub world: World,
    pub director: Arc<Director>,
    pub standin: StandIn,
    pub gateway: Gateway,
    pub catalogue: Catalogue,
    stop: CancellationToken,
    dir: TempDir,
}

impl Versa {
    pub async fn new(seconds: u32) -> Self {
        Self::following(seconds, "900").await
    }

    /// The same, where a run follows a task for so long.
    pub async fn following(seconds: u32, limit: &str) -> Self {
        let (world, dir) = (World::new(50).await, tempfile::tempdir().unwrap());
        let folder = dir.path().join("vendors/versa");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/versa"), &folder);
        let file = folder.join("vendor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let login = dir.path().join("login");
        std::fs::write(&login, LOGIN).unwrap();
        let ours = text
            .replace("env = \"WANWRIGHT_VERSA_LOGIN\"", &format!("file = \"{}\"", login.display()))
            .replace("per_second = 5\nburst = 10", "per_second = 50\nburst = 10");
        assert!(ours.contains("file = ") && ours.contains("= 50\n"), "the folder has changed: {text}");
        std::fs::write(&file, ours).unwrap();
        // Tasks are followed as before, and this test does not wait for minutes.
        let file = folder.join("api/device.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let soon = text.replace("interval_seconds = 5", "interval_seconds = 0.02");
        assert_ne!(soon, text, "the folder has changed");
        let limited = soon.replace("limit_seconds = 900", &format!("limit_seconds = {limit}"));
        assert!(limited.contains(&format!("limit_seconds = {limit}\n")), "the folder has changed");
        std::fs::write(&file, limited).unwrap();
        let director = Arc::new(Director { seconds: seconds.into(), ..Director::default() });
        let answering = Arc::clone(&director);
        let standin = StandIn::start(move |heard: &Heard| answering.answer(heard)).await;
        let catalogue = Catalogue::load(dir.path().join("vendors")).unwrap();
        let urls = HashMap::from([("versa".to_owned(), standin.url.clone())]);
        let stop = CancellationToken::new();
        let gateway = Gateway::start(world.nats.clone(), &catalogue, &urls, stop.clone()).await.unwrap();
        Self { world, director, standin, gateway, catalogue, stop, dir }
    }

    pub fn context() -> RunContext {
        RunContext { vendor: "versa".parse().unwrap(), ..World::context("edge-01") }
    }

    async fn call(&self) -> (u16, String) {
        let run = self.gateway.open(Self::context());
        let url = format!("{}/nextgen/deviceGroup", run.base_url());
        let answer = self.world.http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// How many calls are recorded, as soon as there are so many. What a run gathered is stored after it is dropped.
    async fn recorded(&self, wanted: usize) -> usize {
        let of = Self::context();
        let mut calls = 0;
        for _ in 0..500 {
            let records = self.world.stored(&of).await.concat();
            calls = records.iter().filter(|record| matches!(record.event, RunEvent::Call { .. })).count();
            if calls >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        calls
    }

    pub fn given(&self) -> u32 {
        self.director.given.load(Ordering::SeqCst)
    }
}

impl Drop for Versa {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_ask_for_one_token_and_see_none() {
    let versa = Versa::new(900).await;
    let calls = futures::future::join_all((0..20).map(|_| versa.call())).await;
    for (status, body) in calls {
        assert_eq!((status, body.as_str()), (200, r#"{"token":"Bearer ***","login":["***","wan"]}"#));
    }
    assert_eq!(versa.given(), 1);
    let heard = versa.standin.heard();
    assert_eq!(heard.iter().filter(|heard| heard.path == "/auth/token").count(), 1);
    assert_eq!(heard[0].header("authorization"), "", "the login goes into the body alone");
    let asked: Value = serde_json::from_str(&heard[0].body).unwrap();
    let login: Value = serde_json::from_str(LOGIN).unwrap();
    for field in ["client_id", "client_secret", "username", "password"] {
        assert_eq!(asked[field], login[field]);
    }
    // It is counted, and recorded, as every call is.
    assert_eq!(versa.recorded(21).await, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_left_before_its_end_and_with_another_login() {
    // Half of a short life is left as a reserve: at two seconds a token is used for one.
    let versa = Versa::new(2).await;
    let began = std::time::Instant::now();
    while versa.given() < 3 {
        assert_eq!(versa.call().await.0, 200);
    }
    assert!(began.elapsed().as_secs_f64() >= 2.0, "{:?}", began.elapsed());
    versa.director.seconds.store(900, Ordering::SeqCst);
    while versa.given() < 4 {
        versa.call().await;
    }
    let other = LOGIN.replace("cl1ent/secret", "another-secret");
    std::fs::write(versa.dir.path().join("login"), other).unwrap();
    assert_eq!(versa.call().await.0, 200);
    assert_eq!(versa.given(), 5, "a login that changed counts at once");
    let last = versa.standin.heard().into_iter().rfind(|heard| heard.path == "/auth/token").unwrap();
    assert!(last.body.contains("another-secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_not_taken_is_quoted_nowhere_and_opens_the_breaker() {
    let versa = Versa::new(900).await;
    std::fs::write(versa.dir.path().join("login"), LOGIN.replace("pa\\\"ss", "wr0ng-pass")).unwrap();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        let (status, body) = versa.call().await;
        assert!(!body.contains("wr0ng") && !body.contains("cl1ent"), "{body}");
        statuses.push(status);
    }
    // A call that has its slot when the tenth fails still leaves.
    assert!((11..=14).contains(&statuses.len()), "{statuses:?}");
    assert!(versa.standin.heard().iter().all(|heard| heard.path == "/auth/token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_no_longer_is_fetched_again_once_for_all() {
    let versa = Versa::new(900).await;
    assert_eq!(versa.call().await.0, 200);
    versa.director.ended.store(1, Ordering::SeqCst);
    let calls = futures::future::join_all((0..10).map(|_| versa.call())).await;
    assert!(calls.iter().all(|(status, _)| *status == 200), "{calls:?}");
    assert_eq!(versa.given(), 2);
    // Whatever it gives is not taken: then it is not asked for a token with every call.
    versa.director.ended.store(9, Ordering::SeqCst);
    for _ in 0..4 {
        let (status, body) = versa.call().await;
        assert_eq!(status, 401);
        assert!(!body.contains("token-number"), "{body}");
    }
    assert_eq!(versa.given(), 3);
}
