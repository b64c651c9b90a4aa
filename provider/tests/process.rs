//! The provider as a process of its own. The test binary starts itself again to be that process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use wanwright_provider::{Listening, ServeError, ServeOptions, reattach_providers, serve_reattach};

const SOCKET: &str = "WANWRIGHT_TEST_SOCKET";

fn vendors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors")
}

/// Not a test by itself: what the other process runs.
#[tokio::test]
async fn the_other_process() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        serve_reattach(ServeOptions::new(socket, vendors(), None)).await.unwrap();
    }
}

/// Starts a provider and answers it once it listens, with what it wrote.
async fn start(socket: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(SOCKET, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, value)) = line.split_once("TF_REATTACH_PROVIDERS='") {
            let value = value.trim_end_matches('\'').to_owned();
            // The test harness over there goes on writing, and would fail if nobody read.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, value);
        }
    }
    panic!("the provider did not say where it listens")
}

async fn ended(mut child: Child) -> bool {
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    status.expect("it goes on").unwrap().success()
}

#[tokio::test]
async fn it_ends_when_its_input_closes() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("private/p.sock");
    let (mut child, value) = start(&socket).await;
    assert_eq!(value, reattach_providers(&socket, child.id().unwrap()));
    assert!(socket.exists());
    drop(child.stdin.take());
    assert!(ended(child).await);
    assert!(!socket.exists());
}

#[tokio::test]
async fn it_ends_when_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("private/p.sock");
    let (child, _) = start(&socket).await;
    let kill = Command::new("kill").arg(child.id().unwrap().to_string()).status().await.unwrap();
    assert!(kill.success());
    assert!(ended(child).await);
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_socket_of_a_dead_process_is_taken_and_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("private/p.sock");
    let (mut child, _) = start(&socket).await;
    let options = ServeOptions::new(&socket, vendors(), None);
    assert!(matches!(Listening::start(&options).await, Err(ServeError::InUse(_))));
    child.kill().await.unwrap();
    assert!(socket.exists(), "it had no time to clean up");
    let listening = Listening::start(&options).await.unwrap();
    drop(listening);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_folder_others_can_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = ServeOptions::new(dir.path().join("p.sock"), vendors(), None);
    assert!(matches!(Listening::start(&options).await, Err(ServeError::OpenToOthers(_))));
    let options = ServeOptions::new(dir.path().join("p.sock"), "/no/such/folder", None);
    assert!(matches!(Listening::start(&options).await, Err(ServeError::Vendors(_))));
}

#[test]
fn both_registries_are_named() {
    let value = reattach_providers(Path::new("/run/p"), 7);
    let json: serde_json::Value = serde_json::from_str(&value).unwrap();
    for registry in ["registry.terraform.io", "registry.opentofu.org"] {
        let provider = &json[format!("{registry}/wanwright/wanwright")];
        assert_eq!(provider["ProtocolVersion"], 6);
        assert_eq!(provider["Pid"], 7);
        assert_eq!(provider["Addr"]["String"], "/run/p");
    }
}
