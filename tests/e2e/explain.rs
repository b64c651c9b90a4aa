//! What a vendor offers, told by the program and true of the running system.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_tests::{Timing, level};

use crate::support::{self, shared};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_can_be_sent_in_every_version() -> Result<()> {
    let _timing = Timing::of("explain");
    let running = shared().await?;
    let customer = running.customer("explained").await?;
    for kind in ["site", "tunnel", "device"] {
        let said = running.call(&["explain", "simwan", kind, "-o", "json"]).await?.code(0)?;
        let said: Value = serde_json::from_str(&said.out)?;
        let example = said["verbs"][0]["example"].as_str().context("an example")?;
        let body = example.split('\'').nth(1).context("a body")?.replace("SN-0001", "SN-EXPLAINED-0");
        let object = example.split_whitespace().nth(4).context("an object")?.replace("acme/", "explained/");
        running.call(&["send", kind, "create", &object, &body]).await?.code(0)?;
    }
    // The vendor gets what was said in the older version under the name that the newer one has for it.
    let body = json!({ "site": "oslo-01", "serial": "SN-EXPLAINED-1", "model": "edge-100", "settings": { "hostname": "ap-1" } });
    let args = ["send", "device", "create", "explained/d1", &body.to_string()];
    let refused = running.call(&args).await?.code(3)?;
    ensure!(refused.out.contains("settings.hostname"), "{refused:?}");
    running.call(&[&args[..], &["--schema", "v1"]].concat()).await?.code(0)?;
    running.rows().await?.healthy(&customer.name, 4, level::LONG).await?;
    let there = running.vendor()?.object("device", "explained.d1").await?.context("no device")?;
    ensure!(there["hostname"] == "ap-1", "{there:?}");
    let broken = json!({ "settings": { "vlan": 1003 } }).to_string();
    let refused = running.call(&["send", "device", "change", "explained/d1", &broken]).await?.code(3)?;
    ensure!(refused.out.contains("RuleBroken") && refused.out.contains("settings.vlan"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_named() -> Result<()> {
    let (program, home) = (support::program(), support::home()?);
    for (args, says) in [
        (&["explain", "nobody"][..], "there is no vendor `nobody`; there are cato, simwan, versa"),
        (&["explain", "simwan", "router"], "there is no kind `router`"),
        (&["explain", "simwan", "device.colour"], "no field `colour`"),
        (&["explain", "simwan", "device", "--version", "v9"], "there is no version v9; there are v1, v2"),
        (&["explain", "simwan", "device", "--version", "new"], "`new` is no version"),
    ] {
        let said = program.call(&home, args).await?.code(2)?;
        ensure!(said.err.contains(says), "{said:?}");
    }
    let said = program.call(&home, &["explain", "simwan", "device.vlan"]).await?.code(0)?;
    for says in [
        "settings.vlan <whole number>  default 1",
        "VLANs 1002 to 1005 are reserved",
        "v2 (served, stored, shown)",
    ] {
        ensure!(said.out.contains(says), "{}", said.out);
    }
    Ok(())
}
