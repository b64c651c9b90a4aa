//! The commands that were decided lately, so that none is decided twice.

use std::collections::{HashMap, VecDeque};

use integer_encoding::VarInt;
use wanwright_schemas::ids::CommandId;

/// How many bytes of an id are its sender's time.
const TIME: usize = 6;

/// A command that was decided lately. What it said is told by its message: most commands come once, and every load and every
/// snapshot would carry the digests of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// Where its events are.
    pub sequence: u64,
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

    /// All of them as bytes, in their order: how far each is from the one before it in time and sequence, how long before
    /// its decision its id was minted, and the rest of the id. That is 14 to 18 bytes each, and a busy customer has thousands
    /// in every snapshot.
    pub(crate) fn pack(&self, into: &mut Vec<u8>) {
        let mut before = Recent { sequence: 0, millis: 0 };
        for (id, recent) in self.order.iter().filter_map(|id| Some((id.bytes(), self.get(*id)?))) {
            let (time, rest) = id.split_at(TIME);
            let minted = time.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            for (now, then) in
                [(recent.millis, before.millis), (recent.sequence, before.sequence), (recent.millis, minted)]
            {
                let mut number = [0; 10];
                let length = now.wrapping_sub(then).cast_signed().encode_var(&mut number);
                into.extend_from_slice(&number[..length]);
            }
            into.extend_from_slice(rest);
            before = recent;
        }
    }

    /// What [`Recents::pack`] made; `None` if it is something else.
    pub(crate) fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut recents = Self::default();
        let mut before = Recent { sequence: 0, millis: 0 };
        while !bytes.is_empty() {
            let mut number = || {
                let (number, length) = i64::decode_var(bytes)?;
                bytes = bytes.get(length..)?;
                Some(number.cast_unsigned())
            };
            let millis = before.millis.wrapping_add(number()?);
            let sequence = before.sequence.wrapping_add(number()?);
            let minted = millis.wrapping_sub(number()?);
            let (rest, behind) = bytes.split_first_chunk::<{ 16 - TIME }>()?;
            bytes = behind;
            let [0, 0, time @ ..] = minted.to_be_bytes() else { return None };
            let mut id = [0; 16];
            id[..TIME].copy_from_slice(&time);
            id[TIME..].copy_from_slice(rest);
            before = Recent { sequence, millis };
            recents.insert(CommandId::from_bytes(id).ok()?, before);
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
        Recent { sequence: millis, millis }
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
        assert_eq!(Recents::unpack(&packed), Some(recents.clone()));
        assert_eq!(Recents::unpack(&packed[..packed.len() - 1]), None, "not whole");
        let version = packed.len() - 16 + TIME;
        packed[version] = 0;
        assert_eq!(Recents::unpack(&packed), None, "no command's id");
        recents.forget_before(20);
        assert_eq!((recents.get(id(9)), recents.get(id(1)).is_some(), recents.len()), (None, true, 2));
        recents.forget_before(31);
        assert!(recents.is_empty());
    }

    #[test]
    fn a_command_takes_few_bytes_and_any_is_read_back() {
        let mut usual = Recents::default();
        for number in 0..1000 {
            // Decided a few milliseconds after it was minted, a while and some other customers' messages after the one before.
            let millis = 1_795_000_000_000 + number * 700;
            usual.insert(CommandId::of_message(millis - 5, number), Recent { sequence: number * 90, millis });
        }
        let mut odd = Recents::default();
        let sender = "a".parse().expect("an actor");
        for (id, sequence, millis) in [
            (CommandId::of_message((1 << 48) - 1, u64::MAX), u64::MAX, 0),
            (CommandId::of_message(0, 0), 0, u64::MAX),
            (CommandId::foreign(&sender, "s", "i"), 1 << 63, 1 << 63),
        ] {
            odd.insert(id, Recent { sequence, millis });
        }
        for recents in [&usual, &odd] {
            let mut packed = Vec::new();
            recents.pack(&mut packed);
            assert_eq!(Recents::unpack(&packed).as_ref(), Some(recents));
            if std::ptr::eq(recents, &raw const usual) {
                assert!(packed.len() < 16 * recents.len(), "{} bytes", packed.len());
            }
        }
    }
}
