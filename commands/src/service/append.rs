//! Appending what was decided: one message with all events of a command, where the history still ends where it was decided
//! on.

use std::collections::HashMap;

use async_nats::HeaderMap;
use bytes::Bytes;
use cqrs_es::AggregateError;
use jiff::Timestamp;
use wanwright_nats::{AppendError, trace};
use wanwright_schemas::envelope::{Digest, ENVELOPE_VERSION, Envelope};
use wanwright_schemas::event::Event;
use wanwright_schemas::headers;
use wanwright_schemas::ids::{Actor, CommandId};
use wanwright_schemas::reason::Refusal;
use wanwright_schemas::trace::TraceContext;

use super::store::{CustomerStore, Loaded, key, unavailable};
use super::verdict;

type Failed = AggregateError<Refusal>;

/// What a message says beside its events.
pub(super) struct Said {
    /// The command that decided them.
    pub(super) command: CommandId,
    /// The digest of what it said.
    pub(super) digest: Digest,
    pub(super) actor: Actor,
    pub(super) cause: Option<String>,
    pub(super) correlation: Option<String>,
    /// When it was decided.
    pub(super) time: Timestamp,
    pub(super) trace: Option<TraceContext>,
    /// For who reads the stream and knows no command.
    pub(super) about: About,
}

/// The object a command was about, its verb, and the generation the object has behind it.
#[derive(Default)]
pub(super) struct About {
    pub(super) object: Option<String>,
    pub(super) verb: Option<String>,
    pub(super) generation: Option<String>,
}

impl Said {
    /// From what cqrs-es carries along.
    ///
    /// # Errors
    /// When it lacks what an envelope must say.
    pub(super) fn read(metadata: &HashMap<String, String>) -> Result<Self, Failed> {
        fn parsed<T: TryFrom<String>>(metadata: &HashMap<String, String>, key: &str) -> Result<T, Failed> {
            let text = metadata.get(key).cloned().ok_or_else(|| missing(key))?;
            text.try_into().map_err(|_| missing(key))
        }
        let get = |key: &str| metadata.get(key).cloned();
        let command = get(key::COMMAND).and_then(|text| text.parse().ok());
        let time = get(key::TIME).and_then(|text| text.parse().ok());
        Ok(Self {
            command: command.ok_or_else(|| missing(key::COMMAND))?,
            digest: parsed(metadata, key::BODY)?,
            actor: parsed(metadata, key::ACTOR)?,
            cause: get(key::CAUSE),
            correlation: get(key::CORRELATION),
            time: time.ok_or_else(|| missing(key::TIME))?,
            trace: TraceContext::read(
                get(headers::TRACE_PARENT).as_deref(),
                get(headers::TRACE_STATE).as_deref(),
            ),
            about: About { object: get(key::OBJECT), verb: get(key::VERB), generation: get(key::GENERATION) },
        })
    }

    fn headers(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        let About { object, verb, generation } = &self.about;
        let all = [(headers::OBJECT, object), (headers::VERB, verb), (headers::GENERATION, generation)];
        for (name, value) in all {
            if let Some(value) = value {
                map.insert(name, value.as_str());
            }
        }
        if let Some(of) = &self.trace {
            trace::write(of, &mut map);
        }
        map
    }

    fn envelope(self, events: Vec<Event>, prev: Option<Digest>) -> Envelope {
        Envelope {
            v: ENVELOPE_VERSION,
            command: self.command,
            body_sha256: self.digest,
            actor: self.actor,
            cause: self.cause,
            correlation: self.correlation,
            time: self.time,
            prev,
            key: events.iter().filter_map(Event::sealed_by).max().map(String::from),
            events,
        }
    }
}

fn missing(what: &str) -> Failed {
    AggregateError::UnexpectedError(format!("the commit's metadata lacks a readable {what}").into())
}

impl CustomerStore {
    /// Appends the events as one message, and answers its sequence and the events. The state of `loaded` has them applied
    /// already; it is kept for the next command.
    ///
    /// # Errors
    /// A conflict where the history does not end any more where it was loaded; a refusal where the message is too large.
    pub(super) async fn append(
        &self,
        events: Vec<Event>,
        mut loaded: Loaded,
        said: Said,
    ) -> Result<(u64, Vec<Event>), Failed> {
        let (headers, before) = (said.headers(), loaded.head.sequence);
        let envelope = said.envelope(events, loaded.head.digest);
        let bytes = Bytes::from(envelope.encode().map_err(unavailable)?);
        let limit = self.nats.client.max_payload();
        if bytes.len() + verdict::HEADROOM > limit {
            return Err(AggregateError::UserError(verdict::too_large(bytes.len(), limit)));
        }
        let appended =
            self.history.append(&loaded.customer, before, envelope.command, headers, bytes.clone()).await;
        let sequence = match appended {
            Ok(sequence) => sequence,
            Err(AppendError::Conflict) => return Err(AggregateError::AggregateConflict),
            Err(error) => return Err(unavailable(error)),
        };
        loaded.head.appended(sequence, &bytes, &envelope);
        self.appended(loaded);
        Ok((sequence, envelope.events))
    }
}
