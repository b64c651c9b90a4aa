//! The commands that were decided lately, so that none is decided twice.

use std::collections::{HashMap, VecDeque};

use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::CommandId;

/// How many bytes a command takes in [`Recents::pack`]: its id, its digest, its sequence and its time.
const PACKED: usize = 16 + 32 + 8 + 8;

/// A command that was decided lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// Where its events are.
    pub sequence: u64,
    /// What it was about and what it said.
    pub digest: Digest,
    /// When it was decided, in milliseconds since 1970.
    pub millis: u64,
}

/// Commands by id, in the order in which they were decided.
#[derive(Debug, Clone, Default, PartialEq)]
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

    /// All of them as bytes, [`PACKED`] each, in their order. A busy customer has thousands, and reading them as JSON would
    /// take most of the time of a load.
    pub(crate) fn pack(&self, into: &mut Vec<u8>) {
        into.reserve(self.order.len() * PACKED);
        for (id, recent) in self.order.iter().filter_map(|id| Some((*id, self.get(*id)?))) {
            into.extend_from_slice(&id.bytes());
            into.extend_from_slice(&recent.digest.bytes());
            into.extend_from_slice(&recent.sequence.to_le_bytes());
            into.extend_from_slice(&recent.millis.to_le_bytes());
        }
    }

    /// What [`Recents::pack`] made; `None` if it is something else.
    pub(crate) fn unpack(bytes: &[u8]) -> Option<Self> {
        let (packed, rest) = bytes.as_chunks::<PACKED>();
        if !rest.is_empty() {
            return None;
        }
        let mut recents = Self::default();
        recents.by_id.reserve(packed.len());
        recents.order.reserve(packed.len());
        for one in packed {
            let (id, rest) = one.split_first_chunk()?;
            let (digest, rest) = rest.split_first_chunk()?;
            let (sequence, millis) = rest.split_first_chunk()?;
            let (id, digest) = (CommandId::from_bytes(*id).ok()?, Digest::from_bytes(*digest));
            let (sequence, millis) =
                (u64::from_le_bytes(*sequence), u64::from_le_bytes(millis.try_into().ok()?));
            recents.insert(id, Recent { sequence, digest, millis });
        }
        Some(recents)
    }

    /// Forgets all: for who folds a history and decides nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
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
        let mut packed = Vec::new();
        recents.pack(&mut packed);
        assert_eq!((packed.len(), Recents::unpack(&packed)), (3 * PACKED, Some(recents.clone())));
        assert_eq!(Recents::unpack(&packed[1..]), None, "not whole");
        packed[6] = 0;
        assert_eq!(Recents::unpack(&packed), None, "no command's id");
        recents.forget_before(20);
        assert_eq!((recents.get(id(9)), recents.get(id(1)).is_some(), recents.len()), (None, true, 2));
        recents.forget_before(31);
        assert!(recents.is_empty());
    }
}
