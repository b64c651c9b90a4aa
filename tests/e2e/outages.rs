//! Postgres that does not answer, and a disk that is full.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use serde_json::json;
use wanwright_nats::members::Beat;
use wanwright_schemas::subjects;
use wanwright_supervisor::ChildSpec;
use wanwright_tests::{Running, Signal, Timing, level};

use crate::support::own;

#[tokio::test(flavor = "multi_thread")]
async fn commands_need_only_nats() -> Result<()> {
    let timing = Timing::of("Postgres stopped");
    let running = own().await?;
    let customer = running.customer("outage").await?;
    let mut objects = customer.site("before", 1, 1, 1).await?;
    let rows = running.rows().await?;
    rows.healthy("outage", objects, level::LONG).await?;
    // Everybody of Postgres, or its children would go on answering.
    let postgres = running.role("postgres").context("no Postgres")?;
    let everybody = [wanwright_tests::Processes::below(postgres.pid), vec![postgres]].concat();
    everybody.iter().for_each(|process| process.signal(Signal::STOP));
    let began = Instant::now();
    objects += customer.site("during", 2, 1, 2).await?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(5), "commands took {took:?} while Postgres was away");
    // Devices need no Terraform state: the vendor gets what can be done without Postgres.
    customer.send("device.before-d0.change", &json!({ "settings": { "vlan": 33 } })).await?.accepted()?;
    level::until("the change is at the vendor", level::LONG, async || {
        let device = running.vendor()?.object("device", "outage.before-d0").await?;
        Ok(device.is_some_and(|device| device["vlan"] == 33))
    })
    .await?;
    everybody.iter().for_each(|process| process.signal(Signal::CONT));
    let back = rows.healthy("outage", objects, level::LONG).await?;
    timing
        .say(format_args!("commands took {took:.1?}; everything healthy {back:.1?} after Postgres was back"));
    rows.all_running().await?;
    running.vendor()?.judge("outage.", usize::try_from(objects)?).await
}

/// Runs the executor where a folder of it is a file system of its own that is full until `tmp/room` exists. A private
/// mount namespace: nobody else sees the mount, and it goes away with the process.
const CRAMPED: &str = r#"
set -e
mkdir -p "$2"
mount -t tmpfs -o size=16m,mode=0700 cramped "$2"
head -c 20000000 /dev/zero > "$2/filler" 2>/dev/null || true
(while [ ! -e "$1/tmp/room" ]; do sleep 0.1; done; rm "$2/filler") &
shift 2
exec "$@"
"#;

/// The executor of a running system, as a person would start it by hand, with that folder full.
fn cramped(running: &Running, folder: &str, unshare: &[&str]) -> Result<wanwright_supervisor::Child> {
    let (home, usual) = (&running.home, running.role("executors").context("no executor")?);
    let environment = String::from_utf8(std::fs::read(format!("/proc/{}/environ", usual.pid))?)?;
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let program = running.program.path().display().to_string();
    let vendors = running.program.vendors().display().to_string();
    let (all, full) = (home.path().display().to_string(), home.join(folder).display().to_string());
    let work = home.join("cramped").display().to_string();
    let spec = ChildSpec::new("/usr/bin/env")
        .envs(variables)
        .arg("unshare")
        .args(unshare)
        .args(["sh", "-c", CRAMPED, "cramped", &all, &full])
        .args([
            program.as_str(),
            "serve",
            "executors",
            "--home",
            &all,
            "--vendors",
            &vendors,
            "--work",
            &work,
        ])
        .process_group()
        .log(home.join("logs/cramped.log"));
    Ok(spec.spawn()?)
}

/// Has an executor with a full folder take the place of the usual one.
async fn take_over(running: &Running, folder: &str) -> Result<wanwright_supervisor::Child> {
    let ways: [&[&str]; 2] = [&["-m"], &["-rm"]];
    let mut unshare = None;
    for way in ways {
        if unshare.is_none() && may_unshare(way).await {
            unshare = Some(way);
        }
    }
    let unshare =
        unshare.context("neither `unshare -m` nor `unshare -rm` works here, so no disk can be full")?;
    let cramped = cramped(running, folder, unshare)?;
    // The usual one stands still, and its customers go to the other.
    running.role("executors").context("no executor")?.signal(Signal::STOP);
    let name = format!("-{}-", cramped.id());
    let mut beats = running.nats().await?.client.subscribe(subjects::EXECUTORS).await?;
    level::until("the cramped executor is alone", level::LONG, async || {
        ensure!(cramped.try_wait().is_none(), "it ended: {}", running.home.read("logs/cramped.log"));
        let mut heard = BTreeSet::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(3);
        while let Ok(Some(beat)) = tokio::time::timeout_at(end, beats.next()).await {
            heard.insert(serde_json::from_slice::<Beat>(&beat.payload)?.member);
        }
        Ok(!heard.is_empty() && heard.iter().all(|member| member.contains(&name)))
    })
    .await?;
    Ok(cramped)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_no_reason_to_lose_a_state() -> Result<()> {
    let _timing = Timing::of("full spool");
    let running = own().await?;
    let customer = running.customer("spool").await?;
    let cramped = take_over(&running, "cramped/spool").await?;
    let objects = customer.site("oslo", 1, 2, 1).await?;
    let rows = running.rows().await?;
    // Postgres takes the state instead, and the log says so.
    rows.healthy("spool", objects, level::LONG).await?;
    let log = running.home.read("logs/cramped.log");
    ensure!(log.contains("cannot be spooled") && log.contains("No space left on device"), "{log}");
    // The state is whole: a look finds everything.
    running.call(&["drift", "spool"]).await?.code(0)?;
    running.vendor()?.judge("spool.", usize::try_from(objects)?).await?;
    cramped.kill().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_and_loses_nothing() -> Result<()> {
    let timing = Timing::of("full disk");
    let running = own().await?;
    let customer = running.customer("full").await?;
    let cramped = take_over(&running, "cramped").await?;
    let objects = customer.site("oslo", 1, 2, 1).await?;
    let rows = running.rows().await?;
    let reason = "SELECT count(*) FROM operations WHERE customer = 'full' AND state = 'retrying'
                  AND error_message LIKE '%No space left on device%'";
    rows.reach("the run fails in passing", reason, 1, level::LONG).await?;
    let said = "SELECT error_code || ': ' || error_message FROM operations WHERE state = 'retrying'";
    timing.say(format_args!("an operator sees {:?}", rows.texts(said).await?));
    std::fs::write(running.home.join("tmp/room"), "")?;
    rows.healthy("full", objects, level::LONG).await?;
    running.vendor()?.judge("full.", usize::try_from(objects)?).await?;
    ensure!(!running.home.read("logs/cramped.log").contains("panicked"));
    cramped.kill().await;
    Ok(())
}

async fn may_unshare(flags: &[&str]) -> bool {
    let spec =
        ChildSpec::new("/usr/bin/env").envs(std::env::vars_os()).arg("unshare").args(flags).arg("true");
    match spec.spawn() {
        Ok(child) => child.wait().await.success(),
        Err(_) => false,
    }
}
