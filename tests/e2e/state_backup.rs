//! Backups of Terraform's states: what was lost comes back as it was, and a damaged backup does not come back at all.

mod many;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Rows, Running, Timing, level};

use crate::support::own;

/// The ways to lose the states.
const LOST: [&str; 2] = ["DELETE FROM terraform.states", "DROP SCHEMA terraform CASCADE"];

/// Every version, as text.
async fn versions(rows: &Rows) -> Result<Vec<String>> {
    rows.texts("SELECT state::text FROM terraform.states state ORDER BY stack, serial").await
}

/// Stack, lineage and serial of the newest version of each stack.
async fn newest(rows: &Rows) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT ON (stack) stack || ' ' || lineage || ' ' || serial FROM terraform.states \
               ORDER BY stack, serial DESC";
    rows.texts(sql).await
}

/// Loses every state in Postgres, and its second copy.
async fn lose(running: &Running, rows: &Rows, how: &str) -> Result<()> {
    sqlx::query(how).execute(&rows.pool).await?;
    running.nats().await?.js.get_stream("STATES").await?.purge().await?;
    Ok(())
}

async fn backup(running: &Running, dir: &Path) -> Result<Value> {
    let said = running.call(&["state", "backup", &dir.to_string_lossy(), "-o", "json"]).await?.code(0)?;
    Ok(serde_json::from_str(&said.out)?)
}

async fn restore(running: &Running, dir: &Path) -> Result<Vec<Value>> {
    let args = ["state", "restore", "--from", &dir.to_string_lossy(), "-o", "json"];
    let said: Value = serde_json::from_str(&running.call(&args).await?.code(0)?.out)?;
    Ok(said["items"].as_array().cloned().unwrap_or_default())
}

/// Every word of the files of keys and credentials that is long enough to be a secret.
fn secrets(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(secrets(&path)?);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=_.-".contains(c));
        found.extend(words.filter(|word| word.len() >= 24 && !word.starts_with("---")).map(str::to_owned));
    }
    Ok(found)
}

/// Fails where a text is in a file of the backup, as it is or as the bytes of a column are written.
fn is_free_of(dir: &Path, texts: &[String]) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let file = String::from_utf8(std::fs::read(&path)?)?;
        for text in texts {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            ensure!(!file.contains(text) && !file.contains(&hex), "{} has {text}", path.display());
        }
    }
    Ok(())
}

/// Waits until nothing is done any more and all is as it should be.
async fn settled(rows: &Rows, objects: i64) -> Result<()> {
    let open = "SELECT count(*) FROM operations WHERE state NOT IN ('succeeded', 'superseded')";
    rows.reach("every run has ended", open, 0, level::LONG).await?;
    rows.healthy("acme", objects, level::LONG).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_restored_and_the_next_apply_goes_on() -> Result<()> {
    let timing = Timing::of("state backup");
    let running = own().await?;
    let (customer, rows, vendor) =
        (running.customer("acme").await?, running.rows().await?, running.vendor()?);
    let mut objects = 0;
    for (net, site) in [(1, "oslo"), (2, "bergen"), (3, "rome")] {
        objects += customer.site(site, net, 1, 0).await?;
    }
    settled(&rows, objects).await?;
    for (turn, lost) in LOST.into_iter().enumerate() {
        let (before, heads) = (versions(&rows).await?, newest(&rows).await?);
        let dir = running.home.join(&format!("backup-{turn}"));
        let said = backup(&running, &dir).await?;
        ensure!(said["versions"] == before.len() && said["stacks"] == 3, "{said}");
        lose(&running, &rows, lost).await?;
        let stacks = restore(&running, &dir).await?;
        let restored = |stack: &Value| stack["result"] == "restored" && stack["before"].is_null();
        ensure!(stacks.len() == 3 && stacks.iter().all(restored), "{stacks:?}");
        ensure!(versions(&rows).await? == before, "{lost}: it is not what it was");
        timing.say(format_args!("restored after {lost}"));

        // Terraform finds everything there: a change of one thing is a plan of that thing only, and nothing has drifted.
        let location = json!({ "settings": { "location": format!("Turn {turn}") } });
        let dry = [
            "send",
            "site",
            "change",
            "acme/oslo",
            &location.to_string(),
            "--dry-run",
            "--plan",
            "-o",
            "json",
        ];
        let said: Value = serde_json::from_str(&running.call(&dry).await?.code(0)?.out)?;
        let counts = &said["would_plan"][0]["plan"]["counts"];
        ensure!(*counts == json!({ "create": 0, "update": 1, "delete": 0, "replace": 0 }), "{said}");
        let drift = running.call(&["drift", "acme"]).await?.code(0)?;
        ensure!(drift.out.trim() == "no drift", "{}", drift.out);

        // The next apply stands behind what was restored: the same lineages, and a later serial of the one that changed.
        settled(&rows, objects).await?;
        customer.send("site.oslo.change", &location).await?.accepted()?;
        let changed = async || {
            let site = vendor.object("site", "acme.oslo").await?;
            Ok(site.is_some_and(|site| site["location"] == location["settings"]["location"]))
        };
        level::until("the change is made", level::LONG, changed).await?;
        settled(&rows, objects).await?;
        let now = newest(&rows).await?;
        let moved: Vec<_> = heads.iter().zip(&now).filter(|(head, now)| head != now).collect();
        ensure!(moved.len() == 1 && now.len() == 3, "{heads:?} {now:?}");
        let split = |text: &str| -> Result<(String, i64)> {
            let (line, serial) = text.rsplit_once(' ').context("a serial")?;
            Ok((line.to_owned(), serial.parse()?))
        };
        let (head, now) = (split(moved[0].0)?, split(moved[0].1)?);
        ensure!(head.0 == now.0 && now.1 > head.1, "{head:?} {now:?}");
        let copy = running.call(&["state", "pull", "acme/oslo", "--copy"]).await?.code(0)?.out;
        ensure!(copy == running.call(&["state", "pull", "acme/oslo"]).await?.code(0)?.out);

        // A backup of before takes nothing back.
        let present = versions(&rows).await?;
        let again = restore(&running, &dir).await?;
        let what: Vec<_> = again.iter().filter_map(|stack| stack["result"].as_str()).collect();
        ensure!(
            what.iter().filter(|what| **what == "same").count() == 2 && what.contains(&"later"),
            "{what:?}"
        );
        ensure!(versions(&rows).await? == present, "{again:?}");
        timing.say("changed behind it");
    }
    vendor.judge("acme.", usize::try_from(objects)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_none_holds_a_secret() -> Result<()> {
    let running = own().await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    let objects = customer.site("oslo", 1, 1, 0).await?;
    settled(&rows, objects).await?;
    let (before, dir) = (versions(&rows).await?, running.home.join("backup"));
    let said = backup(&running, &dir).await?;

    let password = running.endpoints.postgres.split([':', '@']).nth(2).context("a password")?;
    let mut texts = secrets(&running.endpoints.keys)?;
    ensure!(texts.len() > 3, "there are keys: {}", texts.len());
    let ids: Vec<_> = said["keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.retain(|text| !ids.contains(&text.as_str()));
    let others = [
        password,
        &running.endpoints.simulator_admin_token,
        "wanwright_simwan_site",
        "10.1.0.0",
        "resources",
    ];
    texts.extend(others.map(str::to_owned));
    is_free_of(&dir, &texts)?;

    let named = dir.to_string_lossy().into_owned();
    let said = running.call(&["state", "backup", &named]).await?.code(3)?;
    ensure!(said.out.starts_with("refused  BackupFolderNotEmpty: "), "{}", said.out);
    let said = running.call(&["state", "backup", &named, "-o", "json"]).await?.code(3)?;
    let said: Value = serde_json::from_str(&said.out)?;
    let of = |name: &str| said[name].as_str().unwrap_or_default();
    ensure!(of("status") == "refused" && of("code") == "BackupFolderNotEmpty", "{said}");
    ensure!(said["number"] == 4022 && of("message").contains("a backup") && !of("next").is_empty(), "{said}");

    lose(&running, &rows, LOST[0]).await?;
    let states = dir.join("states.copy");
    let whole = std::fs::read(&states)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (what, text) in
        [("flipped", Some(&flipped[..])), ("cut", Some(&whole[..whole.len() / 2])), ("gone", None)]
    {
        match text {
            Some(text) => std::fs::write(&states, text)?,
            None => std::fs::remove_file(&states)?,
        }
        let said = running.call(&["state", "restore", "--from", &named]).await?.code(3)?;
        ensure!(
            said.out.starts_with("refused  BackupDamaged: ") && said.out.contains("Use another backup"),
            "{what}: {}",
            said.out
        );
        ensure!(versions(&rows).await?.is_empty(), "{what}: something was written");
    }
    std::fs::write(&states, whole)?;
    // Neither NATS nor an executor has to be there for it.
    let said = running
        .call(&["state", "--nats", "nats://127.0.0.1:1", "restore", "--from", &named])
        .await?
        .code(0)?;
    ensure!(said.out.contains("restored"), "{}", said.out);
    ensure!(versions(&rows).await? == before, "it is not what it was");
    Ok(())
}
