//! The stream COMMANDS while the count changes: its metadata is the mark, and where it stores commands is the count.

use async_nats::jetstream::stream::{Config, SubjectTransform};
use wanwright_schemas::subjects;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::partitions::Change;
use crate::topology::{COMMANDS, PARTITIONS_KEY, existing};

/// What the inbox listens to while it is closed, which nobody sends to: whoever sends a command hears that nobody takes
/// it, instead of having it stored where nobody will look.
const CLOSED: &str = "wan.closed";

/// The inbox.
pub(super) struct Gate {
    nats: Nats,
    change: Change,
    config: Config,
}

impl Gate {
    pub(super) async fn read(nats: &Nats, change: Change) -> Result<Self, NatsError> {
        let config = existing(nats, COMMANDS).await?;
        let config = config.ok_or_else(|| NatsError::malformed("reading the inbox", "it is not there"))?;
        Ok(Self { nats: nats.clone(), change, config })
    }

    /// Whether no change has begun.
    pub(super) fn is_untouched(&self) -> bool {
        Change::read(&self.config.metadata).is_none()
    }

    /// Whether the mark is there and commands are stored by the new count already.
    pub(super) fn is_open(&self) -> bool {
        !self.is_untouched() && self.config.subjects == [subjects::CMD_ALL] && self.stores_by(self.change.to)
    }

    /// Whether commands are stored by this count.
    pub(super) fn stores_by(&self, partitions: u16) -> bool {
        let stored = self.config.subject_transform.as_ref().map(|to| to.destination.as_str());
        stored == Some(subjects::inbox_transform(partitions).1.as_str())
    }

    /// Sets the mark and takes no more commands, for a moment.
    pub(super) async fn close(&self) -> Result<(), NatsError> {
        let mut config = self.config.clone();
        // One that was begun earlier keeps its own mark: it says where every history is whole.
        Change::read(&config.metadata).unwrap_or(self.change).write(&mut config.metadata);
        config.subjects = vec![CLOSED.to_owned()];
        self.update(config).await
    }

    /// Takes commands again, stored by the new count. The mark stays.
    pub(super) async fn open(&self) -> Result<(), NatsError> {
        let mut config = self.config.clone();
        Change::read(&config.metadata).unwrap_or(self.change).write(&mut config.metadata);
        config.subjects = vec![subjects::CMD_ALL.to_owned()];
        config.subject_transform = Some(transform(self.change.to));
        self.update(config).await
    }

    /// Takes commands again, stored as before. Where nothing was copied yet the mark goes too.
    pub(super) async fn restore(&self) -> Result<(), NatsError> {
        let mut config = self.config.clone();
        config.subjects = vec![subjects::CMD_ALL.to_owned()];
        if self.stores_by(self.change.from) {
            Change::remove(&mut config.metadata);
        }
        self.update(config).await
    }

    /// Says the new count and takes the mark away, in one step.
    pub(super) async fn finish(&self) -> Result<(), NatsError> {
        let mut config = self.config.clone();
        Change::remove(&mut config.metadata);
        config.metadata.insert(PARTITIONS_KEY.to_owned(), self.change.to.to_string());
        self.update(config).await
    }

    async fn update(&self, config: Config) -> Result<(), NatsError> {
        let updated = self.nats.js.update_stream(config).await;
        updated.map(drop).map_err(NatsError::failed("changing how the inbox stores commands"))
    }
}

fn transform(partitions: u16) -> SubjectTransform {
    let (source, destination) = subjects::inbox_transform(partitions);
    SubjectTransform { source: source.to_owned(), destination }
}
