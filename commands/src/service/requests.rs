//! The door for those who wait: request and reply on `wan.do.…`.
//!
//! The server's own mapping hands a request to the partition of its customer. One that comes unmapped, or to another
//! partition because the mapping counts otherwise, is handed on from here.

use std::sync::OnceLock;

use async_nats::{HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::subjects::{self, CommandSubject};
use wanwright_schemas::{Refusal, headers};

use super::door::{self, Answer, Asked};
use super::intake::{Bounds, Intake};
use super::{Lanes, verdict};

/// The queue group of the command services: each request reaches one of them.
const QUEUE: &str = "commands";

/// Subscribes to the requests of a partition.
pub(super) async fn open(nats: &Nats, partition: u16) -> Result<Subscriber, NatsError> {
    subscribe(nats, subjects::decide_of_partition(partition)).await
}

/// Subscribes to the requests that no mapping handed to a partition.
pub(super) async fn open_unmapped(nats: &Nats) -> Result<Subscriber, NatsError> {
    subscribe(nats, subjects::DO_ALL.to_owned()).await
}

async fn subscribe(nats: &Nats, subject: String) -> Result<Subscriber, NatsError> {
    let doing = format!("subscribing to {subject}");
    let subscriber = nats.client.queue_subscribe(subject, QUEUE.to_owned()).await;
    let subscriber = subscriber.map_err(NatsError::failed(doing))?;
    nats.subscribed().await?;
    Ok(subscriber)
}

/// Where answers may go. A reply subject is the sender's to choose, and an answer into a stream or into the server's own
/// subjects would be written with this service's rights, not with the sender's.
const ANSWERED: [&str; 2] = ["_INBOX.", "_R_."];

/// Takes the requests of a partition; none for those that have none yet.
pub(super) async fn serve(
    requests: Subscriber,
    own: Option<(u16, Lanes)>,
    nats: Nats,
    stop: CancellationToken,
) -> &'static str {
    let mut requests = Intake::new(requests, nats.clone(), Bounds::COMMANDS);
    while let Some((request, _room)) = requests.next(&stop).await {
        let refused = match read(&request) {
            Ok(asked) => {
                let partition = subjects::partition(&asked.subject.customer, nats.partitions);
                let Some((_, lanes)) = own.as_ref().filter(|(own, _)| *own == partition) else {
                    hand_on(&nats, request, &asked.subject, partition).await;
                    continue;
                };
                match lanes.offer(asked) {
                    Ok(()) => continue,
                    Err(asked) => verdict::not_tried(&asked),
                }
            }
            Err(refusal) => Outcome::refused(None, None, verdict::clipped(refusal)),
        };
        reply(&nats, request.reply, &refused).await;
    }
    "the door for requests"
}

/// Sends a request to the partition it belongs to, whose holder answers it.
async fn hand_on(nats: &Nats, request: Message, subject: &CommandSubject, partition: u16) {
    let to = subject.of_partition(partition);
    let headers = request.headers.unwrap_or_default();
    let sent = match request.reply {
        Some(reply) => nats.client.publish_with_reply_and_headers(to, reply, headers, request.payload).await,
        None => nats.client.publish_with_headers(to, headers, request.payload).await,
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "a request could not be handed on; its sender will ask again");
    }
}

pub(super) fn is_answered(reply: &str) -> bool {
    ANSWERED.iter().any(|start| reply.starts_with(start))
}

fn read(request: &Message) -> Result<Asked, Refusal> {
    // Whoever sends no id may have the command carried out twice when he sends it twice.
    let (subject, headers, body) =
        door::read(&request.subject, request.headers.as_ref(), &request.payload, CommandId::mint)?;
    Ok(Asked {
        subject,
        headers,
        body,
        received_millis: verdict::now_millis(),
        room: None,
        answer: Answer::Reply(request.reply.clone()),
        previews: OnceLock::new(),
    })
}

/// Answers a request.
pub(super) async fn reply(nats: &Nats, to: Option<Subject>, outcome: &Outcome) {
    if let Some(body) = write(outcome) {
        reply_with(nats, to, outcome, body).await;
    }
}

/// An outcome as it is said.
pub(super) fn write(outcome: &Outcome) -> Option<Bytes> {
    let written = serde_json::to_vec(outcome);
    let written =
        written.inspect_err(|error| tracing::error!(%error, "an outcome could not be written as JSON"));
    written.ok().map(Bytes::from)
}

/// Answers a request with an outcome that is written already. A refusal is in the headers too, as NATS services say it.
pub(super) async fn reply_with(nats: &Nats, to: Option<Subject>, outcome: &Outcome, body: Bytes) {
    let Some(to) = to else { return };
    let limit = nats.client.max_payload();
    if body.len() + verdict::HEADROOM > limit {
        // Only the answer to a dry run can grow like this, so the answer that takes its place hides nothing that happened.
        let refused = verdict::too_large(body.len(), limit);
        let refused =
            Outcome { dry_run: true, ..Outcome::refused(outcome.command, outcome.object.clone(), refused) };
        return Box::pin(reply(nats, Some(to), &refused)).await;
    }
    let mut head = HeaderMap::new();
    if let Some(refusal) = outcome.refusal() {
        let sentence: String = refusal.message.chars().filter(|c| !c.is_control()).collect();
        head.insert(headers::SERVICE_ERROR, sentence.as_str());
        head.insert(headers::SERVICE_ERROR_CODE, refusal.code.number().to_string().as_str());
    }
    if let Err(error) = nats.client.publish_with_headers(to, head, body).await {
        tracing::warn!(%error, "a reply could not be sent; its sender will ask again");
    }
}
