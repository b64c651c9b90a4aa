//! Old versions are brought to the present when they are read.
//!
//! What is stored never changes: a history is chained by the digests of its bytes. Instead every reader brings a stored
//! envelope, and each event in it, up step by step until it is what this code writes. A step sees plain JSON, before any
//! type is looked at, so it may rename a field or the whole type, split an event into several or drop it.
//!
//! A change that older code would misread needs a new version: add it to `VERSIONS` (or raise
//! [`ENVELOPE_VERSION`](crate::envelope::ENVELOPE_VERSION)), a step to [`CHAIN`], and a file with lines of
//! the version before to `frozen/` where there is none. A new field that may be absent needs none of that.
//!
//! A step that splits or drops shifts the places of the events behind it in their message, and rows are keyed by those
//! places: it needs a rebuild of the read models, which `wanwright rebuild --verify` asks for.

use serde_json::{Map, Value};

use crate::envelope::ENVELOPE_VERSION;
use crate::event::UnreadableEvent;

/// The fields of a JSON object.
pub type Fields = Map<String, Value>;

/// An event as it is stored, or as a step left it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The type, for example `SiteCreated`.
    pub name: String,
    /// The version of that type.
    pub version: u64,
    /// Everything else.
    pub fields: Fields,
}

/// Brings one version of one event type up.
#[derive(Debug, Clone, Copy)]
pub struct EventStep {
    /// The type it starts from.
    pub name: &'static str,
    /// The version it starts from.
    pub version: u64,
    /// What the event becomes: nothing, one or several, each of a higher version. The error says what it lacks.
    pub up: fn(Fields) -> Result<Vec<StoredEvent>, String>,
}

/// Brings one version of the envelope to the next. The events in it are brought up afterwards.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeStep {
    /// The version it starts from; it ends at the next one.
    pub version: u64,
    /// What the envelope becomes. The error says what it lacks.
    pub up: fn(Fields) -> Result<Fields, String>,
}

/// All steps, and where they end.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// The version of the envelope they end at.
    pub envelope: u64,
    /// The version each event type ends at; a type that is not named ends at 1.
    pub events: &'static [(&'static str, u64)],
    /// The envelope's steps.
    pub envelope_steps: &'static [EnvelopeStep],
    /// The events' steps.
    pub event_steps: &'static [EventStep],
}

/// The versions this code writes of event types; of all others it writes version 1.
const VERSIONS: &[(&str, u64)] = &[];

/// The chain that every reader uses. No type has a version before the present one yet.
pub const CHAIN: Chain =
    Chain { envelope: ENVELOPE_VERSION, events: VERSIONS, envelope_steps: &[], event_steps: &[] };

impl Chain {
    /// The version an event type ends at.
    pub fn present(&self, name: &str) -> u64 {
        self.events.iter().find(|(known, _)| *known == name).map_or(1, |(_, version)| *version)
    }

    /// Brings an event up, and adds to `raised` what became of it, in order.
    ///
    /// # Errors
    /// [`UnreadableEvent`] when a version is newer than the chain, or when a step is missing or cannot be taken.
    pub fn raise(&self, event: StoredEvent, raised: &mut Vec<StoredEvent>) -> Result<(), UnreadableEvent> {
        let step =
            self.event_steps.iter().find(|step| (step.name, step.version) == (&*event.name, event.version));
        let Some(step) = step else {
            let present = self.present(&event.name);
            if event.version > present {
                return Err(UnreadableEvent::UnknownVersion(event.name, event.version, present));
            }
            if event.version < present {
                return Err(UnreadableEvent::NoStep(event.name, event.version));
            }
            raised.push(event);
            return Ok(());
        };
        let from = event.version;
        let wrong = |name: &str, why| UnreadableEvent::Step(name.to_owned(), from, why);
        for next in (step.up)(event.fields).map_err(|why| wrong(&event.name, why))? {
            // Versions only ever rise, so every chain ends.
            if next.version <= from {
                return Err(wrong(&event.name, format!("it ended at {} {}", next.name, next.version)));
            }
            self.raise(next, raised)?;
        }
        Ok(())
    }

    /// Brings an envelope of a version up to the present one. None: there is no way there.
    pub(crate) fn raise_envelope(&self, version: u64, mut fields: Fields) -> Option<Result<Fields, String>> {
        for version in version..self.envelope {
            let step = self.envelope_steps.iter().find(|step| step.version == version)?;
            fields = match (step.up)(fields) {
                Ok(fields) => fields,
                Err(why) => return Some(Err(format!("version {version}: {why}"))),
            };
        }
        fields.insert("v".into(), self.envelope.into());
        Some(Ok(fields))
    }
}
