//! The scenes of looks for drift: what they cost, and that they hold up nobody who wants something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::Instant;
use wanwright_simulator::Call;

use super::scenes::{POLL, Scenes};
use super::sender::{self, customer};
use crate::bench::backdoor::Listener;
use crate::bench::figures;

/// Where the vendor has its devices.
const DEVICES: &str = "/v1/devices";

/// Looks for a call, where lists answer them.
const PER_LOOK: u64 = 10;

/// Looks that the vendor has seen before a single change is sent behind the others.
const BEGUN: usize = 10;

/// How often it is tried whether executors still list.
const MOST_TRIES: u32 = 30;

/// What this call looks at: a device, or all of them. Nothing if it is no look at devices.
fn looked_at(call: &Call) -> Option<&str> {
    let rest = call.path.strip_prefix(DEVICES)?;
    (call.method == "GET").then(|| rest.trim_start_matches('/'))
}

impl Scenes<'_> {
    /// Every device is looked at, and nothing else happens.
    pub async fn looks(&mut self) -> Result<Value> {
        let devices = self.devices().await?;
        let mut listener = Listener::begin(&self.door).await?;
        let began = Instant::now();
        self.look_at_all().await?;
        self.all_looked_at(&mut listener, devices).await?;
        let taken = began.elapsed();
        let calls = listener.calls().len();
        // What is left of their stacks takes a call or more of each site.
        let looks: Vec<&str> = listener.calls().iter().filter_map(looked_at).collect();
        let lists = looks.iter().filter(|id| id.is_empty()).count();
        Ok(json!({
            "devices": devices,
            "seconds": figures::seconds(taken.as_secs_f64()),
            "vendor_calls": calls,
            "calls_for_devices": looks.len(),
            "calls_for_lists": lists,
            "good": self.args.looks_alone || u64::try_from(looks.len())? * PER_LOOK <= devices,
        }))
    }

    /// Single changes while every device is looked at, each by a call of its own: lists would be through with them before
    /// the single ones have come to anything.
    pub async fn behind_drift(&mut self, alone: &Path) -> Result<Value> {
        without_lists(alone)?;
        self.no_lists().await?;
        let devices = self.devices().await?;
        let mut listener = Listener::begin(&self.door).await?;
        self.look_at_all().await?;
        let began = Instant::now();
        while listener.calls().iter().filter_map(looked_at).count() < BEGUN {
            anyhow::ensure!(began.elapsed() < self.limit(0), "the looks did not begin in time");
            tokio::time::sleep(POLL).await;
            listener.listen().await?;
        }
        let mut singles = self.singles(2000).await?;
        listener.listen().await?;
        let seen: BTreeSet<&str> =
            listener.calls().iter().filter_map(looked_at).filter(|id| !id.is_empty()).collect();
        let waiting = devices.saturating_sub(u64::try_from(seen.len())?);
        singles["looks"] = json!(devices);
        singles["looks_still_waiting"] = json!(waiting);
        if waiting == 0 {
            singles["good"] = json!(false);
        }
        // The next scene is about something else.
        self.all_looked_at(&mut listener, devices).await?;
        Ok(singles)
    }

    /// How many devices the vendor has.
    async fn devices(&self) -> Result<u64> {
        Ok(self.door.stats().await?.kinds.get("device").map_or(0, |kind| kind.objects))
    }

    async fn look_at_all(&self) -> Result<()> {
        let nats = &self.stack.nats;
        sender::each(self.args.customers, |name| async move {
            sender::accepted(nats, "customer", "check-drift", &name, &json!({})).await
        })
        .await
    }

    /// Waits until the tables say that no device is to be looked at any more, and listens meanwhile.
    async fn all_looked_at(&self, listener: &mut Listener, devices: u64) -> Result<()> {
        let looking = "SELECT count(*) FROM devices WHERE checking IS NOT NULL";
        let (began, limit) = (Instant::now(), self.limit(u32::try_from(devices)?));
        let mut begun = false;
        loop {
            listener.listen().await?;
            // A look can be over before the tables are asked whether there is one.
            begun |= listener.calls().iter().any(|call| looked_at(call).is_some());
            let left: i64 = sqlx::query_scalar(looking).fetch_one(&self.stack.pool).await?;
            if left == 0 && begun {
                return listener.listen().await;
            }
            begun |= left > 0;
            anyhow::ensure!(
                began.elapsed() < limit,
                "{left} of {devices} devices were not looked at in time"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the executors have read that no list answers looks: looks of one customer show what they do. Twice, as
    /// each of them reads the folders for itself, once a second.
    async fn no_lists(&self) -> Result<()> {
        let (nats, mut alone) = (&self.stack.nats, 0);
        for _ in 0..MOST_TRIES {
            let mut listener = Listener::begin(&self.door).await?;
            sender::accepted(nats, "customer", "check-drift", &customer(0), &json!({})).await?;
            self.all_looked_at(&mut listener, 1).await?;
            let mut looks = listener.calls().iter().filter_map(looked_at);
            let is_alone = looks.clone().next().is_some() && looks.all(|id| !id.is_empty());
            alone = if is_alone { alone + 1 } else { 0 };
            if alone == 2 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        anyhow::bail!("looks are still answered by lists")
    }
}

/// The file of a vendors' folder that says how devices are listed.
pub fn file(vendors: &Path) -> PathBuf {
    vendors.join("simwan/api/device.toml")
}

/// Takes out of a vendors' folder that lists answer looks, if that is there.
pub fn without_lists(vendors: &Path) -> Result<()> {
    let file = file(vendors);
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let alone: Vec<&str> = text.lines().filter(|line| !line.starts_with("fresh_seconds")).collect();
    // At once: who reads the folder finds the one or the other.
    let beside = vendors.with_extension("new");
    std::fs::write(&beside, alone.join("\n")).with_context(|| format!("writing {}", beside.display()))?;
    std::fs::rename(&beside, &file).with_context(|| format!("replacing {}", file.display()))
}
