//! What was answered is there after `kill -9`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use wanwright_simulator::{Calls, Error, Limit, Simulator, Stats, Violations};

use crate::support::{Bench, Caller, Folder, WIDE, config, device, site};

const FOLDER: &str = "SIMULATOR_TEST_FOLDER";
const LIMIT: &str = "SIMULATOR_TEST_LIMIT";

/// The process that the tests below start and kill; called without their folder it has nothing to do.
#[tokio::test]
async fn child_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let limit: Limit = serde_json::from_str(&std::env::var(LIMIT).unwrap()).unwrap();
    let running = Simulator::start(config(Path::new(&folder), limit)).await.unwrap();
    println!("\nlistening {}", running.url());
    std::future::pending::<()>().await;
}

/// A simulator in a process of its own.
struct Process {
    child: Child,
    caller: Caller,
    /// Kept open: the child would fail to write that its "test" runs for long.
    _output: BufReader<ChildStdout>,
}

impl Process {
    fn start(folder: &Folder, limit: Limit) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "durability::child_process", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(LIMIT, json!(limit).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
        let caller = Caller::new(url.expect("its address"));
        Self { child, caller, _output: output }
    }

    /// SIGKILL, and waits until it is gone.
    fn kill(self) {
        drop(self);
    }
}

/// So that a failed test leaves no process behind.
impl Drop for Process {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = killed {
            eprintln!("killing the simulator: {error}");
        }
    }
}

#[tokio::test]
async fn all_is_there_after_a_kill() {
    let folder = Folder::new();
    let limit = Limit { per_second: 0.0, burst: 9 };
    let process = Process::start(&folder, limit);
    let caller = &process.caller;
    let id = caller.post("/v1/sites", Some("k1"), &site("a")).await.id();
    let path = format!("/v1/sites/{id}");
    let put = caller.put(&path, &json!({ "name": "a", "lan": [], "location": "x" })).await.body;
    caller.post("/v1/devices", Some("k1"), &device("d", &id, "1")).await;
    let gone = caller.post("/v1/sites", Some("k2"), &site("b")).await.id();
    caller.delete(&format!("/v1/sites/{gone}")).await;
    caller.patch("/_sim/objects/device/dv-000001", &json!({ "vlan": 7 })).await;
    for _ in 0..6 {
        caller.get(&path).await;
    }
    let stats = caller.stats().await;
    let violations: Violations = caller.look("/_sim/violations").await;
    let calls: Calls = caller.look("/_sim/calls").await;
    assert_eq!((stats.totals.calls, violations.violations.len(), stats.bucket.tokens), (11, 2, 0.0));
    process.kill();

    let process = Process::start(&folder, limit);
    let caller = &process.caller;
    assert_eq!(caller.stats().await, stats);
    assert_eq!(caller.look::<Violations>("/_sim/violations").await, violations);
    assert_eq!(caller.look::<Calls>("/_sim/calls").await, calls);
    assert_eq!(caller.get(&path).await.status, 429, "dying does not fill the bucket");
    process.kill();

    // With a limit again, the rest can be asked.
    let process = Process::start(&folder, Limit { per_second: 1e6, burst: 1000 });
    let caller = &process.caller;
    assert_eq!(caller.get(&path).await.body, put);
    assert_eq!(caller.post("/v1/sites", Some("k1"), &site("a")).await.body, put);
    assert_eq!(caller.post("/v1/sites", Some("k2"), &site("b")).await.status, 410);
    assert_eq!(caller.get("/v1/devices/dv-000001").await.body["vlan"], 7);
    assert_eq!(caller.site("c").await, "st-000003");
    assert_eq!(caller.post("/v1/devices", None, &device("e", &id, "1")).await.code(), "serial_taken");
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_under_load_every_answered_create_is_there_once() {
    let folder = Folder::new();
    let mut expected: Vec<String> = Vec::new();
    for round in 0..3 {
        let process = Process::start(&folder, WIDE);
        let answered = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (caller, answered) = (process.caller.clone(), Arc::clone(&answered));
                tokio::spawn(async move {
                    let mut names = Vec::new();
                    for number in 0.. {
                        let name = format!("r{round}-w{worker}-{number}");
                        let made = caller.try_post("/v1/sites", Some(&name), &site(&name)).await;
                        let Ok(made) = made else { break };
                        assert_eq!(made.status, 201);
                        answered.fetch_add(1, Ordering::Relaxed);
                        names.push(name);
                    }
                    names
                })
            })
            .collect();
        let start = Instant::now();
        while answered.load(Ordering::Relaxed) < 100 {
            assert!(start.elapsed() < Duration::from_secs(60), "too slow");
            tokio::task::yield_now().await;
        }
        process.kill();
        for worker in workers {
            expected.extend(worker.await.expect("a worker's names"));
        }
    }
    let process = Process::start(&folder, WIDE);
    let stats: Stats = process.caller.stats().await;
    let sites = &stats.kinds["site"];
    for name in &expected {
        assert_eq!(sites.names.get(name).map(|counters| counters.creations), Some(1), "{name}");
    }
    assert!(sites.names.values().all(|counters| counters.creations <= 1));
    // At most one more per worker and kill: done, but killed before its answer.
    let unanswered = sites.objects as usize - expected.len();
    assert!(unanswered <= 24, "{unanswered}");
    process.kill();
}

#[tokio::test]
async fn an_orderly_stop_keeps_all_too() {
    let bench = Bench::start().await;
    let id = bench.caller.site("a").await;
    let stats = bench.caller.stats().await;
    let bench = bench.restart(WIDE).await;
    assert_eq!(bench.caller.stats().await.kinds, stats.kinds);
    assert_eq!(bench.caller.get(&format!("/v1/sites/{id}")).await.status, 200);
}

#[tokio::test]
async fn a_data_folder_has_one_simulator() {
    let bench = Bench::start().await;
    let second = Simulator::start(config(bench.folder.path(), WIDE)).await;
    assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn a_torn_end_is_left_out_and_damage_before_it_is_not() {
    let bench = Bench::start().await;
    bench.caller.site("a").await;
    bench.caller.site("b").await;
    bench.running.stop().await.unwrap();
    let path = bench.folder.path().join("journal.jsonl");
    let whole = std::fs::read(&path).unwrap();

    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"01234567 {\"effects\":[{\"crea").unwrap();
    drop(file);
    let bench = Bench::in_folder(bench.folder, WIDE).await;
    assert_eq!(bench.caller.stats().await.kinds["site"].objects, 2);
    bench.running.stop().await.unwrap();

    let mut damaged = whole;
    damaged[20] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let refused = Simulator::start(config(bench.folder.path(), WIDE)).await;
    assert!(matches!(refused, Err(Error::Damaged { line: 1, .. })), "{refused:?}");
}
