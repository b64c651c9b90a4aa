//! A sample of `wanwright bench races`: nothing but the append check between eight writers, and the leader dies.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use wanwright_tests::Timing;

use crate::support;

async fn race(replicas: &'static str) -> Result<()> {
    let timing = Timing::of(if replicas == "1" { "races on one server" } else { "races on a cluster" });
    let home = support::home()?;
    let cache = home.join("cache").display().to_string();
    let args = ["bench", "races", "--commands", "1500", "--replicas", replicas, "--cache", &cache];
    let said = support::program().call_within(&home, &args, Duration::from_secs(200)).await?.code(0)?;
    let report: Value = serde_json::from_str(&said.out)?;
    // A race in which nobody was overtaken, and a death that nobody noticed, prove nothing.
    let count = |what: &str| report.pointer(&format!("/{what}")).and_then(Value::as_u64);
    ensure!(count("accepted") > Some(100) && count("refused") > Some(100), "{report}");
    ensure!(count("verdict/created") > Some(20) && count("verdict/removed") > Some(5), "{report}");
    ensure!(count("conflicts") > Some(20) && count("answers_missed") > Some(0), "{report}");
    timing.say(report);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_race_on_one_server_that_dies() -> Result<()> {
    race("1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_race_on_a_cluster_whose_leader_dies() -> Result<()> {
    race("3").await
}
