//! What is held is not done, and what is taken down goes in the order of what depends on what, at the vendor, too.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::json;
use wanwright_tests::{Customer, Running, Timing, level};

use crate::support::own;

/// Two sites, each with a tunnel to a hub; a device at one; a tunnel from the other one to it.
async fn two_sites(running: &Running, name: &str) -> Result<Customer> {
    let customer = running.customer(name).await?;
    customer.site("a", 1, 1, 1).await?;
    customer.site("b", 2, 1, 0).await?;
    let back = json!({ "site": "b", "peer": { "site": "a" }, "inside": "169.254.9.0/30" });
    customer.send("tunnel.b-to-a.create", &back).await?.accepted()?;
    running.rows().await?.healthy(name, 6, level::LONG).await?;
    Ok(customer)
}

async fn vlan(running: &Running) -> Result<i64> {
    let device = running.vendor()?.object("device", "held.a-d0").await?.context("no device")?;
    device["vlan"].as_i64().context("no vlan")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_or_not_approved_waits_even_in_the_table_of_orders() -> Result<()> {
    let timing = Timing::of("suspended");
    let running = own().await?;
    let customer = two_sites(&running, "held").await?;
    let (rows, vendor) = (running.rows().await?, running.vendor()?);
    // An order that is in the table already, and waits for its next try.
    vendor.faults(&json!({ "down": true })).await?;
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 42 } })).await?.accepted()?;
    let of_device = |state: &str| {
        format!(
            "SELECT count(*) FROM operations WHERE customer = 'held' AND id = 'a-d0' AND state = '{state}'"
        )
    };
    rows.reach("the change is tried again", &of_device("retrying"), 1, level::LONG).await?;
    customer.send("site.a.suspend", &json!({ "reason": "works at the site" })).await?.accepted()?;
    rows.reach("the order is withdrawn", &of_device("withdrawn"), 1, level::LONG).await?;
    vendor.heal().await?;
    let with = "SELECT count(*) FROM status WHERE customer = 'held' AND suspended_with = 'site'";
    rows.reach("the status says with what it rests", with, 3, level::LONG).await?;
    let shown = running.call(&["get", "sites", "-c", "held"]).await?.code(0)?;
    ensure!(shown.out.contains("Suspended"), "{}", shown.out);
    customer.send("device.a-d0.check-drift", &json!({})).await?.refused("Suspended")?;
    // Others go on, and while they do nothing happens to what is suspended.
    customer.send("site.b.change", &json!({ "settings": { "location": "Bergen" } })).await?.accepted()?;
    let b = "SELECT count(*) FROM sites WHERE customer = 'held' AND id = 'b' AND observed_generation = 2";
    rows.reach("the other site is changed", b, 1, level::LONG).await?;
    ensure!(vlan(&running).await? == 10, "something was done about a suspended device");
    customer.send("site.a.resume", &json!({})).await?.accepted()?;
    let took = rows.healthy("held", 6, level::LONG).await?;
    timing.say(format_args!("healthy {took:.1?} after it was resumed"));
    ensure!(vlan(&running).await? == 42, "what was asked for before was not done");

    customer.send("customer.held.change", &json!({ "policy": { "device": "approve" } })).await?.accepted()?;
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 43 } })).await?.accepted()?;
    customer.send("site.b.change", &json!({ "settings": { "location": "Oslo" } })).await?.accepted()?;
    rows.reach("the site is changed", &b.replace("= 2", "= 3"), 1, level::LONG).await?;
    let waits =
        "SELECT count(*) FROM status WHERE customer = 'held' AND id = 'a-d0' AND approval = 'waiting'";
    rows.reach("the device waits for approval", waits, 1, level::LONG).await?;
    ensure!(vlan(&running).await? == 42, "a change was made that nobody has approved");
    customer.send("device.a-d0.approve", &json!({ "generation": 3 })).await?.refused("OwnChange")?;
    let subject = "wan.do.held.boss.device.a-d0.approve";
    let body = json!({ "generation": 3 }).to_string().into_bytes();
    customer.ask_raw(subject, HeaderMap::new(), body).await?.accepted()?;
    rows.healthy("held", 6, level::LONG).await?;
    ensure!(vlan(&running).await? == 43);
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    vendor.judge("held.", 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_takes_down_what_depends_before_what_it_depends_on() -> Result<()> {
    let timing = Timing::of("cascade");
    let running = own().await?;
    let customer = two_sites(&running, "going").await?;
    let (rows, vendor) = (running.rows().await?, running.vendor()?);
    let id = async |kind: &str, name: &str| -> Result<String> {
        let object = vendor.object(kind, &format!("going.{name}")).await?.context("no object")?;
        Ok(object["id"].as_str().context("no id")?.to_owned())
    };
    let site = id("site", "a").await?;
    let before = [id("device", "a-d0").await?, id("tunnel", "a-t0").await?, id("tunnel", "b-to-a").await?];

    let all = json!({ "cascade": true });
    customer.send("site.a.decommission", &json!({})).await?.refused("SiteInUse")?;
    customer.send("device.a-d0.protect", &json!({})).await?.accepted()?;
    let refused = customer.send("site.a.decommission", &all).await?.refused("Protected")?;
    ensure!(refused.0.to_string().contains("device/a-d0"), "{}", refused.0);
    customer.send("device.a-d0.unprotect", &json!({})).await?.accepted()?;
    let calls = vendor.calls(0).await?.last;
    customer.send("site.a.decommission", &all).await?.accepted()?;
    let took = rows.healthy("going", 2, level::LONG).await?;
    let left = "SELECT count(*) FROM status WHERE customer = 'going'";
    rows.reach("the rest is gone", left, 2, level::LONG).await?;
    timing.say(format_args!("gone after {took:.1?}"));

    let calls = vendor.calls(calls).await?.calls;
    let deleted = |id: &str| {
        let is_end = |call: &wanwright_simulator::Call| call.method == "DELETE" && call.path.ends_with(id);
        calls.iter().position(is_end).with_context(|| format!("{id} was not deleted"))
    };
    for id in &before {
        ensure!(deleted(id)? < deleted(&site)?, "{id} went after its site");
    }
    customer.send("customer.going.decommission", &json!({})).await?.refused("CustomerInUse")?;
    customer.send("customer.going.decommission", &all).await?.accepted()?;
    rows.reach("everything is gone", left, 0, level::LONG).await?;
    let ended = "SELECT count(*) FROM customers WHERE customer = 'going' AND removed_at IS NOT NULL";
    rows.reach("the customer is gone", ended, 1, level::LONG).await?;
    ensure!(vendor.object("site", "going.b").await?.is_none(), "the vendor still has a site");
    // Its serial number and its name are free again.
    customer.site("a", 1, 1, 1).await?;
    rows.healthy("going", 3, level::LONG).await?;
    running.call(&["rebuild", "--verify"]).await?.code(0).map(drop)
}
