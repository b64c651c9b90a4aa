//! The budget of one account at a vendor, shared by all processes: calls wait here, fairly, until the vendor may be called.
//!
//! `record` is what all share, `desk` what one process knows and decides, `keeper` the task between the two; `pace` makes
//! rates of a folder's limits, `class` says which limits count a call, `clock` what time the server has.

mod breaker;
mod class;
mod clock;
mod desk;
mod graphql;
#[cfg(test)]
mod interleavings;
mod keeper;
mod pace;
#[cfg(test)]
mod processes;
mod record;
mod standing;

use std::time::Duration;

use axum::http::Method;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wanwright_nats::Budgets;
use wanwright_schemas::CustomerId;
use wanwright_vendors::Vendor;

pub use breaker::{Open, Trial};
pub(super) use class::Class;
pub use desk::Counts;
pub(super) use graphql::only_asks;
pub use record::{Level, RECORD_VERSION, Record};
pub(super) use standing::time;
pub use standing::{Admission, LimitStanding, Standing};

use class::Limits;
use desk::Desk;
use keeper::Keeper;

use crate::vital;

/// Why a call is made; the lesser goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

enum Message {
    Ask { class: Class, priority: Priority, customer: CustomerId, turn: oneshot::Sender<Turn> },
    Worked,
    Failed(String),
    Unused,
    Block { limits: Vec<String>, time: Duration },
}

/// An account's budget.
pub(super) struct Budget {
    limits: Limits,
    messages: mpsc::UnboundedSender<Message>,
    standing: watch::Receiver<Standing>,
}

/// A turn that was given. What came of it has to be said; dropped, it was not used.
pub(super) struct Ticket {
    messages: Option<mpsc::UnboundedSender<Message>>,
}

impl Budget {
    /// Starts handing out turns. `failed` is cancelled should that end before `stop`.
    pub(super) fn start(
        vendor: &Vendor,
        account: &str,
        process: &str,
        budgets: Budgets,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> Self {
        let limits = || Limits::new(&vendor.budget, ADDRESS);
        let (tell, standing) = watch::channel(Standing::unknown());
        let (messages, inbox) = mpsc::unbounded_channel();
        let desk = Desk::new(process.to_owned(), limits(), vendor.breaker);
        let key = record_key(&vendor.name, account);
        let keeper = Keeper { budgets, key, desk, messages: inbox, tell };
        vital::spawn("budget", stop, failed, keeper.keep(stop.clone()));
        Self { limits: limits(), messages, standing }
    }

    /// The limits that count a call.
    pub(super) fn class(&self, method: &Method, path: &str, body: &[u8]) -> Class {
        self.limits.class(method, path, body)
    }

    /// Waits for a turn. None: the gateway stops.
    pub(super) async fn turn(
        &self,
        class: Class,
        priority: Priority,
        customer: &CustomerId,
    ) -> Option<(Turn, Ticket)> {
        let (turn, mine) = oneshot::channel();
        let ask = Message::Ask { class, priority, customer: customer.clone(), turn };
        self.messages.send(ask).ok()?;
        let turn = mine.await.ok()?;
        let used = matches!(turn, Turn::Go).then(|| self.messages.clone());
        Some((turn, Ticket { messages: used }))
    }

    /// What an answer says about slowing down: for how long if it does not say itself, and the limits concerned.
    pub(super) fn busy(&self, class: &Class, status: u16, body: &[u8]) -> Option<(Duration, Vec<String>)> {
        self.limits.busy(class, status, body)
    }

    /// Leaves limits alone for a while, in all processes.
    pub(super) fn block(&self, limits: Vec<String>, time: Duration) {
        let _ = self.messages.send(Message::Block { limits, time });
    }

    /// How the budget stands, now and from now on.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Ticket {
    /// The vendor answered, and not that it is broken.
    pub(super) fn worked(mut self) {
        self.say(Message::Worked);
    }

    /// The vendor is broken, or does not know us.
    pub(super) fn failed(mut self, reason: String) {
        self.say(Message::Failed(reason));
    }

    fn say(&mut self, message: Message) {
        if let Some(messages) = self.messages.take() {
            let _ = messages.send(message);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.say(Message::Unused);
    }
}
