//! Durable commands that are in the inbox and that nobody can read. A damage of the length of a message's headers is one
//! that the server does not notice: it delivers what the client takes for nonsense, and ends the connection over.
//!
//! Such a command is reported by name and removed, so that those behind it are delivered.

use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use serde_json::json;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::unreadable::{Place, is_unreadable, place};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::subjects;

use super::inventory;

/// How many commands behind the last one that came are looked at: more are never on their way at once.
const LOOKED_AT: usize = 512;

/// Looks through what comes next behind this sequence, and buries what cannot be read. Answers which those were.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(super) async fn bury_next(nats: &Nats, partition: u16, after: u64) -> Result<Vec<u64>, NatsError> {
    let mut buried = Vec::new();
    for filter in subjects::inbox_of_partition(partition) {
        let mut next = after + 1;
        for _ in 0..LOOKED_AT {
            let doing = "looking at the inbox";
            let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(NatsError::failed(doing))?;
            match stream.get_first_raw_message_by_subject(&filter, next).await {
                Ok(message) => next = message.sequence + 1,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => {
                    let request = json!({ "seq": next, "next_by_subj": filter });
                    let Some(sequence) = bury(nats, &request, error).await? else { break };
                    buried.push(sequence);
                    next = sequence + 1;
                }
            }
        }
    }
    Ok(buried)
}

/// Buries a command whose reading failed like this. Answers whether it is still there.
///
/// # Errors
/// [`NatsError`], when it was not answered at all: then nothing is wrong with the command.
pub(super) async fn bury_one(nats: &Nats, sequence: u64, error: RawMessageError) -> Result<bool, NatsError> {
    Ok(bury(nats, &json!({ "seq": sequence }), error).await?.is_some())
}

async fn bury(
    nats: &Nats,
    request: &serde_json::Value,
    error: RawMessageError,
) -> Result<Option<u64>, NatsError> {
    let doing = || "looking at a durable command that cannot be read".to_owned();
    if !is_unreadable(&error) {
        return Err(NatsError::failed(doing())(error));
    }
    let Some(Place { subject, sequence }) = place(&nats.js, COMMANDS, request).await? else {
        return Ok(None);
    };
    let why =
        format!("1 of the durable commands cannot be read and is removed: {}", wanwright_nats::chain(&error));
    let lost = json!({ "stream": COMMANDS, "lost": 1, "sequences": [sequence], "subject": subject });
    inventory::report(nats, "inbox", &why, &lost).await?;
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(NatsError::failed(doing()))?;
    stream.delete_message(sequence).await.map_err(NatsError::failed(doing()))?;
    Ok(Some(sequence))
}
