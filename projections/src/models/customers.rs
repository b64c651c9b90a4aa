//! `customers`: one row per customer, with maintained counts and the head of its chain.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::{Actor, CustomerId, Digest, Kind};

use super::object::{Step, Words};
use super::settings::Settings;
use super::state::{Health, Sync};
use crate::error::Stop;
use crate::message::EventMessage;
use crate::table::Table;

/// The key of a customer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CustomerKey {
    /// The customer.
    pub customer: CustomerId,
}

/// How many objects a customer has, by kind and health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many sites the customer has.
    pub sites: i64,
    /// How many of its sites are Healthy.
    pub sites_healthy: i64,
    /// How many of its sites are Progressing.
    pub sites_progressing: i64,
    /// How many of its sites are Degraded.
    pub sites_degraded: i64,
    /// How many of its sites are Suspended.
    pub sites_suspended: i64,
    /// How many of its sites are Missing.
    pub sites_missing: i64,
    /// How many of its sites are Unknown.
    pub sites_unknown: i64,
    /// How many of its sites are OutOfSync.
    pub sites_out_of_sync: i64,
    /// How many tunnels the customer has.
    pub tunnels: i64,
    /// How many of its tunnels are Healthy.
    pub tunnels_healthy: i64,
    /// How many of its tunnels are Progressing.
    pub tunnels_progressing: i64,
    /// How many of its tunnels are Degraded.
    pub tunnels_degraded: i64,
    /// How many of its tunnels are Suspended.
    pub tunnels_suspended: i64,
    /// How many of its tunnels are Missing.
    pub tunnels_missing: i64,
    /// How many of its tunnels are Unknown.
    pub tunnels_unknown: i64,
    /// How many of its tunnels are OutOfSync.
    pub tunnels_out_of_sync: i64,
    /// How many devices the customer has.
    pub devices: i64,
    /// How many of its devices are Healthy.
    pub devices_healthy: i64,
    /// How many of its devices are Progressing.
    pub devices_progressing: i64,
    /// How many of its devices are Degraded.
    pub devices_degraded: i64,
    /// How many of its devices are Suspended.
    pub devices_suspended: i64,
    /// How many of its devices are Missing.
    pub devices_missing: i64,
    /// How many of its devices are Unknown.
    pub devices_unknown: i64,
    /// How many of its devices are OutOfSync.
    pub devices_out_of_sync: i64,
}

struct Counters<'a> {
    all: &'a mut i64,
    healthy: &'a mut i64,
    progressing: &'a mut i64,
    degraded: &'a mut i64,
    suspended: &'a mut i64,
    missing: &'a mut i64,
    unknown: &'a mut i64,
    out_of_sync: &'a mut i64,
}

impl Counts {
    /// Counts what a change did to an object.
    pub fn count(&mut self, kind: Kind, step: &Step) {
        for (words, by) in [(step.before, -1), (step.after, 1)] {
            if let (Some(words), Some(counters)) = (words, self.of(kind)) {
                counters.add(words, by);
            }
        }
    }

    fn of(&mut self, kind: Kind) -> Option<Counters<'_>> {
        match kind {
            Kind::Customer => None,
            Kind::Site => Some(Counters {
                all: &mut self.sites,
                healthy: &mut self.sites_healthy,
                progressing: &mut self.sites_progressing,
                degraded: &mut self.sites_degraded,
                suspended: &mut self.sites_suspended,
                missing: &mut self.sites_missing,
                unknown: &mut self.sites_unknown,
                out_of_sync: &mut self.sites_out_of_sync,
            }),
            Kind::Tunnel => Some(Counters {
                all: &mut self.tunnels,
                healthy: &mut self.tunnels_healthy,
                progressing: &mut self.tunnels_progressing,
                degraded: &mut self.tunnels_degraded,
                suspended: &mut self.tunnels_suspended,
                missing: &mut self.tunnels_missing,
                unknown: &mut self.tunnels_unknown,
                out_of_sync: &mut self.tunnels_out_of_sync,
            }),
            Kind::Device => Some(Counters {
                all: &mut self.devices,
                healthy: &mut self.devices_healthy,
                progressing: &mut self.devices_progressing,
                degraded: &mut self.devices_degraded,
                suspended: &mut self.devices_suspended,
                missing: &mut self.devices_missing,
                unknown: &mut self.devices_unknown,
                out_of_sync: &mut self.devices_out_of_sync,
            }),
        }
    }
}

impl Counters<'_> {
    fn add(self, (health, sync): Words, by: i64) {
        *self.all += by;
        let of_health = match health {
            Health::Healthy => self.healthy,
            Health::Progressing => self.progressing,
            Health::Degraded => self.degraded,
            Health::Suspended => self.suspended,
            Health::Missing => self.missing,
            Health::Unknown => self.unknown,
        };
        *of_health += by;
        if sync == Sync::OutOfSync {
            *self.out_of_sync += by;
        }
    }
}

/// A row of `customers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRow {
    /// The customer.
    pub customer: CustomerId,
    /// How many objects it has.
    #[serde(flatten)]
    pub counts: Counts,
    /// What it says about itself.
    #[serde(flatten)]
    pub settings: Settings,
    /// How many messages its history has.
    pub messages: u64,
    /// The digest of its last message.
    pub chain_head: Digest,
    /// Who sent the last command.
    pub last_actor: Actor,
    /// When its first command was decided.
    pub created_at: Timestamp,
    /// When its last command was decided.
    pub updated_at: Timestamp,
    /// The stream with its history.
    pub stream: String,
    /// The sequence of its last message.
    pub sequence: u64,
}

impl Table for CustomerRow {
    type Key = CustomerKey;
    const NAME: &'static str = "customers";
    const KEY: &'static [&'static str] = &["customer"];
    fn key(&self) -> CustomerKey {
        CustomerKey { customer: self.customer.clone() }
    }
}

impl CustomerRow {
    /// The row after a message, or why the message does not continue the customer's history.
    pub fn after(before: Option<&Self>, message: &EventMessage) -> Result<Self, Stop> {
        let envelope = &message.envelope;
        if let Some(home) = before.map(|row| &row.stream).filter(|home| **home != message.stream) {
            return Err(Stop::OtherStream {
                stream: message.stream.clone(),
                sequence: message.sequence,
                customer: message.customer.to_string(),
                home: home.clone(),
            });
        }
        let head = before.map(|row| row.chain_head);
        if head != envelope.prev {
            return Err(Stop::Chain {
                stream: message.stream.clone(),
                sequence: message.sequence,
                customer: message.customer.to_string(),
                expected: head,
                found: envelope.prev,
            });
        }
        Ok(Self {
            customer: message.customer.clone(),
            counts: before.map(|row| row.counts.clone()).unwrap_or_default(),
            settings: Settings {
                removed_at: None,
                ..before.map(|row| row.settings.clone()).unwrap_or_default()
            },
            messages: before.map_or(0, |row| row.messages) + 1,
            chain_head: message.digest,
            last_actor: envelope.actor.clone(),
            created_at: before.map_or(envelope.time, |row| row.created_at),
            updated_at: envelope.time,
            stream: message.stream.clone(),
            sequence: message.sequence,
        })
    }
}
