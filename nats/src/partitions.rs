//! How many partitions the customers are spread over: a fact of the server, which its streams carry.
//!
//! [`crate::topology::COMMANDS`] says it for all of them, because it is the one stream that is changed in a single step:
//! where commands are stored and how many partitions there are cannot disagree.

use std::collections::HashMap;

use wanwright_schemas::subjects;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::{COMMANDS, PARTITIONS_KEY, existing};

/// The most partitions there can be: each is a stream.
pub const MOST: u16 = 256;

/// Where a change of the count that has begun is noted, as `8 to 32`.
const CHANGE_KEY: &str = "wanwright-repartition";

/// A change of the count that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The count before: every history is whole there.
    pub from: u16,
    /// The count afterwards.
    pub to: u16,
}

impl Change {
    pub(crate) fn read(metadata: &HashMap<String, String>) -> Option<Self> {
        let (from, to) = metadata.get(CHANGE_KEY)?.split_once(" to ")?;
        Some(Self { from: from.parse().ok()?, to: to.parse().ok()? })
    }

    pub(crate) fn write(self, metadata: &mut HashMap<String, String>) {
        metadata.insert(CHANGE_KEY.to_owned(), format!("{} to {}", self.from, self.to));
    }

    pub(crate) fn remove(metadata: &mut HashMap<String, String>) {
        metadata.remove(CHANGE_KEY);
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions {
    /// How many there are.
    pub count: u16,
    /// A change that is not finished.
    pub change: Option<Change>,
}

/// Asks the server; none where there are no streams yet.
///
/// # Errors
/// [`NatsError`], when it cannot be asked.
pub async fn ask(nats: &Nats) -> Result<Option<Partitions>, NatsError> {
    // The first stream that is made tells it where making them was interrupted.
    for name in [COMMANDS, &subjects::events_stream(0)] {
        let Some(config) = existing(nats, name).await? else { continue };
        let Some(text) = config.metadata.get(PARTITIONS_KEY) else { continue };
        let count = text.parse().ok().filter(|count| (1..=MOST).contains(count)).ok_or_else(|| {
            let doing = format!("reading the partition count of {name}");
            NatsError::malformed(doing, format!("{text:?} is no number from 1 to {MOST}"))
        })?;
        return Ok(Some(Partitions { count, change: Change::read(&config.metadata) }));
    }
    Ok(None)
}

impl Nats {
    /// The same connection with the server's partition count. Where no stream exists yet its own stays.
    ///
    /// # Errors
    /// [`NatsError::Repartitioning`] while a change of the count is not finished; others when the server cannot be asked.
    pub async fn with_servers_partitions(mut self) -> Result<Self, NatsError> {
        if let Some(found) = ask(&self).await? {
            found.settled()?;
            self.partitions = found.count;
        }
        Ok(self)
    }

    /// Checks that the count is still the one this process works with. Whoever asks after it has taken a partition's
    /// lease knows it for as long as it holds the lease: nobody changes the count meanwhile.
    ///
    /// # Errors
    /// [`NatsError::Repartitioning`] and [`NatsError::OtherPartitions`]: the process should end and be started again.
    /// Others when the server cannot be asked.
    pub async fn check_partitions(&self) -> Result<(), NatsError> {
        let Some(found) = ask(self).await? else { return Ok(()) };
        found.settled()?;
        if found.count == self.partitions {
            return Ok(());
        }
        Err(NatsError::OtherPartitions { known: self.partitions, found: found.count })
    }
}

impl Partitions {
    fn settled(self) -> Result<(), NatsError> {
        match self.change {
            Some(Change { from, to }) => Err(NatsError::Repartitioning { from, to }),
            None => Ok(()),
        }
    }
}
