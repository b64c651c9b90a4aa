//! What the inbox has delivered and no lane has yet: the look-ahead that lets a customer's one command pass another
//! customer's ten thousand.
//!
//! The server delivers in the order in which commands were stored. Of each customer only some are in the lanes with their
//! bodies. Of what else comes only the place is kept, until it is that customer's turn; then the body is fetched. So
//! nothing is put back, nobody's order changes, and what is far behind in the inbox is reached as fast as it can be
//! delivered, not as fast as what is before it can be decided.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use wanwright_schemas::CustomerId;

/// How many commands of one customer are in the lanes at once.
const OF_ONE: usize = 32;

/// More are fetched when so few are left there.
const FEW: usize = 16;

/// How much memory the commands in a partition's lanes may take, in KiB: the server counts them, not their bytes.
const ROOM: usize = 64 * 1024;

/// The least a command counts for, in KiB.
const LEAST: usize = 4;

/// A command that was delivered and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) sequence: u64,
    /// Where it is acknowledged.
    pub(super) reply: Box<str>,
    /// What it counts for, in KiB.
    size: u32,
}

/// A place in the lanes. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    customer: CustomerId,
    sequence: u64,
    freed: mpsc::UnboundedSender<(CustomerId, u64)>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody listens any more when the inbox was opened again.
        let _ = self.freed.send((self.customer.clone(), self.sequence));
    }
}

/// What one customer has.
#[derive(Debug, Default)]
struct Customer {
    in_lane: usize,
    parked: VecDeque<Parked>,
    /// Whether some of what was parked is being fetched: what comes meanwhile is behind it.
    is_fetching: bool,
    /// Whether it is among those whose turn comes.
    is_next: bool,
}

impl Customer {
    fn may_go(&self) -> bool {
        !self.parked.is_empty() && !self.is_fetching && self.in_lane <= FEW
    }
}

/// What has come, by customer.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The sequences of everything that was delivered and is not done with.
    held: HashSet<u64>,
    customers: HashMap<CustomerId, Customer>,
    /// The customers of whom something is to be fetched, in the order in which it became possible.
    next: VecDeque<CustomerId>,
    room: Arc<Semaphore>,
    freed: mpsc::UnboundedSender<(CustomerId, u64)>,
}

/// What to do with a command that was delivered.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It goes to its lane.
    Now(Place),
    /// It was parked.
    Later,
    /// It is here already: it was delivered again, because its customer's commands take long.
    Known,
}

/// Commands of one customer that are to be fetched, in their order.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) customer: CustomerId,
    pub(super) parked: Vec<(Parked, Place)>,
}

impl Waiting {
    /// Nothing yet, and what tells which places are free again.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(CustomerId, u64)>) {
        let (freed, free) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let (held, customers, next) = (HashSet::new(), HashMap::new(), VecDeque::new());
        (Self { held, customers, next, room, freed }, free)
    }

    /// Finds a place for a command of so many bytes, or parks it.
    pub(super) fn admit(
        &mut self,
        customer: &CustomerId,
        sequence: u64,
        reply: &str,
        bytes: usize,
    ) -> Admitted {
        if !self.held.insert(sequence) {
            return Admitted::Known;
        }
        let size = u32::try_from((bytes / 1024).clamp(LEAST, ROOM)).unwrap_or(u32::MAX);
        let of = self.customers.entry(customer.clone()).or_default();
        // Whoever waits for room already has it first.
        let is_at_once =
            of.parked.is_empty() && !of.is_fetching && of.in_lane < OF_ONE && self.next.is_empty();
        if is_at_once && let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) {
            of.in_lane += 1;
            return Admitted::Now(Place {
                customer: customer.clone(),
                sequence,
                freed: self.freed.clone(),
                _room: room,
            });
        }
        of.parked.push_back(Parked { sequence, reply: reply.into(), size });
        self.look_at(customer);
        Admitted::Later
    }

    /// A place in the lanes is free again.
    pub(super) fn free(&mut self, customer: &CustomerId, sequence: u64) {
        self.held.remove(&sequence);
        if let Some(of) = self.customers.get_mut(customer) {
            of.in_lane = of.in_lane.saturating_sub(1);
        }
        self.look_at(customer);
    }

    /// What was to be fetched of a customer is in its lane.
    pub(super) fn fetched(&mut self, customer: &CustomerId) {
        if let Some(of) = self.customers.get_mut(customer) {
            of.is_fetching = false;
        }
        self.look_at(customer);
    }

    /// What is to be fetched now, as far as there is room.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        let customer = self.next.front()?.clone();
        let of = self.customers.get_mut(&customer)?;
        let mut parked = Vec::new();
        while of.in_lane < OF_ONE
            && let Some(first) = of.parked.front()
            && let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(first.size)
            && let Some(first) = of.parked.pop_front()
        {
            of.in_lane += 1;
            let (freed, sequence) = (self.freed.clone(), first.sequence);
            parked.push((first, Place { customer: customer.clone(), sequence, freed, _room: room }));
        }
        if parked.is_empty() {
            return None;
        }
        (of.is_fetching, of.is_next) = (true, false);
        self.next.pop_front();
        Some(Turn { customer, parked })
    }

    /// Notes whether it is a customer's turn, or whether it has nothing any more.
    fn look_at(&mut self, customer: &CustomerId) {
        let Some(of) = self.customers.get_mut(customer) else { return };
        if of.may_go() && !of.is_next {
            of.is_next = true;
            self.next.push_back(customer.clone());
        }
        if of.in_lane == 0 && of.parked.is_empty() && !of.is_fetching {
            self.customers.remove(customer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> CustomerId {
        name.parse().expect("an id")
    }

    fn sequences(turn: &Turn) -> Vec<u64> {
        turn.parked.iter().map(|(parked, _)| parked.sequence).collect()
    }

    #[test]
    fn one_customers_many_are_parked_and_anothers_one_goes_at_once() {
        let (mut waiting, mut free) = Waiting::new();
        let (acme, globex) = (id("acme"), id("globex"));
        let mut lane = VecDeque::new();
        for sequence in 1..=10_000 {
            if let Admitted::Now(place) = waiting.admit(&acme, sequence, "", 10) {
                lane.push_back(place);
            }
        }
        assert_eq!(lane.len(), OF_ONE);
        assert!(matches!(waiting.admit(&globex, 10_001, "", 10), Admitted::Now(_)));
        assert!(matches!(waiting.admit(&acme, 77, "", 10), Admitted::Known));
        assert!(waiting.turn().is_none(), "it has all it may have");
        let mut expected: Vec<u64> = (1..=10_000).collect();
        let mut done = Vec::new();
        while let Some(place) = lane.pop_front() {
            done.push(place.sequence);
            drop(place);
            while let Ok((customer, sequence)) = free.try_recv() {
                waiting.free(&customer, sequence);
            }
            while let Some(turn) = waiting.turn() {
                waiting.fetched(&turn.customer);
                lane.extend(turn.parked.into_iter().map(|(_, place)| place));
            }
            assert!(lane.len() <= OF_ONE);
        }
        expected.sort_unstable();
        assert_eq!(done, expected);
        assert!(waiting.customers.is_empty() && waiting.held.is_empty() && waiting.next.is_empty());
    }

    #[test]
    fn nothing_passes_what_is_being_fetched() {
        let (mut waiting, mut free) = Waiting::new();
        let acme = id("acme");
        let lane: Vec<Admitted> = (1..=40).map(|sequence| waiting.admit(&acme, sequence, "", 10)).collect();
        drop(lane);
        while let Ok((customer, sequence)) = free.try_recv() {
            waiting.free(&customer, sequence);
        }
        let turn = waiting.turn().expect("its turn");
        assert_eq!(sequences(&turn), (33..=40).collect::<Vec<_>>());
        assert!(matches!(waiting.admit(&acme, 41, "", 10), Admitted::Later));
        assert!(waiting.turn().is_none());
        waiting.fetched(&acme);
        assert_eq!(waiting.turn().map(|turn| sequences(&turn)), Some(vec![41]));
    }

    #[test]
    fn whoever_waits_for_room_has_it_first() {
        let (mut waiting, mut free) = Waiting::new();
        let large = 1024 * 1024;
        let mut lane: Vec<Admitted> = Vec::new();
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            for sequence in 0..32 {
                lane.push(waiting.admit(&id(name), number as u64 * 100 + sequence, "", large));
            }
        }
        let now = lane.iter().filter(|admitted| matches!(admitted, Admitted::Now(_))).count();
        assert_eq!(now, 64, "there is room for no more");
        assert!(matches!(waiting.admit(&id("d"), 1000, "", 10), Admitted::Later));
        drop(lane);
        let first = free.try_recv().expect("a place is free");
        waiting.free(&first.0, first.1);
        assert_eq!(waiting.turn().map(|turn| turn.customer), Some(id("c")));
        assert_eq!(waiting.turn().map(|turn| turn.customer), Some(id("d")));
    }
}
