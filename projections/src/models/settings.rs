//! What a customer says about itself: the columns of `customers` that only its own events change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::policy::{Account, CustomerChange, CustomerSpec, Freeze, Groups, Name, Policy};
use wanwright_schemas::rule::Approvals;
use wanwright_schemas::window::Window;
use wanwright_schemas::{Actor, VendorId};

use super::diff::{FieldChange, differences};

/// A customer's own settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The generation of accounts and policy; 0 before they were first changed.
    pub generation: u64,
    /// The accounts, by vendor.
    pub accounts: BTreeMap<VendorId, Account>,
    /// How changes come about, by kind; a kind that is not named applies at once.
    pub policy: Policy,
    /// Who belongs to which group.
    pub groups: Groups,
    /// When its vendors may be changed.
    pub windows: BTreeMap<Name, Window>,
    /// Other settings that wait for approval.
    pub waiting: Option<Waiting>,
    /// The freezes that were not taken back, by when they begin.
    pub freezes: Vec<Freeze>,
    /// Whether nothing is done at the customer's vendors.
    pub suspended: bool,
    /// Why.
    pub suspend_reason: Option<String>,
    /// Whether everything is being taken down.
    pub decommissioning: bool,
    /// When everything was gone; none again as soon as the customer is heard of again.
    pub removed_at: Option<Timestamp>,
}

/// Settings that wait for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Their generation.
    pub generation: u64,
    /// Who asked for them.
    pub requested_by: Actor,
    /// The approvals they need.
    pub approvals: Approvals,
    /// Who approved them so far.
    pub approved_by: Vec<Actor>,
    /// What the customer would say about itself, whole.
    pub spec: CustomerSpec,
}

impl Settings {
    /// Accounts, policy, groups and windows, as a change is compared.
    fn said(&self) -> serde_json::Value {
        let Self { accounts, policy, groups, windows, .. } = self;
        serde_json::json!({"accounts": accounts, "policy": policy, "groups": groups, "windows": windows})
    }

    /// What a change makes of them, and field by field what it changed.
    pub fn evolve(&mut self, change: &CustomerChange, time: Timestamp) -> Option<Vec<FieldChange>> {
        match change {
            CustomerChange::Changed { generation, spec } => {
                let before = self.said();
                self.generation = *generation;
                self.accounts.clone_from(&spec.accounts);
                self.policy.clone_from(&spec.policy);
                self.groups.clone_from(&spec.groups);
                self.windows.clone_from(&spec.windows);
                self.waiting = None;
                return Some(differences(&before, &self.said()));
            }
            // The settings in force stay as they are until `Changed` says otherwise.
            CustomerChange::ApprovalRequested { generation, spec, requested_by, approvals } => {
                self.generation = *generation;
                self.waiting = Some(Waiting {
                    generation: *generation,
                    requested_by: requested_by.clone(),
                    approvals: approvals.clone(),
                    approved_by: Vec::new(),
                    spec: spec.clone(),
                });
            }
            CustomerChange::Approved { approved_by, .. } => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.approved_by.push(approved_by.clone());
                }
            }
            CustomerChange::Rejected { .. } => self.waiting = None,
            CustomerChange::DecommissionRequested {} => self.decommissioning = true,
            CustomerChange::Removed {} => *self = Self { removed_at: Some(time), ..Self::default() },
            CustomerChange::Suspended { reason } => {
                self.suspended = true;
                self.suspend_reason = Some(reason.clone());
            }
            CustomerChange::Resumed {} => {
                self.suspended = false;
                self.suspend_reason = None;
            }
            CustomerChange::Frozen { freeze } => {
                self.freezes.retain(|known| known.name != freeze.name);
                self.freezes.push(freeze.clone());
                self.freezes.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
            }
            CustomerChange::Unfrozen { name } => self.freezes.retain(|known| &known.name != name),
            CustomerChange::ClaimAbandoned { .. }
            | CustomerChange::Erased { .. }
            | CustomerChange::Noted { .. } => {}
        }
        None
    }
}

/// The change in a sentence, without the customer's name.
pub fn describe(change: &CustomerChange, changes: Option<&[FieldChange]>) -> (Option<u64>, String) {
    match change {
        CustomerChange::Changed { generation, .. } => {
            let names: Vec<&str> =
                changes.unwrap_or_default().iter().map(|change| change.field.as_str()).collect();
            (Some(*generation), format!("was changed to generation {generation}: {}", names.join(", ")))
        }
        CustomerChange::ApprovalRequested { generation, requested_by, .. } => {
            let text =
                format!("has settings that wait for approval, generation {generation} by {requested_by}");
            (Some(*generation), text)
        }
        CustomerChange::Approved { generation, approved_by } => {
            (Some(*generation), format!("was approved in generation {generation} by {approved_by}"))
        }
        CustomerChange::Rejected { generation, rejected_by, reason } => {
            (Some(*generation), format!("was rejected in generation {generation} by {rejected_by}: {reason}"))
        }
        CustomerChange::DecommissionRequested {} => {
            (None, "is to be taken down with everything it has".to_owned())
        }
        CustomerChange::Removed {} => (None, "is gone".to_owned()),
        CustomerChange::Suspended { reason } => (None, format!("was suspended: {reason}")),
        CustomerChange::Resumed {} => (None, "was resumed".to_owned()),
        CustomerChange::Frozen { freeze } => {
            let Freeze { name, from, to, reason, .. } = freeze;
            (None, format!("takes no changes from {from} to {to} ({name}): {reason}"))
        }
        CustomerChange::Erased { key } => {
            (None, format!("has no personal data any more that can be read: key {key} is destroyed"))
        }
        CustomerChange::Noted { text } => (None, format!("was noted: {text}")),
        CustomerChange::Unfrozen { name } => (None, format!("has the freeze {name} no more")),
        CustomerChange::ClaimAbandoned { device, serial, .. } => {
            (None, format!("gave up serial number {serial}, claimed for a device {device} that is not there"))
        }
    }
}
