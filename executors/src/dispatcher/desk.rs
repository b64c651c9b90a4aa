//! What is to be compared of one customer, and the comparing, a slice at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message, message::Acker};
use futures::stream::{self, StreamExt};
use wanwright_commands::{BrokenHistory, Head};
use wanwright_schemas::CustomerId;
use wanwright_schemas::envelope::{Envelope, UnreadableEnvelope};
use wanwright_schemas::order::Target;
use wanwright_schemas::trace::TraceContext;

use super::causes::{self, Happened};
use super::compare::{Compare, Compared};
use super::{Stuck, looks};
use crate::gateway::Priority;

/// How many targets are compared in a turn.
const SLICE: usize = 32;

/// How many of them are for looks at least, where any are due.
const FOR_LOOKS: usize = SLICE / 8;

/// How many of them beside each other.
const AT_ONCE: usize = 8;

/// Pause before what failed in passing comes again.
const AGAIN: Duration = Duration::from_secs(5);

/// A message whose targets are not all compared yet. It is answered when the last of them is.
struct Held {
    acker: Acker,
    again: AtomicBool,
}

impl Held {
    /// Lets go of a share in a message; the last one answers the server.
    async fn let_go(self: Arc<Self>) {
        let Some(held) = Arc::into_inner(self) else { return };
        let answer = if held.again.into_inner() { AckKind::Nak(Some(AGAIN)) } else { AckKind::Ack };
        if let Err(error) = held.acker.ack_with(answer).await {
            tracing::warn!(%error, "an event will be dispatched again, which changes nothing");
        }
    }

    async fn let_all_go(shares: Vec<Arc<Self>>, again: bool) {
        for share in shares {
            share.again.fetch_or(again, Ordering::Relaxed);
            share.let_go().await;
        }
    }
}

/// A message of the customer's history.
pub(super) struct Arrived {
    sequence: u64,
    bytes: usize,
    envelope: Result<Envelope, UnreadableEnvelope>,
    trace: Option<TraceContext>,
    held: Arc<Held>,
}

impl Arrived {
    pub(super) fn new(message: Message) -> Self {
        let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
        let trace = message.headers.as_ref().and_then(wanwright_nats::trace::read);
        let (message, acker) = message.split();
        let held = Arc::new(Held { acker, again: AtomicBool::new(false) });
        let (bytes, envelope) = (message.payload.len(), Envelope::decode(&message.payload));
        Self { sequence, bytes, envelope, trace, held }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it is about at best: what asks for looks and nothing else is in no hurry.
    pub(super) fn priority(&self) -> Priority {
        match &self.envelope {
            Ok(envelope) if looks::are_all(&envelope.events) => Priority::Drift,
            _ => Priority::Intent,
        }
    }
}

/// A target to compare.
#[derive(Default)]
struct Due {
    trace: Option<TraceContext>,
    because_of: Vec<Arc<Held>>,
}

/// A customer's state and what of it is to be compared.
#[derive(Default)]
pub(super) struct Desk {
    head: Option<Head>,
    /// The targets about which more is due than a look.
    changes: BTreeMap<Target, Due>,
    /// The others.
    looks: BTreeMap<Target, Due>,
}

impl Desk {
    /// What another turn is needed for at best; none where nothing is left.
    pub(super) fn left(&self) -> Option<Priority> {
        let looks = (!self.looks.is_empty()).then_some(Priority::Drift);
        if self.changes.is_empty() { looks } else { Some(Priority::Intent) }
    }

    /// What is compared next: changes, and looks in the places that they leave. Some are always left, so that looks come
    /// to an end where changes do not.
    fn slice(&self) -> Vec<(Target, Option<TraceContext>)> {
        let most = SLICE - self.looks.len().min(FOR_LOOKS);
        let next = self.changes.iter().take(most).chain(&self.looks).take(SLICE);
        next.map(|(target, due)| (target.clone(), due.trace.clone())).collect()
    }

    fn take(&mut self, target: &Target) -> Option<Due> {
        self.changes.remove(target).or_else(|| self.looks.remove(target))
    }

    fn note(&mut self, target: Target, trace: Option<TraceContext>, changes: bool, held: Arc<Held>) {
        let changes = changes || self.changes.contains_key(&target);
        let mut due = self.take(&target).unwrap_or_default();
        due.trace = trace;
        due.because_of.push(held);
        let all = if changes { &mut self.changes } else { &mut self.looks };
        all.insert(target, due);
    }

    /// Takes in what came and compares a slice of what is due.
    pub(super) async fn turn(
        mut self,
        compare: &Compare,
        customer: &CustomerId,
        arrived: Vec<Arrived>,
    ) -> Self {
        let (mut head, read) = match self.reach(compare, customer, &arrived).await {
            Ok(reached) => reached,
            Err(stuck) => return self.give_up(customer, arrived, &stuck).await,
        };
        for message in arrived {
            self.take_in(&head, customer, message).await;
        }
        self.go_on_with(&head, read);
        let compared: Vec<_> = stream::iter(self.slice())
            .map(|(target, trace)| {
                let head = &head;
                async move {
                    let compared = compare.try_target(customer, head, &target, trace.as_ref()).await;
                    (target, compared)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut moved = false;
        for (target, compared) in compared {
            match compared {
                Ok(Compared::Equal) => self.done(&target, false).await,
                Ok(Compared::HeadMoved) => moved = true,
                Err(stuck) => {
                    report(customer, &stuck);
                    self.done(&target, stuck.passes()).await;
                }
            }
        }
        if moved {
            match compare.customers.go_on(customer, &mut head).await {
                Ok(read) => self.go_on_with(&head, read),
                Err(stuck) => return self.give_up(customer, Vec::new(), &stuck).await,
            }
        }
        self.head = Some(head);
        self
    }

    /// What was read ahead of its message may be the cause of the order that is written now.
    fn go_on_with(&mut self, head: &Head, read: Vec<Happened>) {
        for (target, trace) in causes::affected(&head.state, read) {
            if let Some(due) = self.changes.get_mut(&target).or_else(|| self.looks.get_mut(&target)) {
                due.trace = trace;
            }
        }
    }

    /// The state, at least up to the newest of these messages, and what was read for it.
    async fn reach(
        &mut self,
        compare: &Compare,
        customer: &CustomerId,
        arrived: &[Arrived],
    ) -> Result<(Head, Vec<Happened>), Stuck> {
        let newest = arrived.iter().map(|message| message.sequence).max().unwrap_or_default();
        let (head, read) = match self.head.take() {
            Some(head) if head.sequence >= newest => (head, Vec::new()),
            Some(mut head) => {
                let read = compare.customers.go_on(customer, &mut head).await?;
                (head, read)
            }
            None => compare.customers.load(customer).await?,
        };
        if head.sequence < newest {
            return Err(Stuck::Behind(customer.clone()));
        }
        Ok((head, read))
    }

    /// Notes what a message concerns. The state may have been past it already; it is compared all the same.
    async fn take_in(&mut self, head: &Head, customer: &CustomerId, message: Arrived) {
        let Arrived { sequence, envelope, trace, held, .. } = message;
        match envelope {
            Ok(envelope) => {
                let changes = !looks::are_all(&envelope.events);
                let happened = vec![Happened { sequence, events: envelope.events, trace }];
                for (target, trace) in causes::affected(&head.state, happened) {
                    self.note(target, trace, changes, Arc::clone(&held));
                }
            }
            Err(source) => {
                let unreadable = BrokenHistory::Unreadable { sequence, source };
                report(customer, &Stuck::History(customer.clone(), unreadable));
            }
        }
        held.let_go().await;
    }

    async fn done(&mut self, target: &Target, again: bool) {
        if let Some(due) = self.take(target) {
            Held::let_all_go(due.because_of, again).await;
        }
    }

    /// Forgets the customer. What passes comes again; what waits for a person must not hold up the partition: the sweep
    /// compares this customer again and again.
    async fn give_up(self, customer: &CustomerId, arrived: Vec<Arrived>, stuck: &Stuck) -> Self {
        report(customer, stuck);
        let shares = arrived.into_iter().map(|message| message.held);
        let due = self.changes.into_values().chain(self.looks.into_values()).flat_map(|due| due.because_of);
        Held::let_all_go(shares.chain(due).collect(), stuck.passes()).await;
        Self::default()
    }
}

fn report(customer: &CustomerId, stuck: &Stuck) {
    tracing::error!(%customer, error = stuck as &dyn std::error::Error, "an event cannot be dispatched");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(kind: char, numbers: std::ops::Range<usize>) -> BTreeMap<Target, Due> {
        let name = |number: usize| format!("{kind}-{number:03}").parse().expect("an id");
        numbers.map(|number| (Target::Device(name(number)), Due::default())).collect()
    }

    fn sliced(desk: &Desk) -> (usize, usize) {
        let slice = desk.slice();
        let changes = slice.iter().filter(|(target, _)| desk.changes.contains_key(target)).count();
        (changes, slice.len() - changes)
    }

    #[test]
    fn changes_go_first_and_looks_take_the_places_that_they_leave() {
        let mut desk = Desk { changes: targets('c', 0..100), looks: targets('l', 0..100), head: None };
        assert_eq!((desk.left(), sliced(&desk)), (Some(Priority::Intent), (28, 4)));
        desk.changes = targets('c', 0..3);
        assert_eq!((desk.left(), sliced(&desk)), (Some(Priority::Intent), (3, 29)));
        desk.changes.clear();
        assert_eq!((desk.left(), sliced(&desk)), (Some(Priority::Drift), (0, 32)));
        desk.changes = targets('c', 0..100);
        desk.looks.clear();
        assert_eq!(sliced(&desk), (32, 0));
        assert!(desk.take(&Target::Device("c-007".parse().expect("an id"))).is_some());
        assert_eq!(desk.changes.len(), 99);
        assert_eq!(Desk::default().left(), None);
    }
}
