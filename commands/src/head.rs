//! The state of a customer at the end of its history, with what is needed to append to it.

use std::collections::BTreeMap;

use wanwright_schemas::envelope::{Digest, Envelope, UnreadableEnvelope};
use wanwright_schemas::ids::CommandId;

use crate::customer::Customer;

/// A command that was decided lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// Where its events are.
    pub sequence: u64,
    /// What it was about and what it said.
    pub digest: Digest,
}

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
}

/// A customer at the end of its history.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The state.
    pub state: Customer,
    /// The sequence of the last message; 0 before the first.
    pub sequence: u64,
    /// The digest of the last message.
    pub digest: Option<Digest>,
    /// The commands decided within the window, by id.
    pub recent: BTreeMap<CommandId, Recent>,
}

impl Head {
    /// Folds the next message of the history, whose bytes must name the digest of the one before.
    ///
    /// # Errors
    /// [`BrokenHistory`], and the head stays as it was.
    pub fn fold(&mut self, sequence: u64, bytes: &[u8]) -> Result<Envelope, BrokenHistory> {
        let envelope =
            Envelope::decode(bytes).map_err(|source| BrokenHistory::Unreadable { sequence, source })?;
        if envelope.prev != self.digest {
            let show = |digest: Option<Digest>| {
                digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
            };
            return Err(BrokenHistory::Chain {
                sequence,
                named: show(envelope.prev),
                actual: show(self.digest),
            });
        }
        for event in &envelope.events {
            self.state.evolve(event, envelope.command);
        }
        self.appended(sequence, Digest::of(bytes), &envelope);
        Ok(envelope)
    }

    /// Notes a message whose events the state has already.
    pub fn appended(&mut self, sequence: u64, digest: Digest, envelope: &Envelope) {
        self.sequence = sequence;
        self.digest = Some(digest);
        self.recent.insert(envelope.command, Recent { sequence, digest: envelope.body_sha256 });
    }

    /// Forgets the commands whose ids are older than the window: they are refused by their age.
    pub fn forget_before(&mut self, unix_millis: u64) {
        while let Some(entry) = self.recent.first_entry() {
            if entry.key().unix_millis() >= unix_millis {
                break;
            }
            entry.remove();
        }
    }
}
