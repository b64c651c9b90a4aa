//! A stream read from a checkpoint on, with every rule about holes.

use std::time::Duration;

use async_nats::jetstream;
use wanwright_nats::{Follower, NatsError, StoredMessage};
use wanwright_schemas::Digest;

use crate::checkpoint::Cursor;
use crate::error::{Error, Stop};
use crate::message::micros;

/// How long a batch waits for more once it has begun: long enough to gather, too short to be felt.
const GATHER: Duration = Duration::from_millis(2);

/// The most bytes in one batch.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A reader of one stream that never reads over a hole.
#[derive(Debug)]
pub(crate) struct Tail {
    stream: String,
    follower: Follower,
    contiguous: bool,
    /// The message before the next one.
    pub at: Cursor,
    /// Whether the message at the checkpoint still has to be compared with the digest that is known of it.
    unproven: bool,
    /// What was wrong with the message behind the last one that was given.
    stop: Option<Stop>,
}

/// What no client can read is there the next time as well; whatever else fails may pass.
fn stuck(stream: &str, error: NatsError) -> Error {
    match error {
        source @ NatsError::Malformed { .. } => Stop::Damaged { stream: stream.to_owned(), source }.into(),
        error => error.into(),
    }
}

impl Tail {
    /// Opens a reader behind a checkpoint.
    pub async fn open(
        js: &jetstream::Context,
        stream: &str,
        at: Cursor,
        contiguous: bool,
    ) -> Result<Self, Error> {
        // Where all messages are kept the reader starts at the checkpoint, not behind it: sequences that were used again
        // after a damage look like a healthy stream to everything but this comparison.
        let unproven = contiguous && at.sequence > 0 && at.digest.is_some();
        let from = if unproven { at.sequence } else { at.sequence + 1 };
        let opened = Follower::open(js.clone(), stream, from).await;
        let follower = opened.map_err(|error| stuck(stream, error))?;
        Ok(Self { stream: stream.to_owned(), follower, contiguous, at, unproven, stop: None })
    }

    /// Waits for messages; none when the time ran out. What comes before a hole is given first, then the hole stops.
    pub async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<StoredMessage>, Error> {
        if let Some(stop) = self.stop.take() {
            return Err(stop.into());
        }
        let next = self.follower.next_batch(max, wait).await;
        let mut batch = next.map_err(|error| stuck(&self.stream, error))?;
        let mut bytes: usize = batch.iter().map(|message| message.payload.len()).sum();
        while !batch.is_empty() && batch.len() < max && bytes < MAX_BYTES {
            // An error here comes again on the next call; what is in hand is good.
            let Ok(more) = self.follower.next_batch(max - batch.len(), GATHER).await else { break };
            if more.is_empty() {
                break;
            }
            bytes += more.iter().map(|message| message.payload.len()).sum::<usize>();
            batch.extend(more);
        }
        let mut good = Vec::with_capacity(batch.len());
        for message in batch {
            match self.accept(&message) {
                Ok(true) => good.push(message),
                Ok(false) => {}
                Err(stop) if good.is_empty() => return Err(stop.into()),
                Err(stop) => {
                    self.stop = Some(stop);
                    break;
                }
            }
        }
        Ok(good)
    }

    /// Whether a message is new. An error when it is not the one that must come next.
    fn accept(&mut self, message: &StoredMessage) -> Result<bool, Stop> {
        let digest = Digest::of(&message.payload);
        if self.unproven {
            self.unproven = false;
            if message.sequence == self.at.sequence {
                return match self.at.digest {
                    Some(expected) if expected != digest => Err(Stop::Rewritten {
                        stream: self.stream.clone(),
                        sequence: message.sequence,
                        expected,
                        found: digest,
                    }),
                    _ => Ok(false),
                };
            }
            return Err(self.gap(self.at.sequence, message.sequence));
        }
        if message.sequence <= self.at.sequence {
            return Ok(false);
        }
        if self.contiguous && message.sequence != self.at.sequence + 1 {
            return Err(self.gap(self.at.sequence + 1, message.sequence));
        }
        self.at =
            Cursor { sequence: message.sequence, digest: Some(digest), time: Some(micros(message.time)) };
        Ok(true)
    }

    fn gap(&self, expected: u64, found: u64) -> Stop {
        Stop::Gap { stream: self.stream.clone(), expected, found }
    }
}
