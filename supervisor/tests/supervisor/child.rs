use std::time::Duration;

use wanwright_supervisor::{ChildSpec, DirLock, Error, Signal};

use crate::helper::Helper;
use crate::support::{LIMIT, TempDir, is_alive, is_root, until};

fn shell(script: &str) -> ChildSpec {
    ChildSpec::new("/bin/sh").args(["-c", script]).env("PATH", "/bin:/usr/bin")
}

async fn gone_with_its_killed_parent(role: &str) {
    let dir = TempDir::new();
    let helper = Helper::start(role, dir.join("x"), None).await;
    assert!(helper.pids.iter().all(|pid| is_alive(*pid)), "{:?}", helper.pids);
    helper.child.kill().await;
    for pid in &helper.pids {
        until("the child is gone", || !is_alive(*pid)).await;
    }
}

#[tokio::test]
async fn a_child_ends_with_its_killed_parent() {
    gone_with_its_killed_parent("sleeper").await;
}

#[tokio::test]
async fn a_child_of_another_user_ends_with_its_killed_parent() {
    if is_root() {
        gone_with_its_killed_parent("sleeper of nobody").await;
    }
}

#[tokio::test]
async fn a_grandchild_in_a_group_ends_with_its_killed_grandparent() {
    gone_with_its_killed_parent("family").await;
}

#[tokio::test]
async fn a_killed_guard_is_replaced() {
    gone_with_its_killed_parent("family whose guard was killed").await;
}

#[tokio::test]
async fn a_child_survives_the_thread_that_asked_for_it() {
    let child =
        std::thread::spawn(|| ChildSpec::new("/bin/sleep").arg("1000").spawn().unwrap()).join().unwrap();
    let ended = tokio::time::timeout(Duration::from_millis(200), child.wait()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(child.try_wait(), None);
}

#[test]
fn a_child_survives_its_runtime_and_needs_none() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let child = runtime().block_on(async { ChildSpec::new("/bin/sleep").arg("1000").spawn().unwrap() });
    let stopped = runtime().block_on(child.stop(LIMIT));
    assert!(!stopped.killed);
}

#[tokio::test]
async fn a_dropped_child_is_killed() {
    let child = ChildSpec::new("/bin/sleep").arg("1000").spawn().unwrap();
    let pid = child.id();
    drop(child);
    until("the child is gone", || !is_alive(pid)).await;
}

#[tokio::test]
async fn stop_sends_the_stop_signal_to_the_whole_group_first() {
    let script = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.02; done";
    let mut child = shell(script).process_group().piped().stop_signal(Signal::INT).spawn().unwrap();
    let mut lines = child.lines().unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("ready"));
    let stopped = child.stop(LIMIT).await;
    assert!(!stopped.killed);
    assert_eq!(stopped.status.code(), Some(3));
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("interrupted"));
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn stop_kills_the_whole_group_after_its_limit() {
    let script = "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $!; wait";
    let mut child = shell(script).process_group().piped().spawn().unwrap();
    let grandchild = child.lines().unwrap().next().await.unwrap().unwrap().parse().unwrap();
    let stopped = child.stop(Duration::from_millis(100)).await;
    assert!(stopped.killed);
    until("the grandchild is gone", || !is_alive(grandchild)).await;
    // Its number may belong to somebody else by now.
    child.signal(Signal::KILL);
}

#[tokio::test]
async fn nothing_of_a_group_outlives_its_leader() {
    let mut child = shell("sleep 1000 >/dev/null & echo $!").process_group().piped().spawn().unwrap();
    let grandchild = child.lines().unwrap().next().await.unwrap().unwrap().parse().unwrap();
    assert!(child.wait().await.success());
    until("the grandchild is gone", || !is_alive(grandchild)).await;
}

#[tokio::test]
async fn the_environment_is_what_was_given() {
    let mut child = ChildSpec::new("/usr/bin/env").env("ONE", "1").piped().spawn().unwrap();
    let mut lines = child.lines().unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("ONE=1"));
    assert_eq!(lines.next().await.unwrap(), None);
    assert!(child.lines().is_err(), "the output can be taken once");
}

#[tokio::test]
async fn output_goes_to_the_log_and_input_comes_from_a_file() {
    let dir = TempDir::new();
    let (input, log) = (dir.join("input"), dir.join("log"));
    std::fs::write(&input, "from the file\n").unwrap();
    let child = shell("cat; echo to stderr >&2").stdin(&input).log(&log).spawn().unwrap();
    assert!(child.wait().await.success());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "from the file\nto stderr\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    for spec in [ChildSpec::new("/nowhere/tool"), ChildSpec::new("/nowhere/tool").process_group()] {
        let error = spec.spawn().unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nowhere/tool");
    }
}

#[test]
fn a_locked_folder_names_its_holder() {
    let dir = TempDir::new();
    let lock = DirLock::acquire(&dir.join("data")).unwrap();
    let error = DirLock::acquire(&dir.join("data")).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { holder, .. } if *holder == std::process::id().to_string()),
        "{error}"
    );
    drop(lock);
    DirLock::acquire(&dir.join("data")).unwrap();
}

#[tokio::test]
async fn what_a_child_took_is_known_with_what_its_children_took() {
    // The shell itself only waits.
    let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let child = shell(&format!("/bin/sh -c '{burn}'; exit 3")).process_group().spawn().unwrap();
    assert_eq!(child.usage(), None, "it has not ended");
    until("it has taken some memory", || child.peak_kib() > Some(100)).await;
    assert_eq!(child.wait().await.code(), Some(3));
    let usage = child.usage().unwrap();
    assert!(usage.cpu >= Duration::from_millis(20), "{usage:?}");
    assert!(usage.max_resident_kib > 100, "{usage:?}");
    assert_eq!(child.peak_kib(), None, "its number may be a stranger's by now");
}
