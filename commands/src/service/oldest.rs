//! Since when commands may wait in the inbox of a partition. What was decided after that must not be forgotten: it may
//! come again, however long nobody served the inbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::RawMessageErrorKind;
use tokio_util::sync::CancellationToken;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::subjects;

/// How often the inbox is asked again, at most.
const PAUSE: Duration = Duration::from_secs(60);

/// When the oldest command in a partition's inbox was stored, as of the last time the inbox was asked.
#[derive(Debug, Clone)]
pub(super) struct Oldest {
    nats: Nats,
    partition: u16,
    millis: Arc<AtomicU64>,
}

impl Oldest {
    /// Asks the inbox of a partition, before anything is forgotten or decided there.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub(super) async fn of(nats: &Nats, partition: u16) -> Result<Self, NatsError> {
        let oldest = Self { nats: nats.clone(), partition, millis: Arc::default() };
        oldest.ask().await?;
        Ok(oldest)
    }

    /// In milliseconds since 1970; the end of time when nothing waits.
    pub(super) fn millis(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    /// Asks again and again, until told to stop. While there is no answer the last one stands, which is no later.
    pub(super) async fn keep(self, window: Duration, stop: CancellationToken) -> &'static str {
        let pause = PAUSE.min(window / 4);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            if let Err(error) = self.ask().await {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(
                    partition = self.partition,
                    error,
                    "the inbox cannot be asked for its oldest command"
                );
            }
        }
        "the watch on the inbox"
    }

    /// Asks the leader: a replica may not have what is the oldest there.
    async fn ask(&self) -> Result<(), NatsError> {
        let doing = || format!("asking for the oldest command of partition {}", self.partition);
        let inbox = self.nats.js.get_stream_no_info(COMMANDS).await.map_err(NatsError::failed(doing()))?;
        let mut oldest = u64::MAX;
        for filter in subjects::inbox_of_partition(self.partition) {
            match inbox.get_first_raw_message_by_subject(filter, 1).await {
                Ok(message) => {
                    let millis = message.time.unix_timestamp_nanos() / 1_000_000;
                    oldest = oldest.min(u64::try_from(millis).unwrap_or_default());
                }
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(NatsError::failed(doing())(error)),
            }
        }
        self.millis.store(oldest, Ordering::Relaxed);
        Ok(())
    }
}
