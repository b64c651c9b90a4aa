//! The way into the durable inbox for those who must not write into a stream: what comes from outside is read, freed of
//! every header that would mean something to the stream, stored, and answered.
//!
//! A `Nats-Msg-Id` would make the stream swallow the command of another customer who happened to use the same, and an
//! `Nats-Expected-…` would be answered with how many commands the others sent.

use std::sync::Arc;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::{HeaderMap, Message, Subject, Subscriber};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::body::MAX_BODY;
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, Stored};
use wanwright_schemas::subjects::CommandSubject;

use super::door::Headers;
use super::{requests, side_door, verdict};

/// How many commands are on their way into the stream at once.
const AT_ONCE: usize = 1024;

/// Headers that go on besides those of a command: traces and what describes the body.
const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "content-type"];

/// The header by which other clients say an id.
const MESSAGE_ID: &str = "nats-msg-id";

pub(super) async fn serve(mut submitted: Subscriber, nats: Nats, stop: CancellationToken) -> &'static str {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(request) = side_door::next(&mut submitted, &stop).await {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let reply = request.reply.clone();
        // Sent here, one after the other, so that the inbox has them in the order in which they came.
        let sent = match read(request) {
            Ok(command) => send(&nats, command).await,
            Err(refusal) => Err((None, refusal)),
        };
        let nats = nats.clone();
        tokio::spawn(async move {
            settle(&nats, reply, sent).await;
            drop(permit);
        });
    }
    "the ingress"
}

/// A command on its way: its id, and the acknowledgement to come.
type Sent = Result<(CommandId, PublishAckFuture), (Option<CommandId>, Refusal)>;

/// A command as it is stored.
struct Submission {
    subject: CommandSubject,
    command: CommandId,
    headers: HeaderMap,
    body: bytes::Bytes,
}

fn read(request: Message) -> Result<Submission, Refusal> {
    let subject = services::submitted(&request.subject)?;
    if request.payload.len() > MAX_BODY {
        let why = format!("the body has {} bytes", request.payload.len());
        return Err(Refusal::new(Reason::BodyTooLarge, why));
    }
    let given = request.headers.unwrap_or_default();
    let named = message_id(&given)?;
    let read = Headers::read(Some(&given), || named.unwrap_or_else(CommandId::mint))?;
    let mut headers = passed_on(&given);
    read.write(&mut headers);
    Ok(Submission { subject, command: read.command, headers, body: request.payload })
}

/// The id that another client's own header names.
fn message_id(given: &HeaderMap) -> Result<Option<CommandId>, Refusal> {
    let found = given.iter().find(|(name, _)| name.to_string().eq_ignore_ascii_case(MESSAGE_ID));
    let Some(text) = found.and_then(|(_, values)| values.first()) else { return Ok(None) };
    let refused = |error| {
        let why = format!("Nats-Msg-Id: {error}");
        let next = format!("Use a UUIDv7 there, or say the id in {}.", headers::COMMAND_ID);
        Refusal::new(Reason::BadHeader, why).field("Nats-Msg-Id").next(next)
    };
    text.as_str().trim().parse().map(Some).map_err(refused)
}

/// The headers that mean nothing to a stream. Those of a command itself are written anew.
fn passed_on(given: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in given.iter() {
        let lower = name.to_string().to_ascii_lowercase();
        if lower.starts_with("ce-") || PASSED_ON.contains(&lower.as_str()) {
            values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
        }
    }
    kept
}

async fn send(nats: &Nats, submission: Submission) -> Sent {
    let Submission { subject, command, headers, body } = submission;
    match nats.js.publish_with_headers(subject.durable(), headers, body).await {
        Ok(acknowledged) => Ok((command, acknowledged)),
        Err(error) => Err((Some(command), unstored(&error))),
    }
}

async fn settle(nats: &Nats, reply: Option<Subject>, sent: Sent) {
    let stored = match sent {
        Ok((command, acknowledged)) => match acknowledged.await {
            Ok(_) => Ok(command),
            Err(error) => Err((Some(command), unstored(&error))),
        },
        Err(refused) => Err(refused),
    };
    match stored {
        Ok(command) => {
            let body = serde_json::to_vec(&Stored { command }).unwrap_or_default();
            side_door::answer(nats, reply, Ok(body.into())).await;
        }
        Err((command, refusal)) => {
            if reply.is_none() {
                tracing::warn!(code = %refusal.code, "a durable command was not stored, and nobody waits for the answer");
            }
            let refused = Outcome::refused(command, None, verdict::clipped(refusal));
            requests::reply(nats, reply, &refused).await;
        }
    }
}

/// Why a command is not in the inbox, or may not be. The server's words stay here: they count everybody's commands.
fn unstored(error: &PublishError) -> Refusal {
    tracing::warn!(error = error as &dyn std::error::Error, "a durable command was not stored");
    let cause = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>());
    let is_full = cause.is_some_and(|cause| cause.error_code() == ErrorCode::STREAM_STORE_FAILED);
    let why = if is_full {
        "the inbox is full; the command was not stored"
    } else {
        "the command may or may not have been stored"
    };
    Refusal::new(Reason::Unavailable, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_a_stream_does_not_pass() {
        let mut given = HeaderMap::new();
        for name in [
            "Nats-Msg-Id",
            "nats-msg-id",
            "Nats-Expected-Last-Sequence",
            "Nats-Expected-Stream",
            "Nats-Rollup",
            "Nats-TTL",
            "Nats-Schedule",
            "Nats-Schedule-Target",
            "Nats-Request-Info",
            "Nats-Trace-Dest",
            "Status",
            "X-Anything",
        ] {
            given.append(name, "1");
        }
        given.append("Ce-Source", "dapr");
        given.append("traceparent", "00-1-2-01");
        let mut kept: Vec<String> = passed_on(&given).iter().map(|(name, _)| name.to_string()).collect();
        kept.sort();
        assert_eq!(kept, ["Ce-Source", "traceparent"]);
    }

    #[test]
    fn an_id_of_another_client_is_the_commands_id_or_refused() {
        let id = CommandId::mint();
        let mut given = HeaderMap::new();
        given.insert("Nats-Msg-Id", id.to_string().as_str());
        assert_eq!(message_id(&given), Ok(Some(id)));
        given.insert("Nats-Msg-Id", "order-17");
        assert_eq!(message_id(&given).map_err(|refusal| refusal.code), Err(Reason::BadHeader));
    }
}
