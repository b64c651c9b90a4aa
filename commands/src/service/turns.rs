//! Turns: whoever has much waiting goes before the others as often as they do, and no oftener.

use std::collections::{HashMap, VecDeque};

use wanwright_schemas::CustomerId;

/// What waits, by customer: customers take turns, and what one customer has keeps its order.
#[derive(Debug)]
pub(super) struct Turns<T> {
    of: HashMap<CustomerId, VecDeque<T>>,
    /// Everybody who has something, the next one first.
    next: VecDeque<CustomerId>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), next: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Puts something behind what its customer has already.
    pub(super) fn push(&mut self, customer: &CustomerId, waiting: T) {
        let of = self.of.entry(customer.clone()).or_default();
        if of.is_empty() {
            self.next.push_back(customer.clone());
        }
        of.push_back(waiting);
    }

    /// The first one of the customer whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let customer = self.next.pop_front()?;
        let of = self.of.get_mut(&customer)?;
        let first = of.pop_front();
        if of.is_empty() {
            self.of.remove(&customer);
        } else {
            self.next.push_back(customer);
        }
        first
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_take_turns_and_each_keeps_its_order() {
        let mut turns = Turns::default();
        let [acme, globex] = ["acme", "globex"].map(|name| name.parse::<CustomerId>().expect("an id"));
        (0..4).for_each(|number| turns.push(&acme, number));
        turns.push(&globex, 10);
        assert_eq!((turns.pop(), turns.pop()), (Some(0), Some(10)));
        turns.push(&globex, 11);
        let rest: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [1, 11, 2, 3]);
        assert!(turns.is_empty() && turns.of.is_empty());
    }
}
