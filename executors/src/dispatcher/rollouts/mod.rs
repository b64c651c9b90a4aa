//! Rollouts: one dispatcher gives stacks another version of their vendor's template, as the vendors' records say.
//!
//! A lease says which dispatcher. It keeps nothing but what it reads: how stacks are comes from the customers' histories,
//! and what follows from that is said by [`wanwright_commands::rollouts::step`]. So whoever takes over goes on.

mod fleet;
mod give;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_commands::rollouts::step;
use wanwright_nats::evidence::Evidence;
use wanwright_nats::{Lease, Leases, Nats, NatsError, Rollouts};
use wanwright_schemas::VendorId;
use wanwright_schemas::rollout::{Rollout, RolloutState};
use wanwright_vendors::Vendors;

use fleet::Fleet;
use summary::Planner;

/// How often the records are looked at, and the lease is asked for.
const TICK: Duration = Duration::from_secs(1);

/// The lease of whoever drives rollouts.
const LEASE: &str = "rollouts";

/// Drives rollouts until told to stop, whenever no other dispatcher does.
pub(super) async fn run(
    nats: Nats,
    vendors: Vendors,
    evidence: Option<Arc<Evidence>>,
    stop: CancellationToken,
) {
    loop {
        let drive = async {
            let holder = format!("dispatcher-{}", std::process::id());
            let Some(lease) = Leases::open(&nats, &holder).await?.take(LEASE).await? else { return Ok(()) };
            let driver = Driver {
                records: Rollouts::open(&nats).await?,
                nats: nats.clone(),
                vendors: vendors.clone(),
                evidence: evidence.clone(),
                fleets: BTreeMap::new(),
                plans: BTreeMap::new(),
            };
            tokio::select! {
                () = driver.drive(&lease) => {}
                () = lease.lost() => return Ok(()),
                () = stop.cancelled() => {}
            }
            lease.release().await
        };
        let driven: Result<(), NatsError> = drive.await;
        if let Err(error) = driven {
            tracing::warn!(error = &error as &dyn std::error::Error, "rollouts wait a moment");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Whether anything is to be done or counted: of one that was stopped, what was under way then.
fn is_followed(rollout: &Rollout) -> bool {
    let ends = rollout.state == RolloutState::Stopped && rollout.counts.progressing > 0;
    rollout.state.is_under_way() || ends
}

/// What drives the rollouts while it holds the lease.
struct Driver {
    records: Rollouts,
    nats: Nats,
    vendors: Vendors,
    evidence: Option<Arc<Evidence>>,
    /// How the stacks of a vendor are, as far as they were read for its present rollout.
    fleets: BTreeMap<VendorId, Fleet>,
    /// What is being planned for a vendor's fleet. It takes long, and nothing else waits for it; it ends with the lease.
    plans: BTreeMap<VendorId, Planning>,
}

/// A plan of the fleet that is being made.
struct Planning {
    /// The revision of the record that asks for it: with another one it is nothing any more.
    revision: u64,
    /// The task, which ends when this is dropped.
    task: JoinSet<()>,
}

impl Driver {
    async fn drive(mut self, lease: &Lease) {
        loop {
            let vendors: Vec<VendorId> =
                self.vendors.snapshot().names().filter_map(|name| name.parse().ok()).collect();
            for vendor in vendors {
                // Whatever is wrong with the rollout of one vendor, the others go on, and it is tried again.
                if let Err(error) = self.tick(&vendor, lease).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%vendor, error, "a rollout waits a moment");
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn tick(&mut self, vendor: &VendorId, lease: &Lease) -> Result<(), NatsError> {
        let (record, revision) = self.records.get(vendor).await?;
        let Some(record) = record.filter(is_followed) else {
            self.fleets.remove(vendor);
            self.plans.remove(vendor);
            return Ok(());
        };
        if record.state == RolloutState::Planning {
            self.plan(record, revision);
            return Ok(());
        }
        self.plans.remove(vendor);
        let digest = self.digest(&record);
        if digest.is_none() && record.state == RolloutState::Running {
            // The command service has read the folder that has it; we are about to.
            tracing::warn!(%vendor, version = record.to, "a rollout waits for the folder of its version");
            return Ok(());
        }
        if digest.is_some_and(|digest| digest != record.digest) && record.state == RolloutState::Running {
            let why = Some(format!("version {} of the template is not what it was", record.to));
            let stopped = Rollout { state: RolloutState::Stopped, why, ..record };
            return self.write(&stopped, revision).await.map(drop);
        }
        let evidence = self.evidence.clone();
        let (nats, fleets) = (&self.nats, &mut self.fleets);
        let fleet = fleets.entry(vendor.clone()).or_insert_with(|| Fleet::new(nats.clone(), evidence));
        fleet.read(&record).await;
        let next = step(&record, fleet.reading(), Timestamp::now());
        // Who gives writes first, even where nothing is new: so of two, and of one and an operator, one finds out.
        if next.rollout == record && next.give.is_empty() {
            return Ok(());
        }
        // Somebody has asked something of it meanwhile: that is looked at first.
        let Some(revision) = self.write(&next.rollout, revision).await? else { return Ok(()) };
        self.give(&next.rollout, &next.give, revision, lease).await
    }

    /// Sees to it that what a record asks for is being planned.
    fn plan(&mut self, record: Rollout, revision: u64) {
        let new = || Planning { revision, task: JoinSet::new() };
        let planning = self.plans.entry(record.vendor.clone()).or_insert_with(new);
        if planning.revision != revision {
            *planning = new();
        }
        if let Some(Err(error)) = planning.task.try_join_next() {
            tracing::error!(vendor = %record.vendor, %error, "a plan of the fleet ended by itself");
        }
        if planning.task.is_empty() {
            let (nats, records) = (self.nats.clone(), self.records.clone());
            let (vendors, evidence) = (self.vendors.clone(), self.evidence.clone());
            planning.task.spawn(Planner { nats, records, vendors, evidence }.run(record, revision));
        }
    }

    /// The digest that the version has now which is given; none where it is not there.
    fn digest(&self, rollout: &Rollout) -> Option<String> {
        let vendors = self.vendors.snapshot();
        let template = vendors.get(rollout.vendor.as_str())?.template(rollout.to)?;
        Some(template.digest.clone())
    }

    /// Writes a record unless somebody was faster. Answers its revision.
    async fn write(&self, rollout: &Rollout, revision: u64) -> Result<Option<u64>, NatsError> {
        let rollout = Rollout { time: Timestamp::now(), ..rollout.clone() };
        self.records.put(&rollout, revision).await
    }
}
