//! Messages that a stream has and no client can read.
//!
//! A damage of the length of a message's headers is one that the server does not notice: it delivers what a client takes for
//! nonsense, and ends its connection over. The server's own JSON has the same bytes in a form that ends nothing, so whoever
//! lost a connection while reading looks there what it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream;
use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::NatsError;

/// Where a message is; that can always be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    #[serde(rename = "seq")]
    pub sequence: u64,
}

#[derive(Debug, Deserialize)]
struct Stored {
    message: Place,
}

/// Whether a message was answered and is none, and not the server away.
pub fn is_unreadable(error: &RawMessageError) -> bool {
    error.kind() != RawMessageErrorKind::NoMessageFound
        && std::error::Error::source(error).is_some_and(|source| !source.is::<RequestError>())
}

/// Where the message is that such a request is about; none when there is none any more.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn place(
    js: &jetstream::Context,
    stream: &str,
    request: &Value,
) -> Result<Option<Place>, NatsError> {
    let doing = format!("looking for a message of {stream} that cannot be read");
    let asked = js.request(format!("STREAM.MSG.GET.{stream}"), request).await;
    Ok(match asked.map_err(NatsError::failed(doing))? {
        Response::Ok(Stored { message }) => Some(message),
        Response::Err { .. } => None,
    })
}

/// The first message of a subject from a sequence on that is there and cannot be read, among so many.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn first_unreadable(
    js: &jetstream::Context,
    stream: &str,
    filter: &str,
    from: u64,
    most: usize,
) -> Result<Option<Place>, NatsError> {
    let doing = || format!("looking for what cannot be read in {stream}");
    let filter = if filter.is_empty() { ">" } else { filter };
    let handle = js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing()))?;
    let mut next = from.max(1);
    for _ in 0..most {
        match handle.get_first_raw_message_by_subject(filter, next).await {
            Ok(message) => next = message.sequence + 1,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) if is_unreadable(&error) => {
                return place(js, stream, &json!({ "seq": next, "next_by_subj": filter })).await;
            }
            Err(error) => return Err(NatsError::failed(doing())(error)),
        }
    }
    Ok(None)
}

/// What is known to be unreadable: the first such message by stream and subject. All copies of a connection share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unreadable {
    known: Arc<Mutex<HashMap<(String, String), u64>>>,
}

impl Unreadable {
    fn known(&self) -> MutexGuard<'_, HashMap<(String, String), u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, stream: &str, subject: &str) -> Option<u64> {
        let known = self.known();
        // Nearly always there is nothing, and nothing to be made for the question.
        if known.is_empty() { None } else { known.get(&(stream.to_owned(), subject.to_owned())).copied() }
    }

    pub(crate) fn note(&self, stream: &str, subject: &str, sequence: u64) {
        self.known().insert((stream.to_owned(), subject.to_owned()), sequence);
    }

    pub(crate) fn forget(&self, stream: &str, subject: &str) {
        self.known().remove(&(stream.to_owned(), subject.to_owned()));
    }
}

/// The error that says so.
pub(crate) fn error(doing: impl Into<String>, place: &Place) -> NatsError {
    let Place { subject, sequence } = place;
    NatsError::malformed(doing, format!("message {sequence} on {subject} is there and cannot be read"))
}
