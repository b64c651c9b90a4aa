//! The door for those who publish and forget: `wan.cmd.…`, kept in the stream COMMANDS until it is handled.
//!
//! Each partition has a consumer, which is made anew whenever somebody takes the partition. That puts everything unhandled back to the beginning of the queue, so a
//! customer's commands keep their order over a crash; a kept consumer would redeliver the ones in flight last.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::Refusal;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::subjects::{self, CommandSubject};

use super::Lanes;
use super::delivery::{Delivery, bury};
use super::door::{self, Answer, Asked, Headers};

/// The consumer of a partition.
fn consumer_name(partition: u16) -> String {
    format!("commands-{partition}")
}

/// A command waits in its lane at most as long as its predecessors take; nothing is delivered again before that.
const ACK_WAIT: Duration = Duration::from_secs(30 * 60);

/// How many commands are in a partition's lanes at once. A lane takes as many as come, so that one which stands still does not
/// hold up the others before this number is reached.
const IN_FLIGHT: i64 = 512;

/// How much memory the commands in a partition's lanes may take, in KiB: the server counts them, not their bytes.
const ROOM: usize = 64 * 1024;

/// The least a command counts for, in KiB.
const LEAST: usize = 4;

/// How long to wait before the inbox is opened again after the connection was lost.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) type Inbox = consumer::Consumer<consumer::pull::Config>;

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::Failed { doing: "opening the inbox".to_owned(), source: error.into() }
}

pub(super) async fn open(nats: &Nats, partition: u16) -> Result<Inbox, NatsError> {
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    let name = consumer_name(partition);
    // Not there at the first start.
    let _ = stream.delete_consumer(&name).await;
    let config = consumer::pull::Config {
        durable_name: Some(name),
        filter_subjects: subjects::inbox_of_partition(partition),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: IN_FLIGHT,
        ..Default::default()
    };
    stream.create_consumer(config).await.map_err(failed)
}

pub(super) async fn serve(
    inbox: Inbox,
    partition: u16,
    nats: Nats,
    lanes: Lanes,
    stop: CancellationToken,
) -> &'static str {
    let room = Arc::new(Semaphore::new(ROOM));
    let mut inbox = Some(inbox);
    while !stop.is_cancelled() {
        let result = match inbox.take() {
            Some(inbox) => Ok(inbox),
            None => open(&nats, partition).await,
        };
        let error = match result {
            Ok(inbox) => {
                // What is still in the lanes when the inbox is opened again comes again, in order.
                let opened = CancellationToken::new();
                let _ended = opened.clone().drop_guard();
                tokio::select! {
                    () = stop.cancelled() => break,
                    error = drain(&inbox, &nats, &lanes, &room, &opened) => error,
                }
            }
            Err(error) => error,
        };
        tracing::warn!(error = &error as &dyn std::error::Error, "the inbox is away; opening it again");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    "the inbox"
}

/// Hands commands to the lanes until the inbox breaks.
async fn drain(
    inbox: &Inbox,
    nats: &Nats,
    lanes: &Lanes,
    room: &Arc<Semaphore>,
    opened: &CancellationToken,
) -> NatsError {
    let mut messages = match inbox.messages().await {
        Ok(messages) => messages,
        Err(error) => return failed(error),
    };
    while let Some(message) = messages.next().await {
        let message = match message {
            Ok(message) => message,
            Err(error) => return failed(error),
        };
        match read(&message) {
            Ok((subject, headers, body, received_millis)) => {
                let size = (message.payload.len() / 1024).clamp(LEAST, ROOM);
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                let Ok(room) = Arc::clone(room).acquire_many_owned(size).await else {
                    return failed("the inbox has no room");
                };
                let answer = Answer::Inbox(Box::new(Delivery::new(message, opened.clone(), room)));
                lanes.hand(Asked { subject, headers, body, received_millis, room: None, answer });
            }
            Err(refusal) => {
                if let Err(error) = bury(nats, &message, &refusal).await {
                    return error;
                }
            }
        }
    }
    failed("the inbox ended")
}

/// What a message says: the subject, the headers, the body and when it was stored.
fn read(message: &jetstream::Message) -> Result<(CommandSubject, Headers, Bytes, u64), Refusal> {
    let (sequence, millis) = match message.info() {
        Ok(info) => {
            let millis = info.published.unix_timestamp_nanos() / 1_000_000;
            (info.stream_sequence, u64::try_from(millis).unwrap_or_default())
        }
        Err(_) => (0, 0),
    };
    let place = || CommandId::of_message(millis, sequence);
    let (subject, headers, body) =
        door::read(&message.subject, message.headers.as_ref(), &message.payload, place)?;
    door::refuse_dry_run(&headers)?;
    Ok((subject, headers, body, millis))
}
