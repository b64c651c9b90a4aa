//! A queue that is fair by customer: whoever has ten thousand calls waiting delays another's single one by one turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Of so many turns one is reserved for what is not of the highest priority, so that a flood of changes does not end
/// the looks for drift.
const RESERVED: u64 = 8;

/// Waiting items, in turns: one of each customer that has any, highest priority first.
#[derive(Debug)]
pub(crate) struct FairQueue<P, C, T> {
    levels: BTreeMap<P, Turns<C, T>>,
    waiting: usize,
    turns: u64,
}

#[derive(Debug)]
struct Turns<C, T> {
    order: VecDeque<C>,
    items: HashMap<C, VecDeque<T>>,
}

impl<C: Eq + Hash + Clone, T> Turns<C, T> {
    fn pop(&mut self) -> Option<T> {
        let customer = self.order.pop_front()?;
        let items = self.items.get_mut(&customer)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.items.remove(&customer);
        } else {
            self.order.push_back(customer);
        }
        item
    }
}

impl<P: Ord, C: Eq + Hash + Clone, T> FairQueue<P, C, T> {
    pub(crate) fn new() -> Self {
        Self { levels: BTreeMap::new(), waiting: 0, turns: 0 }
    }

    /// Queues an item; of two priorities the lesser goes first.
    pub(crate) fn push(&mut self, priority: P, customer: C, item: T) {
        let level = self
            .levels
            .entry(priority)
            .or_insert_with(|| Turns { order: VecDeque::new(), items: HashMap::new() });
        let items = level.items.entry(customer.clone()).or_default();
        if items.is_empty() {
            level.order.push_back(customer);
        }
        items.push_back(item);
        self.waiting += 1;
    }

    /// Takes the next item: the oldest of the customer whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let behind = self.levels.values().filter(|level| !level.order.is_empty()).count().saturating_sub(1);
        self.turns = self.turns.wrapping_add(u64::from(behind > 0));
        // Reserved turns go to the levels behind the first one by one, the lowest first.
        let skipped = match self.turns % RESERVED {
            0 if behind > 0 => {
                let reserved = usize::try_from(self.turns / RESERVED).unwrap_or_default().saturating_sub(1);
                behind - reserved % behind
            }
            _ => 0,
        };
        let level = self.levels.values_mut().filter(|level| !level.order.is_empty()).nth(skipped)?;
        let item = level.pop();
        self.waiting -= usize::from(item.is_some());
        item
    }

    /// Takes the next item of a higher priority than this.
    pub(crate) fn pop_before(&mut self, priority: &P) -> Option<T> {
        let level = self
            .levels
            .range_mut(..priority)
            .map(|(_, level)| level)
            .find(|level| !level.order.is_empty())?;
        let item = level.pop();
        self.waiting -= usize::from(item.is_some());
        item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// The highest priority that an item waits with.
    pub(crate) fn best(&self) -> Option<&P> {
        self.levels.iter().find(|(_, level)| !level.order.is_empty()).map(|(priority, _)| priority)
    }

    /// How many customers wait with each priority.
    pub(crate) fn customers(&self) -> impl Iterator<Item = (&P, usize)> {
        let levels = self.levels.iter().map(|(priority, level)| (priority, level.order.len()));
        levels.filter(|(_, customers)| *customers > 0)
    }

    /// Forgets what does not wait any more.
    pub(crate) fn retain(&mut self, mut waits: impl FnMut(&T) -> bool) {
        self.waiting = 0;
        for level in self.levels.values_mut() {
            for items in level.items.values_mut() {
                items.retain(&mut waits);
                self.waiting += items.len();
            }
            let Turns { order, items } = level;
            items.retain(|_, items| !items.is_empty());
            order.retain(|customer| items.contains_key(customer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_item_waits_one_turn_behind_ten_thousand() {
        let mut queue = FairQueue::new();
        (0..10_000).for_each(|n| queue.push(0, "bulk", ("bulk", n)));
        queue.push(0, "single", ("single", 0));
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).take(3).collect();
        assert_eq!(taken, [("bulk", 0), ("single", 0), ("bulk", 1)]);
    }

    #[test]
    fn every_eighth_turn_is_for_what_is_behind() {
        let mut queue = FairQueue::new();
        for n in 0..100 {
            queue.push(0, ["a", "b"][n % 2], "change");
            queue.push(2, "a", "look");
        }
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).take(16).collect();
        assert_eq!(taken.iter().filter(|what| **what == "look").count(), 2);
        assert_eq!((taken[7], taken[15]), ("look", "look"));
        queue.push(1, "a", "preview");
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).take(16).collect();
        assert!(taken.contains(&"preview"), "a level in the middle does not starve either");
        let taken = std::iter::from_fn(|| queue.pop()).count();
        assert_eq!(taken, 201 - 32, "nothing is lost");
    }

    #[test]
    fn a_higher_priority_goes_first_and_nothing_is_lost() {
        let mut queue = FairQueue::new();
        queue.push(2, "a", 1);
        queue.push(0, "b", 2);
        queue.push(1, "a", 3);
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken, [2, 3, 1]);
        assert!(queue.is_empty());
    }
}
