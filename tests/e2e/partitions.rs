//! The customers of a whole system are spread over more partitions.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Processes, Running, Signal, Timing, level, mint};

use crate::support::{own, program};

const NAMES: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

/// Stops a system and waits until nobody is left.
async fn stop(running: Running) -> Result<()> {
    let (home, family) = (running.home.clone(), running.family());
    let child = running.into_child();
    child.signal(Signal::TERM);
    child.wait().await;
    Processes::gone(&family, home.path(), level::LONG).await?;
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_system_goes_on_with_more_partitions() -> Result<()> {
    let timing = Timing::of("8 partitions become 32");
    let running = own().await?;
    let rows = running.rows().await?;
    let mut histories = Vec::new();
    for name in NAMES {
        running.customer(name).await?.site("oslo", 1, 0, 1).await?;
    }
    for name in NAMES {
        rows.healthy(name, 2, level::LONG).await?;
    }
    let acme = running.customer("acme").await?;
    let (id, change) = (mint(), json!({ "settings": { "vlan": 20 } }));
    acme.ask(&id, "device.oslo-d0.change", &change).await?.accepted()?;
    // The row of a change that is only accepted is still as healthy as before.
    let changed = "SELECT count(*) FROM devices WHERE customer = 'acme' AND observed_generation = 2";
    rows.reach("the change is made", changed, 1, level::LONG).await?;
    rows.healthy("acme", 2, level::LONG).await?;
    for name in NAMES {
        histories.push(running.customer(name).await?.history().await?);
    }
    let refused = running.call(&["nats", "repartition", "32"]).await?.code(1)?;
    ensure!(refused.err.contains("stop all roles first"), "{}", refused.err);
    rows.pool.close().await;
    drop(acme);
    let home = running.home.clone();
    stop(running).await?;

    let program = program();
    let would = program.call(&home, &["nats", "repartition", "32", "--dry-run"]).await?.code(0)?;
    ensure!(would.out.starts_with("8 partitions become 32: "), "{}", would.out);
    let done = program.call(&home, &["nats", "repartition", "32", "-o", "json"]).await?.code(0)?;
    let summary: Value = serde_json::from_str(&done.out).with_context(|| done.out.clone())?;
    ensure!(summary["customers"] == json!(NAMES.len()) && summary["moving"] != 0, "{summary}");
    ensure!(summary["rebuilt"].as_array().is_some_and(|streams| streams.len() == 32), "{summary}");
    timing.say(format_args!("repartition {:.1?}, with its servers", done.took));

    let running = Running::up(&program, &home).await?;
    let rows = running.rows().await?;
    ensure!(running.nats().await?.partitions == 32);
    for (name, before) in NAMES.iter().zip(&histories) {
        ensure!(running.customer(name).await?.history().await? == *before, "the history of {name} differs");
    }
    let verified = running.call(&["rebuild", "--verify"]).await?.code(0)?;
    ensure!(verified.out.lines().count() == 32, "{}", verified.out);
    let acme = running.customer("acme").await?;
    ensure!(acme.ask(&id, "device.oslo-d0.change", &change).await?.accepted()?.repeated(), "no repeat");
    // What is new is decided, carried out and shown, of everybody.
    for name in NAMES {
        let body = json!({ "settings": { "vlan": 30 } });
        running.customer(name).await?.send("device.oslo-d0.change", &body).await?.accepted()?;
    }
    for name in NAMES {
        rows.healthy(name, 2, level::LONG).await?;
    }
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    // What was left behind is what was signed, and the new streams are looked at as well.
    let audited = running.call(&["audit", "verify", "--live", "-o", "json"]).await?.code(0)?;
    let audited: Value = serde_json::from_str(&audited.out)?;
    let streams = audited["streams"].as_array().cloned().unwrap_or_default();
    let left: u64 = streams.iter().filter_map(|stream| stream["left_behind"].as_u64()).sum();
    ensure!(streams.len() == 32 && left > 0, "{audited}");
    rows.all_running().await?;
    let overview = running.call(&["get", "customers", "acme", "-o", "json"]).await?.code(0)?;
    ensure!(overview.out.contains("oslo-d0"), "{}", overview.out);
    Ok(())
}
