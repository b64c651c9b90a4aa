//! The breaker, as calls of this process meet it and make it.

use tokio::sync::oneshot;
use wanwright_schemas::CustomerId;

use super::super::breaker::{Gate, Open};
use super::super::class::Class;
use super::super::clock::Now;
use super::super::pace::micros;
use super::super::record::Record;
use super::super::{Priority, Turn};
use super::{Desk, Queue, Wish};

impl Desk {
    pub(super) fn gate(&self, now: Option<Now>) -> Gate {
        match (self.record().and_then(|record| record.breaker.as_ref()), now) {
            (Some(open), Some(now)) => open.gate(now.earliest),
            _ => Gate::Closed,
        }
    }

    /// Queues a call, or answers it at once while the breaker is open.
    pub(in crate::gateway::budget) fn ask(
        &mut self,
        class: Class,
        priority: Priority,
        customer: CustomerId,
        turn: oneshot::Sender<Turn>,
    ) {
        if self.is_only_breaker() && self.gate(self.clock.now()) == Gate::Closed {
            self.counts.calls += u64::from(turn.send(Turn::Go).is_ok());
            return;
        }
        let until = match self.gate(self.clock.now()) {
            Gate::Closed => None,
            Gate::Open(until) => Some(until),
            Gate::Trial if self.trying && self.waiting_or_running() => {
                self.clock.now().map(|now| now.latest + micros(self.rules.pause))
            }
            Gate::Trial => {
                (self.trying, self.tried) = (true, false);
                None
            }
        };
        match until {
            Some(until) => drop(turn.send(self.held_back(until))),
            None => self.queues.entry(class).or_insert_with(Queue::new).push(priority, customer, turn),
        }
    }

    /// Whether there is nothing to count here, and it is known that the breaker is closed as far as anybody has said.
    fn is_only_breaker(&self) -> bool {
        self.limits.all().is_empty() && self.view.is_some() && !self.outdated
    }

    fn waiting_or_running(&mut self) -> bool {
        self.queues.values_mut().for_each(|queue| queue.retain(|turn| !turn.is_closed()));
        let ours = |open: &Open| open.is_tried_by(&self.process);
        self.waiting() > 0 || self.record().and_then(|record| record.breaker.as_ref()).is_some_and(ours)
    }

    pub(super) fn held_back(&self, until: i64) -> Turn {
        let open = self.record().and_then(|record| record.breaker.as_ref());
        Turn::HeldBack { until, reason: open.map(|open| open.reason.clone()).unwrap_or_default() }
    }

    /// Notes that a call worked.
    pub(in crate::gateway::budget) fn worked(&mut self) {
        self.failures.worked();
        if self.is_trial() {
            self.trying = false;
            self.wishes.push(Wish::Close);
        }
    }

    /// Notes that a call failed.
    pub(in crate::gateway::budget) fn failed(&mut self, reason: String) {
        let enough = self.failures.failed(&self.rules);
        let open = self.record().is_some_and(|record| record.breaker.is_some());
        let wished = self.wishes.iter().any(|wish| matches!(wish, Wish::Open { .. }));
        if self.is_trial() || (enough && !open && !wished) {
            self.trying = false;
            self.failures.worked();
            self.wishes.push(Wish::Open { reason });
        }
    }

    /// Notes that a call that had its turn was not made.
    pub(in crate::gateway::budget) fn unused(&mut self) {
        if self.is_trial() {
            self.trying = false;
            self.wishes.push(Wish::NotTried);
        }
    }

    pub(super) fn is_trial(&self) -> bool {
        let open = self.record().and_then(|record| record.breaker.as_ref());
        open.is_some_and(|open| open.is_tried_by(&self.process))
    }

    /// Lets others try a call, if ours had no turn: its caller did not wait for it.
    pub(super) fn give_up_trial(&mut self) {
        // While a write is under way the slot may be ours already, and only not known to be.
        if self.trying && !self.tried && !self.writing && self.slots.is_empty() && self.is_trial() {
            self.unused();
        }
    }

    pub(super) fn note_breaker(&self, next: &Record) {
        let before = self.record().and_then(|record| record.breaker.as_ref());
        match (before, &next.breaker) {
            (Some(_), None) => tracing::info!("a vendor works again: its breaker is closed"),
            (before, Some(open)) if before.is_none_or(|before| before.times != open.times) => {
                tracing::warn!(
                    reason = open.reason,
                    times = open.times,
                    "a vendor only fails: its breaker is open"
                );
            }
            _ => {}
        }
    }
}
