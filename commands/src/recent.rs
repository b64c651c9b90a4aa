//! The commands that were decided lately, so that none is decided twice.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::CommandId;

/// A command that was decided lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Where its events are.
    pub sequence: u64,
    /// What it was about and what it said.
    pub digest: Digest,
    /// When it was decided, in milliseconds since 1970.
    pub millis: u64,
}

/// Commands by id, in the order in which they were decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(CommandId, Recent)>", into = "Vec<(CommandId, Recent)>")]
pub struct Recents {
    by_id: HashMap<CommandId, Recent>,
    order: VecDeque<CommandId>,
}

impl Recents {
    /// A command of this id.
    pub fn get(&self, id: CommandId) -> Option<Recent> {
        self.by_id.get(&id).copied()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Remembers a command. The first one of an id stands.
    pub(crate) fn insert(&mut self, id: CommandId, recent: Recent) {
        if let std::collections::hash_map::Entry::Vacant(free) = self.by_id.entry(id) {
            free.insert(recent);
            self.order.push_back(id);
        }
    }

    /// Forgets the commands that were decided before a time: their ids are refused by their age.
    pub fn forget_before(&mut self, millis: u64) {
        while let Some(id) = self.order.front() {
            if self.by_id.get(id).is_some_and(|recent| recent.millis >= millis) {
                break;
            }
            self.by_id.remove(id);
            self.order.pop_front();
        }
    }

    /// Forgets all: for who folds a history and decides nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl From<Vec<(CommandId, Recent)>> for Recents {
    fn from(list: Vec<(CommandId, Recent)>) -> Self {
        let mut recents = Self::default();
        for (id, recent) in list {
            recents.insert(id, recent);
        }
        recents
    }
}

impl From<Recents> for Vec<(CommandId, Recent)> {
    fn from(recents: Recents) -> Self {
        recents.order.iter().filter_map(|id| Some((*id, recents.get(*id)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(millis: u64) -> Recent {
        Recent { sequence: millis, digest: Digest::of(b"a body"), millis }
    }

    #[test]
    fn what_is_old_goes_and_the_first_of_an_id_stays() {
        let id = |number: u64| CommandId::of_message(5, number);
        let mut recents = Recents::default();
        // An id says when it was minted, which is not when it was decided.
        for (number, millis) in [(9, 10), (1, 20), (5, 30), (9, 40)] {
            recents.insert(id(number), recent(millis));
        }
        assert_eq!((recents.len(), recents.get(id(9)).map(|found| found.millis)), (3, Some(10)));
        let list: Vec<_> = recents.clone().into();
        assert_eq!(Recents::from(list), recents);
        recents.forget_before(20);
        assert_eq!((recents.get(id(9)), recents.get(id(1)).is_some(), recents.len()), (None, true, 2));
        recents.forget_before(31);
        assert!(recents.is_empty());
    }
}
