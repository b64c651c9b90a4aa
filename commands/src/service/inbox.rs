//! The door for those who publish and forget: `wan.cmd.…`, kept in the stream COMMANDS until it is handled.
//!
//! The consumer is made anew at every start. That puts everything unhandled back to the beginning of the queue, so a
//! customer's commands keep their order over a crash; a kept consumer would redeliver the ones in flight last.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, AckKind, consumer};
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::subjects::{self, CommandSubject};
use wanwright_schemas::{Refusal, headers};

use super::Lanes;
use super::door::{Answer, Asked, Headers};

const CONSUMER: &str = "commands";

/// A command waits in its lane at most as long as its predecessors take; nothing is delivered again before that.
const ACK_WAIT: Duration = Duration::from_secs(30 * 60);

/// How many commands are in the lanes at once.
const IN_FLIGHT: i64 = 2048;

/// How long to wait before the inbox is opened again after the connection was lost.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) type Inbox = consumer::Consumer<consumer::pull::Config>;

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::Failed { doing: "opening the inbox".to_owned(), source: error.into() }
}

pub(super) async fn open(nats: &Nats) -> Result<Inbox, NatsError> {
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    // Not there at the first start.
    let _ = stream.delete_consumer(CONSUMER).await;
    let config = consumer::pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: IN_FLIGHT,
        ..Default::default()
    };
    stream.create_consumer(config).await.map_err(failed)
}

pub(super) async fn serve(inbox: Inbox, nats: Nats, lanes: Lanes, stop: CancellationToken) {
    let mut inbox = Some(inbox);
    while !stop.is_cancelled() {
        let opened = match inbox.take() {
            Some(inbox) => Ok(inbox),
            None => open(&nats).await,
        };
        let error = match opened {
            Ok(opened) => tokio::select! {
                () = stop.cancelled() => return,
                error = drain(&opened, &nats, &lanes) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(error = &error as &dyn std::error::Error, "the inbox is away; opening it again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hands commands to the lanes until the inbox breaks.
async fn drain(inbox: &Inbox, nats: &Nats, lanes: &Lanes) -> NatsError {
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
            Ok((asked, handled)) => {
                lanes.hand(asked).await;
                tokio::spawn(acknowledge(message, handled));
            }
            Err(refusal) => {
                if let Err(error) = bury(nats, &message, &refusal).await {
                    return error;
                }
                let _ = message.ack_with(AckKind::Ack).await;
            }
        }
    }
    failed("the inbox ended")
}

/// Removes the command from the inbox once its outcome is recorded.
async fn acknowledge(message: jetstream::Message, handled: oneshot::Receiver<()>) {
    // A lane that stops drops its end: the command stays and is handled after the next start.
    if handled.await.is_ok()
        && let Err(error) = message.ack().await
    {
        tracing::warn!(%error, "a handled command could not be removed from the inbox; it will be a repeat");
    }
}

fn read(message: &jetstream::Message) -> Result<(Asked, oneshot::Receiver<()>), Refusal> {
    let subject = CommandSubject::parse(&message.subject)?;
    let (sequence, millis) = match message.info() {
        Ok(info) => {
            let millis = info.published.unix_timestamp_nanos() / 1_000_000;
            (info.stream_sequence, u64::try_from(millis).unwrap_or_default())
        }
        Err(_) => (0, 0),
    };
    let headers = Headers::read(message.headers.as_ref(), || CommandId::of_message(millis, sequence))?;
    let (handled, wait) = oneshot::channel();
    let answer = Answer::Handled(handled);
    Ok((Asked { subject, headers, body: message.payload.clone(), received_millis: millis, answer }, wait))
}

/// Puts a message that is no command among the dead letters, with the reason.
async fn bury(nats: &Nats, message: &jetstream::Message, refusal: &Refusal) -> Result<(), NatsError> {
    let mut head = HeaderMap::new();
    let text: String = refusal.message.chars().filter(|c| !c.is_control()).collect();
    head.insert(headers::DEAD_REASON, refusal.code.code());
    head.insert(headers::DEAD_MESSAGE, text.as_str());
    head.insert(headers::DEAD_SUBJECT, message.subject.as_str());
    publish(&nats.js, subjects::dead("command", refusal.code), head, message.payload.clone()).await.map(drop)
}
