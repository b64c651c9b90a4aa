//! A vendor that is down, slow, forgetful, or says no.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_tests::{Customer, Running, Timing, level};

use crate::support::own;

async fn retrying(running: &Running, customer: &str, wanted: i64) -> Result<()> {
    let sql = format!("SELECT count(*) FROM operations WHERE customer = '{customer}' AND state = 'retrying'");
    running.rows().await?.reach("orders wait for a retry", &sql, wanted, level::LONG).await?;
    let sql = format!(
        "SELECT count(*) FROM operations WHERE customer = '{customer}' AND state = 'retrying'
         AND waiting_for = 'retry' AND next_at IS NOT NULL AND error_code IS NOT NULL AND error_message <> ''"
    );
    ensure!(
        running.rows().await?.number(&sql).await? == wanted,
        "a waiting order does not say why or until when"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_was_down_gets_everything_later() -> Result<()> {
    let timing = Timing::of("vendor down");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("down").await?);
    customer.site("there", 1, 1, 1).await?;
    running.rows().await?.healthy("down", 3, level::LONG).await?;
    vendor.faults(&json!({ "down": true })).await?;
    customer.site("new", 2, 1, 0).await?;
    customer.send("device.there-d0.change", &json!({ "settings": { "vlan": 42 } })).await?.accepted()?;
    retrying(&running, "down", 2).await?;
    let codes = running
        .rows()
        .await?
        .texts("SELECT DISTINCT error_code FROM operations WHERE state = 'retrying'")
        .await?;
    ensure!(codes.iter().all(|code| code == "Network" || code == "VendorBusy"), "blamed on {codes:?}");
    vendor.heal().await?;
    let took = running.rows().await?.healthy("down", 5, level::LONG).await?;
    timing.say(format_args!("healthy {took:.1?} after the vendor was back"));
    vendor.judge("down.", 5).await?;
    // One that is only slow: Terraform waits for it, for longer than it takes to ask whether a provider still lives.
    vendor.faults(&json!({ "latency_ms": 2500 })).await?;
    let slow = running.customer("slow").await?;
    slow.site("far", 3, 1, 0).await?;
    running.rows().await?.healthy("slow", 2, level::LONG).await?;
    vendor.heal().await?;
    running.rows().await?.all_running().await?;
    let again = "SELECT count(*) FROM run_log WHERE customer = 'slow' AND what = 'retrying'";
    ensure!(running.rows().await?.number(again).await? == 0, "a slow vendor's run was cut short");
    vendor.judge("slow.", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_forgets_to_answer_makes_everything_once() -> Result<()> {
    let timing = Timing::of("random faults");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("random").await?);
    let faults = json!({ "seed": 7, "error_rate": 0.3, "accepted_but_answer_lost": 0.1, "cut_mid_response": 0.1, "jitter_ms": 50 });
    vendor.faults(&faults).await?;
    let mut objects = 0;
    for (site, net) in [("a", 1), ("b", 2), ("c", 3)] {
        objects += customer.site(site, net, 2, 8).await?;
    }
    // An order that met eight faults in a row is parked as failed; the way back is open while the faults go on.
    let rows = running.rows().await?;
    let began = std::time::Instant::now();
    while rows.healthy("random", objects, Duration::from_secs(5)).await.is_err() {
        ensure!(
            began.elapsed() < Duration::from_secs(150),
            "{:?}",
            rows.healthy("random", objects, Duration::ZERO).await
        );
        let failed = "SELECT kind || '.' || id FROM status WHERE customer = 'random' AND health = 'Degraded'";
        for object in rows.texts(failed).await? {
            customer.send(&format!("{object}.retry"), &json!({})).await?;
        }
    }
    let took = began.elapsed();
    timing.say(format_args!(
        "{objects} objects healthy after {took:.1?}, calls {}",
        vendor.stats().await?.totals.calls
    ));
    vendor.judge("random.", usize::try_from(objects)?).await?;
    let stats = vendor.stats().await?;
    let replays: u64 = stats.kinds.values().map(|kind| kind.totals.replays).sum();
    ensure!(replays > 0, "no create was asked for twice: the faults met nothing");
    Ok(())
}

/// What a person sees of an object that failed.
async fn failed(running: &Running, customer: &Customer, kind: &str, id: &str) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM status WHERE customer = '{}' AND kind = '{kind}' AND id = '{id}'
         AND health = 'Degraded' AND reason = 'VendorRefused' AND message LIKE '%no room for it%'",
        customer.name
    );
    running.rows().await?.reach(&format!("{kind} {id} has failed"), &sql, 1, level::LONG).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_refuses_fails_alone_and_can_be_retried() -> Result<()> {
    let _timing = Timing::of("refusals of a vendor");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("refused").await?);
    let rule =
        |name: &str| json!({ "method": "POST", "name": name, "status": 422, "message": "no room for it" });
    vendor.faults(&json!({ "refuse": [rule("refused.oslo-d1"), rule("refused.oslo-t1")] })).await?;
    customer.site("oslo", 1, 3, 3).await?;
    failed(&running, &customer, "device", "oslo-d1").await?;
    failed(&running, &customer, "tunnel", "oslo-t1").await?;
    let healthy =
        "SELECT count(*) FROM status WHERE customer = 'refused' AND health = 'Healthy' AND sync = 'Synced'";
    running.rows().await?.reach("everything else is healthy", healthy, 5, level::LONG).await?;
    let shown = running.call(&["get", "tunnels", "--health", "Degraded", "-c", "refused"]).await?.code(0)?;
    ensure!(shown.out.contains("oslo-t1") && shown.out.contains("no room for it"), "{}", shown.out);
    // Nothing goes on trying by itself.
    let calls = vendor.calls(0).await?.last;
    customer.send("tunnel.oslo-t0.retry", &json!({})).await?.refused("NothingToRetry")?;
    vendor.heal().await?;
    ensure!(vendor.calls(calls).await?.calls.is_empty(), "a failed order is still tried");
    customer.send("device.oslo-d1.retry", &json!({})).await?.accepted()?;
    customer.send("tunnel.oslo-t1.retry", &json!({})).await?.accepted()?;
    running.rows().await?.healthy("refused", 7, level::LONG).await?;
    vendor.judge("refused.", 7).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_edits_are_few_writes_and_the_last_one_wins() -> Result<()> {
    let timing = Timing::of("100 edits");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("edits").await?);
    customer.site("oslo", 1, 0, 1).await?;
    running.rows().await?.healthy("edits", 2, level::LONG).await?;
    vendor.faults(&json!({ "latency_ms": 300 })).await?;
    let began = std::time::Instant::now();
    for vlan in 1101..=1200 {
        customer.send("device.oslo-d0.change", &json!({ "settings": { "vlan": vlan } })).await?.accepted()?;
    }
    let sent = began.elapsed();
    let done = "SELECT count(*) FROM devices WHERE customer = 'edits' AND observed_generation = 101 AND health = 'Healthy'";
    running.rows().await?.reach("the last edit is applied", done, 1, level::LONG).await?;
    let there = vendor.object("device", "edits.oslo-d0").await?.context("no device")?;
    ensure!(there.get("vlan") == Some(&json!(1200)), "{there:?}");
    let writes = vendor.counters("device", "edits.oslo-d0").await?.updates;
    timing.say(format_args!("100 edits in {sent:.1?}, {writes} writes at the vendor"));
    // One for what ran, one for the rest, per 300 ms; never one per edit.
    ensure!(writes >= 1 && u128::from(writes) <= 3 + sent.as_millis() / 300, "{writes} writes");
    let succeeded = "SELECT count(*) FROM operations WHERE customer = 'edits' AND kind = 'device' AND state NOT IN ('succeeded','superseded')";
    running.rows().await?.reach("no operation is left", succeeded, 0, level::LONG).await.map(drop)
}
