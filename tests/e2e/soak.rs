//! A seeded sample of `wanwright bench soak`, with two executors and proxies that cut the connections.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use wanwright_tests::Timing;

use crate::support;

/// Its first eight blows kill executors four times, and meet five parts; its first cuts are of both servers, and short: one
/// that lasts for half a minute leaves nothing to see of the rest.
const SEED: &str = "20261324";

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_soak_ends_well() -> Result<()> {
    let timing = Timing::of("soak");
    let home = support::home()?;
    let system = home.join("soak");
    let (system, cache) = (system.display().to_string(), home.join("cache").display().to_string());
    let args = ["bench", "soak", "--executors", "2", "--kills", "8", "--life", "5", "--seed", SEED];
    let args = [&args[..], &["--home", &system, "--cache", &cache]].concat();
    let said = support::program().call_within(&home, &args, Duration::from_secs(400)).await?.code(0)?;
    let report: Value = serde_json::from_str(&said.out)?;
    ensure!(report.pointer("/kills").is_some(), "{report}");
    // A soak without load, or whose kills hit nothing, proves nothing. How much load gets through is the proxies' chance.
    ensure!(report.pointer("/accepted_commands").and_then(Value::as_u64) > Some(0), "{report}");
    // So does one whose proxies nobody went through, or never let anybody down.
    for server in ["nats", "postgres"] {
        let passed = report.pointer(&format!("/through_proxies/{server}/passed_bytes"));
        ensure!(passed.and_then(Value::as_u64) > Some(10_000), "{report}");
    }
    ensure!(report["cuts"].as_object().is_some_and(|cuts| !cuts.is_empty()), "{report}");
    // An executor died, and the vendor had troubles of its own.
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    ensure!(count("/kills/executors, killed") >= 1, "{report}");
    let weather = report["weather"].as_object();
    let troubles = weather.map_or(0, |weather| weather.keys().filter(|name| *name != "fair").count());
    ensure!(troubles >= 2, "{report}");
    // Devices were made while all of that went on. How many, and how many of them went again, is the speed's chance.
    ensure!(count("/verdict/fresh_devices") + count("/verdict/devices_gone_again") >= 1, "{report}");
    timing.say(report);
    Ok(())
}
