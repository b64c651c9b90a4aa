//! Loading a customer: from a frozen state, if there is one, and on through what the history says since.

use wanwright_schemas::envelope::{Digest, Envelope};

use crate::head::{BrokenHistory, Head, Unthawable};

/// A history that is not the one that was seen before, by this process or by who froze a state.
#[derive(Debug, thiserror::Error)]
pub enum Regressed {
    /// It ends earlier.
    #[error("the history ends at {end}, and it was seen up to {seen}")]
    Shorter {
        /// Where it ends.
        end: u64,
        /// How far it was seen.
        seen: u64,
    },
    /// The message that was the last one is missing or another one.
    #[error("the message at {seen}, which was seen before, is missing or another one")]
    Rewritten {
        /// Where.
        seen: u64,
    },
    /// The stream lost what was seen of it, and whose that was cannot be told.
    #[error(
        "{stream} lost messages that were seen, and whose they were cannot be told; `wanwright dead list` shows what is known of it, \
        and once that is restored or given up an administrator says `wanwright nats accept`"
    )]
    Stream {
        /// The stream.
        stream: String,
    },
}

/// A customer that is being loaded. Whoever loads reads the messages behind [`Loading::after`] and passes them on, in
/// order.
#[derive(Debug, Default)]
pub struct Loading {
    head: Head,
    /// Whether the head is a frozen state, and the message it was frozen at has not been passed yet.
    is_unproven: bool,
}

impl Loading {
    /// Begins at a state that was frozen at this sequence. It is believed when the history goes through that place: it
    /// says what was there when it was frozen.
    ///
    /// # Errors
    /// [`Unthawable`]: begin without it, at the beginning of the history.
    pub fn thaw(sequence: u64, frozen: &[u8]) -> Result<Self, Unthawable> {
        let head = Head::thaw(frozen)?;
        if sequence == 0 || head.sequence != sequence {
            return Err(Unthawable::Elsewhere { said: sequence, is: head.sequence });
        }
        Ok(Self { head, is_unproven: true })
    }

    /// Says how many messages the frozen state was made of.
    #[must_use]
    pub fn made_of(mut self, messages: u64) -> Self {
        self.head.messages = messages;
        self
    }

    /// How many messages the state is made of.
    pub fn messages(&self) -> u64 {
        self.head.messages
    }

    /// Goes on from a state that was loaded before.
    pub fn from(head: Head) -> Self {
        Self { head, is_unproven: false }
    }

    /// The sequence behind which the messages are that come next.
    pub fn after(&self) -> u64 {
        // The message it was frozen at is read again.
        self.head.sequence - u64::from(self.is_unproven)
    }

    /// Looks at the sequence that the server says is the history's last one.
    ///
    /// # Errors
    /// [`Regressed::Shorter`].
    pub fn ends_at(&self, end: u64) -> Result<(), Regressed> {
        let seen = self.head.sequence;
        if self.is_unproven && end < seen { Err(Regressed::Shorter { end, seen }) } else { Ok(()) }
    }

    /// Takes the next message of the history. Answers it unless the state had it already.
    ///
    /// # Errors
    /// [`BrokenHistory`]: nothing may be decided on it.
    pub fn pass(&mut self, sequence: u64, bytes: &[u8]) -> Result<Option<Envelope>, BrokenHistory> {
        if !self.is_unproven {
            return self.head.fold(sequence, bytes).map(Some);
        }
        if (sequence, Some(Digest::of(bytes))) != (self.head.sequence, self.head.digest) {
            return Err(Regressed::Rewritten { seen: self.head.sequence }.into());
        }
        self.is_unproven = false;
        Ok(None)
    }

    /// Where the load is: the sequence of the last message that was passed, and its digest.
    pub fn passed(&self) -> (u64, Option<Digest>) {
        if self.is_unproven { (0, None) } else { (self.head.sequence, self.head.digest) }
    }

    /// Takes the state out, once every message up to this sequence has been passed.
    pub fn reached(&mut self, sequence: u64) -> Option<Head> {
        let is_there = !self.is_unproven && self.head.sequence >= sequence;
        is_there.then(|| std::mem::take(&mut self.head))
    }
}
