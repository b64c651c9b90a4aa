//! What comes in and is not looked at yet, bounded in bytes.
//!
//! The client keeps some ten thousand messages of any size for a subscription, and drops what comes then without a word:
//! whoever asked hears nothing. So nothing is left there. Whatever has come is taken out before the next message is looked
//! at; what is too large, or more than may wait here, is refused at once, and its sender may ask again.
//!
//! A small capacity of the subscriptions would bound the memory too, but lose in silence what is refused here. What the
//! client drops all the same, because this process stands still, is in the log (`wanwright_nats::connect`); its sender
//! learns of it by his own time-out and no later, and sends again under the same id, which is carried out once.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::Refusal;
use wanwright_schemas::body::MAX_BODY;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::Reason;

use super::{requests, verdict};

const KIB: usize = 1024;

/// The least a message counts for: its subject and headers, and what a queue needs for it.
const LEAST: usize = 4 * KIB;

/// Room in memory for what waits, counted in KiB.
#[derive(Debug, Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes / KIB)) }
    }

    /// A place for so many bytes, as long as the answer is kept; none when there is no room.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kibibytes = u32::try_from(bytes.max(LEAST).div_ceil(KIB)).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(kibibytes).ok()
    }
}

/// How much a subscription may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most bytes of one message, without its headers.
    pub(super) message: usize,
    /// How many bytes wait to be looked at.
    pub(super) waiting: usize,
}

impl Bounds {
    /// For commands: as large as a body may be.
    pub(super) const COMMANDS: Self = Self { message: MAX_BODY, waiting: 16 * KIB * KIB };

    /// For questions, which name a command or a place and nothing else.
    pub(super) const QUESTIONS: Self = Self { message: 4 * KIB, waiting: 4 * KIB * KIB };
}

/// A message that may be looked at, with the room it takes.
pub(super) type Admitted = (Message, OwnedSemaphorePermit);

/// The messages that wait to be looked at.
struct Waiting {
    bounds: Bounds,
    room: Room,
    messages: VecDeque<Admitted>,
}

impl Waiting {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, room: Room::new(bounds.waiting), messages: VecDeque::new() }
    }

    fn admit(&mut self, message: Message) -> Result<(), Refusal> {
        let bytes = message.payload.len();
        if bytes > self.bounds.message {
            let most = self.bounds.message;
            let why = format!("the body has {bytes} bytes; here it may have {most}");
            return Err(Refusal::new(Reason::BodyTooLarge, why));
        }
        let Some(room) = self.room.take(bytes) else {
            let why = "too much waits here now; this was not looked at";
            return Err(Refusal::new(Reason::Unavailable, why));
        };
        // A copy: the client's is a part of the buffer that it was read into, and keeps all of it.
        let payload = Bytes::copy_from_slice(&message.payload);
        self.messages.push_back((Message { payload, ..message }, room));
        Ok(())
    }
}

/// A subscription that is never left to fill up.
pub(super) struct Intake {
    from: Subscriber,
    nats: Nats,
    waiting: Waiting,
}

impl Intake {
    pub(super) fn new(from: Subscriber, nats: Nats, bounds: Bounds) -> Self {
        Self { from, nats, waiting: Waiting::new(bounds) }
    }

    /// The next message that may be answered where it says; none when the service ends.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Option<Admitted> {
        loop {
            while let Some(Some(message)) = self.from.next().now_or_never() {
                self.take(message).await;
            }
            if stop.is_cancelled() {
                break;
            }
            if let Some(admitted) = self.waiting.messages.pop_front() {
                return Some(admitted);
            }
            let message = tokio::select! {
                () = stop.cancelled() => None,
                message = self.from.next() => message,
            };
            let Some(message) = message else { break };
            self.take(message).await;
        }
        let _ = self.from.unsubscribe().await;
        for (message, _room) in std::mem::take(&mut self.waiting.messages) {
            let why = "this service ends; it was not looked at";
            self.refuse(message.reply, Refusal::new(Reason::Unavailable, why)).await;
        }
        None
    }

    /// Goes on taking what comes while something else is waited for.
    pub(super) async fn until<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return done,
                Some(message) = self.from.next() => self.take(message).await,
                else => return other.await,
            }
        }
    }

    async fn take(&mut self, message: Message) {
        let reply = message.reply.clone();
        if let Some(to) = reply.as_ref().filter(|to| !requests::is_answered(to)) {
            tracing::warn!(subject = %message.subject, reply = %to, "not handled: nobody is answered there");
            return;
        }
        if let Err(refusal) = self.waiting.admit(message) {
            self.refuse(reply, refusal).await;
        }
    }

    async fn refuse(&self, to: Option<Subject>, refusal: Refusal) {
        if to.is_none() {
            tracing::warn!(code = %refusal.code, "a message was refused, and nobody waits for the answer");
        }
        let refused = Outcome::refused(None, None, verdict::clipped(refusal));
        requests::reply(&self.nats, to, &refused).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            subject: "wan.do.acme.anna.site.oslo.create".into(),
            reply: None,
            payload: vec![b'x'; bytes].into(),
            headers: None,
            status: None,
            description: None,
            length: bytes,
        }
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_what_is_more_is_refused() {
        let mut waiting = Waiting::new(Bounds { message: KIB * KIB, waiting: 4 * KIB * KIB });
        for _ in 0..4 {
            waiting.admit(message(KIB * KIB)).unwrap();
        }
        assert_eq!(waiting.admit(message(1)).unwrap_err().code, Reason::Unavailable);
        waiting.messages.pop_front();
        // Small ones count for what they take besides their body.
        for _ in 0..KIB * KIB / LEAST {
            waiting.admit(message(1)).unwrap();
        }
        assert_eq!(waiting.admit(message(0)).unwrap_err().code, Reason::Unavailable);
        waiting.messages.clear();
        let refused = waiting.admit(message(KIB * KIB + 1)).unwrap_err();
        assert_eq!(refused.code, Reason::BodyTooLarge);
        assert!(waiting.messages.is_empty() && waiting.room.take(4 * KIB * KIB).is_some());
    }
}
