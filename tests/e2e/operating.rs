//! What an operator does from the command line: dead letters, pauses, budgets, what waits.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_nats::Nats;
use wanwright_nats::publish::publish;
use wanwright_schemas::headers;
use wanwright_tests::{Running, Timing, level, mint};

use crate::support::own;

async fn json(running: &Running, args: &[&str]) -> Result<Value> {
    let said = running.call(&[args, &["-o", "json"]].concat()).await?.code(0)?;
    serde_json::from_str(&said.out).with_context(|| format!("`{}` said {}", args.join(" "), said.out))
}

/// Whether every time in a text is one to the second.
fn is_to_the_second(text: &str) -> bool {
    !text.split_whitespace().any(|word| word.contains('T') && word.contains(':') && word.contains('.'))
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_sent_back_and_dropped() -> Result<()> {
    let _timing = Timing::of("dead letters");
    let running = own().await?;
    let customer = running.customer("letters").await?;
    ensure!(running.call(&["dead", "list"]).await?.code(0)?.err.contains("there are no dead letters"));
    // No command, which no door reads.
    customer.publish(None, "site.oslo.create.too.many", &json!({})).await?;
    customer.publish(None, "site.oslo.create", &json!("not an object")).await?;
    let letters = level::reach("a letter", level::LONG, async || {
        let list = json(&running, &["dead", "list"]).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok((!items.is_empty()).then_some(items))
    });
    let letters = letters.await?.0;
    let number = letters[0]["letter"].as_u64().context("no number")?.to_string();
    let list = running.call(&["dead", "list"]).await?.code(0)?;
    ensure!(list.out.contains(&number) && is_to_the_second(&list.out), "{}", list.out);
    let shown = running.call(&["dead", "show", &number]).await?.code(0)?;
    ensure!(shown.out.contains("BadSubject") && is_to_the_second(&shown.out), "{}", shown.out);
    let words = running.call(&["dead", "show", "x"]).await?.code(2)?;
    ensure!(words.err.contains("wanwright dead list"), "{}", words.err);
    let none = running.call(&["dead", "show", "4711"]).await?.code(1)?;
    ensure!(none.err.contains("there is no dead letter 4711"), "{}", none.err);

    let kept = running.call(&["dead", "requeue", &number]).await?.code(3)?;
    ensure!(kept.err.contains("not sent back"), "{}", kept.err);
    let unasked = running.call(&["dead", "drop", &number]).await?.code(2)?;
    ensure!(unasked.err.contains("--yes"), "{}", unasked.err);
    let dropped = running.call(&["dead", "drop", &number, "--yes", "--reason", "a test"]).await?.code(0)?;
    ensure!(dropped.out.contains("dropped"), "{}", dropped.out);
    let gone = running.call(&["dead", "show", &number]).await?;
    let line = gone.err.lines().find(|line| line.contains("dropped by"));
    ensure!(line.is_some_and(is_to_the_second), "{} {}", gone.err, gone.out);
    let rows = running.rows().await?;
    let settled = "SELECT count(*) FROM dead_letters WHERE settled = 'dropped' AND settled_by IS NOT NULL";
    rows.reach("the row says so", settled, 1, level::LONG).await.map(drop)
}

/// Makes a letter of a change of a device, as the command service does of a command that it can decide on nothing.
async fn bury(nats: &Nats, id: &str, vlan: u32) -> Result<String> {
    let body = json!({ "settings": { "vlan": vlan } }).to_string();
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id);
    head.insert(headers::DEAD_SUBJECT, "wan.cmd.sent-back.demo.device.a-d0.change");
    head.insert(headers::DEAD_REASON, "HistoryDamaged");
    head.insert(headers::DEAD_SIZE, body.len().to_string().as_str());
    let letter = publish(&nats.js, "wan.dead.command.HistoryDamaged".to_owned(), head, body.into()).await?;
    Ok(letter.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_sent_back_is_carried_out_unless_it_was_overtaken() -> Result<()> {
    let _timing = Timing::of("a letter sent back");
    let running = own().await?;
    let (rows, nats, customer) =
        (running.rows().await?, running.nats().await?, running.customer("sent-back").await?);
    customer.site("a", 1, 0, 1).await?;
    rows.healthy("sent-back", 2, level::LONG).await?;
    let is_carried_out = async |vlan: u32| {
        level::until(&format!("the vendor has vlan {vlan}"), level::LONG, async || {
            let device = running.vendor()?.object("device", "sent-back.a-d0").await?;
            Ok(device.is_some_and(|device| device.get("vlan") == Some(&json!(vlan))))
        })
        .await
    };
    let letter = bury(&nats, &mint(), 42).await?;
    let said = running.call(&["dead", "requeue", &letter, "--reason", "repaired"]).await?.code(0)?;
    ensure!(said.out.contains("sent back") && said.out.contains("is in the inbox"), "{}", said.out);
    is_carried_out(42).await?;
    let settled =
        "SELECT count(*) FROM dead_letters WHERE settled = 'requeued' AND settled_reason = 'repaired'";
    rows.reach("the row says so", settled, 1, level::LONG).await?;
    let again = running.call(&["dead", "requeue", &letter]).await?.code(1)?;
    ensure!(again.err.contains("requeued by"), "{}", again.err);

    let id = mint();
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 43 } })).await?.accepted()?;
    let letter = bury(&nats, &id, 44).await?;
    let kept = running.call(&["dead", "requeue", &letter]).await?.code(3)?;
    ensure!(kept.err.contains("Overtaken") && kept.err.contains("--anyway"), "{}", kept.err);
    let kept = running.call(&["dead", "requeue", &letter, "-o", "json"]).await?.code(3)?;
    let kept: Value = serde_json::from_str(&kept.out)?;
    ensure!(kept["code"] == "Overtaken" && kept["requeued"] == false, "{kept}");
    is_carried_out(43).await?;
    running.call(&["dead", "requeue", &letter, "--anyway"]).await?.code(0)?;
    is_carried_out(44).await?;
    running.vendor()?.judge("sent-back.", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_shown_holds_and_ends() -> Result<()> {
    let _timing = Timing::of("a pause");
    let running = own().await?;
    let (rows, customer) = (running.rows().await?, running.customer("paused").await?);
    customer.site("a", 1, 1, 1).await?;
    rows.healthy("paused", 3, level::LONG).await?;
    let budgets = running.call(&["get", "budgets"]).await?.code(0)?;
    ensure!(budgets.out.contains("simwan"), "{}", budgets.out);

    let pause = ["pause", "vendor", "simwan", "--reason", "the vendor moves", "--until", "2h"];
    let said = running.call(&pause).await?.code(0)?;
    ensure!(said.out.contains("the vendor moves") && is_to_the_second(&said.out), "{}", said.out);
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 42 } })).await?.accepted()?;
    let waits = "SELECT count(*) FROM operations_now WHERE customer = 'paused' AND waiting_for = 'paused'";
    rows.reach("the change waits for the end of the pause", waits, 1, level::LONG).await?;
    let operations = running.call(&["get", "operations", "-c", "paused"]).await?.code(0)?;
    ensure!(operations.out.contains("paused") && is_to_the_second(&operations.out), "{}", operations.out);
    let budgets = running.call(&["get", "budgets"]).await?.code(0)?;
    ensure!(budgets.out.contains("the vendor moves"), "{}", budgets.out);
    let queue = json(&running, &["get", "queue", "-c", "paused"]).await?;
    let (simwan, waiting) = (&queue["items"][0], json!({ "paused": 1 }));
    ensure!(
        simwan["vendor"] == "simwan" && simwan["waiting"] == 1 && simwan["waiting_for"] == waiting,
        "{queue}"
    );
    let queue = running.call(&["get", "queue", "--vendor", "simwan"]).await?.code(0)?;
    ensure!(queue.out.contains("paused 1") && is_to_the_second(&queue.out), "{}", queue.out);
    let at = async |vendor: &str| {
        let listed = json(&running, &["get", "operations", "-c", "paused", "--vendor", vendor]).await?;
        anyhow::Ok(listed["items"].as_array().map_or(0, Vec::len))
    };
    ensure!(at("simwan").await? > 0 && at("versa").await? == 0, "operations are not narrowed to a vendor");
    let wrong = running.call(&["get", "budgets", "--vendor", "simwan"]).await?;
    ensure!(wrong.code == 2 && wrong.err.contains("--vendor is for"), "{} {}", wrong.code, wrong.err);
    let wrong = running.call(&["pause", "vendor", "simwan", "--reason", "x", "--until", "soon"]).await?;
    ensure!(wrong.code == 2, "{} {}", wrong.code, wrong.err);

    running.call(&["resume", "vendor", "simwan", "--reason", "it has moved"]).await?.code(0)?;
    rows.healthy("paused", 3, level::LONG).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_window_says_until_when() -> Result<()> {
    let _timing = Timing::of("held");
    let running = own().await?;
    let (rows, customer) = (running.rows().await?, running.customer("waits").await?);
    customer.site("a", 1, 1, 1).await?;
    rows.healthy("waits", 3, level::LONG).await?;
    customer.send("site.a.suspend", &json!({ "reason": "works" })).await?.accepted()?;
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 42 } })).await?.accepted()?;
    let held = "SELECT count(*) FROM held_changes WHERE customer = 'waits' AND waiting_for = 'suspended'";
    rows.reach("the change is held", held, 1, level::LONG).await?;
    let shown = running.call(&["get", "held", "-c", "waits"]).await?.code(0)?;
    ensure!(shown.out.contains("a-d0") && shown.out.contains("works"), "{}", shown.out);
    customer.send("site.a.resume", &json!({})).await?.accepted()?;
    rows.healthy("waits", 3, level::LONG).await?;

    // A day on which no window is open for long: its end is known.
    let window = json!({ "zone": "UTC", "from": "03:00", "to": "03:01" });
    customer.send("customer.waits.change", &json!({ "windows": { "w": window } })).await?.accepted()?;
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 43 } })).await?.accepted()?;
    let waits = "SELECT count(*) FROM held_changes WHERE customer = 'waits' AND waiting_for = 'window' AND next_at > now()";
    rows.reach("the change waits for its window", waits, 1, level::LONG).await?;
    let shown = running.call(&["get", "held", "-c", "waits"]).await?.code(0)?;
    ensure!(shown.out.contains("T03:00:00Z") && is_to_the_second(&shown.out), "{}", shown.out);
    let of = json(&running, &["get", "held", "-c", "waits"]).await?;
    ensure!(of["items"][0]["waiting_for"] == "window", "{of}");
    Ok(())
}
