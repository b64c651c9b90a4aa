//! Stopping: by Ctrl-C, by SIGTERM, by SIGKILL, and when something is missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wanwright_tests::{Processes, Running, Signal, Timing};

use crate::support::{home, own, program};

const LIMIT: Duration = Duration::from_secs(10);

/// Ends a running system with a signal while it works, and answers its exit code.
async fn end(signal: Signal) -> Result<(Option<i32>, Duration)> {
    let running = own().await?;
    running.vendor()?.faults(&serde_json::json!({ "latency_ms": 1500 })).await?;
    let customer = running.customer("busy").await?;
    customer.site("oslo", 1, 2, 3).await?;
    let rows = running.rows().await?;
    rows.reach("Terraform runs", "SELECT count(*) FROM operations WHERE state = 'running'", 1, LIMIT).await?;
    rows.pool.close().await;
    let (home, family) = (running.home.clone(), running.family());
    ensure!(family.len() >= 7, "only {} processes: {family:?}", family.len());
    let began = Instant::now();
    let child = running.into_child();
    child.signal(signal);
    let status = tokio::time::timeout(LIMIT, child.wait()).await.context("it did not end")?;
    Processes::gone(&family, home.path(), LIMIT.saturating_sub(began.elapsed())).await?;
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    ensure!(home.violations().is_empty(), "{:?}", home.violations());
    Ok((status.code(), began.elapsed()))
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_everything() -> Result<()> {
    let timing = Timing::of("SIGINT");
    let (code, took) = end(Signal::INT).await?;
    timing.say(format_args!("everything ended in {took:?}"));
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_everything() -> Result<()> {
    let timing = Timing::of("SIGTERM");
    let (code, took) = end(Signal::TERM).await?;
    timing.say(format_args!("everything ended in {took:?}"));
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_leaves_nobody() -> Result<()> {
    let timing = Timing::of("SIGKILL");
    let (code, took) = end(Signal::KILL).await?;
    timing.say(format_args!("everything ended in {took:?}"));
    ensure!(code.is_none(), "{code:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ctrl_c_while_starting_stops_everything() -> Result<()> {
    let _timing = Timing::of("SIGINT while starting");
    let (home, program) = (home()?, program());
    for moment in [50, 400, 1200, 2500] {
        let child = Running::launch(&program, &home, &["up"])?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let family = Processes::below(child.id());
        child.signal(Signal::INT);
        tokio::time::timeout(LIMIT, child.wait()).await.context("it did not end")?;
        Processes::gone(&family, home.path(), LIMIT).await?;
    }
    // What was interrupted has left nothing half-made behind.
    Running::up(&program, &home).await.map(drop)
}

/// Where a `kill -9` in the middle of the first start leaves a home, sometimes.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_stream_of_a_first_start_is_made_again() -> Result<()> {
    let _timing = Timing::of("half-made stream");
    let home = home()?;
    std::fs::create_dir_all(home.join("nats/jetstream/WAN/streams/ORDERS/msgs"))?;
    std::fs::write(home.join("nats/jetstream/WAN/streams/ORDERS/meta.inf"), "")?;
    std::fs::write(home.join("first-start"), "")?;
    let running = Running::up(&program(), &home).await?;
    running.customer("first").await?.site("oslo", 1, 0, 0).await?;
    let family = running.family();
    running.into_child().kill().await;
    Processes::gone(&family, home.path(), LIMIT).await?;
    // What came after the first start is kept.
    let again = Running::up(&program(), &home).await?;
    ensure!(!again.customer("first").await?.history().await?.is_empty(), "a history is lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_home_has_one_system() -> Result<()> {
    let _timing = Timing::of("second start in one home");
    let running = own().await?;
    let second = running.call(&["up"]).await?.code(1)?;
    ensure!(second.err.contains("is in use by process"), "{}", second.err);
    // The first one is as it was.
    running.customer("still").await?.site("here", 1, 0, 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_terraform_is_named_with_its_remedy() -> Result<()> {
    let _timing = Timing::of("no Terraform");
    let home = home()?;
    let nowhere = program().with_path(&home.join("tmp")).call(&home, &["up"]).await?.code(1)?;
    ensure!(nowhere.err.contains("terraform or tofu") && nowhere.err.contains("install"), "{}", nowhere.err);
    let wrong = program().with("WANWRIGHT_TERRAFORM", "/nowhere/terraform");
    let wrong = wrong.call(&home, &["demo", "--once"]).await?.code(1)?;
    ensure!(wrong.err.contains("/nowhere/terraform"), "{}", wrong.err);
    let doctor = program().with_path(&home.join("tmp")).call(&home, &["doctor"]).await?.code(1)?;
    ensure!(doctor.out.contains("Terraform") && doctor.out.contains("install"), "{}", doctor.out);
    let notes = wanwright_supervisor::unconfined();
    for what in &notes {
        let note = format!("later    not confined: {what}");
        ensure!(doctor.out.lines().any(|line| line == note), "{}", doctor.out);
    }
    ensure!(doctor.out.matches("not confined").count() == notes.len(), "{}", doctor.out);
    Processes::gone(&[], home.path(), LIMIT).await?;
    Ok(())
}
