//! Whether the read models have caught up.

use std::collections::BTreeMap;

/// What a reader is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderState {
    /// It has not opened its stream yet.
    Starting,
    /// It is reading what was there when it started.
    CatchingUp {
        /// How far it is.
        sequence: u64,
        /// The stream's last sequence when it started.
        target: u64,
    },
    /// It has read everything that was there when it started.
    CaughtUp,
    /// Postgres or NATS is away; it tries again.
    Waiting(String),
    /// It stopped at something it must not read over.
    Stopped(String),
}

/// What every reader is doing, by `<read model> <stream>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The readers.
    pub readers: BTreeMap<String, ReaderState>,
}

impl Readiness {
    /// Whether every reader has caught up.
    pub fn is_ready(&self) -> bool {
        !self.readers.is_empty() && self.readers.values().all(|state| *state == ReaderState::CaughtUp)
    }

    /// The readers that have not, with what they are doing.
    pub fn unready(&self) -> impl Iterator<Item = (&String, &ReaderState)> {
        self.readers.iter().filter(|(_, state)| **state != ReaderState::CaughtUp)
    }
}
