//! A seeded sample of `wanwright bench soak`.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use wanwright_tests::Timing;

use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_soak_ends_well() -> Result<()> {
    let timing = Timing::of("soak");
    let home = support::home()?;
    let system = home.join("soak");
    let (system, cache) = (system.display().to_string(), home.join("cache").display().to_string());
    let args = ["bench", "soak", "--kills", "6", "--seed", "20261121", "--home", &system, "--cache", &cache];
    let said = support::program().call_within(&home, &args, Duration::from_secs(400)).await?.code(0)?;
    let report: Value = serde_json::from_str(&said.out)?;
    ensure!(report.pointer("/kills").is_some(), "{report}");
    // A soak without load, or whose kills hit nothing, proves nothing.
    ensure!(report.pointer("/accepted_commands").and_then(Value::as_u64) > Some(20), "{report}");
    timing.say(report);
    Ok(())
}
