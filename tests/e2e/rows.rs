//! Rows: soon there, the same after a rebuild, and never the cause of an order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_tests::{Rows, Running, Signal, Timing, level};

use crate::support::{own, shared};

/// The tables that are folded from events. Nothing in them is bookkeeping: every column comes from the stream.
const TABLES: [&str; 6] = ["customers", "sites", "tunnels", "devices", "timeline", "drift_reports"];

#[tokio::test(flavor = "multi_thread")]
async fn a_write_can_be_read_at_once() -> Result<()> {
    let timing = Timing::of("read your write");
    let running = shared().await?;
    let (customer, rows) = (running.customer("fresh").await?, running.rows().await?);
    let mut took = Vec::new();
    for n in 0..30 {
        let body = json!({ "vendor": "simwan", "lan": [format!("10.{n}.0.0/24")] });
        let began = Instant::now();
        customer.send(&format!("site.s{n}.create"), &body).await?.accepted()?;
        let accepted = began.elapsed();
        let sql = format!("SELECT count(*) FROM sites WHERE customer = 'fresh' AND id = 's{n}'");
        rows.reach("the row is there", &sql, 1, level::LONG).await?;
        took.push((began.elapsed() - accepted, accepted));
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    timing.say(format_args!(
        "row after acceptance: median {:.0?}, worst {:.0?}; acceptance {:.0?}",
        median.0, worst.0, median.1
    ));
    // A second is the promise. Other tests keep this machine busy, so only the median is held to it.
    ensure!(median.0 < Duration::from_secs(1), "{took:?}");
    Ok(())
}

async fn dump(rows: &Rows) -> Result<Vec<Vec<String>>> {
    let mut tables = Vec::new();
    for table in TABLES {
        tables.push(rows.texts(&format!("SELECT to_jsonb(t)::text FROM {table} t ORDER BY 1")).await?);
    }
    Ok(tables)
}

async fn fleet(running: &Running) -> Result<()> {
    let (vendor, rows) = (running.vendor()?, running.rows().await?);
    for name in ["one", "two", "three", "four"] {
        let customer = running.customer(name).await?;
        let objects = customer.site("oslo", 1, 1, 2).await?;
        rows.healthy(name, objects, level::LONG).await?;
        customer.send("device.oslo-d0.change", &json!({ "settings": { "vlan": 20 } })).await?.accepted()?;
        customer.send("device.oslo-d1.decommission", &json!({})).await?.accepted()?;
        rows.healthy(name, objects - 1, level::LONG).await?;
    }
    vendor.drift("device", "one.oslo-d0", &json!({ "vlan": 999 })).await?;
    running.call(&["drift"]).await?.code(1)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_the_same_rows_and_acts_on_nothing() -> Result<()> {
    let timing = Timing::of("rebuild");
    let running = own().await?;
    fleet(&running).await?;
    let rows = running.rows().await?;
    let before = dump(&rows).await?;
    ensure!(before.iter().all(|table| !table.is_empty()), "a table is empty");
    let nats = running.nats().await?;
    let runs = async || Ok::<_, anyhow::Error>(wanwright_nats::stream_info(&nats.js, "RUNS").await?.last);
    let orders = async || Ok::<_, anyhow::Error>(wanwright_nats::stream_info(&nats.js, "ORDERS").await?.last);
    let (ran, ordered, called) = (runs().await?, orders().await?, running.vendor()?.calls(0).await?.last);
    let verified = running.call(&["rebuild", "--verify"]).await?.code(0)?;
    let rebuilt = running.call(&["rebuild"]).await?.code(0)?;
    timing.say(format_args!("verify {:.1?}, rebuild {:.1?}", verified.took, rebuilt.took));
    same(&before, &dump(&rows).await?)?;
    // From nothing, and from what is wrong.
    for table in ["sites", "devices", "timeline", "customers"] {
        sqlx::query(&format!("DELETE FROM {table}")).execute(&rows.pool).await?;
    }
    sqlx::query("UPDATE tunnels SET health = 'Missing', generation = 77").execute(&rows.pool).await?;
    running.call(&["rebuild", "--verify"]).await?.code(1)?;
    running.call(&["rebuild"]).await?.code(0)?;
    same(&before, &dump(&rows).await?)?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    // Every event is dispatched anew: its consumers are taken away and made again by the dispatcher.
    for partition in 0..nats.partitions {
        let stream = nats.js.get_stream_no_info(format!("EVENTS-{partition}")).await?;
        stream.delete_consumer("dispatcher").await?;
    }
    let before_restart = running.role("dispatcher").context("no dispatcher")?;
    before_restart.signal(Signal::KILL);
    running.comes_back("dispatcher", &before_restart).await?;
    level::until("every event was dispatched again", level::LONG, async || {
        for partition in 0..nats.partitions {
            let stream = nats.js.get_stream_no_info(format!("EVENTS-{partition}")).await?;
            let consumer = stream.consumer_info("dispatcher").await?;
            if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    ensure!(orders().await? == ordered, "a replay wrote an order");
    ensure!(runs().await? == ran, "a replay ran something");
    ensure!(running.vendor()?.calls(called).await?.calls.is_empty(), "a replay called the vendor");
    // And it still works for what is new.
    running.customer("five").await?.site("oslo", 1, 1, 1).await?;
    rows.healthy("five", 3, level::LONG).await.map(drop)
}

fn same(before: &[Vec<String>], after: &[Vec<String>]) -> Result<()> {
    for ((table, before), after) in TABLES.iter().zip(before).zip(after) {
        let lost: Vec<_> = before.iter().filter(|row| !after.contains(row)).collect();
        let new: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
        ensure!(lost.is_empty() && new.is_empty(), "{table}: lost {lost:?}, new {new:?}");
    }
    Ok(())
}
