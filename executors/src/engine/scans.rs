//! What lists brought for looks: objects, until the looks that waited for them have their turn.
//!
//! A list only says that an object is as it should be. What seems to differ is read on its own before it is reported, so
//! nothing is reported that had been put right since the page was read, and nothing is gone because a page lacked it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use wanwright_schemas::OrderId;
use wanwright_schemas::run::RunEntry;
use wanwright_vendors::RemoteObject;

/// An object that a page of a list showed.
#[derive(Debug)]
pub(crate) struct Found {
    /// The row of the table whose look it is for.
    pub(crate) row: String,
    /// The walk that brought it.
    pub(crate) walk: Uuid,
    /// The object.
    pub(crate) object: RemoteObject,
    /// The calls for its page.
    pub(crate) calls: Vec<RunEntry>,
    /// When the page was asked for.
    pub(crate) asked: Instant,
    /// How old it may become.
    pub(crate) fresh: Duration,
}

impl Found {
    /// Whether it still says something about its object.
    pub(super) fn is_fresh(&self) -> bool {
        self.asked.elapsed() < self.fresh
    }
}

/// What became of the objects that a walk brought.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    /// How many still wait for their looks.
    pub(crate) waiting: usize,
    /// The calls of those that nobody waits for any more, for each of them.
    pub(crate) left: Vec<Vec<RunEntry>>,
}

/// The objects that wait for their looks, by the order of each; shared by the runs of one process.
#[derive(Debug, Default)]
pub struct Scans {
    found: Mutex<HashMap<OrderId, Found>>,
}

impl Scans {
    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an object for the look of this order. One that it had already leaves it its calls.
    pub(crate) fn put(&self, order: OrderId, found: Found) {
        let mut all = self.lock();
        let calls = match all.remove(&order) {
            Some(before) => [before.calls, found.calls].concat(),
            None => found.calls,
        };
        all.insert(order, Found { calls, ..found });
    }

    /// What a list showed for the look of this order, however long ago: its calls were made for it.
    pub(super) fn take(&self, order: &OrderId) -> Option<Found> {
        self.lock().remove(order)
    }

    /// Drops those of a walk whose look waits no more, because its order was replaced or paused, and says what is left.
    pub(crate) fn tidy(&self, walk: Uuid, waits: impl Fn(&str, &OrderId) -> bool) -> Pile {
        let mut pile = Pile::default();
        self.lock().retain(|order, found| {
            if found.walk != walk {
                return true;
            }
            let stays = waits(&found.row, order);
            if stays {
                pile.waiting += 1;
            } else {
                pile.left.push(std::mem::take(&mut found.calls));
            }
            stays
        });
        pile
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wanwright_schemas::run::RunEvent;

    use super::*;

    fn found(walk: Uuid, row: &str, call: &str) -> Found {
        let object = RemoteObject { id: row.to_owned(), attributes: serde_json::Map::new() };
        let calls = vec![RunEntry { time: Timestamp::UNIX_EPOCH, event: RunEvent::log("info", call) }];
        let (asked, fresh) = (Instant::now(), Duration::ZERO);
        Found { row: row.to_owned(), walk, object, calls, asked, fresh }
    }

    #[test]
    fn no_call_is_lost_with_the_object_that_it_was_made_for() {
        let (scans, walk, other) = (Scans::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let order = |number| OrderId::of_digest([number; 32]);
        for (number, row) in [(1, "a"), (2, "b"), (3, "c")] {
            scans.put(order(number), found(walk, row, row));
        }
        scans.put(order(4), found(other, "d", "d"));
        let old = scans.take(&order(1)).expect("what is too old");
        assert!(!old.is_fresh() && old.calls.len() == 1);
        assert!(scans.take(&order(1)).is_none());
        scans.put(order(2), found(walk, "b", "again"));
        let pile = scans.tidy(walk, |row, _| row == "c");
        assert_eq!(pile.waiting, 1);
        assert_eq!(pile.left.iter().map(Vec::len).collect::<Vec<_>>(), [2], "both calls for b");
        assert!(scans.take(&order(2)).is_none() && scans.take(&order(3)).is_some());
        assert!(scans.take(&order(4)).is_some(), "another walk's");
    }
}
