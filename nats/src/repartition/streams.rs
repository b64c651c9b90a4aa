//! The streams themselves: those that are missing, those that are made again, and the count that each of them says.

use futures::TryStreamExt;

use super::Work;
use crate::error::NatsError;
use crate::topology::{COMMANDS, PARTITIONS_KEY, replicas, streams};

impl Work<'_> {
    /// Creates the streams that the new count needs, with as many replicas as there are.
    pub(super) async fn create(&self, missing: &[String]) -> Result<(), NatsError> {
        let replicas = replicas(&self.nats).await?.unwrap_or(1);
        for config in streams(self.change.to, replicas) {
            if missing.contains(&config.name) {
                let doing = format!("creating stream {}", config.name);
                self.nats.js.create_stream(config).await.map_err(NatsError::failed(doing))?;
            }
        }
        Ok(())
    }

    /// Empties a stream that is made again: it names places in the streams of events.
    pub(super) async fn empty(&self, name: &str) -> Result<(), NatsError> {
        let doing = format!("emptying {name}");
        let stream = self.nats.js.get_stream_no_info(name).await.map_err(NatsError::failed(doing.clone()))?;
        stream.purge().await.map(drop).map_err(NatsError::failed(doing))
    }

    /// Writes the count into every stream but COMMANDS, also those that hold no current history any more.
    pub(super) async fn count_everywhere(&self) -> Result<(), NatsError> {
        let doing = "listing the streams";
        let to = self.change.to.to_string();
        let mut listed = self.nats.js.streams();
        let mut differing = Vec::new();
        while let Some(info) = listed.try_next().await.map_err(NatsError::failed(doing))? {
            let says = info.config.metadata.get(PARTITIONS_KEY);
            if info.config.name != COMMANDS && says.is_some_and(|says| *says != to) {
                differing.push(info.config);
            }
        }
        for mut config in differing {
            let doing = format!("writing the partition count of {}", config.name);
            config.metadata.insert(PARTITIONS_KEY.to_owned(), to.clone());
            self.nats.js.update_stream(config).await.map_err(NatsError::failed(doing))?;
        }
        Ok(())
    }
}
