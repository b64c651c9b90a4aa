//! Dry runs that ask for a plan: each change of a stack is answered with what Terraform would do, what is no stack is not,
//! and nothing is written for any of them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_nats::load_subject;
use wanwright_schemas::subjects;
use wanwright_tests::{Running, level};

use crate::plans::ends;
use crate::support;

/// What a dry run of a command answers, with the plans.
async fn dry(running: &Running, kind: &str, verb: &str, object: &str, body: &Value) -> Result<Value> {
    let (body, object) = (body.to_string(), format!("acme/{object}"));
    let args = ["send", kind, verb, &object, &body, "--dry-run", "--plan", "-o", "json"];
    Ok(serde_json::from_str(&running.call(&args).await?.code(0)?.out)?)
}

fn tunnel(site: &str, place: u8) -> Value {
    json!({ "site": site, "peer": { "hub": "hub-eu" }, "inside": format!("169.254.9.{place}/30") })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_stack_is_previewed_and_nothing_is_written() -> Result<()> {
    let running = support::own().await?;
    let (customer, rows, nats) =
        (running.customer("acme").await?, running.rows().await?, running.nats().await?);
    customer.site("oslo", 1, 2, 1).await?;
    rows.healthy("acme", 4, level::LONG).await?;
    let done =
        "SELECT count(*) FROM operations WHERE customer = 'acme' AND state NOT IN ('succeeded','superseded')";
    rows.reach("every run has ended", done, 0, level::LONG).await?;
    let states = "SELECT count(*) FROM terraform.states";
    // Their rows of the table are worked off a moment after that is told.
    let quiet = async || {
        let now = ends(&nats).await?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Ok(now == ends(&nats).await?)
    };
    level::until("nothing is written any more", level::LONG, quiet).await?;
    let before = (ends(&nats).await?, rows.number(states).await?);
    let vendor = running.vendor()?;
    let calls = async || Ok::<_, anyhow::Error>(vendor.stats().await?.totals.calls);
    let called = calls().await?;
    // What is asked, and how many resources Terraform would make, change, delete and replace; of which stack.
    let site = json!({ "vendor": "simwan", "lan": ["10.77.0.0/24"] });
    for (kind, verb, object, body, stack, counts) in [
        ("tunnel", "create", "oslo-new", tunnel("oslo", 0), "oslo", [1, 0, 0, 0]),
        ("tunnel", "change", "oslo-t0", json!({ "settings": { "mtu": 1234 } }), "oslo", [0, 1, 0, 0]),
        ("tunnel", "decommission", "oslo-t1", json!({}), "oslo", [0, 0, 1, 0]),
        ("site", "create", "rome", site, "rome", [1, 0, 0, 0]),
        ("site", "change", "oslo", json!({ "lan": ["10.78.0.0/24"] }), "oslo", [0, 1, 0, 0]),
    ] {
        let said = dry(&running, kind, verb, object, &body).await?;
        let doing = || format!("{kind} {verb}: {said}");
        let plans = said["would_plan"].as_array().with_context(doing)?;
        ensure!(
            plans.len() == 1 && plans[0]["target"] == json!({ "kind": "site", "id": stack }),
            "{}",
            doing()
        );
        let told = ["create", "update", "delete", "replace"].map(|what| &plans[0]["plan"]["counts"][what]);
        ensure!(told == counts.map(|count| json!(count)).each_ref(), "{}", doing());
        // Each resource is named: what would be made, changed or deleted, and no other.
        let resources = plans[0].pointer("/plan/changes").and_then(Value::as_array).with_context(doing)?;
        ensure!(resources.len() == 1, "{}", doing());
        let wanted = if kind == "site" { "simwan_site" } else { "simwan_tunnel" };
        ensure!(resources[0].to_string().contains(wanted), "{}", doing());
    }
    ensure!(calls().await? > called, "previews look at what there is at the vendor");
    // A device is no stack: there are orders for it, and no plan.
    let device = json!({ "site": "oslo", "serial": "SN-DRY", "model": "edge-100" });
    for (verb, object, body) in
        [("create", "oslo-new", device), ("change", "oslo-d0", json!({ "settings": { "vlan": 9 } }))]
    {
        let said = dry(&running, "device", verb, object, &body).await?;
        ensure!(said["would_plan"] == json!([]), "{verb}: {said}");
        ensure!(said["would_order"][0]["target"]["kind"] == "device", "{verb}: {said}");
    }
    let after = (ends(&nats).await?, rows.number(states).await?);
    ensure!(before == after, "a dry run wrote something: {before:?} {after:?}");

    // Who asks an executor for the plan of a device's order itself is told that there is none.
    running.call(&["pause", "vendor", "simwan", "--reason", "its order stays"]).await?.code(0)?;
    // A vendor that is paused is not called for a preview either.
    let called = calls().await?;
    let said = dry(&running, "tunnel", "create", "oslo-new", &tunnel("oslo", 0)).await?;
    let trouble = &said["would_plan"][0]["trouble"];
    let told =
        trouble["message"].as_str().is_some_and(|message| message.contains("wanwright resume vendor simwan"));
    ensure!(trouble["code"] == "Paused" && told, "{said}");
    ensure!(calls().await? == called, "a paused vendor was called");
    customer.send("device.oslo-d0.change", &json!({ "settings": { "vlan": 9 } })).await?.accepted()?;
    let order = async || {
        let rows = load_subject(&nats, "ORDERS", "wan.order.simwan.acme.device.oslo-d0", 0).await?;
        Ok(rows.into_iter().next_back().filter(|row| !row.payload.is_empty()))
    };
    let (order, _) = level::reach("the device's order", level::LONG, order).await?;
    let mut answers = nats.client.subscribe(subjects::previewed("a-test")).await?;
    let reply = subjects::previewed("a-test");
    nats.client.publish_with_reply(subjects::PREVIEW, reply, order.payload).await?;
    let answer = tokio::time::timeout(level::LONG, futures::StreamExt::next(&mut answers)).await?;
    let answer: Value = serde_json::from_slice(&answer.context("an answer")?.payload)?;
    ensure!(answer["trouble"]["code"] == "NotPlannable" && answer["plan"].is_null(), "{answer}");
    running.call(&["resume", "vendor", "simwan", "--reason", "seen"]).await?.code(0)?;
    rows.healthy("acme", 4, level::LONG).await?;
    vendor.judge("acme.", 4).await
}
