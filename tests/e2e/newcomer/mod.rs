//! A vendor that the running system has never heard of: its folder is put beside the others, and nothing is started again.

mod vendor;

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Running, Timing, level};

use crate::support::{copy, home, program};
use vendor::Loom;

/// Its folder, with places for what only a test knows.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/newcomer/loomwan");

/// The credential it gave us.
const KEY: &str = "the-key-of-loomwan";

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_is_added_to_a_running_system_by_its_folder_alone() -> Result<()> {
    let timing = Timing::of("a new vendor");
    let home = home()?;
    let vendors = home.join("own-vendors");
    copy(program().vendors(), &vendors)?;
    let program = program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy());
    let running = Running::up(&program, &Arc::clone(&home)).await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    customer.site("oslo", 1, 0, 1).await?;
    rows.healthy("acme", 2, level::LONG).await?;
    let before = roles(&running);
    let loom = Loom::start(KEY).await?;
    let site = json!({ "vendor": "loomwan", "lan": ["10.9.0.0/24"], "settings": { "town": "Bern" } });
    customer.send("site.bern.create", &site).await?.refused("UnknownVendor")?;

    // Written elsewhere, checked, and put there at once.
    let written = home.join("loomwan");
    copy(FOLDER.as_ref(), &written)?;
    std::fs::write(home.join("loom-key"), KEY)?;
    let file = written.join("vendor.toml");
    let text = std::fs::read_to_string(&file)?;
    let text = text.replace("\"URL\"", &format!("\"{}\"", loom.url));
    let text = text.replace("\"TOKEN\"", &format!("\"{}\"", home.join("loom-key").display()));
    std::fs::write(&file, text)?;
    let checked = running.call(&["vendor", "check", &written.display().to_string(), "-o", "json"]).await?;
    let checked: Value = serde_json::from_str(&checked.code(0)?.out)?;
    let errors =
        checked["problems"].as_array().into_iter().flatten().filter(|found| found["level"] == "error");
    ensure!(checked["examples"] == 1 && errors.count() == 0, "{checked}");
    std::fs::rename(&written, vendors.join("loomwan"))?;
    let explained =
        async || Ok(running.call(&["explain", "loomwan", "device.colour"]).await?.out.contains("AMBER"));
    level::until("the vendor is explained", level::LONG, explained).await?;

    // A site through Terraform and wanwright's provider, a device through the API engine: both speak GraphQL there.
    let known = async || Ok(customer.send("site.bern.create", &site).await?.accepted().is_ok());
    level::until("the vendor is known", level::LONG, known).await?;
    let device = |colour: &str| json!({ "site": "bern", "serial": "SN-LOOM", "model": "box-1", "settings": { "colour": colour } });
    customer.send("device.box.create", &device("MAUVE")).await?.refused("InvalidValue")?;
    customer.send("device.box.create", &device("AMBER")).await?.accepted()?;
    rows.healthy("acme", 4, level::LONG).await?;
    let bern = loom.node("acme.bern")?;
    ensure!(bern["detail"] == json!({ "prefixes": ["10.9.0.0/24"], "town": "Bern" }), "{bern}");
    let boxed = loom.node("acme.box")?;
    ensure!(boxed["detail"]["at"] == bern["ref"] && boxed["detail"]["colour"] == "AMBER", "{boxed}");
    timing.say("made");

    // It is changed, looked at and taken away like any other.
    let green = json!({ "settings": { "colour": "GREEN" } });
    customer.send("device.box.change", &green).await?.accepted()?;
    let is_green = async || Ok(loom.node("acme.box")?["detail"]["colour"] == "GREEN");
    level::until("the change is there", level::LONG, is_green).await?;
    rows.healthy("acme", 4, level::LONG).await?;
    loom.drift("acme.box", "colour", "GREY")?;
    let drift = running.call(&["drift", "acme", "-o", "json"]).await?.code(1)?.out;
    ensure!(drift.contains("colour") && drift.contains("GREY"), "{drift}");
    customer.send("site.bern.decommission", &json!({ "cascade": true })).await?.accepted()?;
    let gone = "SELECT count(*) FROM status WHERE customer = 'acme'";
    rows.reach("its site and its device are gone", gone, 2, level::LONG).await?;
    ensure!(loom.is_empty()?, "something is left at the vendor");
    loom.judge()?;

    let after = roles(&running);
    ensure!(before == after, "something was started again: {before:?} {after:?}");
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    Ok(())
}

/// The processes that the system itself has started: not what those start for themselves.
fn roles(running: &Running) -> std::collections::BTreeSet<u32> {
    let system = running.child().id();
    running.family().iter().filter(|process| process.is_child_of(system)).map(|process| process.pid).collect()
}
