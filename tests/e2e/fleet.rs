//! A sample of `wanwright bench fleet`: what has to hold however busy the machine is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::Timing;

use crate::support;

/// Edits of one device that the campaign sends, a second long if the machine can.
const EDITS: u64 = 100;

/// Changes that one customer queues before others' single ones.
const BULK: u64 = 1000;

/// Devices that are made, and looked at one by one while single changes are sent.
const DEVICES: u64 = 1000;

/// Most calls of others that reach the vendor between sending a single change and its own. Without turns by customer it
/// would be those of all that is queued: the bulk, or, where intent does not go before looks, what is left of them.
const BEFORE: u64 = BULK / 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_fleet_keeps_budget_order_and_turns() -> Result<()> {
    let timing = Timing::of("fleet");
    let home = support::home()?;
    let (cache, bulk, devices) =
        (home.join("cache").display().to_string(), BULK.to_string(), DEVICES.to_string());
    let args = ["bench", "fleet", "--executors", "2", "--customers", "10", "--changes", &devices];
    let args = [&args[..], &["--bulk", &bulk, "--cache", &cache]].concat();
    // Its own verdict is about seconds as well, so it is not asked for.
    let said = support::program().call_within(&home, &args, Duration::from_secs(600)).await?;
    ensure!(said.code <= 1, "exit code {}\nout: {}\nerr: {}", said.code, said.out, said.err);
    let report: Value = serde_json::from_str(&said.out)?;
    let run = report.pointer("/runs/0").context("a run")?;
    timing.say(run);

    ensure!(run["calls_above_limit"] == json!(0), "{run}");
    let used = number(run, "/throughput/budget_used")?;
    // A busy machine sends its commands slower than the vendor takes the calls; what is too much the vendor has counted.
    ensure!(used >= 0.1, "of the budget {used} was used");

    let edits = &run["edits_of_one_device"];
    let (writes, superseded) = (count(edits, "/vendor_writes")?, count(edits, "/superseded")?);
    ensure!(edits["last_edit_wins"] == json!(true), "{edits}");
    ensure!(superseded >= EDITS - writes, "{edits}");
    // One at once, and at most one for each second that they took to send, begun or whole.
    let seconds = number(edits, "/sent_in_seconds")?;
    let writes = number(edits, "/vendor_writes")?;
    ensure!(writes <= 2.0 + seconds.ceil(), "{writes} writes of {EDITS} edits in {seconds} s");

    // Behind nothing nobody has to wait.
    let drift = &run["single_change_behind_drift_looks"];
    ensure!(count(drift, "/looks")? == DEVICES && was_behind(drift, "/looks_still_waiting")?, "{drift}");
    let bulk = &run["single_change_behind_bulk"];
    ensure!(was_behind(bulk, "/still_waiting_of_the_bulk")?, "{bulk}");
    for scene in ["single_change_behind_bulk", "single_change_behind_drift_looks"] {
        let before = run[scene]["others_calls_before"].as_array().context("singles")?;
        ensure!(!before.is_empty(), "{}", run[scene]);
        ensure!(before.iter().all(|calls| calls.as_u64() <= Some(BEFORE)), "{scene}: {before:?}");
    }
    Ok(())
}

fn number(of: &Value, pointer: &str) -> Result<f64> {
    of.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("{pointer} of {of}"))
}

fn count(of: &Value, pointer: &str) -> Result<u64> {
    of.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("{pointer} of {of}"))
}

/// Whether some still waited when the last single change was done. Where those took most of the time that all calls take, a
/// machine that has other things to do has let everything pass.
fn was_behind(scene: &Value, waiting: &str) -> Result<bool> {
    let seconds = scene["seconds"].as_array().context("seconds")?;
    let took: f64 = seconds.iter().filter_map(Value::as_f64).sum();
    Ok(count(scene, waiting)? > 0 || took > 15.0)
}
