//! The state of a customer at the end of its history, with what is needed to append to it.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use wanwright_schemas::envelope::{Digest, Envelope, UnreadableEnvelope};

use crate::customer::Customer;
use crate::load::Regressed;
use crate::recent::{Recent, Recents};

/// The version of what [`Head::freeze`] writes. A test fails when it changes without this number.
pub const STATE_VERSION: u32 = 11;

/// How many bytes say how long the JSON of a frozen state is.
const LENGTH: usize = 8;

/// A history that cannot be trusted or read. Nothing is decided on it.
#[derive(Debug, thiserror::Error)]
pub enum BrokenHistory {
    /// The message does not follow the one before it.
    #[error(
        "the message at {sequence} does not follow the one before it: it names {named}, which should be {actual}"
    )]
    Chain {
        /// Where.
        sequence: u64,
        /// The digest the message names.
        named: String,
        /// The digest of the message before.
        actual: String,
    },
    /// The message cannot be read.
    #[error("the message at {sequence} cannot be read")]
    Unreadable {
        /// Where.
        sequence: u64,
        /// Why.
        #[source]
        source: UnreadableEnvelope,
    },
    /// It does not go through what was seen of it before.
    #[error(transparent)]
    Regressed(#[from] Regressed),
}

impl BrokenHistory {
    /// Fails where a message names another one before it than there is.
    pub(crate) fn unless_linked(
        sequence: u64,
        named: Option<Digest>,
        actual: Option<Digest>,
    ) -> Result<(), Self> {
        let show =
            |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        if named == actual {
            return Ok(());
        }
        Err(Self::Chain { sequence, named: show(named), actual: show(actual) })
    }
}

/// A customer at the end of its history.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Head {
    /// The state.
    pub state: Customer,
    /// The sequence of the last message; 0 before the first.
    pub sequence: u64,
    /// The digest of the last message.
    pub digest: Option<Digest>,
    /// The commands decided within the window.
    #[serde(skip)]
    pub recent: Recents,
    /// How many messages were folded altogether.
    #[serde(skip)]
    pub messages: u64,
    /// How many messages were folded since the state was last frozen.
    #[serde(skip)]
    pub unfrozen: usize,
    /// How many bytes it took when it was frozen last, and the messages since: about what it takes to freeze it again.
    #[serde(skip)]
    weight: usize,
    #[serde(skip)]
    weighing: Option<Weighing>,
}

/// A freezing beside the one who goes on deciding.
#[derive(Debug, Clone, Default)]
struct Weighing {
    /// What the frozen state takes, in bytes, once that is known.
    found: Arc<OnceLock<usize>>,
    /// How many bytes of messages came since it began.
    since: usize,
}

/// A frozen state that cannot be used; the history can.
#[derive(Debug, thiserror::Error)]
pub enum Unthawable {
    /// It is something else, or damaged.
    #[error("a frozen state cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// It is not as long as it says, or its list of commands is none.
    #[error("a frozen state is cut, or not one")]
    Cut,
    /// It is not from where it is said to be.
    #[error("a frozen state is from {is}, not from {said}")]
    Elsewhere {
        /// Where it was said to be from.
        said: u64,
        /// Where it is from.
        is: u64,
    },
}

impl Head {
    /// Folds the next message of the history, whose bytes must name the digest of the one before.
    ///
    /// # Errors
    /// [`BrokenHistory`], and the head stays as it was.
    pub fn fold(&mut self, sequence: u64, bytes: &[u8]) -> Result<Envelope, BrokenHistory> {
        let envelope =
            Envelope::decode(bytes).map_err(|source| BrokenHistory::Unreadable { sequence, source })?;
        BrokenHistory::unless_linked(sequence, envelope.prev, self.digest)?;
        for event in &envelope.events {
            self.state.evolve(event, envelope.command);
        }
        self.appended(sequence, bytes, &envelope);
        Ok(envelope)
    }

    /// Notes a message whose events the state has already.
    pub fn appended(&mut self, sequence: u64, bytes: &[u8], envelope: &Envelope) {
        self.sequence = sequence;
        self.digest = Some(Digest::of(bytes));
        self.messages = self.messages.saturating_add(1);
        self.unfrozen += 1;
        self.weight += bytes.len();
        if let Some(weighing) = &mut self.weighing {
            weighing.since += bytes.len();
        }
        let millis = u64::try_from(envelope.time.as_millisecond()).unwrap_or_default();
        self.recent.insert(envelope.command, Recent { sequence, millis });
    }

    /// About how many bytes the state takes when it is frozen. What it takes in memory is a small multiple of that.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Weighs the state by what a freezing has found since it was begun. Whoever keeps heads by their weight does this
    /// while a head is out of his hands: in them it does not change.
    pub fn weigh(&mut self) {
        let Some(Weighing { found, since }) = &self.weighing else { return };
        if let Some(found) = found.get() {
            self.weight = found + since;
            self.weighing = None;
        }
    }

    /// A copy to be frozen elsewhere. What [`Head::freeze`] finds it to take, this head hears of by [`Head::weigh`].
    pub fn to_freeze(&mut self) -> Self {
        self.unfrozen = 0;
        self.weighing = Some(Weighing::default());
        self.clone()
    }

    /// The state as bytes that [`Head::thaw`] reads: JSON, its length before it, and the recent commands behind it.
    ///
    /// # Errors
    /// When the state cannot be written as JSON.
    pub fn freeze(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = vec![0; LENGTH];
        serde_json::to_writer(&mut bytes, self)?;
        let length = u64::try_from(bytes.len() - LENGTH).unwrap_or(u64::MAX);
        bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
        self.recent.pack(&mut bytes);
        if let Some(Weighing { found, .. }) = &self.weighing {
            // A second freezing of the same copy finds the same.
            let _ = found.set(bytes.len());
        }
        Ok(bytes)
    }

    /// Reads what [`Head::freeze`] of this [`STATE_VERSION`] wrote. Whether the history still goes through that place is
    /// for the caller to see.
    ///
    /// # Errors
    /// [`Unthawable`], when the bytes are something else.
    pub fn thaw(bytes: &[u8]) -> Result<Self, Unthawable> {
        let parts = bytes.split_first_chunk::<LENGTH>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
        });
        let (state, recent) = parts.ok_or(Unthawable::Cut)?;
        let head: Self = serde_json::from_slice(state).map_err(Unthawable::Unreadable)?;
        let recent = Recents::unpack(recent).ok_or(Unthawable::Cut)?;
        Ok(Self { weight: bytes.len(), recent, ..head })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wanwright_schemas::ids::CommandId;

    use super::*;
    use crate::spoilt::spoilt;

    const PIECES: [&str; 4] = [r#""v":1,"#, "{", "null", r#""sequence":2,"#];

    fn frozen() -> Vec<u8> {
        let mut head = Head { sequence: 9, digest: Some(Digest::of(b"nine")), ..Head::default() };
        for number in 0..3 {
            let recent = Recent { sequence: number, millis: number };
            head.recent.insert(CommandId::of_message(5, number), recent);
        }
        head.freeze().expect("JSON")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a frozen state, it is none or is frozen again as it was understood.
        #[test]
        fn hostile_states(
            spoilt in spoilt(frozen(), &PIECES),
            length in any::<u64>(),
            any in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let whole = frozen();
            let lying = [&length.to_le_bytes()[..], &whole[LENGTH..]].concat();
            for bytes in [spoilt, lying, any] {
                let Ok(head) = Head::thaw(&bytes) else { continue };
                let again = Head::thaw(&head.freeze().expect("JSON")).expect("what was frozen");
                prop_assert_eq!((again.sequence, again.digest), (head.sequence, head.digest));
                prop_assert_eq!((again.state, again.recent), (head.state, head.recent));
            }
        }
    }
}
