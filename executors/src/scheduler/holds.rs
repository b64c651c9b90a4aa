//! Whose orders must not begin now, whatever waits: what people have paused, and vendors' accounts that are held back because
//! calls only fail.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wanwright_schemas::CustomerId;
use wanwright_schemas::control::Scope;

use crate::gateway::AccountKey;

/// What is paused, each until a time if it has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holds {
    paused: BTreeMap<Scope, Option<Timestamp>>,
    closed: BTreeSet<AccountKey>,
}

impl Holds {
    /// What of this is in force now.
    pub(super) fn of(paused: impl IntoIterator<Item = (Scope, Option<Timestamp>)>, now: Timestamp) -> Self {
        let in_force = paused.into_iter().filter(|(_, until)| until.is_none_or(|until| until > now));
        Self { paused: in_force.collect(), closed: BTreeSet::new() }
    }

    /// The same accounts held back, and this paused.
    pub(super) fn with_paused(self, Self { paused, .. }: Self) -> Self {
        Self { paused, ..self }
    }

    /// The same, with an account held back or called again.
    pub(super) fn with_account(mut self, account: AccountKey, closed: bool) -> Self {
        if closed {
            self.closed.insert(account);
        } else {
            self.closed.remove(&account);
        }
        self
    }

    /// When the first of them ends by itself.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        self.paused.values().flatten().min().copied()
    }

    /// Whether an order of this customer with this account has to wait.
    pub(super) fn hold(&self, account: &AccountKey, customer: &CustomerId) -> bool {
        self.closed.contains(account)
            || !self.paused.is_empty()
                && (self.paused.contains_key(&Scope::Vendor(account.vendor.clone()))
                    || self.paused.contains_key(&Scope::Customer(customer.clone())))
    }
}
