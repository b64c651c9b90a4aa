//! Terraform's states in the running system: sealed, looked at, damaged by hand, put back, under keys that are replaced.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Running, Timing, level};

use crate::support::{home, program};

/// What a program prints as JSON.
async fn read(running: &Running, args: &[&str], code: i32) -> Result<Value> {
    let said = running.call(&[&["state"], args, &["-o", "json"]].concat()).await?.code(code)?;
    serde_json::from_str(&said.out).with_context(|| said.out.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_sealed_shown_compared_and_restored() -> Result<()> {
    let timing = Timing::of("states");
    let running = Running::up(&program(), &home()?).await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    let site = |net: u8| json!({ "vendor": "simwan", "lan": [format!("10.{net}.0.0/24")] });
    customer.send("site.oslo.create", &site(1)).await?.accepted()?;
    rows.healthy("acme", 1, level::LONG).await?;
    customer.send("site.oslo.change", &json!({ "lan": ["10.2.0.0/24"] })).await?.accepted()?;
    rows.reach("the change is made", CHANGED, 1, level::LONG).await?;
    timing.say("made and changed");

    let listed = read(&running, &["list"], 0).await?;
    let first = &listed["items"][0];
    ensure!(first["customer"] == "acme" && first["site"] == "oslo" && first["key"].is_string(), "{listed}");
    let stack = first["stack"].as_str().context("an id")?.to_owned();
    let versions = read(&running, &["history", "acme/oslo"], 0).await?;
    let serials: Vec<i64> = versions["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["serial"].as_i64())
        .collect();
    ensure!(serials.len() >= 2 && Some(serials[0]) == first["serial"].as_i64(), "{versions}");
    let shown = read(&running, &["show", &stack], 0).await?;
    ensure!(shown["values"].to_string().contains("10.2.0.0/24"), "{shown}");
    let differ = read(&running, &["diff", "acme/oslo"], 1).await?;
    let text = differ.to_string();
    ensure!(text.contains("10.1.0.0/24") && text.contains("10.2.0.0/24"), "{text}");
    let pulled = running.call(&["state", "pull", "acme/oslo"]).await?.code(0)?.out;
    let copied = running.call(&["state", "pull", "acme/oslo", "--copy"]).await?.code(0)?.out;
    ensure!(pulled == copied && pulled.contains("\"lineage\""), "{pulled}\n{copied}");
    running.call(&["state", "show", "acme/oslo", "--serial", "999"]).await?.code(1)?;
    running.call(&["state", "show", "acme/none"]).await?.code(2)?;

    // Neither table nor stream has it readable.
    let plain = "SELECT count(*) FROM terraform.states WHERE position('lineage'::bytea IN body) > 0";
    ensure!(rows.number(plain).await? == 0);

    // Somebody changes the newest row by hand: nothing is applied on it until it is put right.
    let spoil = "UPDATE terraform.states SET body = set_byte(body, 20, get_byte(body, 20) # 1) \
                 WHERE serial = (SELECT max(serial) FROM terraform.states)";
    let admin = rows.pool.clone();
    ensure!(sqlx::query(spoil).execute(&admin).await?.rows_affected() == 1);
    customer.send("site.oslo.change", &json!({ "lan": ["10.3.0.0/24"] })).await?.accepted()?;
    let waits = "SELECT count(*) FROM operations WHERE error_code = 'StateDamaged' AND state = 'retrying'";
    rows.reach("the change waits and says why", waits, 1, level::LONG).await?;
    let said = running.call(&["state", "show", "acme/oslo"]).await?.code(1)?;
    ensure!(said.err.contains("it is not what wanwright wrote there"), "{}", said.err);
    let said = running.call(&["state", "restore", "acme/oslo"]).await?.code(0)?;
    ensure!(said.out.starts_with("restored"), "{}", said.out);
    timing.say("damaged and restored");

    // Keys are replaced while it goes on.
    let said = running.call(&["keys", "rotate", "--only", "states"]).await?.code(0)?;
    ensure!(said.out.contains("second copies are sealed with it"), "{}", said.out);
    let older = format!(
        "SELECT count(*) FROM terraform.states WHERE sealed_with = '{}'",
        first["key"].as_str().unwrap_or_default()
    );
    rows.reach("the change is made", &CHANGED.replace("10.2", "10.3"), 1, level::LONG).await?;
    ensure!(rows.number(&older).await? == 0, "something is sealed with the older key");
    running.call(&["state", "diff", "acme/oslo"]).await?.code(1)?;

    // Both stores are put back to what they had before: it is genuine, and not what the history tells of.
    let states = read(&running, &["history", "acme/oslo"], 0).await?;
    let serial = |at: usize| states["items"][at]["serial"].as_i64().context("a serial");
    let (newest, older) = (serial(0)?, serial(1)?);
    let sql = format!("DELETE FROM terraform.states WHERE serial > {older}");
    ensure!(sqlx::query(&sql).execute(&admin).await?.rows_affected() > 0);
    let nats = running.nats().await?;
    nats.js.get_stream("STATES").await?.purge().await?;
    // Who reads it copies the row again.
    customer.send("site.oslo.change", &json!({ "lan": ["10.5.0.0/24"] })).await?.accepted()?;
    let older_waits = waits.replace("StateDamaged", "StateOlder");
    rows.reach("the change waits and says why", &older_waits, 1, level::LONG).await?;
    let known = "SELECT count(*) FROM timeline WHERE type = 'SiteStateStored' AND kind = 'site'";
    ensure!(rows.number(known).await? > 0);
    running.call(&["state", "accept", "acme/oslo", &newest.to_string()]).await?.code(1)?;
    let said = running.call(&["state", "accept", "acme/oslo", &older.to_string()]).await?.code(0)?;
    ensure!(
        said.out.starts_with("accepted") && said.out.contains(&format!("serial {}", newest + 1)),
        "{}",
        said.out
    );
    rows.reach("the change is made", &CHANGED.replace("10.2", "10.5"), 1, level::LONG).await?;
    let said = running.call(&["state", "accept", "acme/oslo", &older.to_string()]).await?.code(1)?;
    ensure!(said.err.contains("the newest version"), "{}", said.err);
    timing.say("put back and accepted");

    // Both stores lose it: Terraform must not make everything once more.
    running.call(&["state", "begin", "acme/oslo"]).await?.code(1)?;
    sqlx::query("DELETE FROM terraform.states").execute(&admin).await?;
    nats.js.get_stream("STATES").await?.purge().await?;
    customer.send("site.oslo.change", &json!({ "lan": ["10.4.0.0/24"] })).await?.accepted()?;
    rows.reach("the change waits and says why", waits, 1, level::LONG).await?;
    let said = running.call(&["state", "begin", "acme/oslo"]).await?.code(0)?;
    ensure!(said.out.starts_with("begun"), "{}", said.out);
    rows.reach("the change is made", &CHANGED.replace("10.2", "10.4"), 1, level::LONG).await?;
    running.vendor()?.judge("acme.", 1).await?;
    timing.say("lost and begun again");
    Ok(())
}

/// Whether the site is as it was last changed.
const CHANGED: &str = "SELECT count(*) FROM status s JOIN sites USING (customer, id) \
    WHERE s.kind = 'site' AND s.health = 'Healthy' AND s.sync = 'Synced' AND sites.lan = ARRAY['10.2.0.0/24'::inet]";
