//! What arrives at a door: a subject, headers and a body, and a way to answer.

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use wanwright_schemas::envelope::{Digest, command_digest};
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_vendors::SchemaVersion;

use super::delivery::Delivery;

/// Where the outcome goes.
#[derive(Debug)]
pub enum Answer {
    /// To whoever asked and waits.
    Reply(Option<Subject>),
    /// To the inbox, which removes the command.
    Inbox(Box<Delivery>),
}

/// A command at a door, its subject and headers read.
#[derive(Debug)]
pub struct Asked {
    /// The subject.
    pub subject: CommandSubject,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// When it came, in milliseconds since 1970: a durable command is as old as when it was stored.
    pub received_millis: u64,
    /// Where the outcome goes.
    pub answer: Answer,
}

/// The headers of a command.
#[derive(Debug, Clone)]
pub struct Headers {
    /// The command's id.
    pub command: CommandId,
    /// The generation the sender expects.
    pub expected_generation: Option<u64>,
    /// The version of the vendor's settings that the body speaks.
    pub schema: Option<SchemaVersion>,
    /// What caused the command.
    pub cause: Option<String>,
    /// What it belongs to.
    pub correlation: Option<String>,
    /// Whether to write nothing.
    pub dry_run: bool,
}

/// Longest text of a cause or correlation.
const MAX_TEXT: usize = 200;

impl Headers {
    /// Reads the headers; a command without an id gets `default`.
    pub fn read(headers: Option<&HeaderMap>, default: impl FnOnce() -> CommandId) -> Result<Self, Refusal> {
        // People type names in any case, and a command whose id went unseen would be carried out twice.
        let find =
            |name: &str| headers?.iter().find(|(typed, _)| typed.to_string().eq_ignore_ascii_case(name));
        let get = |name: &str| Some(find(name)?.1.first()?.as_str().trim());
        let bad =
            |name: &str, why: String| Refusal::new(Reason::BadHeader, format!("{name}: {why}")).field(name);
        if let Some(unknown) = headers.and_then(unknown) {
            let unknown: String = unknown.chars().take(80).collect();
            return Err(bad(&unknown, format!("there is no such header; there are {}", KNOWN.join(", "))));
        }
        let command = match get(headers::COMMAND_ID) {
            None => default(),
            Some(text) => text.parse().map_err(|error: wanwright_schemas::ids::InvalidCommandId| {
                bad(headers::COMMAND_ID, error.to_string())
            })?,
        };
        let expected_generation = match get(headers::EXPECTED_GENERATION) {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| bad(headers::EXPECTED_GENERATION, "it must be a whole number".to_owned()))?,
            ),
        };
        let schema = match get(headers::SCHEMA) {
            None => None,
            Some(text) => Some(text.parse().map_err(|error: wanwright_vendors::InvalidVersion| {
                bad(headers::SCHEMA, error.to_string())
            })?),
        };
        let dry_run = match get(headers::DRY_RUN) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(bad(headers::DRY_RUN, "it must be `true` or `false`".to_owned())),
        };
        let text = |name: &str| match get(name) {
            Some(text) if text.len() > MAX_TEXT || text.chars().any(char::is_control) => {
                Err(bad(name, format!("it must be at most {MAX_TEXT} bytes without control characters")))
            }
            text => Ok(text.map(str::to_owned)),
        };
        Ok(Self {
            command,
            expected_generation,
            schema,
            cause: text(headers::CAUSATION_ID)?,
            correlation: text(headers::CORRELATION_ID)?,
            dry_run,
        })
    }
}

impl Headers {
    /// The headers as a sender writes them.
    pub fn write(&self, to: &mut HeaderMap) {
        to.insert(headers::COMMAND_ID, self.command.to_string().as_str());
        if let Some(generation) = self.expected_generation {
            to.insert(headers::EXPECTED_GENERATION, generation.to_string().as_str());
        }
        if let Some(schema) = self.schema {
            to.insert(headers::SCHEMA, schema.to_string().as_str());
        }
        if let Some(cause) = &self.cause {
            to.insert(headers::CAUSATION_ID, cause.as_str());
        }
        if let Some(correlation) = &self.correlation {
            to.insert(headers::CORRELATION_ID, correlation.as_str());
        }
        if self.dry_run {
            to.insert(headers::DRY_RUN, "true");
        }
    }
}

/// What a command's sender may say. Whoever asks for `Wan-Dryrun` must not have the command carried out.
const KNOWN: [&str; 6] = [
    headers::COMMAND_ID,
    headers::EXPECTED_GENERATION,
    headers::SCHEMA,
    headers::CAUSATION_ID,
    headers::CORRELATION_ID,
    headers::DRY_RUN,
];

/// A header that looks like one of ours and is none.
fn unknown(headers: &HeaderMap) -> Option<String> {
    let mut names = headers.iter().map(|(name, _)| name.to_string());
    names.find(|name| {
        name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("wan-"))
            && !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
    })
}

impl Asked {
    /// What tells this command from another one with the same id.
    pub fn digest(&self) -> Digest {
        command_digest(&self.subject.object.to_string(), &self.subject.verb, &self.body)
    }
}
