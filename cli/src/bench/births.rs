//! The births of a soak: as long as it lasts, devices with fresh names are created, and some of them decommissioned.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::load::{Brought, Caller};

/// The customer whose devices they are.
pub const CUSTOMER: &str = "newcomers";

/// Their site.
const SITE: &str = "lima";

/// Pause between two commands.
const PAUSE: Duration = Duration::from_millis(400);

/// Of so many commands, one decommissions.
const DECOMMISSIONS: u32 = 4;

/// Creates and decommissions until told to stop; every command that was begun is brought to its outcome. Nobody else
/// sends commands to this customer, so none may be refused.
pub async fn run(mut caller: Caller, seed: u64, stop: CancellationToken) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0xb127_11f5_c0de_0001);
    let site = json!({ "vendor": "simwan", "lan": ["10.200.0.0/24"] });
    if !taken(&mut caller, "site", "create", SITE, &site).await? {
        return Ok(());
    }
    let (mut sent, mut number, mut present) = (0_u32, 0_u32, Vec::new());
    while !stop.is_cancelled() {
        let goes = sent % DECOMMISSIONS == DECOMMISSIONS - 1;
        sent += 1;
        let device = if goes {
            // Not the newest one: somebody may not have come to making it.
            present.swap_remove(random.usize(..present.len() - 1))
        } else {
            number += 1;
            format!("newborn-{number:05}")
        };
        let body = json!({ "site": SITE, "serial": format!("SN-NEW-{number:05}"), "model": "edge-100" });
        let (verb, body) = if goes { ("decommission", json!({})) } else { ("create", body) };
        if !taken(&mut caller, "device", verb, &device, &body).await? {
            return Ok(());
        }
        caller.accepted.lock().await.devices.insert(format!("{CUSTOMER}.{device}"), goes);
        if !goes {
            present.push(device);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether a command was accepted; not when nobody wants to know any more.
async fn taken(caller: &mut Caller, kind: &str, verb: &str, id: &str, body: &Value) -> Result<bool> {
    match caller.bring(kind, verb, &format!("{CUSTOMER}/{id}"), body).await? {
        Brought::Accepted => Ok(true),
        Brought::Abandoned => Ok(false),
        Brought::Refused(refusal) => anyhow::bail!("{kind} {verb} {id}: {refusal}"),
    }
}
