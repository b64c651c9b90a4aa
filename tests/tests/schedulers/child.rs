//! A scheduler in a process of its own, so that it can be killed: this very program, told to be one.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use wanwright_executors::scheduler::Patience;

use crate::world::{LIMIT, Place, World, schedule};

const PLACE: &str = "WANWRIGHT_TEST_SCHEDULER";
const READY: &str = "the scheduler is ready";

/// No test: what a child process runs. Without its place there is nothing to do.
#[tokio::test]
async fn child() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place: Place = serde_json::from_str(&place).unwrap();
    schedule(place, Patience::default(), CancellationToken::new(), || println!("{READY}")).await;
}

impl World {
    /// Starts a scheduler in a process of its own, which dies with the answer.
    pub async fn process(&self, name: &str) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child", "--nocapture"])
            .env(PLACE, serde_json::to_string(&self.place(name)).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(READY) {
                    return;
                }
            }
            panic!("the scheduler has ended");
        };
        tokio::time::timeout(LIMIT, ready).await.unwrap();
        // Whatever else it says must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        child
    }
}

/// Kills a process where it stands.
pub async fn kill(mut child: Child) {
    child.start_kill().unwrap();
    tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
}
