//! What survives a loss of power is said at the start, and by the server itself.

use anyhow::{Result, ensure};
use wanwright_tests::{Running, Timing};

use crate::support::{home, program, shared};

#[tokio::test(flavor = "multi_thread")]
async fn durable_is_what_nobody_has_to_ask_for() -> Result<()> {
    let running = shared().await?;
    ensure!(running.home.read("said.log").contains("profile durable"), "the start does not say it");
    let doctor = running.call(&["doctor"]).await?;
    ensure!(doctor.out.contains("wanwright runs with profile durable"), "{}", doctor.out);
    // Each role says it where it runs alone, too.
    for role in ["commands", "dispatcher", "executors", "projections"] {
        let said = running.home.read(&format!("logs/{role}.log"));
        ensure!(said.contains("wanwright runs with profile durable"), "{role}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_is_said_loudly() -> Result<()> {
    let _timing = Timing::of("profile fast");
    let home = home()?;
    let child = Running::launch(&program(), &home, &["up", "--profile", "fast"])?;
    let running = Running::ready(&program(), &home, child).await?;
    ensure!(running.home.read("said.log").contains("profile FAST"), "the start does not say it");
    let doctor = running.call(&["doctor"]).await?;
    ensure!(doctor.out.contains("wanwright runs with profile FAST"), "{}", doctor.out);
    Ok(())
}
