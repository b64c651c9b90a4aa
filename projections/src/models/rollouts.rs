//! `rollouts`: the newest rollout of each vendor's template.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::rollout::{Rollout, RolloutState, Summary, Waves};
use wanwright_schemas::{Actor, CustomerId, VendorId};

use crate::message::micros;
use crate::table::Table;

/// The key of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RolloutKey {
    /// Whose template.
    pub vendor: String,
}

/// A row of `rollouts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRow {
    /// Whose template.
    pub vendor: VendorId,
    /// Which rollout of the vendor, from 1.
    pub number: u64,
    /// The version that its stacks have.
    pub from_version: u32,
    /// The version that they get.
    pub to_version: u32,
    /// The rollout that it takes back.
    pub rolls_back: Option<u64>,
    /// How far it is.
    pub state: RolloutState,
    /// Why, where it is paused or stopped.
    pub why: Option<String>,
    /// The wave it is at; 0 are the canaries.
    pub wave: u32,
    /// The last wave.
    pub waves: usize,
    /// Customers with such stacks.
    pub customers: u32,
    /// Stacks it is about.
    pub stacks: u32,
    /// Those it did not come to.
    pub waiting: u32,
    /// Those that are being changed.
    pub progressing: u32,
    /// Those that have the version.
    pub applied: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that are suspended, frozen, or wait for an approval or a change window.
    pub held: u32,
    /// Those that were given it and have another version again.
    pub taken_back: u32,
    /// How it goes about it.
    pub policy: Waves,
    /// What Terraform would do, where that was asked for.
    pub summary: Option<Summary>,
    /// Who started it.
    pub actor: Actor,
    /// When it was started or planned.
    pub began_at: Timestamp,
    /// When its record was written last.
    pub updated_at: Timestamp,
    /// The sequence in KV_rollouts.
    pub sequence: u64,
}

/// A row of the view `rollout_customers`: how far a rollout is with a customer, in stacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutCustomer {
    /// Whose template.
    pub vendor: VendorId,
    /// Which rollout of the vendor.
    pub number: u64,
    /// The customer.
    pub customer: CustomerId,
    /// How many stacks it is about.
    pub stacks: u64,
    /// Those it did not come to.
    pub waiting: u64,
    /// Those that are being changed.
    pub progressing: u64,
    /// Those that have the version.
    pub applied: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that are suspended, or wait for an approval or a change window.
    pub held: u64,
    /// Those that were given it and have another version again.
    pub taken_back: u64,
}

impl Table for RolloutRow {
    type Key = RolloutKey;
    const NAME: &'static str = "rollouts";
    const KEY: &'static [&'static str] = &["vendor"];
    fn key(&self) -> RolloutKey {
        RolloutKey { vendor: self.vendor.to_string() }
    }
}

impl RolloutRow {
    /// The row of a record.
    pub fn of(rollout: Rollout, sequence: u64) -> Self {
        let counts = rollout.counts;
        Self {
            vendor: rollout.vendor,
            number: rollout.number,
            from_version: rollout.from,
            to_version: rollout.to,
            rolls_back: rollout.rolls_back,
            state: rollout.state,
            why: rollout.why,
            wave: rollout.wave,
            waves: rollout.waves.steps.len(),
            customers: counts.customers,
            stacks: counts.stacks,
            waiting: counts.waiting,
            progressing: counts.progressing,
            applied: counts.applied,
            failed: counts.failed,
            held: counts.held,
            taken_back: counts.taken_back,
            policy: rollout.waves,
            summary: rollout.summary,
            actor: rollout.by,
            began_at: micros(rollout.began),
            updated_at: micros(rollout.time),
            sequence,
        }
    }
}
