//! Whether nobody works: a change is made while no role runs and no command waits.

use futures::TryStreamExt;
use wanwright_schemas::subjects;

use super::gate::Gate;
use super::{RepartitionError, Work};
use crate::error::NatsError;
use crate::lease::Leases;
use crate::topology::COMMANDS;

impl Work<'_> {
    /// Fails where a role runs or, before the first write, a command waits.
    pub(super) async fn nobody_works(&self) -> Result<(), RepartitionError> {
        let leases = Leases::of_partitions(&self.nats, "").await?;
        for partition in 0..self.change.from.max(self.change.to) {
            if let Some(holder) = leases.holder(&partition.to_string()).await? {
                return Err(RepartitionError::Held { partition, holder });
            }
        }
        for partition in 0..self.change.from {
            let name = subjects::events_stream(partition);
            if let Some(reader) = self.reader(&name).await? {
                return Err(RepartitionError::Reading { stream: name, reader });
            }
        }
        if Gate::read(&self.nats, self.change).await?.is_untouched() {
            self.inbox_is_empty().await?;
        }
        Ok(())
    }

    /// A consumer that somebody waits at.
    async fn reader(&self, name: &str) -> Result<Option<String>, NatsError> {
        let doing = format!("asking who reads {name}");
        let stream = self.nats.js.get_stream_no_info(name).await.map_err(NatsError::failed(doing.clone()))?;
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers.try_next().await.map_err(NatsError::failed(doing.clone()))? {
            if consumer.num_waiting > 0 {
                return Ok(Some(consumer.name));
            }
        }
        Ok(None)
    }

    /// Fails where a command waits.
    pub(super) async fn inbox_is_empty(&self) -> Result<(), RepartitionError> {
        let inbox = self.nats.js.get_stream(COMMANDS).await;
        let inbox = inbox.map_err(NatsError::failed("asking about the inbox"))?;
        match inbox.cached_info().state.messages {
            0 => Ok(()),
            messages => Err(RepartitionError::Inbox(messages)),
        }
    }
}
