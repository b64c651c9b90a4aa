//! Personal data in the running system: in no file of its home, and readable until it is erased.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;
use wanwright_tests::{Running, Timing, level, mint};

use crate::support::{home, program};

/// What every text of a person here has in it.
const MARK: &str = "Zq7Canary";

/// The mark as it is, in hexadecimal digits and in base64.
const WRITINGS: [&str; 6] =
    [MARK, "5a713743616e617279", "5A713743616E617279", "WnE3Q2FuYXJ5", "pxN0NhbmFyeQ", "acTdDYW5hcn"];

/// The files of a folder in which the mark is.
fn found(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            all.extend(found(&path));
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        if WRITINGS.iter().any(|writing| text.contains(writing)) {
            all.push(path.display().to_string());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_in_no_file_and_can_be_erased() -> Result<()> {
    let _timing = Timing::of("personal data");
    // Everything that can be logged is logged.
    let program = program().with("WANWRIGHT_LOG", "debug");
    let running = Running::up(&program, &home()?).await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    let contact = |n: u8| {
        json!({
            "name": format!("{MARK} Doe {n}"), "email": format!("{n}.{MARK}@example.org"),
            "phone": format!("+47 {MARK} {n}"), "note": format!("after {MARK} {n}"),
        })
    };
    let site =
        |n: u8| json!({ "vendor": "simwan", "lan": [format!("10.{n}.0.0/24")], "contact": contact(n) });
    let create = |n: u8| format!("site.s{n}.create");
    // A file that has it is found.
    let control = running.home.join("control");
    std::fs::write(&control, format!("x{MARK}"))?;
    ensure!(
        found(running.home.path()) == [control.display().to_string()],
        "{:?}",
        found(running.home.path())
    );
    std::fs::remove_file(&control)?;

    let id = mint();
    customer.ask(&id, &create(1), &site(1)).await?.accepted()?;
    ensure!(customer.ask(&id, &create(1), &site(1)).await?.repeated());
    let body = json!({ "site": "s1", "serial": "SN-CANARY-1", "model": "edge-100", "contact": contact(2) });
    customer.send("device.d1.create", &body).await?.accepted()?;
    let durable = mint();
    customer.publish(Some(&durable), &create(3), &site(3)).await?;
    level::until("its outcome is there", level::LONG, async || {
        Ok(customer.outcome(&durable).await?.is_some())
    })
    .await?;
    customer
        .send(&create(4), &json!({ "vendor": "none", "lan": [], "contact": contact(4) }))
        .await?
        .refused("UnknownVendor")?;
    customer.send(&create(5), &json!({ "contact": format!("{MARK} 5") })).await?.refused("WrongType")?;
    customer.publish(None, "site.s6", &site(6)).await?;
    rows.reach("the dead letter is a row", "SELECT count(*) FROM dead_letters", 1, level::LONG).await?;
    rows.healthy("acme", 3, level::LONG).await?;
    // What is told of runs becomes rows by itself, behind what they brought about.
    let ran = "SELECT count(*) FROM operations WHERE state = 'succeeded'";
    rows.reach("their operations are rows", ran, 3, level::LONG).await?;
    let vendor_saw = rows.number("SELECT count(*) FROM operations").await?;
    customer.send("site.s1.change", &json!({ "contact": contact(7) })).await?.accepted()?;
    let dry = ["send", "site", "create", "acme/s8", &site(8).to_string(), "--dry-run"].map(str::to_owned);
    let said = running.call(&dry.iter().map(String::as_str).collect::<Vec<_>>()).await?.code(0)?;
    ensure!(said.out.contains("sealed:v1:") && !said.out.contains(MARK), "{}", said.out);

    let changed = "SELECT count(*) FROM timeline WHERE type = 'SiteContactChanged'";
    rows.reach("the change is a row", changed, 1, level::LONG).await?;
    ensure!(
        rows.number("SELECT count(*) FROM operations").await? == vendor_saw,
        "something ran because of a contact"
    );
    let sealed =
        "SELECT count(*) FROM sites WHERE contact->>'name' LIKE 'sealed:v1:%' AND contact = spec->'contact'";
    ensure!(rows.number(sealed).await? == 2);
    let said = running.call(&["reveal", "site", "acme/s1", "-o", "json"]).await?.code(0)?;
    let shown: serde_json::Value = serde_json::from_str(&said.out)?;
    ensure!(shown == contact(7), "{shown}");
    let said = running.call(&["get", "devices", "--reveal"]).await?.code(0)?;
    ensure!(said.out.contains(&format!("{MARK} Doe 2")), "{}", said.out);
    running.call(&["keys", "rotate"]).await?.code(0)?;
    running.call(&["reveal", "site", "acme/s3"]).await?.code(0)?;

    let before = running.call(&["replay", "acme", "--raw"]).await?.code(0)?.out;
    // Nobody is asked without a terminal.
    let said = running.call(&["erase", "acme"]).await?.code(2)?;
    ensure!(said.err.contains("--yes"), "{}", said.err);
    let said = running.call(&["erase", "acme", "--yes"]).await?.code(0)?;
    ensure!(said.out.contains("erased"), "{}", said.out);
    let said = running.call(&["erase", "acme", "--yes"]).await?.code(0)?;
    ensure!(said.out.contains("nothing to erase"), "{}", said.out);
    let said = running.call(&["reveal", "site", "acme/s1", "-o", "json"]).await?.code(0)?;
    ensure!(said.out.matches("\"erased\"").count() == 4, "{}", said.out);

    let after = running.call(&["replay", "acme", "--raw"]).await?.code(0)?.out;
    ensure!(after.starts_with(&before) && after.len() > before.len(), "{before}\n{after}");
    customer.send("site.s1.change", &json!({ "lan": ["10.99.0.0/24"] })).await?.accepted()?;
    customer.send("site.s1.change", &json!({ "contact": { "name": "Somebody else" } })).await?.accepted()?;
    rows.healthy("acme", 3, level::LONG).await?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    rows.all_running().await?;

    // Terraform's states, Postgres, streams and logs: all of it is in the home or where Postgres may be.
    for dir in [Some(running.home.path().to_owned()), postgres(&rows).await?] {
        let files = dir.as_deref().map(found).unwrap_or_default();
        ensure!(files.is_empty(), "{files:?}");
    }
    Ok(())
}

/// Where Postgres keeps its files.
async fn postgres(rows: &wanwright_tests::Rows) -> Result<Option<std::path::PathBuf>> {
    // Also what is still in memory only.
    sqlx::query("CHECKPOINT").execute(&rows.pool).await?;
    Ok(rows.texts("SHOW data_directory").await?.pop().map(Into::into))
}
