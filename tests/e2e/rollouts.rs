//! Another version of a vendor's template, given to real stacks by real Terraform: canary first, then the rest.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Customer, Running, Signal, Timing, level};

use crate::plans::{approve, events, plan};
use crate::support::{copy, home, program};

const CUSTOMERS: [&str; 5] = ["can", "one", "two", "three", "four"];

/// A vendors' folder with simwan alone, whose second version of the template says more of where a site is, and whose third
/// has the vendor refuse every tunnel.
fn vendors(dir: PathBuf) -> Result<PathBuf> {
    let (vendors, simwan) = (dir.clone(), dir.join("simwan"));
    copy(&program().vendors().join("simwan"), &simwan)?;
    for (version, mtu) in [(2, "each.value.settings.mtu"), (3, "100")] {
        let folder = simwan.join(format!("terraform@{version}"));
        copy(&simwan.join("terraform"), &folder)?;
        let file = folder.join("main.tf");
        let text = std::fs::read_to_string(&file)?;
        let location = format!("location = \"${{var.site.settings.location}}by version {version}\"");
        let text = text.replace("location        = var.site.settings.location", &location);
        let text = text.replace("each.value.settings.mtu", mtu);
        ensure!(text.contains(&format!("by version {version}")) && text.contains(mtu), "{text}");
        std::fs::write(file, text)?;
    }
    Ok(vendors)
}

async fn rollout(running: &Running, args: &[&str], code: i32) -> Result<Value> {
    let said = running.call(&[&["rollout"], args, &["-o", "json"]].concat()).await?.code(code)?;
    serde_json::from_str(&said.out).with_context(|| said.out.clone())
}

async fn reaches(running: &Running, state: &str) -> Result<Value> {
    let what = format!("the rollout is {state}");
    let reached = level::reach(&what, level::LONG, async || {
        let now = rollout(running, &["status", "simwan"], 0).await?;
        ensure!(now["state"] != "stopped" || state == "stopped", "it stopped: {now}");
        Ok((now["state"] == state).then_some(now))
    });
    Ok(reached.await?.0)
}

/// Where the vendor says that a customer's site is.
async fn location(running: &Running, customer: &str) -> Result<String> {
    let site = running.vendor()?.object("site", &format!("{customer}.a")).await?.context("no site")?;
    Ok(site["location"].as_str().unwrap_or_default().to_owned())
}

/// How often each customer was given a version.
async fn given(customers: &[Customer], version: u32) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for customer in customers {
        let history = customer.history().await?;
        let events = history.iter().flat_map(|envelope| envelope["events"].as_array().into_iter().flatten());
        let assigned = events.filter(|event| {
            event["type"] == "SiteTemplateAssigned" && event["template"]["version"] == version
        });
        all.push(assigned.count());
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_out_in_waves_stops_where_it_fails_and_comes_back() -> Result<()> {
    let timing = Timing::of("a rollout");
    let home = home()?;
    let vendors = vendors(home.join("vendors"))?;
    let program = program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy());
    let running = Running::up(&program, &home).await?;
    let rows = running.rows().await?;
    let mut customers = Vec::new();
    for (net, name) in (1..).zip(CUSTOMERS) {
        let customer = running.customer(name).await?;
        customer.site("a", net, 1, 0).await?;
        customers.push(customer);
    }
    for name in CUSTOMERS {
        rows.healthy(name, 2, level::LONG).await?;
        ensure!(location(&running, name).await?.is_empty());
    }

    // What it would do is said, and nothing is done.
    let planned = rollout(&running, &["plan", "simwan", "--to", "2", "--sample", "0"], 0).await?;
    let summary = &planned["summary"];
    let wanted = json!({ "create": 0, "update": 5, "replace": 0, "delete": 0 });
    ensure!(planned["state"] == "planned" && summary["actions"] == wanted, "{planned}");
    ensure!(summary["stacks"] == 5 && summary["planned"] == 5 && summary["failed"] == 0, "{planned}");
    ensure!(given(&customers, 2).await? == [0; 5] && location(&running, "can").await?.is_empty());
    timing.say("planned for the fleet");

    // The dispatcher that drives it dies in the middle, and another one goes on.
    let start = ["start", "simwan", "--to", "2", "--canary", "can", "--steps", "50,100", "--at-once", "1"];
    rollout(&running, &start, 0).await?;
    let begun = "SELECT least(count(*), 1) FROM timeline WHERE type = 'SiteTemplateAssigned'";
    rows.reach("it has begun", begun, 1, level::LONG).await?;
    let dispatcher = running.role("dispatcher").context("no dispatcher")?;
    dispatcher.signal(Signal::KILL);
    running.comes_back("dispatcher", &dispatcher).await?;
    let done = reaches(&running, "done").await?;
    ensure!(done["counts"]["applied"] == 5 && done["counts"]["stacks"] == 5, "{done}");
    ensure!(given(&customers, 2).await? == [1; 5], "{:?}", given(&customers, 2).await?);
    for name in CUSTOMERS {
        rows.healthy(name, 2, level::LONG).await?;
        ensure!(location(&running, name).await? == "by version 2");
    }
    let before_canary = "SELECT count(*) FROM timeline WHERE type = 'SiteTemplateAssigned' AND customer <> 'can'
         AND time < (SELECT min(time) FROM timeline WHERE customer = 'can' AND type = 'SiteApplied' AND generation = 2)";
    rows.reach("nobody goes before the canary", before_canary, 0, level::LONG).await?;
    timing.say("given to everybody, over a killed dispatcher");

    // One that fails stops at the canary.
    let start = ["start", "simwan", "--from", "2", "--to", "3", "--canary", "can", "--steps", "50,100"];
    rollout(&running, &start, 0).await?;
    let stopped = reaches(&running, "stopped").await?;
    ensure!(stopped["why"].as_str().is_some_and(|why| why.contains("1 of 5 stacks failed")), "{stopped}");
    ensure!(given(&customers, 3).await? == [1, 0, 0, 0, 0]);
    for name in &CUSTOMERS[1..] {
        ensure!(location(&running, name).await? == "by version 2", "{name} was touched");
        rows.healthy(name, 2, level::LONG).await?;
    }
    let failed = "SELECT count(*) FROM sites WHERE customer = 'can' AND health = 'Degraded' AND template = 3";
    rows.reach("the canary says so", failed, 1, level::LONG).await?;
    let shown = running.call(&["get", "rollouts"]).await?.code(0)?;
    ensure!(shown.out.contains("stopped") && shown.out.contains("1 of 5 stacks failed"), "{}", shown.out);
    let of =
        "SELECT failed * 10 + stacks FROM rollout_customers WHERE vendor = 'simwan' AND customer = 'can'";
    rows.reach("the customer's row says so", of, 11, level::LONG).await?;
    timing.say("stopped at the canary");

    // It comes back.
    rollout(&running, &["rollback", "simwan"], 0).await?;
    let back = reaches(&running, "done").await?;
    ensure!(back["rolls_back"] == 2 && back["counts"]["applied"] == 1, "{back}");
    rows.healthy("can", 2, level::LONG).await?;
    ensure!(location(&running, "can").await? == "by version 2");
    let refused = running.call(&["rollout", "rollback", "simwan"]).await?.code(3)?;
    ensure!(refused.out.contains("NoSuchRollout"), "{}", refused.out);
    rows.all_running().await?;
    let verified = running.call(&["rebuild", "--verify"]).await?.code(0)?;
    timing.say(format_args!("rolled back; {}", verified.out.lines().count()));
    running.vendor()?.judge("", 2 * CUSTOMERS.len()).await
}

/// Where the vendor says that the site is that each of these customers has.
async fn oslo(running: &Running, customer: &str) -> Result<Value> {
    let site = running.vendor()?.object("site", &format!("{customer}.oslo")).await?.context("no site")?;
    Ok(site["location"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_waits_for_the_approval_of_its_plan_where_changes_are_planned() -> Result<()> {
    let timing = Timing::of("a rollout of plans");
    let home = home()?;
    let vendors = vendors(home.join("vendors"))?;
    let program = program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy());
    let running = Running::up(&program, &home).await?;
    let rows = running.rows().await?;
    let (can, one) = (running.customer("can").await?, running.customer("one").await?);
    for (net, customer) in [(1, &can), (2, &one)] {
        customer.site("oslo", net, 0, 0).await?;
        rows.healthy(&customer.name, 1, level::LONG).await?;
        let policy = format!("customer.{}.change", customer.name);
        customer.send(&policy, &json!({ "policy": { "site": "plan" } })).await?.accepted()?;
    }
    // A change waits for its approval when the version comes.
    one.send("site.oslo.change", &json!({ "settings": { "location": "Bergen" } })).await?.accepted()?;
    let old = plan(&one, 1).await?;

    let start = ["start", "simwan", "--to", "2", "--canary", "can", "--steps", "100"];
    let by = rollout(&running, &start, 0).await?["by"].as_str().context("who started it")?.to_owned();
    let first = plan(&can, 1).await?;
    ensure!(first["generation"] == 2 && first["plan"]["counts"]["update"] == 1, "{first}");
    let holds = async || Ok(rollout(&running, &["status", "simwan"], 0).await?["counts"]["held"] == 1);
    level::until("the wave waits for the approval", level::LONG, holds).await?;
    ensure!(oslo(&running, "can").await? == "", "it was applied before anybody approved it");
    ensure!(events(&one, "SiteTemplateAssigned").await?.is_empty(), "the next wave has begun");
    let hash = &first["plan"]["hash"];
    approve(&can, &by, &json!(2), hash).await?.refused("OwnChange")?;
    approve(&can, "boss", &json!(2), hash).await?.accepted()?;
    timing.say("the canary's plan is approved");

    // What was planned with the version before is good for nothing.
    let new = plan(&one, 2).await?;
    ensure!(oslo(&running, "can").await? == "by version 2", "the canary has it before the others are asked");
    ensure!(new["generation"] == 3 && new["plan"]["template"] != old["plan"]["template"], "{new}");
    let hash = &old["plan"]["hash"];
    approve(&one, "boss", &old["generation"], hash).await?.refused("GenerationMismatch")?;
    approve(&one, "boss", &new["generation"], hash).await?.refused("PlanMismatch")?;
    approve(&one, "boss", &new["generation"], &new["plan"]["hash"]).await?.accepted()?;
    let done = reaches(&running, "done").await?;
    ensure!(done["counts"]["applied"] == 2 && done["counts"]["stacks"] == 2, "{done}");
    ensure!(oslo(&running, "one").await? == "Bergenby version 2");
    for customer in [&can, &one] {
        let applied = events(customer, "SitePlanApplied").await?;
        let last = events(customer, "SitePlanned").await?.pop().context("a plan")?;
        ensure!(applied.len() == 1 && applied[0]["plan"] == last["plan"]["hash"], "{applied:?}");
        let customer = &customer.name;
        let healthy = format!("SELECT applied FROM rollout_customers WHERE customer = '{customer}'");
        rows.reach("the customer's row says so", &healthy, 1, level::LONG).await?;
    }
    timing.say("every stack has it");
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    running.vendor()?.judge("", 2).await
}
