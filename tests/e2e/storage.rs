//! Files of a stopped nats-server are damaged: no damage to a history goes unnoticed, whoever asks
//! is told, and no other damage changes anything.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wanwright_tests::Timing;

use crate::support::{home, program};

#[tokio::test(flavor = "multi_thread")]
async fn no_damage_to_a_history_goes_unnoticed() -> Result<()> {
    let _timing = Timing::of("damaged storage");
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs").display().to_string();
    let args = ["bench", "damage", "--count", "10", "--seed", "7", "--cache", &programs];
    let said = program().call(&*home()?, &args).await?;
    let said = said.code(0)?;
    let report: Value = serde_json::from_str(&said.out)?;
    let count = |outcome: &str| report["outcomes"][outcome].as_u64().unwrap_or_default();
    for bad in ["SILENT", "not answered", "false alarm"] {
        ensure!(count(bad) == 0, "{bad}: {}", said.out);
    }
    // A plan that damages no history, or nothing else, would show nothing.
    ensure!(count("detected") > 0 && count("harmless") > 0, "{}", report["outcomes"]);
    let cases = report["cases"].as_array().context("the cases")?;
    ensure!(cases.len() == 10, "{}", said.out);
    // Where no head vouches for what is gone, the inventory of the command services tells.
    let unvouched = |case: &&Value| {
        case["kind"].as_str().is_some_and(|kind| kind.ends_with(" heads")) && case["outcome"] == "detected"
    };
    ensure!(cases.iter().any(|case| unvouched(&case)), "{}", said.out);
    Ok(())
}
