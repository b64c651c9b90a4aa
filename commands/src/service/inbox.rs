//! The door for those who publish and forget: `wan.cmd.…`, kept in the stream COMMANDS until it is handled.
//!
//! Each partition has a consumer, which is made anew whenever somebody takes the partition. That puts everything unhandled back to the beginning of the queue, so a
//! customer's commands keep their order over a crash; a kept consumer would redeliver the ones in flight last.

use std::time::Duration;

use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::Refusal;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::subjects::{self, CommandSubject};

use super::Lanes;
use super::delivery::{Delivery, bury};
use super::door::{self, Answer, Asked, Headers};
use super::waiting::{Admitted, Parked, Place, Turn, Waiting};

/// The consumer of a partition.
fn consumer_name(partition: u16) -> String {
    format!("commands-{partition}")
}

/// A command waits in its lane at most as long as its predecessors take; nothing is delivered again before that.
const ACK_WAIT: Duration = Duration::from_secs(30 * 60);

/// How far a partition looks ahead: how many commands are delivered and not handled yet. Most of them are known by their
/// places only; it is as many as some customers together may have in the inbox.
const AHEAD: i64 = 65_536;

/// How many commands are fetched at once for one customer.
const AT_ONCE: usize = 8;

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
        max_ack_pending: AHEAD,
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
                    error = drain(&inbox, &nats, &lanes, &opened) => error,
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
async fn drain(inbox: &Inbox, nats: &Nats, lanes: &Lanes, opened: &CancellationToken) -> NatsError {
    let mut messages = match inbox.messages().await {
        Ok(messages) => messages,
        Err(error) => return failed(error),
    };
    let (mut waiting, mut free) = Waiting::new();
    let mut fetches = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Whoever is still far behind is reached before more is fetched of those who have much; the server itself
            // stops when it is far enough ahead.
            biased;
            message = messages.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return failed(error),
                    None => return failed("the inbox ended"),
                };
                let admit = |message: &jetstream::Message, subject: &CommandSubject| {
                    let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
                    let reply = message.reply.as_deref().unwrap_or_default();
                    match waiting.admit(&subject.customer, sequence, reply, message.payload.len()) {
                        Admitted::Now(place) => Some(place),
                        Admitted::Later | Admitted::Known => None,
                    }
                };
                if let Err(error) = hand(nats, lanes, opened, message, admit).await {
                    return error;
                }
            }
            Some((customer, sequence)) = free.recv() => waiting.free(&customer, sequence),
            Some(fetched) = fetches.next() => match fetched {
                Ok((customer, commands)) => {
                    for (message, place) in commands {
                        if let Err(error) = hand(nats, lanes, opened, message, |_, _| Some(place)).await {
                            return error;
                        }
                    }
                    waiting.fetched(&customer);
                }
                Err(error) => return error,
            },
        }
        while let Some(turn) = waiting.turn() {
            fetches.push(fetch(nats, turn));
        }
    }
}

/// Hands a command to its lane, if there is a place for it. What is no command is buried.
async fn hand(
    nats: &Nats,
    lanes: &Lanes,
    opened: &CancellationToken,
    message: jetstream::Message,
    place: impl FnOnce(&jetstream::Message, &CommandSubject) -> Option<Place>,
) -> Result<(), NatsError> {
    let (subject, headers, body, received_millis) = match read(&message) {
        Ok(read) => read,
        Err(refusal) => return bury(nats, &message, &refusal).await,
    };
    if let Some(place) = place(&message, &subject) {
        let answer = Answer::Inbox(Box::new(Delivery::new(message, opened.clone(), place)));
        lanes.hand(Asked { subject, headers, body, received_millis, room: None, answer });
    }
    Ok(())
}

/// Fetches what was parked of a customer, in its order.
async fn fetch(nats: &Nats, turn: Turn) -> Result<(CustomerId, Vec<(jetstream::Message, Place)>), NatsError> {
    let customer = turn.customer;
    let fetches =
        turn.parked.into_iter().map(|(parked, place)| {
            let customer = &customer;
            async move {
                Ok::<_, NatsError>(fetch_one(nats, customer, parked).await?.map(|message| (message, place)))
            }
        });
    let fetched: Vec<Option<_>> = futures::stream::iter(fetches).buffered(AT_ONCE).try_collect().await?;
    Ok((customer, fetched.into_iter().flatten().collect()))
}

/// A command as it was delivered; none when it is gone from the inbox, though nobody here handled it.
async fn fetch_one(
    nats: &Nats,
    customer: &CustomerId,
    parked: Parked,
) -> Result<Option<jetstream::Message>, NatsError> {
    // The leader has it: a replica may be behind what was delivered.
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    let sequence = parked.sequence;
    match stream.get_raw_message(sequence).await {
        Ok(stored) => {
            let message = async_nats::Message {
                subject: stored.subject,
                reply: Some(String::from(parked.reply).into()),
                length: stored.payload.len(),
                payload: stored.payload,
                headers: Some(stored.headers),
                status: None,
                description: None,
            };
            Ok(Some(jetstream::Message { message, context: nats.js.clone() }))
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
            tracing::error!(%customer, sequence, "a durable command is gone from the inbox, and was not handled here");
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
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
