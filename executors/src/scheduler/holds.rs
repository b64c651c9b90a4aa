//! Whose orders must not begin now, whatever waits: what people have paused, and vendors that are held back because calls
//! only fail.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wanwright_schemas::control::Scope;
use wanwright_schemas::{CustomerId, VendorId};

/// What is paused, each until a time if it has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holds {
    paused: BTreeMap<Scope, Option<Timestamp>>,
    closed: BTreeSet<VendorId>,
}

impl Holds {
    /// What of this is in force now.
    pub(super) fn of(paused: impl IntoIterator<Item = (Scope, Option<Timestamp>)>, now: Timestamp) -> Self {
        let in_force = paused.into_iter().filter(|(_, until)| until.is_none_or(|until| until > now));
        Self { paused: in_force.collect(), closed: BTreeSet::new() }
    }

    /// The same vendors held back, and this paused.
    pub(super) fn with_paused(self, Self { paused, .. }: Self) -> Self {
        Self { paused, ..self }
    }

    /// The same, with a vendor held back or called again.
    pub(super) fn with_vendor(mut self, vendor: VendorId, closed: bool) -> Self {
        if closed {
            self.closed.insert(vendor);
        } else {
            self.closed.remove(&vendor);
        }
        self
    }

    /// When the first of them ends by itself.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        self.paused.values().flatten().min().copied()
    }

    /// Whether an order of this customer at this vendor has to wait.
    pub(super) fn hold(&self, vendor: &VendorId, customer: &CustomerId) -> bool {
        self.closed.contains(vendor)
            || !self.paused.is_empty()
                && (self.paused.contains_key(&Scope::Vendor(vendor.clone()))
                    || self.paused.contains_key(&Scope::Customer(customer.clone())))
    }
}
