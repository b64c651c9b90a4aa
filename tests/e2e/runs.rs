//! What a run says while it goes on and what it took, and a sample of stacks whose runs are killed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Home, Timing, level};

use crate::{foreign, support};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_measured_and_logged() -> Result<()> {
    let running = support::shared().await?;
    let (customer, rows) = (running.customer("measured").await?, running.rows().await?);
    customer.site("oslo", 7, 2, 1).await?;
    rows.healthy("measured", 4, level::LONG).await?;
    // What was done shows before how it was done: that is another stream.
    let made = "SELECT least(3, coalesce(sum(resources_done), 0))::bigint FROM operations
                WHERE customer = 'measured' AND kind = 'site' AND state = 'succeeded'";
    rows.reach("the runs of the site are told of", made, 3, level::LONG).await?;
    let device = "SELECT count(*) FROM operations
                  WHERE customer = 'measured' AND kind = 'device' AND state = 'succeeded'";
    rows.reach("the run of the device is told of", device, 1, level::LONG).await?;
    let done = "SELECT count(*) FROM operations WHERE customer = 'measured' AND state <> 'succeeded' AND state <> 'superseded'";
    rows.reach("every run has ended", done, 0, level::LONG).await?;

    let listed = running.call(&["get", "operations", "-c", "measured", "-o", "json"]).await?.code(0)?;
    let listed: Value = serde_json::from_str(&listed.out)?;
    let operations = listed["items"].as_array().context("operations")?;
    let succeeded = |kind: &str| {
        let of_kind = operations.iter().filter(move |row| row["kind"] == kind && row["state"] == "succeeded");
        of_kind.cloned().collect::<Vec<_>>()
    };
    let stacks = succeeded("site");
    let made: u64 = stacks.iter().filter_map(|row| row["resources_done"].as_u64()).sum();
    ensure!(made >= 3, "a site and two tunnels were made: {stacks:?}");
    for row in &stacks {
        ensure!(row["resources_done"] == row["resources_total"], "{row}");
        let states = row["resources"].as_array().context("resources")?;
        ensure!(states.iter().all(|resource| resource["state"] == "done"), "{row}");
        // A Terraform does not start for less.
        ensure!(row["cpu_millis"].as_u64() >= Some(10) && row["peak_kib"].as_u64() >= Some(20_000), "{row}");
        ensure!(row["running_millis"].as_u64() >= Some(10), "{row}");
        for part in ["preparing_millis", "waiting_millis", "finishing_millis"] {
            ensure!(row[part].is_u64(), "{part}: {row}");
        }
    }
    let devices = succeeded("device");
    let device = devices.first().context("a device")?;
    ensure!(device["cpu_millis"].is_null() && device["running_millis"].is_u64(), "no process: {device}");

    // A tunnel that came a moment later has a run of its own: this is about the one that made the site.
    let mut found = None;
    for row in &stacks {
        let order = row["order_id"].as_str().context("an order")?.to_owned();
        let said = running.call(&["log", &format!("operation/{order}")]).await?.code(0)?.out;
        if said.contains("/v1/sites 201") {
            found = Some((order, said));
        }
    }
    let (order, said) = found.context("no run made the site")?;
    for part in
        ["queued", "try 1", "Plan to create", "done)", "POST /v1/sites 201", "succeeded", "MB at most"]
    {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let followed = running.call(&["log", &order, "--follow"]).await?.code(0)?.out;
    ensure!(followed == said, "it ended, so following is reading: {followed}");
    let records = running.call(&["log", &order, "--json"]).await?.code(0)?.out;
    let last: Value = serde_json::from_str(records.lines().last().context("records")?)?;
    ensure!(last["what"] == "succeeded" && last["usage"]["processes"]["cpu_millis"].is_u64(), "{last}");
    let table = running.call(&["get", "operations", "-c", "measured"]).await?.code(0)?.out;
    ensure!(table.contains("RESOURCES") && table.contains("CPU MS"), "{table}");
    running.call(&["log", "366040cb-7be2-87fe-b066-83ff228ab910"]).await?.code(1)?;
    running.call(&["log", "nothing"]).await?.code(2)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_made_again_says_which_try_it_was() -> Result<()> {
    let running = support::own().await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    customer.site("oslo", 1, 0, 0).await?;
    rows.healthy("acme", 1, level::LONG).await?;
    // The first two creates of this device meet a vendor that is overloaded. They carry a key, so the gateway asks again.
    let refuse =
        json!({ "method": "POST", "name": "acme.oslo-d0", "times": 2, "status": 503, "code": "overloaded" });
    running.vendor()?.faults(&json!({ "refuse": [refuse] })).await?;
    let device = json!({ "site": "oslo", "serial": "SN-AGAIN", "model": "edge-100" });
    customer.send("device.oslo-d0.create", &device).await?.accepted()?;
    rows.healthy("acme", 2, level::LONG).await?;
    let calls = "SELECT concat_ws(' ', l.method, l.path, l.status, l.attempt)
                 FROM run_log l JOIN operations o USING (customer, order_id)
                 WHERE o.customer = 'acme' AND o.kind = 'device' AND l.what = 'call' AND l.method = 'POST'
                 ORDER BY l.sequence";
    let wanted = ["POST /v1/devices 503 1", "POST /v1/devices 503 2", "POST /v1/devices 201 3"];
    let said = async || Ok(rows.texts(calls).await? == wanted);
    let reached = level::until("each call is told with its try", level::LONG, said).await;
    reached.with_context(|| format!("{wanted:?}"))?;
    // All of it in one run: it is the call that was made again, not the order.
    let tries = "SELECT attempts FROM operations WHERE customer = 'acme' AND kind = 'device'";
    ensure!(rows.number(tries).await? == 1, "the order ran again");
    running.vendor()?.judge("acme.", 2).await
}

/// Every kind of blow to a stack's runs, whoever makes the stack.
const BLOWS: [&str; 5] = [
    "terraform killed",
    "executor with its providers killed",
    "executor and terraforms killed",
    "everything killed",
    "Postgres cut off",
];

/// A sample of the soak of stacks, in a home: each of these blows was dealt, and all is well afterwards.
async fn sample(home: &Home, vendors: &Path, blows: &[&str]) -> Result<Value> {
    let cache = home.join("cache").display().to_string();
    let (system, vendors) = (home.join("stacks").display().to_string(), vendors.display().to_string());
    let args =
        ["bench", "soak", "--terraform", "20", "--executors", "2", "--life", "2", "--seed", "20261121"];
    let args = [&args[..], &["--home", &system, "--cache", &cache, "--vendors", &vendors]].concat();
    let said = support::program().call_within(home, &args, Duration::from_secs(900)).await?.code(0)?;
    let report: Value = serde_json::from_str(&said.out)?;
    ensure!(report["good"] == json!(true) && report["applies"].as_u64() >= Some(20), "{report}");
    ensure!(report.pointer("/verdict/fields").and_then(Value::as_u64) > Some(0), "{report}");
    for blow in blows {
        ensure!(report["kills"][blow].as_u64() >= Some(1), "{blow}: {report}");
    }
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn stacks_whose_runs_are_killed_are_what_their_states_say() -> Result<()> {
    let timing = Timing::of("kills of runs");
    let home = support::home()?;
    timing.say(sample(&home, support::program().vendors(), &BLOWS).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stacks_of_a_foreign_provider_that_is_killed_are_what_their_states_say() -> Result<()> {
    let timing = Timing::of("kills of foreign providers");
    let (home, vendors) = foreign::prepared()?;
    // The system has a folder of its own, and with it a mirror.
    std::fs::create_dir(home.join("stacks"))?;
    std::fs::rename(home.join("providers"), home.join("stacks/providers"))?;
    let blows = [&BLOWS[..], &["foreign provider killed"]].concat();
    timing.say(sample(&home, &vendors, &blows).await?);
    Ok(())
}
