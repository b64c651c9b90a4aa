//! Saying that this process is there, and hearing who else is.

use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wanwright_nats::members::{BEAT, Beat, Members};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::subjects;

use super::News;

/// How long is listened before this process takes anything: until everybody who is there has said so, and all the others
/// have heard of this one.
const LISTEN: Duration = BEAT.saturating_mul(3);

/// This process among the executors.
pub(super) struct Presence {
    nats: Nats,
    member: String,
    beats: Subscriber,
    members: Members,
    /// What was said last about the others; none while it is still being listened.
    known: Option<Vec<String>>,
}

impl Presence {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`NatsError`], when the others cannot be heard.
    pub(super) async fn open(nats: &Nats, member: String) -> Result<Self, NatsError> {
        let beats = nats.client.subscribe(subjects::EXECUTORS).await;
        let beats = beats.map_err(NatsError::failed("listening to the other executors"))?;
        Ok(Self { nats: nats.clone(), member, beats, members: Members::default(), known: None })
    }

    /// Beats until told to stop, and tells when others come and go.
    pub(super) async fn keep(mut self, tell: mpsc::Sender<News>, stop: CancellationToken) {
        let begun = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    // The others may take what waits here at once; what still runs has its lease.
                    self.say(true).await;
                    let _ = self.nats.client.flush().await;
                    return;
                }
                _ = beat.tick() => self.say(false).await,
                Some(message) = self.beats.next() => {
                    if let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload)
                        && beat.member != self.member
                    {
                        self.members.heard(beat, Instant::now());
                    }
                }
            }
            self.members.forget(Instant::now());
            let others = self.members.others();
            if begun.elapsed() < LISTEN || self.known.as_ref() == Some(&others) {
                continue;
            }
            tracing::info!(others = others.len(), "this executor shares the customers with so many others");
            self.known = Some(others.clone());
            if tell.send(News::Others(others)).await.is_err() {
                return;
            }
        }
    }

    async fn say(&self, is_leaving: bool) {
        let beat = Beat { member: self.member.clone(), partitions: [].into(), is_leaving };
        let Ok(body) = serde_json::to_vec(&beat) else { return };
        if let Err(error) = self.nats.client.publish(subjects::EXECUTORS, body.into()).await {
            tracing::debug!(%error, "the other executors do not hear of this one");
        }
    }
}
