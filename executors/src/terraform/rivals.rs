//! Two executors that both want the same stack, a thousand times: never two runs at once, never a lost serial.
//!
//! Both have a lease of their own, a state backend of their own and a folder of their own, on one NATS and one Postgres. Most
//! runs are a stand-in that speaks to the backend as Terraform does, one in twenty-five is a real Terraform.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sqlx::PgPool;
use wanwright_nats::Leases;

use super::state::{StateServer, StateSession};
use super::store::Store;
use super::tests::{Servers, servers};

/// Runs of both together.
const RUNS: u32 = 1000;

/// One of so many runs is a real Terraform.
const REAL: u32 = 25;

/// One of so many runs goes on after it has lost its lease without knowing it.
const STALE: u32 = 10;

const STACK: &str = "stack";

/// A template that needs no provider but the one inside Terraform.
const TEMPLATE: &str = r#"
terraform {
  backend "http" {}
}
variable "count_of_runs" { type = number }
resource "terraform_data" "runs" { input = var.count_of_runs }
output "runs" { value = terraform_data.runs.output }
"#;

/// What both share and are judged by.
#[derive(Default)]
struct Shared {
    /// Runs begun by both.
    begun: AtomicU32,
    /// Runs at this moment.
    running: AtomicU32,
    /// Runs that ended well.
    ended: AtomicU32,
    /// Times somebody else had the stack.
    turned_away: AtomicU32,
    /// Late writes that were refused.
    refused: AtomicU32,
    real: AtomicU32,
}

struct Executor<'a> {
    leases: Leases,
    states: StateServer,
    /// A Terraform's folder, initialised.
    folder: PathBuf,
    http: reqwest::Client,
    terraform: PathBuf,
    shared: &'a Shared,
}

fn env<'a>(session: &'a [(&'static str, String)], name: &str) -> &'a str {
    session.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).expect("a variable")
}

/// The number of runs that a state tells of.
fn runs_in(state: &Value) -> u64 {
    state["outputs"]["runs"]["value"].as_u64().unwrap_or_default()
}

impl<'a> Executor<'a> {
    async fn start(name: &str, servers: &Servers, shared: &'a Shared) -> Self {
        let work = servers.dir.path().join(name);
        let folder = work.join("terraform");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("main.tf"), TEMPLATE).expect("a template");
        let store = Store {
            pool: servers.store.pool.clone(),
            keys: servers.store.keys.clone(),
            copies: servers.store.copies.clone(),
        };
        let states = StateServer::start(store, servers.nats.clone(), &work).await.expect("a backend");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let terraform = wanwright_supervisor::find_terraform().await.expect("a Terraform").path;
        let leases = Leases::open(&servers.nats, name).await.expect("leases");
        let executor = Self { leases, states, folder, http, terraform, shared };
        let session = executor.states.open(STACK, "init");
        executor.real(&session, &["init", "-input=false"]).await;
        executor
    }

    /// Takes the stack again and again until both have had it often enough.
    async fn compete(&self) {
        while self.shared.begun.load(Ordering::SeqCst) < RUNS {
            let Some(lease) = self.leases.take("target.simwan.acme.site.hq").await.expect("an answer") else {
                self.shared.turned_away.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                continue;
            };
            let number = self.shared.begun.fetch_add(1, Ordering::SeqCst);
            if number < RUNS {
                assert_eq!(self.shared.running.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
                self.run(number).await;
                assert_eq!(self.shared.running.fetch_sub(1, Ordering::SeqCst), 1, "two runs at once");
                self.shared.ended.fetch_add(1, Ordering::SeqCst);
            }
            lease.release().await.expect("given back");
        }
    }

    async fn run(&self, number: u32) {
        let session = self.states.open(STACK, &number.to_string());
        if number.is_multiple_of(REAL) {
            self.shared.real.fetch_add(1, Ordering::SeqCst);
            let count = format!("-var=count_of_runs={}", number + 1);
            return self.real(&session, &["apply", "-input=false", "-auto-approve", "-json", &count]).await;
        }
        let late = (number % STALE == 3).then(|| self.states.open(STACK, "late"));
        if let Some(late) = &late {
            // It has read what is there, and then does nothing for a while.
            let seen = self.lock_and_read(late, "late").await;
            self.unlock(late).await;
            let before = self.lock_and_read(&session, "own").await;
            assert_eq!(seen, before);
            assert_eq!(self.write(&session, "own", &before, number).await, 200);
            assert_eq!(self.lock(late, "late").await, 423, "a second lock of the same executor");
            self.unlock(&session).await;
            assert_eq!(self.lock(late, "late").await, 200);
            assert_eq!(self.write(late, "late", &seen, 1_000_000).await, 409, "made from what is gone");
            self.shared.refused.fetch_add(1, Ordering::SeqCst);
            self.unlock(late).await;
            return;
        }
        let before = self.lock_and_read(&session, "own").await;
        assert_eq!(runs_in(&before), u64::from(number), "a run's state is lost");
        assert_eq!(self.write(&session, "own", &before, number).await, 200);
        self.unlock(&session).await;
    }

    fn call(&self, session: &StateSession, method: &str, query: &str) -> reqwest::RequestBuilder {
        let known = session.env();
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("{}{query}", env(&known, "TF_HTTP_ADDRESS"));
        let (user, password) = (env(&known, "TF_HTTP_USERNAME"), env(&known, "TF_HTTP_PASSWORD"));
        self.http.request(method, url).basic_auth(user, Some(password))
    }

    async fn lock(&self, session: &StateSession, id: &str) -> u16 {
        let asked = self.call(session, "LOCK", "").body(json!({ "ID": id }).to_string()).send().await;
        asked.expect("an answer").status().as_u16()
    }

    async fn unlock(&self, session: &StateSession) {
        let asked = self.call(session, "UNLOCK", "").send().await.expect("an answer");
        assert_eq!(asked.status().as_u16(), 200);
    }

    async fn lock_and_read(&self, session: &StateSession, id: &str) -> Value {
        assert_eq!(self.lock(session, id).await, 200);
        let asked = self.call(session, "GET", "").send().await.expect("an answer");
        let body = asked.bytes().await.expect("a body");
        serde_json::from_slice(&body).expect("a state: the first run was a real Terraform")
    }

    /// Writes the version behind this one, with one more run in it.
    async fn write(&self, session: &StateSession, id: &str, before: &Value, number: u32) -> u16 {
        let mut state = before.clone();
        state["serial"] = json!(before["serial"].as_u64().expect("a serial") + 1);
        state["outputs"]["runs"]["value"] = json!(number + 1);
        let asked = self.call(session, "POST", &format!("?ID={id}")).body(state.to_string()).send().await;
        asked.expect("an answer").status().as_u16()
    }

    /// Runs Terraform, which has to succeed.
    async fn real(&self, session: &StateSession, args: &[&str]) {
        let output = tokio::process::Command::new(&self.terraform)
            .args(args)
            .current_dir(&self.folder)
            .env_clear()
            .envs(session.env())
            .env("HOME", &self.folder)
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .output()
            .await
            .expect("a Terraform");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The serials that Postgres has of the stack, in their order.
async fn serials(pool: &PgPool) -> Vec<i64> {
    let sql = "SELECT serial FROM terraform.states WHERE stack = $1 ORDER BY serial";
    sqlx::query_scalar(sql).bind(STACK).fetch_all(pool).await.expect("serials")
}

fn spooled(work: &Path) -> Vec<String> {
    super::tests::names(&work.join("spool"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_and_one_stack_a_thousand_times() {
    let servers = servers().await;
    let shared = Shared::default();
    let one = Executor::start("one", &servers, &shared).await;
    let two = Executor::start("two", &servers, &shared).await;
    tokio::join!(one.compete(), two.compete());

    let count = |of: &AtomicU32| of.load(Ordering::SeqCst);
    assert_eq!((count(&shared.ended), count(&shared.running)), (RUNS, 0));
    assert_eq!((count(&shared.real), count(&shared.refused)), (RUNS / REAL, RUNS / STALE));
    assert!(count(&shared.turned_away) > 0, "they never met");
    let serials = serials(&servers.store.pool).await;
    let first = *serials.first().expect("a serial");
    assert_eq!(
        serials,
        (first..first + i64::from(RUNS)).collect::<Vec<_>>(),
        "each run has its serial, and no other"
    );
    let newest = one.states.keeper().newest(STACK).await.expect("a state").expect("a state");
    let state: Value = serde_json::from_slice(&newest.body).expect("a state");
    assert_eq!(runs_in(&state), u64::from(RUNS));
    let copy = servers.store.copy(STACK).await.expect("a copy").expect("a copy");
    assert_eq!(copy.mark(), newest.mark());
    // What came too late was set aside by its executor, and nothing waits.
    let aside = [spooled(&servers.dir.path().join("one")), spooled(&servers.dir.path().join("two"))].concat();
    assert_eq!(aside.len(), (RUNS / STALE) as usize, "{aside:?}");
    assert!(aside.iter().all(|name| name.ends_with(".conflict")), "{aside:?}");
}
