//! Plans in the running system: what is approved is what is applied, by whoever applies it, and nothing else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_nats::{Nats, StoredMessage, load_subject};
use wanwright_schemas::Digest;
use wanwright_schemas::run::{self, RunEvent};
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_tests::{Answer, Customer, Rows, Running, Signal, Timing, level, mint};

use crate::support::{copy, home, program};

/// A system of a test's own, with vendors' folders that the test may change.
async fn own() -> Result<Running> {
    let home = home()?;
    let vendors = home.join("own-vendors");
    copy(program().vendors(), &vendors)?;
    let program = program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy());
    Running::up(&program, &Arc::clone(&home)).await
}

/// The events of a customer's history of one type.
pub async fn events(customer: &Customer, name: &str) -> Result<Vec<Value>> {
    let history = customer.history().await?;
    let all = history.iter().flat_map(|envelope| envelope["events"].as_array().cloned().unwrap_or_default());
    Ok(all.filter(|event| event["type"] == name).collect())
}

/// The `number`th plan of the customer's site, once there is one: generation and hash.
pub async fn plan(customer: &Customer, number: usize) -> Result<Value> {
    let there = async || Ok(events(customer, "SitePlanned").await?.into_iter().nth(number - 1));
    Ok(level::reach(&format!("plan {number} is made"), level::LONG, there).await?.0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Somebody approves a plan.
pub async fn approve(customer: &Customer, who: &str, generation: &Value, hash: &Value) -> Result<Answer> {
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", mint().as_str());
    let subject = format!("wan.do.{}.{who}.site.oslo.approve", customer.name);
    let body = json!({ "generation": generation, "plan": hash });
    customer.ask_raw(&subject, head, body.to_string().into_bytes()).await
}

pub(crate) async fn approve_plan(customer: &Customer, plan: &Value) -> Result<Answer> {
    approve(customer, "boss", &plan["generation"], &plan["plan"]["hash"]).await
}

/// The digests of the files that runs handed to Terraform.
pub(crate) async fn opened(nats: &Nats, customer: &str) -> Result<Vec<String>> {
    let messages = load_subject(nats, "RUNS", &format!("wan.run.{customer}.*.*"), 0).await?;
    let mut opened = Vec::new();
    for message in messages {
        for record in run::read(&message.payload)? {
            if let RunEvent::PlanOpened { plan } = record.event {
                opened.push(plan.to_string());
            }
        }
    }
    Ok(opened)
}

/// The plan file of the customer's only stack, as it is kept.
async fn kept(nats: &Nats) -> Result<StoredMessage> {
    load_subject(nats, "PLANS", "wan.plan.*", 0).await?.pop().context("no plan is kept")
}

/// Puts something in the place of a plan file, so that the stream itself has nothing to say against it.
async fn put(nats: &Nats, like: &StoredMessage, body: Vec<u8>) -> Result<()> {
    let mut headers = like.headers.clone();
    headers.insert("Wan-Sha256", Digest::of(&body).to_string().as_str());
    nats.js.publish_with_headers(like.subject.clone(), headers, body.into()).await?.await?;
    Ok(())
}

async fn stale(customer: &Customer, number: usize, why: &str) -> Result<()> {
    let is_stale = async || Ok(events(customer, "SitePlanStale").await?.into_iter().nth(number - 1));
    let (found, _) = level::reach(&format!("a plan is stale: {why}"), level::LONG, is_stale).await?;
    ensure!(found["why"] == why, "{found}");
    Ok(())
}

async fn location(running: &Running) -> Result<Value> {
    let site = running.vendor()?.object("site", "acme.oslo").await?.context("no site")?;
    Ok(site.get("location").cloned().unwrap_or_default())
}

/// Where the streams end that something would be written to.
pub async fn ends(nats: &Nats) -> Result<Vec<(String, u64)>> {
    let mut ends = Vec::new();
    let names =
        ["ORDERS", "RUNS", "PLANS", "STATES", "EFFECTS", "OUTCOMES", "VERDICTS", "COMMANDS", "TIMERS"];
    let events = (0..PARTITIONS).map(subjects::events_stream);
    for name in names.map(str::to_owned).into_iter().chain(events) {
        let stream = nats.js.get_stream(&name).await?;
        ends.push((name, stream.cached_info().state.last_sequence));
    }
    Ok(ends)
}

/// A dry run answers what Terraform would do, and nothing is written for it anywhere.
async fn previewed(running: &Running, nats: &Nats, rows: &Rows) -> Result<()> {
    let states = "SELECT count(*) FROM terraform.states";
    let before = (ends(nats).await?, rows.number(states).await?);
    for (verb, body, counts) in [
        ("change", r#"{"settings":{"location":"Bergen"}}"#, [0, 1, 0, 0]),
        ("decommission", r#"{"cascade":true}"#, [0, 0, 2, 0]),
    ] {
        let args = ["send", "site", verb, "acme/oslo", body, "--dry-run", "--plan", "-o", "json"];
        let said = running.call(&args).await?.code(0)?.out;
        let outcome: Value = serde_json::from_str(&said)?;
        let plan = &outcome["would_plan"][0]["plan"];
        let told = ["create", "update", "delete", "replace"].map(|what| plan["counts"][what].as_u64());
        ensure!(told == counts.map(Some), "{verb}: {said}");
    }
    let said = running
        .call(&[
            "send",
            "site",
            "change",
            "acme/oslo",
            r#"{"settings":{"location":"Bergen"}}"#,
            "--dry-run",
            "--plan",
        ])
        .await?;
    ensure!(
        said.clone().code(0)?.out.contains("plan of site/oslo: 0 to create, 1 to update"),
        "{}",
        said.out
    );
    let after = (ends(nats).await?, rows.number(states).await?);
    ensure!(before == after, "a dry run wrote something: {before:?} {after:?}");
    Ok(())
}

const WAITING: &str = "SELECT count(*) FROM plans WHERE state = 'waiting' AND customer = 'acme'";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_what_is_applied() -> Result<()> {
    let timing = Timing::of("plans");
    let running = own().await?;
    let (customer, rows, nats) =
        (running.customer("acme").await?, running.rows().await?, running.nats().await?);
    customer.send("customer.acme.change", &json!({ "policy": { "site": "plan" } })).await?.accepted()?;
    customer.site("oslo", 1, 1, 0).await?;
    // The tunnel comes after the site: what is planned is both.
    rows.reach("both are planned", &format!("{WAITING} AND creates = 2"), 1, level::LONG).await?;
    timing.say("planned");
    ensure!(running.vendor()?.made().await? == 0, "something was made before anybody approved it");
    let first = events(&customer, "SitePlanned").await?.pop().context("a plan")?;
    ensure!(!first.to_string().contains("key:"), "{first}");
    let shown = running.call(&["plan", "show", "acme/oslo"]).await?.code(0)?.out;
    for said in ["2 to create", "+ wanwright_simwan_site.site", "location = ", "waits for approvals: 0 of 1"]
    {
        ensure!(shown.contains(said), "{said}: {shown}");
    }
    let listed = running.call(&["get", "plans", "-c", "acme", "-o", "json"]).await?.code(0)?.out;
    ensure!(listed.contains(&text(&first["plan"]["hash"])), "{listed}");
    rows.reach(
        "a condition says so",
        "SELECT count(*) FROM held_changes WHERE customer = 'acme' AND waiting_for = 'approval'",
        1,
        level::LONG,
    )
    .await?;

    approve(&customer, "demo", &first["generation"], &first["plan"]["hash"]).await?.refused("OwnChange")?;
    let other = json!(Digest::of(b"another").to_string());
    approve(&customer, "boss", &first["generation"], &other).await?.refused("PlanMismatch")?;
    approve_plan(&customer, &first).await?.accepted()?;
    rows.healthy("acme", 2, level::LONG).await?;
    timing.say("approved and applied");
    let applied = events(&customer, "SitePlanApplied").await?;
    ensure!(applied.len() == 1 && applied[0]["plan"] == first["plan"]["hash"], "{applied:?}");
    ensure!(opened(&nats, "acme").await? == [text(&first["plan"]["hash"])], "another file was applied");
    approve_plan(&customer, &first).await?.refused("PlanMismatch")?;
    let used = kept(&nats).await?;

    previewed(&running, &nats, &rows).await?;
    timing.say("previewed");

    // Whatever lies where the plan was does not open as the plan.
    let bergen = json!({ "settings": { "location": "Bergen" } });
    customer.send("site.oslo.change", &bergen).await?.accepted()?;
    let mut plans = events(&customer, "SitePlanned").await?.len();
    let tricks: [(&str, bool); 2] = [("changed", false), ("exchanged", true)];
    for (turn, (what, is_exchanged)) in (1..).zip(tricks) {
        plans += 1;
        let next = plan(&customer, plans).await?;
        ensure!(next["plan"]["counts"]["update"] == 1, "{next}");
        let present = kept(&nats).await?;
        let mut body = if is_exchanged { used.payload.to_vec() } else { present.payload.to_vec() };
        if !is_exchanged {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        put(&nats, &present, body).await?;
        approve_plan(&customer, &next).await?.accepted()?;
        stale(&customer, turn, "damaged").await?;
        ensure!(location(&running).await? != "Bergen", "a plan that was {what} was applied");
    }
    timing.say("files changed and exchanged");

    // Another template makes another plan, though nobody asks for another thing.
    plans += 1;
    let old = plan(&customer, plans).await?;
    let file = running.home.join("own-vendors/simwan/terraform/main.tf");
    let template = std::fs::read_to_string(&file)? + "\n# Another edition.\n";
    std::fs::write(running.home.join("new.tf"), template)?;
    std::fs::rename(running.home.join("new.tf"), &file)?;
    plans += 1;
    let next = plan(&customer, plans).await?;
    ensure!(next["plan"]["template"] != old["plan"]["template"], "{next}");
    approve_plan(&customer, &old).await?.refused("PlanMismatch")?;
    approve_plan(&customer, &next).await?.accepted()?;
    let done = "SELECT count(*) FROM plans WHERE state = 'applied' AND customer = 'acme'";
    rows.reach("it is applied", done, 2, level::LONG).await?;
    ensure!(location(&running).await? == "Bergen");
    timing.say("another template");
    let applied: Vec<Value> =
        events(&customer, "SitePlanApplied").await?.iter().map(|event| event["plan"].clone()).collect();
    let approved: Vec<Value> =
        events(&customer, "SiteApproved").await?.iter().map(|event| event["plan"].clone()).collect();
    ensure!(applied.iter().all(|plan| approved.contains(plan)), "{applied:?} {approved:?}");
    let opened = opened(&nats, "acme").await?;
    ensure!(opened.iter().map(|hash| json!(hash)).eq(applied.iter().cloned()), "{opened:?} {applied:?}");
    running.vendor()?.judge("acme.", 2).await?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    ensure!(running.home.violations().is_empty(), "{:?}", running.home.violations());
    Ok(())
}

/// The executor that carried an order of this intent out last, by its own name.
async fn carried_out(rows: &Rows, intent: &str) -> Result<String> {
    let sql = format!(
        "SELECT executor FROM operations WHERE customer = 'acme' AND kind = 'site' AND intent = '{intent}'
         AND state = 'succeeded' ORDER BY finished_at DESC LIMIT 1"
    );
    let ended = async || Ok(rows.texts(&sql).await?.pop());
    Ok(level::reach(&format!("an order to {intent} has succeeded"), level::LONG, ended).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_one_executor_is_applied_by_another() -> Result<()> {
    let timing = Timing::of("planned here, applied there");
    let (home, program) = (home()?, program());
    let child = Running::launch(&program, &home, &["up", "--executors", "2"])?;
    let running = Running::ready(&program, &home, child).await?;
    let (customer, rows, nats) =
        (running.customer("acme").await?, running.rows().await?, running.nats().await?);
    customer.send("customer.acme.change", &json!({ "policy": { "site": "plan" } })).await?.accepted()?;
    customer.site("oslo", 1, 2, 0).await?;
    rows.reach("all is planned", &format!("{WAITING} AND creates = 3"), 1, level::LONG).await?;
    let first = events(&customer, "SitePlanned").await?.pop().context("a plan")?;
    // Its name ends with the number of its process and a few random digits.
    let planner = carried_out(&rows, "plan").await?;
    let pid: u32 = planner.rsplit('-').nth(1).context("a name with a process")?.parse()?;
    let is_planner = |process: &wanwright_tests::Process| process.pid == pid;
    let stopped = running.family().into_iter().find(is_planner).context("who planned is not there")?;
    ensure!(stopped.command.contains("executors"), "{stopped:?}");
    // It neither answers nor dies, so nobody has its memory or takes its folder over.
    stopped.signal(Signal::STOP);
    let approved = approve_plan(&customer, &first).await?.accepted();
    let healthy = rows.healthy("acme", 3, level::LONG).await;
    let applier = carried_out(&rows, "apply").await;
    let opened = opened(&nats, "acme").await;
    stopped.signal(Signal::CONT);
    approved?;
    healthy?;
    let (applier, opened) = (applier?, opened?);
    timing.say(format_args!("planned by {planner}, applied by {applier}"));
    ensure!(applier != planner, "who planned has applied: {applier}");
    ensure!(opened == [text(&first["plan"]["hash"])], "another file was applied: {opened:?}");
    let applied = events(&customer, "SitePlanApplied").await?;
    ensure!(applied.len() == 1 && applied[0]["plan"] == first["plan"]["hash"], "{applied:?}");
    running.vendor()?.judge("acme.", 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_run_was_killed_is_made_anew_and_waits_again() -> Result<()> {
    let timing = Timing::of("killed plans");
    let running = own().await?;
    let (customer, rows, nats) =
        (running.customer("acme").await?, running.rows().await?, running.nats().await?);
    customer
        .send("customer.acme.change", &json!({ "policy": { "site": { "plan": { "valid": "1h" } } } }))
        .await?
        .accepted()?;
    customer.site("oslo", 1, 3, 0).await?;
    rows.reach("all is planned", &format!("{WAITING} AND creates = 4"), 1, level::LONG).await?;
    let first = events(&customer, "SitePlanned").await?.pop().context("a plan")?;
    running.vendor()?.faults(&json!({ "latency_ms": 1500 })).await?;
    approve_plan(&customer, &first).await?.accepted()?;
    let begun = async || Ok(running.vendor()?.made().await? >= 1);
    level::until("the vendor has begun", level::LONG, begun).await?;
    let executors = running.role("executors").context("no executors")?;
    executors.signal(Signal::KILL);
    running.comes_back("executors", &executors).await?;
    running.vendor()?.heal().await?;
    stale(&customer, 1, "interrupted").await?;
    timing.say("killed, and known to be stale");
    let next = async || {
        let waiting = events(&customer, "SitePlanned")
            .await?
            .pop()
            .filter(|plan| plan["plan"]["hash"] != first["plan"]["hash"]);
        Ok(waiting)
    };
    let (next, _) = level::reach("it is planned anew", level::LONG, next).await?;
    approve_plan(&customer, &first).await?.refused("PlanMismatch")?;
    approve_plan(&customer, &next).await?.accepted()?;
    rows.healthy("acme", 4, level::LONG).await?;
    let opened = opened(&nats, "acme").await?;
    // The records of its last second may have died with the executor.
    ensure!(opened.last() == Some(&text(&next["plan"]["hash"])) && opened.len() <= 2, "{opened:?}");
    running.vendor()?.judge("acme.", 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_made_is_applied_as_planned_where_only_destroying_is_approved() -> Result<()> {
    let running = own().await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    customer.send("customer.acme.change", &json!({ "policy": { "site": "plan" } })).await?.accepted()?;
    customer.site("oslo", 1, 0, 0).await?;
    plan(&customer, 1).await?;
    ensure!(running.vendor()?.made().await? == 0, "something was made that nobody approved");
    // What is only made needs no approval where only destroying does: it is applied as planned, at once.
    let policy = json!({ "policy": { "site": { "plan": { "only": "destroys", "valid": "1h" } } } });
    customer.send("customer.acme.change", &policy).await?.accepted()?;
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", mint().as_str());
    let body = json!({ "generation": 2 }).to_string().into_bytes();
    customer.ask_raw("wan.do.acme.boss.customer.acme.approve", head, body).await?.accepted()?;
    customer.send("site.oslo.cancel", &json!({})).await?;
    let gone = "SELECT count(*) FROM sites WHERE customer = 'acme'";
    rows.reach("what waited is taken back", gone, 0, level::LONG).await?;
    customer.site("bergen", 2, 1, 0).await?;
    rows.healthy("acme", 2, level::LONG).await?;
    let applied =
        "SELECT count(*) FROM plans WHERE site = 'bergen' AND state = 'applied' AND approvals IS NULL";
    let seen = async || Ok(rows.number(applied).await? >= 1);
    level::until("it was planned and applied without an approval", level::LONG, seen).await.map(drop)
}
