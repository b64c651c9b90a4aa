//! Drift: what was changed or deleted behind wanwright's back is found, and mended by `retry`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Running, Said, Timing, level};

use crate::support::own;

async fn look(running: &Running, code: i32) -> Result<(Said, Vec<Value>)> {
    let said = running.call(&["drift", "drift", "-o", "json"]).await?.code(code)?;
    let report: Value = serde_json::from_str(&said.out)?;
    Ok((said, report["items"].as_array().cloned().unwrap_or_default()))
}

fn field<'a>(items: &'a [Value], kind: &str, id: &str, field: &str) -> Option<&'a Value> {
    let item = items.iter().find(|item| item["kind"] == kind && item["id"] == id)?;
    item["fields"].as_array()?.iter().find(|found| found["field"] == field)
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_found_and_mended() -> Result<()> {
    let timing = Timing::of("drift");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("drift").await?);
    let objects = customer.site("oslo", 1, 2, 3).await?;
    let rows = running.rows().await?;
    rows.healthy("drift", objects, level::LONG).await?;
    let none = running.call(&["drift", "drift"]).await?.code(0)?;
    ensure!(none.out.trim() == "no drift", "{}", none.out);
    timing.say(format_args!("a look at {objects} objects: {:.1?}", none.took));
    // Changed: a site, a tunnel and a device.
    vendor.drift("site", "drift.oslo", &json!({ "location": "Bergen" })).await?;
    vendor.drift("tunnel", "drift.oslo-t0", &json!({ "mtu": 1000 })).await?;
    vendor.drift("device", "drift.oslo-d0", &json!({ "vlan": 999, "hostname": "somebody" })).await?;
    let (_, items) = look(&running, 1).await?;
    ensure!(items.len() == 3, "{items:?}");
    let found = field(&items, "site", "oslo", "location").context("the site's drift")?;
    ensure!(found["observed"] == "Bergen", "{found}");
    let found = field(&items, "tunnel", "oslo-t0", "mtu").context("the tunnel's drift")?;
    ensure!(found["observed"] == 1000 && found["desired"] == 1400, "{found}");
    let found = field(&items, "device", "oslo-d0", "vlan").context("the device's drift")?;
    ensure!(found["observed"] == 999 && found["desired"] == 10, "{found}");
    ensure!(field(&items, "device", "oslo-d0", "hostname").is_some(), "{items:?}");
    // A look changes nothing at the vendor, and finds the same again.
    let (_, again) = look(&running, 1).await?;
    ensure!(again.len() == 3, "{again:?}");
    ensure!(vendor.object("device", "drift.oslo-d0").await?.is_some_and(|device| device["vlan"] == 999));
    for tail in ["site.oslo.retry", "tunnel.oslo-t0.retry", "device.oslo-d0.retry"] {
        customer.send(tail, &json!({})).await?.accepted().context(tail)?;
    }
    rows.healthy("drift", objects, level::LONG).await?;
    let mended = vendor.object("device", "drift.oslo-d0").await?.context("no device")?;
    ensure!(mended["vlan"] == 10, "{mended:?}");
    ensure!(vendor.object("tunnel", "drift.oslo-t0").await?.is_some_and(|tunnel| tunnel["mtu"] == 1400));
    ensure!(vendor.object("site", "drift.oslo").await?.is_some_and(|site| site["location"] != "Bergen"));
    look(&running, 0).await?;
    let open = "SELECT count(*) FROM drift_reports WHERE resolved_at IS NULL";
    ensure!(rows.number(open).await? == 0, "a report is still open");
    // Mended by changing, not by making anew.
    vendor.judge("drift.", usize::try_from(objects)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_found_and_made_again() -> Result<()> {
    let _timing = Timing::of("gone at the vendor");
    let running = own().await?;
    let (vendor, customer) = (running.vendor()?, running.customer("drift").await?);
    let objects = customer.site("oslo", 1, 2, 3).await?;
    let rows = running.rows().await?;
    rows.healthy("drift", objects, level::LONG).await?;
    vendor.delete("tunnel", "drift.oslo-t1").await?;
    vendor.delete("device", "drift.oslo-d1").await?;
    let (_, items) = look(&running, 1).await?;
    ensure!(items.len() == 2, "{items:?}");
    for (kind, id) in [("tunnel", "oslo-t1"), ("device", "oslo-d1")] {
        let found = field(&items, kind, id, "id").with_context(|| format!("{kind} {id} is not reported"))?;
        ensure!(found["observed"].is_null(), "{found}");
    }
    let table = running.call(&["drift", "drift", "--known"]).await?.code(1)?;
    ensure!(table.out.contains("(whole object)") && table.out.contains("gone"), "{}", table.out);
    customer.send("tunnel.oslo-t1.retry", &json!({})).await?.accepted()?;
    customer.send("device.oslo-d1.retry", &json!({})).await?.accepted()?;
    rows.healthy("drift", objects, level::LONG).await?;
    look(&running, 0).await?;
    for (kind, name) in [("tunnel", "drift.oslo-t1"), ("device", "drift.oslo-d1")] {
        let made = vendor.counters(kind, name).await?.creations;
        ensure!(made == 2, "{name} was made {made} times, once more is wanted");
    }
    for (kind, name) in [("site", "drift.oslo"), ("tunnel", "drift.oslo-t0"), ("device", "drift.oslo-d0")] {
        ensure!(vendor.counters(kind, name).await?.creations == 1, "{name} was made again");
    }
    Ok(())
}
