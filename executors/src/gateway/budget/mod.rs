//! The budget of one account at a vendor, shared by all processes: calls wait here, fairly, until the vendor may be called.
//!
//! `record` is what all share, `desk` what one process knows and decides, `keeper` the task between the two, `counter` where
//! calls meet them; `pace` makes rates of a folder's limits, `class` says which limits count a call, `share` what part of
//! the slots is one process's, `clock` what time the server has.
//!
//! Where a vendor counts calls by the address that they come from, all its accounts spend one limit. Then the limits of all
//! of them are in one record of the vendor, those of an account under its name, so that a call still takes room in all its
//! limits by one write. The account's own record has nothing but its breaker.

mod breaker;
mod class;
mod clock;
mod counter;
mod desk;
mod graphql;
#[cfg(test)]
mod interleavings;
mod keeper;
mod pace;
#[cfg(test)]
mod processes;
mod record;
mod share;
mod standing;
mod unblock;

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Budgets;
use wanwright_schemas::CustomerId;
use wanwright_vendors::Vendor;

pub use breaker::{Open, Trial};
pub(super) use class::{Class, Limits};
pub(super) use counter::{Counter, Ticket};
pub use desk::Counts;
pub(super) use graphql::only_asks;
pub use record::{Level, RECORD_VERSION, Record};
pub(super) use standing::time;
pub use standing::{Admission, LimitStanding, Standing};
pub use unblock::{Unblocked, unblock};

use desk::Desk;

use crate::vital;

/// Why a call is made; the lesser goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody wants a change.
    Intent,
    /// Somebody wants to see what a change would be.
    Preview,
    /// A look whether anything drifted.
    Drift,
}

/// The budget of the account that a vendor's folder names as its own.
pub(super) const MAIN_ACCOUNT: &str = "default";

/// What stands for the account in the key of the record that all accounts of a vendor share. No account has such a name.
const OF_THE_ADDRESS: &str = "_address";

/// The address that all processes are taken to call from: behind one door to the internet they do.
const ADDRESS: &str = "shared";

/// Longest `Retry-After` that is believed.
pub(super) const LONGEST_PENALTY: Duration = Duration::from_micros(record::LONGEST_PENALTY.unsigned_abs());

/// The key of a vendor account's record in the bucket `budgets`.
pub fn record_key(vendor: &str, account: &str) -> String {
    format!("{vendor}.{account}")
}

/// What a call that waited is told.
#[derive(Debug)]
pub(super) enum Turn {
    /// The vendor may be called once, now.
    Go,
    /// Calls are held back until then: the breaker is open.
    HeldBack { until: i64, reason: String },
}

/// An account's budget.
pub(super) struct Budget {
    limits: Limits,
    /// Its breaker, and its limits unless they are with those of the address.
    own: Counter,
    address: Option<Arc<Counter>>,
    standing: watch::Receiver<Standing>,
}

/// Where and for whom a budget is kept.
pub(super) struct Place<'a> {
    pub(super) vendor: &'a Vendor,
    /// This process, by a name that no other has.
    pub(super) process: &'a str,
    pub(super) budgets: &'a Budgets,
    pub(super) stop: &'a CancellationToken,
    /// Cancelled should a part of the budget end before `stop`.
    pub(super) failed: &'a CancellationToken,
}

impl Place<'_> {
    fn counter(&self, account: &str, limits: Limits) -> Counter {
        let desk = Desk::new(self.process.to_owned(), limits, self.vendor.breaker);
        let key = record_key(&self.vendor.name, account);
        Counter::start(key, desk, self.budgets.clone(), self.stop, self.failed)
    }

    /// Starts handing out turns of the limits of all accounts, for a vendor that counts calls by their address.
    pub(super) fn address(&self) -> Counter {
        self.counter(OF_THE_ADDRESS, Limits::new(&self.vendor.budget, ADDRESS, None))
    }
}

impl Budget {
    /// Starts handing out turns of an account.
    pub(super) fn start(place: &Place<'_>, account: &str, address: Option<Arc<Counter>>) -> Self {
        let budget = &place.vendor.budget;
        let limits = || Limits::new(budget, ADDRESS, address.is_some().then_some(account));
        let own = place.counter(account, if address.is_some() { Limits::none(budget) } else { limits() });
        let standing = match &address {
            None => own.standing(),
            Some(address) => {
                let (tell, standing) = watch::channel(Standing::unknown());
                let both = both(own.standing(), address.standing(), limits(), tell);
                vital::spawn("budget's standing", place.stop, place.failed, both);
                standing
            }
        };
        Self { limits: limits(), own, address, standing }
    }

    /// The limits that count a call.
    pub(super) fn class(&self, method: &Method, path: &str, body: &[u8]) -> Class {
        self.limits.class(method, path, body)
    }

    /// The limits that count its calls.
    pub(super) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    /// Waits for a turn. None: the gateway stops.
    pub(super) async fn turn(
        &self,
        class: Class,
        priority: Priority,
        customer: &CustomerId,
    ) -> Option<(Turn, Ticket)> {
        let Some(address) = &self.address else { return self.own.turn(class, priority, customer).await };
        let mut standing = self.own.standing();
        tokio::select! {
            biased;
            // The account's breaker is open, or opens while the call waits: it is told so at once.
            held = standing.wait_for(|standing| standing.held_back().is_some()) => {
                let (until, reason) = held.ok()?.held_back()?;
                return Some((Turn::HeldBack { until, reason }, Ticket::none()));
            }
            // That desk has limits and no breaker, so there is nothing to be said of its ticket.
            turn = address.turn(class, priority, customer) => drop(turn?),
        }
        // Its slot is due now, and the account's breaker is looked at without a question to the server while it is closed.
        self.own.turn(Class::default(), priority, customer).await
    }

    /// What an answer says about slowing down: for how long, and the limits concerned. `wish` is its `Retry-After`.
    pub(super) fn busy(
        &self,
        class: &Class,
        status: u16,
        wish: Option<Duration>,
        body: &[u8],
    ) -> Option<(Duration, Vec<String>)> {
        self.limits.busy(class, status, wish, body)
    }

    /// Leaves limits alone for a while, in all processes.
    pub(super) fn block(&self, limits: Vec<String>, time: Duration) {
        self.address.as_deref().unwrap_or(&self.own).block(limits, time);
    }

    /// How the budget stands, now and from now on.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

/// Tells how an account stands whose limits are with those of the address.
async fn both(
    mut own: watch::Receiver<Standing>,
    mut address: watch::Receiver<Standing>,
    limits: Limits,
    tell: watch::Sender<Standing>,
) {
    loop {
        let standing = Standing::of_both(&own.borrow_and_update(), &address.borrow_and_update(), &limits);
        tell.send_replace(standing);
        let changed = tokio::select! {
            changed = own.changed() => changed,
            changed = address.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
