//! Two executors that both want the same stack, a thousand times: never two runs at once, never a lost serial.
//!
//! Both have a lease of their own, a state backend of their own and a folder of their own, on one NATS and one Postgres. Most
//! runs are a stand-in that speaks to the backend as Terraform does, one in twenty-five is a real Terraform.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgPool;
use wanwright_nats::{Fence, Held, Leases};

use super::left::{self, Seen};
use super::state::{StateServer, StateSession};
use super::store::{Mark, Store, StoreError};
use super::tests::{Servers, servers, version};

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
    /// Locks that were refused because the lease was lost.
    kept_out: AtomicU32,
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
        let session = executor.states.open(STACK, "init", None);
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
                self.run(number, lease.held()).await;
                assert_eq!(self.shared.running.fetch_sub(1, Ordering::SeqCst), 1, "two runs at once");
                self.shared.ended.fetch_add(1, Ordering::SeqCst);
            }
            lease.release().await.expect("given back");
        }
    }

    async fn run(&self, number: u32, held: Held) {
        let session = self.states.open(STACK, &number.to_string(), Some(held));
        if number.is_multiple_of(REAL) {
            self.shared.real.fetch_add(1, Ordering::SeqCst);
            let count = format!("-var=count_of_runs={}", number + 1);
            return self.real(&session, &["apply", "-input=false", "-auto-approve", "-json", &count]).await;
        }
        if number % STALE == 3 {
            return self.beside_a_late_one(number).await;
        }
        let before = self.lock_and_read(&session, "own").await;
        assert_eq!(runs_in(&before), u64::from(number), "a run's state is lost");
        assert_eq!(self.write(&session, "own", &before, number).await, 200);
        self.unlock(&session, "own").await;
    }

    /// A run beside one that has read what is there, and then does nothing for a while.
    async fn beside_a_late_one(&self, number: u32) {
        let key = format!("target.simwan.acme.site.late-{number}");
        let lease = self.leases.take(&key).await.expect("an answer").expect("nobody has it");
        // One of two has a lease that it hears the loss of; the other one never does.
        let hears = number % (2 * STALE) == 3;
        let late = self.states.open(STACK, "late", hears.then(|| lease.held()));
        let seen = self.lock_and_read(&late, "late").await;
        self.unlock(&late, "late").await;
        // A lease that was taken later, as that of whoever comes after a late one is.
        let key = format!("target.simwan.acme.site.own-{number}");
        let own = self.leases.take(&key).await.expect("an answer").expect("nobody has it");
        let session = &self.states.open(STACK, &number.to_string(), Some(own.held()));
        let before = self.lock_and_read(session, "own").await;
        assert_eq!(seen, before);
        assert_eq!(self.write(session, "own", &before, number).await, 200);
        assert_eq!(self.lock(&late, "late").await, 423, "a second lock of the same executor");
        self.unlock(session, "own").await;
        lease.release().await.expect("given back");
        if hears {
            assert_eq!(self.lock(&late, "late").await, 423, "its lease is gone");
            assert_eq!(self.write(&late, "late", &seen, 1_000_000).await, 409, "without a lock");
            self.shared.kept_out.fetch_add(1, Ordering::SeqCst);
        } else {
            assert_eq!(self.lock(&late, "late").await, 200);
            assert_eq!(self.write(&late, "late", &seen, 1_000_000).await, 409, "made from what is gone");
            self.shared.refused.fetch_add(1, Ordering::SeqCst);
            self.unlock(&late, "late").await;
        }
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

    async fn unlock(&self, session: &StateSession, id: &str) {
        let with = |id: &str| self.call(session, "UNLOCK", "").body(json!({ "ID": id }).to_string()).send();
        let status = async |id: &str| with(id).await.expect("an answer").status().as_u16();
        assert_eq!(status("another").await, 409, "only by its id");
        assert_eq!(status(id).await, 200);
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
    let late = RUNS / STALE / 2;
    let seen = (count(&shared.real), count(&shared.refused), count(&shared.kept_out));
    assert_eq!(seen, (RUNS / REAL, late, late));
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
    assert_eq!(aside.len(), late as usize, "{aside:?}");
    assert!(aside.iter().all(|name| name.ends_with(".conflict")), "{aside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_serves_nobody_without_the_token_of_a_run() {
    let servers = servers().await;
    let shared = Shared::default();
    let one = Executor::start("one", &servers, &shared).await;
    let session = one.states.open(STACK, "run", None);
    let known = session.env();
    let ended = one.states.open(STACK, "ended", None);
    let (url, gone) = (env(&known, "TF_HTTP_ADDRESS"), ended.token().to_owned());
    drop(ended);
    let token = session.token();
    for method in ["GET", "POST", "LOCK", "UNLOCK", "DELETE"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let call = || one.http.request(method.clone(), url).body(json!({ "ID": "x" }).to_string());
        let without = [
            call(),
            call().basic_auth("run", Some("")),
            call().basic_auth("run", Some(&gone)),
            call().basic_auth("root", Some(token)),
            call().bearer_auth(token),
            call().basic_auth("run", Some(format!("{token}x"))),
        ];
        for call in without {
            let status = call.send().await.expect("an answer").status().as_u16();
            assert_eq!(status, 401, "{method}");
        }
    }
    assert!(!session.troubled(), "nobody did anything in its name");
    assert_eq!(one.lock(&session, "own").await, 200, "its own token opens it");
}

/// Of two leases of a stack the later one counts, whatever the clock of the earlier one's holder says.
#[tokio::test]
async fn a_state_that_was_locked_under_a_later_lease_is_closed_to_the_earlier_one() {
    let servers = servers().await;
    let keeper = |name: &str| {
        let work = servers.dir.path().join(name);
        let (store, nats) = (servers.store.clone(), servers.nats.clone());
        async move { StateServer::start(store, nats, &work).await.expect("a backend") }
    };
    let (one, two) = (keeper("one").await, keeper("two").await);
    let leases = Leases::open(&servers.nats, "one").await.expect("leases");
    let mut fences = Vec::new();
    for _ in 0..2 {
        let lease = leases.take("target.simwan.acme.site.hq").await.expect("an answer").expect("free");
        fences.push(lease.held().fence());
        lease.release().await.expect("given back");
    }
    let [earlier, later] = fences[..] else { panic!("two") };
    assert!(earlier.number < later.number && earlier.incarnation == later.incarnation);

    assert!(one.keeper().fence(STACK, earlier).await.expect("an answer"));
    let first = version(1, "one", None);
    // What was made under it is kept also when it is lost, as long as nobody else has the stack.
    one.keeper().keep(first.clone().under(Some(earlier))).await.expect("kept");
    assert!(two.keeper().fence(STACK, later).await.expect("an answer"));
    assert!(two.keeper().fence(STACK, later).await.expect("an answer"), "the same again");
    assert!(!one.keeper().fence(STACK, earlier).await.expect("an answer"));
    let second = || version(2, "two", Some(first.mark()));
    let late = one.keeper().keep(second().under(Some(earlier))).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(spooled(&servers.dir.path().join("one")), ["stack.2.conflict"], "it is not lost");
    two.keeper().keep(second().under(Some(later))).await.expect("kept");
    assert_eq!(serials(&servers.store.pool).await, [1, 2]);
    // Numbers of another bucket say nothing.
    let anew = Fence { incarnation: Timestamp::UNIX_EPOCH, number: 1 };
    assert!(one.keeper().fence(STACK, anew).await.expect("an answer"));
}

/// What Terraform left on a disk stands only behind the very version that its run had seen.
#[tokio::test]
async fn what_a_dead_run_left_does_not_stand_over_what_came_meanwhile() {
    let servers = servers().await;
    let backend = async |name: &str| {
        let (store, nats) = (servers.store.clone(), servers.nats.clone());
        StateServer::start(store, nats, &servers.dir.path().join(name)).await.expect("a backend")
    };
    let (one, two) = (backend("one").await, backend("two").await);
    let first = version(5, "five", None);
    one.keeper().keep(first.clone()).await.expect("the first");
    let (runs, body) = (servers.dir.path().join("one/runs"), version(8, "left", None).body);
    let leave = |name: &str, seen: Option<Option<Mark>>| {
        let dir = runs.join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("variables.json"), json!({"site": {"uid": STACK}}).to_string())
            .expect("a file");
        if let Some(seen) = seen {
            left::note_seen(&dir, Seen { version: seen, fence: None });
        }
        std::fs::write(dir.join("errored.tfstate"), &body).expect("a file");
        dir
    };
    // Another machine goes on from the same version.
    two.keeper().keep(version(6, "six", Some(first.mark()))).await.expect("six");
    let dirs = [leave("a", Some(Some(first.mark()))), leave("b", None), leave("c", Some(None))];
    one.clear(&runs).await.expect("cleared");
    assert_eq!(serials(&servers.store.pool).await, [5, 6], "six is there, and the newest");
    assert!(dirs.iter().all(|dir| !dir.exists()));
    let aside = spooled(&servers.dir.path().join("one"));
    assert_eq!(aside.len(), 3, "nothing is thrown away: {aside:?}");
    assert!(aside.iter().all(|name| name.starts_with("stack.8.conflict")), "{aside:?}");

    // One that was made from what is there is taken in, and what is no state of a bearable size is kept for a person.
    leave("d", Some(Some(version(6, "six", None).mark())));
    let large = leave("e", Some(None));
    std::fs::File::create(large.join("errored.tfstate"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("a file");
    one.clear(&runs).await.expect("cleared");
    assert_eq!(serials(&servers.store.pool).await, [5, 6, 8]);
    assert!(large.join("unreadable.tfstate").exists() && !runs.join("d").exists());
}
