//! A message of the inbox on its way through a lane, and where messages go that nobody can handle.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, AckKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wanwright_nats::keys::erase_message;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::body::MAX_BODY;
use wanwright_schemas::{Digest, Refusal, headers, subjects};

use super::door::Headers;
use super::inventory::Handled;
use super::personal;
use super::waiting::Place;

/// How much of a message that is no command is kept: enough to see what its sender meant.
const KEPT: usize = 64 * 1024;

/// A message that was delivered and is not acknowledged yet.
#[derive(Debug)]
pub struct Delivery {
    message: jetstream::Message,
    /// Ends when the inbox is opened again, which delivers the message again.
    opened: CancellationToken,
    /// Where it is told that the message is handled.
    done: mpsc::UnboundedSender<Handled>,
    /// Its place among what the lanes have.
    _place: Place,
}

impl Delivery {
    pub(super) fn new(
        message: jetstream::Message,
        opened: CancellationToken,
        done: mpsc::UnboundedSender<Handled>,
        place: Place,
    ) -> Self {
        Self { message, opened, done, _place: place }
    }

    /// Whether the message is delivered again, so that handling it here would break the order.
    pub(super) fn is_over(&self) -> bool {
        self.opened.is_cancelled()
    }

    /// Has the command removed from the inbox: its outcome is recorded.
    pub(super) async fn handled(self) {
        if let Err(error) = overwrite(&self.message).await {
            let error = wanwright_nats::chain(&error);
            tracing::warn!(
                error,
                "a handled command tells of a person and stays in the inbox; it will be a repeat"
            );
            return;
        }
        if let (Ok(info), Some(reply)) = (self.message.info(), self.message.reply.as_deref()) {
            // Nobody hears it when the inbox was opened again: then it will be a repeat.
            let _ = self.done.send(Handled { sequence: info.stream_sequence, reply: reply.into() });
        }
    }

    /// Puts a command that cannot be decided among the dead letters, so that it can be sent again: whole, but for what
    /// it tells of people.
    pub(super) async fn bury(&self, nats: &Nats, read: &Headers, refusal: &Refusal) -> Result<(), NatsError> {
        let mut head = HeaderMap::new();
        read.write(&mut head);
        entomb(nats, &self.message, head, refusal, MAX_BODY).await
    }
}

/// Removes a message from the inbox that is no command, and puts it among the dead letters with the reason.
///
/// # Errors
/// [`NatsError`] where it is worth trying again. A message that no try can bury is removed, with an error in the log:
/// it must not stand in the way of the commands behind it.
pub(super) async fn bury(
    nats: &Nats,
    message: &jetstream::Message,
    refusal: &Refusal,
) -> Result<(), NatsError> {
    let kind = match entomb(nats, message, HeaderMap::new(), refusal, KEPT).await {
        Ok(()) => AckKind::Ack,
        Err(error) if is_lasting(&error) => {
            tracing::error!(
                subject = %message.subject,
                bytes = message.payload.len(),
                digest = %Digest::of(&personal::left_out(&message.payload).0),
                %refusal,
                error = &error as &dyn std::error::Error,
                "a message that is no command could not be put among the dead letters and is lost"
            );
            AckKind::Term
        }
        Err(error) => return Err(error),
    };
    overwrite(message).await?;
    let _ = message.ack_with(kind).await;
    Ok(())
}

/// Overwrites a message on the disk that may tell of a person: the inbox itself leaves the bytes of what it removes.
async fn overwrite(message: &jetstream::Message) -> Result<(), NatsError> {
    let (_, is_personal) = personal::left_out(&message.payload);
    let sequence = message.info().map(|info| info.stream_sequence);
    if let (true, Ok(sequence)) = (is_personal, sequence) {
        let inbox = message.context.get_stream_no_info(COMMANDS).await;
        let inbox = inbox.map_err(NatsError::failed("overwriting a command"))?;
        erase_message(&inbox, sequence).await?;
    }
    Ok(())
}

async fn entomb(
    nats: &Nats,
    message: &jetstream::Message,
    mut head: HeaderMap,
    refusal: &Refusal,
    kept: usize,
) -> Result<(), NatsError> {
    let (body, is_personal) = personal::left_out(&message.payload);
    if is_personal {
        head.insert(headers::DEAD_LEFT_OUT, "contact");
    }
    let text: String = refusal.message.chars().filter(|c| !c.is_control()).take(1000).collect();
    head.insert(headers::DEAD_REASON, refusal.code.code());
    head.insert(headers::DEAD_MESSAGE, text.as_str());
    head.insert(headers::DEAD_SUBJECT, subjects::as_sent(&message.subject).as_str());
    head.insert(headers::DEAD_SIZE, message.payload.len().to_string().as_str());
    head.insert(headers::DEAD_DIGEST, Digest::of(&body).to_string().as_str());
    let body = body.slice(..body.len().min(kept));
    publish(&nats.js, subjects::dead("command", refusal.code), head, body).await.map(drop)
}

/// Whether the same publish would fail again, however often it is tried.
fn is_lasting(error: &NatsError) -> bool {
    let NatsError::Failed { source, .. } = error else { return false };
    let kind = source.downcast_ref::<PublishError>().map(PublishError::kind);
    kind == Some(PublishErrorKind::MaxPayloadExceeded)
}
