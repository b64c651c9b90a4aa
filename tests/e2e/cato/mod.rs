//! Sites at Cato's folder, all the way: Terraform, our provider, the gateway with its limits, and a vendor that speaks GraphQL
//! with errors in successes.

mod vendor;

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Running, Timing, level};

use crate::support::{copy, home, program};
use vendor::{ACCOUNT, Cato, Fault};

/// The credential it gave us.
const KEY: &str = "the-key-of-cato";

fn site(number: usize) -> Value {
    json!({
        "vendor": "cato", "lan": [format!("10.7.{number}.0/24")],
        "settings": {
            "account_id": ACCOUNT, "native_range": format!("10.7.{number}.0/24"), "country": "NO", "city": "Oslo",
            "timezone": "Europe/Oslo",
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_are_made_changed_mended_and_removed_within_the_limits_of_each_operation() -> Result<()> {
    const SITES: usize = 6;
    let timing = Timing::of("cato");
    let (home, cato) = (home()?, Cato::start(KEY).await?);
    let vendors = home.join("own-vendors");
    copy(program().vendors(), &vendors)?;
    let file = vendors.join("cato/vendor.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("https://api.catonetworks.com", &cato.url))?;
    let program =
        program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy()).with("WANWRIGHT_CATO_API_KEY", KEY);
    let running = Running::up(&program, &Arc::clone(&home)).await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);

    // The first is refused as too much, and the answer to a later one is lost: it has no key, so it is found by its name.
    cato.fail("AddSite", Fault::Busy)?;
    customer.send("site.oslo-0.create", &site(0)).await?.accepted()?;
    rows.healthy("acme", 1, level::LONG).await?;
    ensure!(cato.has_failed()?);
    cato.fail("AddSite", Fault::Lost)?;
    for number in 1..SITES {
        customer.send(&format!("site.oslo-{number}.create"), &site(number)).await?.accepted()?;
    }
    rows.healthy("acme", i64::try_from(SITES)?, level::LONG).await?;
    ensure!(cato.has_failed()? && cato.sites()? == SITES);
    cato.judge(SITES)?;
    let kept = cato.site("acme.oslo-3")?;
    ensure!(kept["siteType"] == "BRANCH" && kept["siteLocation"]["cityName"] == "Oslo", "{kept}");
    timing.say(format_args!("made with {:?}", cato.calls()?));

    let change = json!({ "settings": { "site_type": "HEADQUARTERS" } });
    customer.send("site.oslo-3.change", &change).await?.accepted()?;
    let is_there = async || Ok(cato.site("acme.oslo-3")?["siteType"] == "HEADQUARTERS");
    level::until("the change is there", level::LONG, is_there).await?;
    rows.healthy("acme", i64::try_from(SITES)?, level::LONG).await?;
    cato.drift("acme.oslo-3", "siteType", "DATACENTER")?;
    let drift = running.call(&["drift", "acme", "-o", "json"]).await?.code(1)?.out;
    ensure!(drift.contains("site_type") && drift.contains("DATACENTER"), "{drift}");
    customer.send("site.oslo-3.retry", &json!({})).await?.accepted()?;
    level::until("the drift is mended", level::LONG, is_there).await?;

    for number in 0..SITES {
        customer.send(&format!("site.oslo-{number}.decommission"), &json!({})).await?.accepted()?;
    }
    level::until("every site is gone", level::LONG, async || Ok(cato.sites()? == 0)).await?;
    let gone = "SELECT count(*) FROM status WHERE customer = 'acme'";
    rows.reach("every site is recorded as gone", gone, 0, level::LONG).await?;
    cato.judge(SITES)?;
    timing.say(format_args!("all of it with {:?}", cato.calls()?));
    let said = home.read("logs/executors.log");
    ensure!(!said.contains(KEY), "the key is in the executors' log");
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    Ok(())
}
