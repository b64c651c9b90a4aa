//! What part of an account's slots is one process's, while several take some: as much as the customers have who wait there.
//!
//! Each process has customers of its own. Were the slots shared evenly among processes, a customer that is alone in one
//! of them would have as many as a hundred in another, and looks in one as many as the changes in another.

use std::collections::BTreeMap;

use super::Priority;
use super::record::{LEAD, Record};

/// How many customers wait, by the priority of their calls.
pub type Waiting = BTreeMap<Priority, u32>;

/// Of so many slots one is for calls behind those of the highest priority that anybody waits with.
pub(super) const RESERVED: u32 = 8;

impl Record {
    /// The time for which a process takes slots at once, in microseconds, where so many wait in it.
    pub(super) fn share(&self, asking: &str, waiting: &Waiting) -> i64 {
        // Whoever takes slots and does not say who waits is an older process: it counts as one customer with a change.
        let unsaid = Waiting::from([(Priority::Intent, 1)]);
        let others = self.takers.keys().filter(|taker| *taker != asking);
        let others = others.map(|taker| self.waiting.get(taker).unwrap_or(&unsaid));
        let all: Vec<&Waiting> = others.chain([waiting]).collect();
        let first = all.iter().filter_map(|waiting| waiting.keys().next()).min();
        let Some(first) = first.filter(|_| all.len() > 1) else {
            // A single call that comes next waits for what is taken.
            return LEAD / 2;
        };
        let (before, behind) = split(waiting, *first);
        let (all_before, all_behind) = all.iter().fold((0, 0), |(before, behind), waiting| {
            let (one, other) = split(waiting, *first);
            (before + one, behind + other)
        });
        let reserved = if all_behind > 0 { LEAD / i64::from(RESERVED) } else { 0 };
        part(LEAD - reserved, before, all_before) + part(reserved, behind, all_behind)
    }
}

/// How many wait with this priority, and how many behind it.
fn split(waiting: &Waiting, first: Priority) -> (i64, i64) {
    let count = |customers: &u32| i64::from(*customers);
    let before = waiting.get(&first).map_or(0, count);
    (before, waiting.values().map(count).sum::<i64>() - before)
}

fn part(whole: i64, some: i64, all: i64) -> i64 {
    if all > 0 { whole * some / all } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares of processes in thousandths of all, where so many customers wait with changes and with looks.
    fn shares(processes: &[(u32, u32)]) -> Vec<i64> {
        let waiting = |(changes, looks): &(u32, u32)| {
            let all = [(Priority::Intent, *changes), (Priority::Drift, *looks)];
            Waiting::from_iter(all.into_iter().filter(|(_, customers)| *customers > 0))
        };
        let mut record = Record::default();
        for (number, process) in processes.iter().enumerate() {
            record.taken_by(&number.to_string(), 0, waiting(process));
        }
        let share =
            |(number, process)| record.share(&usize::to_string(&number), &waiting(process)) * 1000 / LEAD;
        processes.iter().enumerate().map(share).collect()
    }

    #[test]
    fn a_process_has_as_much_as_its_customers_and_looks_an_eighth() {
        assert_eq!(shares(&[(7, 0)]), [500], "half of what may be taken ahead, though it is alone");
        assert_eq!(shares(&[(5, 0), (5, 0), (5, 0), (5, 0)]), [250; 4]);
        assert_eq!(shares(&[(1, 0), (3, 0), (6, 0)]), [100, 300, 600]);
        assert_eq!(shares(&[(0, 30), (0, 10)]), [750, 250], "looks share all where nobody wants a change");
        assert_eq!(shares(&[(2, 0), (2, 0), (0, 90)]), [437, 437, 125]);
        assert_eq!(shares(&[(1, 1), (3, 3)]), [250, 750], "of both");
    }

    #[test]
    fn a_process_that_does_not_say_who_waits_counts_as_one_customer() {
        let mut record = Record::default();
        record.takers.insert("older".to_owned(), 0);
        let three = Waiting::from([(Priority::Intent, 3)]);
        assert_eq!(record.share("one", &three), LEAD * 3 / 4);
        record.taken_by("two", 0, three);
        let one = Waiting::from([(Priority::Intent, 1)]);
        assert_eq!(record.share("one", &one), LEAD / 5);
    }
}
