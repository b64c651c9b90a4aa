//! `kill -9` of one part at a time while a fleet converges: it is started again, and nothing is lost or doubled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_tests::{Running, Signal, Timing, level};

use crate::support::own;

/// Every part, in the order in which they are killed. The executor is met with Terraform at work.
const PARTS: [&str; 7] =
    ["executors", "commands", "dispatcher", "projections", "simulator", "nats-server", "postgres"];

async fn kill(running: &Running, part: &str) -> Result<Duration> {
    let before = running.role(part).with_context(|| format!("there is no {part}"))?;
    before.signal(Signal::KILL);
    running.comes_back(part, &before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_may_die_while_a_fleet_converges() -> Result<()> {
    let timing = Timing::of("kill -9 of each part");
    let running = own().await?;
    let mut objects = 0;
    for (round, part) in PARTS.into_iter().enumerate() {
        // A fleet of its own for each part, so that there is always work in the middle.
        let slow = json!({ "latency_ms": 400, "jitter_ms": 300 });
        level::until("the vendor takes faults", level::LONG, async || {
            running.vendor()?.faults(&slow).await.map(|()| true)
        })
        .await?;
        let name = format!("round-{round}");
        let customer = running.customer(&name).await?;
        let fleet = [("a", 1), ("b", 2)];
        for (site, net) in fleet {
            objects += usize::try_from(customer.site(site, net, 2, 4).await?)?;
        }
        let made = running.vendor()?.made().await?;
        level::until("the vendor is asked for something", level::LONG, async || {
            Ok(running.vendor()?.made().await? > made)
        })
        .await?;
        let back = kill(&running, part).await?;
        let healthy = level::until("the fleet converges", level::LONG, async || {
            let rows = running.rows().await?;
            rows.healthy(&name, 14, Duration::from_secs(1)).await.map(|_| true)
        })
        .await
        .with_context(|| format!("{part} was killed; it said: {}", running.home.read("said.log")))?;
        timing.say(format_args!("{part}: back in {back:.1?}, fleet healthy after {healthy:.1?}"));
    }
    running.vendor()?.judge("round-", objects).await?;
    running.rows().await?.all_running().await?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    ensure!(running.home.violations().is_empty(), "{:?}", running.home.violations());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_executor_died_is_unknown_until_it_is_looked_at() -> Result<()> {
    let _timing = Timing::of("executor killed in the middle of runs");
    let running = own().await?;
    // The vendor does what it is asked and is slow to say so: the kill comes between the two.
    running.vendor()?.faults(&json!({ "answer_delay_ms": 3000 })).await?;
    let customer = running.customer("unknown").await?;
    customer.site("oslo", 1, 0, 0).await?;
    level::until("the site is made", level::LONG, async || Ok(running.vendor()?.made().await? == 1)).await?;
    kill(&running, "executors").await?;
    running.vendor()?.heal().await?;
    let rows = running.rows().await?;
    rows.healthy("unknown", 1, level::LONG).await?;
    let unknown = "SELECT count(*) FROM run_log WHERE customer = 'unknown' AND what = 'unknown'";
    ensure!(rows.number(unknown).await? == 1, "no record says that a run died");
    // The same for a device, which the other engine carries out.
    running.vendor()?.faults(&json!({ "answer_delay_ms": 3000 })).await?;
    let device = json!({ "site": "oslo", "serial": "SN-UNKNOWN-1", "model": "edge-100" });
    customer.send("device.d1.create", &device).await?.accepted()?;
    level::until("the device is made", level::LONG, async || Ok(running.vendor()?.made().await? == 2))
        .await?;
    kill(&running, "executors").await?;
    running.vendor()?.heal().await?;
    rows.healthy("unknown", 2, level::LONG).await?;
    ensure!(rows.number(unknown).await? == 2, "no record says that the device's run died");
    running.vendor()?.judge("unknown.", 2).await
}

/// Nobody starts an executor again: whoever starts parts again stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_is_unknown_also_where_no_executor_is_left() -> Result<()> {
    let timing = Timing::of("the only executor killed in a slow call");
    let running = own().await?;
    let (customer, rows) = (running.customer("alone").await?, running.rows().await?);
    customer.site("oslo", 1, 0, 0).await?;
    rows.healthy("alone", 1, level::LONG).await?;
    running.vendor()?.faults(&json!({ "answer_delay_ms": 30_000 })).await?;
    let device = json!({ "site": "oslo", "serial": "SN-ALONE-1", "model": "edge-100" });
    customer.send("device.d1.create", &device).await?.accepted()?;
    let states = async |state: &str| {
        let of = "WHERE customer = 'alone' AND kind = 'device' AND attempts = 1 AND executor IS NOT NULL";
        let all = ["operations", "operations_now"];
        let all = all.map(|table| format!("(SELECT count(*) FROM {table} {of} AND state = '{state}')"));
        rows.number(&format!("SELECT {}", all.join(" + "))).await
    };
    let is = async |state: &str| {
        level::until(&format!("the run is {state}"), level::LONG, async || Ok(states(state).await? == 2))
            .await
    };
    is("running").await?;
    let executors = running.role("executors").context("there are no executors")?;
    running.child().signal(Signal::STOP);
    executors.signal(Signal::KILL);
    ensure!(states("running").await? == 2, "nobody can have heard of it yet");
    let unknown = is("unknown").await?;
    let noted = "SELECT count(*) FROM run_log WHERE customer = 'alone' AND what = 'unknown'";
    ensure!(rows.number(noted).await? == 1, "no record says that the run died");
    timing.say(format_args!("unknown after {unknown:.1?}"));

    running.vendor()?.heal().await?;
    running.child().signal(Signal::CONT);
    running.comes_back("executors", &executors).await?;
    rows.healthy("alone", 2, level::LONG).await?;
    ensure!(rows.number(noted).await? == 1, "it died once");
    let done = "SELECT count(*) FROM operations WHERE customer = 'alone' AND kind = 'device' AND state = 'succeeded'";
    rows.reach("the next run has ended", done, 1, level::LONG).await?;
    running.vendor()?.judge("alone.", 2).await
}
