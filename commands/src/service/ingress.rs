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
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, Stored};
use wanwright_schemas::subjects::CommandSubject;

use super::intake::{Bounds, Intake};
use super::quota::Quota;
use super::{door, requests, side_door, verdict};

/// How many commands are on their way into the stream at once.
const AT_ONCE: usize = 1024;

pub(super) async fn serve(
    submitted: Subscriber,
    nats: Nats,
    mut quota: Quota,
    stop: CancellationToken,
) -> &'static str {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut submitted = Intake::new(submitted, nats.clone(), Bounds::COMMANDS);
    while let Some((request, waiting)) = submitted.next(&stop).await {
        let Ok(permit) = submitted.until(Arc::clone(&room).acquire_owned()).await else { break };
        let reply = request.reply.clone();
        // Sent here, one after the other, so that the inbox has them in the order in which they came.
        let sent = match read(&request) {
            Ok(command) => submitted.until(send(&nats, &mut quota, command)).await,
            Err(refusal) => Err((None, refusal)),
        };
        let nats = nats.clone();
        tokio::spawn(async move {
            settle(&nats, reply, sent).await;
            drop((permit, waiting));
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

/// Reads a command as every door does. What is stored is what was read: nothing else of the message goes on.
fn read(request: &Message) -> Result<Submission, Refusal> {
    let durable = services::submitted(&request.subject)?.durable();
    let headers = request.headers.as_ref();
    let (subject, read, body) = door::read(&durable, headers, &request.payload, CommandId::mint)?;
    door::refuse_dry_run(&read)?;
    let mut headers = HeaderMap::new();
    read.write(&mut headers);
    Ok(Submission { subject, command: read.command, headers, body })
}

async fn send(nats: &Nats, quota: &mut Quota, submission: Submission) -> Sent {
    let Submission { subject, command, headers, body } = submission;
    quota.take(&subject.customer).await.map_err(|refusal| (Some(command), refusal))?;
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

    fn message(headers: HeaderMap) -> Message {
        Message {
            subject: "wan.submit.acme.anna.site.oslo.retry".into(),
            reply: None,
            payload: "{}".into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn what_means_something_to_a_stream_does_not_pass() {
        let id = CommandId::mint();
        let mut given = HeaderMap::new();
        for name in [
            "Nats-Msg-Id",
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
        given.insert("wan-command-id", id.to_string().as_str());
        given.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let read = read(&message(given)).expect("a command");
        let mut kept: Vec<String> = read.headers.iter().map(|(name, _)| name.to_string()).collect();
        kept.sort();
        assert_eq!((read.command, kept), (id, vec!["Wan-Command-Id".to_owned(), "traceparent".to_owned()]));
    }

    #[test]
    fn an_id_of_another_client_is_the_commands_id() {
        let read = |id: &str| {
            let mut given = HeaderMap::new();
            given.insert("Nats-Msg-Id", id);
            read(&message(given)).expect("a command").command
        };
        assert_eq!(read("order-17"), read("order-17"));
        assert_ne!(read("order-17"), read("order-18"));
        assert!(read("order-17").is_foreign());
    }
}
