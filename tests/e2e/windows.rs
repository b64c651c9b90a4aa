//! What is asked for outside of a change window begins when one opens, without anybody doing something.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use wanwright_tests::{Running, Timing, level};

use crate::support::own;

/// Seconds since the beginning of 1970.
fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// What a clock in UTC shows at this second.
fn clock(second: u64) -> String {
    let of_day = second % 86_400;
    format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

async fn device(running: &Running) -> Result<Map<String, Value>> {
    running.vendor()?.object("device", "nightly.a-d0").await?.context("no device")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_its_window_is_let_through_and_is_taken_back() -> Result<()> {
    let timing = Timing::of("windows");
    let running = own().await?;
    let customer = running.customer("nightly").await?;
    customer.site("a", 1, 1, 1).await?;
    let rows = running.rows().await?;
    rows.healthy("nightly", 3, level::LONG).await?;

    let opens = now()? + 30;
    let window = json!({ "zone": "UTC", "from": clock(opens), "to": clock(opens + 3600) });
    customer.send("customer.nightly.change", &json!({ "windows": { "w": window } })).await?.accepted()?;
    customer.send("device.a-d0.change", &json!({ "settings": { "vlan": 42 } })).await?.accepted()?;
    let until = format!(
        "SELECT count(*) FROM status WHERE customer = 'nightly' AND id = 'a-d0' AND postponed_until = to_timestamp({opens})"
    );
    rows.reach("the device says until when it waits", &until, 1, level::LONG).await?;
    // One change cannot wait, and is done before the window opens, or at least without it.
    customer.send("site.a.change", &json!({ "settings": { "location": "Bergen" } })).await?.accepted()?;
    let reason = json!({ "reason": "the line is down" });
    customer.send("site.a.release", &reason).await?.accepted()?;
    let done = "SELECT count(*) FROM sites WHERE customer = 'nightly' AND observed_generation = 2";
    rows.reach("the site is changed", done, 1, level::LONG).await?;
    if now()? < opens {
        ensure!(device(&running).await?["vlan"] == 10, "a change was made before its window opened");
    }
    let took = rows.healthy("nightly", 3, level::LONG).await?;
    timing.say(format_args!(
        "healthy {took:.1?} after the site was, {}s after the window opened",
        now()?.saturating_sub(opens)
    ));
    ensure!(device(&running).await?["vlan"] == 42, "what was asked for was not done");
    let after = format!(
        "SELECT count(*) FROM devices WHERE customer = 'nightly' AND applied_at >= to_timestamp({opens}) AND postponement IS NULL"
    );
    rows.reach("it was done in the window", &after, 1, Duration::from_secs(5)).await?;

    customer.send("device.a-d0.revert", &json!({ "to_generation": 1 })).await?.accepted()?;
    customer.send("device.a-d0.note", &json!({ "text": "42 was the wrong one" })).await?.accepted()?;
    let back = "SELECT count(*) FROM devices WHERE customer = 'nightly' AND observed_generation = 3";
    rows.reach("the device is as it was", back, 1, level::LONG).await?;
    ensure!(device(&running).await?["vlan"] == 10, "the revert did not reach the vendor");
    let said = "SELECT count(*) FROM timeline WHERE customer = 'nightly' AND summary LIKE 'device a-d0 was % 1, as generation 3: %'";
    rows.reach("the timeline tells of it", said, 1, level::LONG).await?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    running.vendor()?.judge("nightly.", 3).await
}
