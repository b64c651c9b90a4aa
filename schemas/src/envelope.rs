//! The envelope: one message per command, with everything that command decided.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::event::{Event, UnreadableEvent};
use crate::ids::{Actor, CommandId};
use crate::upcast::{CHAIN, Chain};

/// The version of the envelope this code writes.
pub const ENVELOPE_VERSION: u64 = 1;

/// A SHA-256 digest, written `sha256:<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest's 32 bytes.
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The digest of these bytes, which were its bytes before.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not sha256: and 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let mut bytes = [0; 32];
        match text.strip_prefix("sha256:").map(|digits| hex::decode_to_slice(digits, &mut bytes)) {
            Some(Ok(())) => Ok(Self(bytes)),
            _ => Err(InvalidDigest(text)),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// One message of a customer's history. It is read with [`Envelope::decode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "json-schema", schemars(deny_unknown_fields))]
pub struct Envelope {
    /// The envelope's version.
    pub v: u64,
    /// The command that was decided.
    pub command: CommandId,
    /// The digest of subject tail (kind, id, verb) and body, so that a used id with another content is noticed.
    pub body_sha256: Digest,
    /// Who sent the command.
    pub actor: Actor,
    /// What caused the command, if its sender said so.
    pub cause: Option<String>,
    /// What the command belongs to, if its sender said so.
    pub correlation: Option<String>,
    /// When it was decided, by the command service's clock.
    pub time: Timestamp,
    /// The digest of the customer's previous message; null in the first one.
    pub prev: Option<Digest>,
    /// The id of the key that encrypts personal fields; null while none is encrypted.
    pub key: Option<String>,
    /// What was decided, in order.
    pub events: Vec<Event>,
}

/// An envelope of the present version as it is stored, its events not looked at yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u64,
    command: CommandId,
    body_sha256: Digest,
    actor: Actor,
    cause: Option<String>,
    correlation: Option<String>,
    time: Timestamp,
    prev: Option<Digest>,
    key: Option<String>,
    events: Vec<Map<String, Value>>,
}

/// Why a stored message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEnvelope {
    /// Not an envelope of a version this code knows.
    #[error(
        "envelope version {0} is not one that this version of wanwright reads; it reads up to {ENVELOPE_VERSION}"
    )]
    UnknownVersion(u64),
    /// An envelope of an older version that could not be brought up.
    #[error("the envelope could not be brought up: {0}")]
    Step(String),
    /// Not an envelope.
    #[error("not an envelope: {0}")]
    Malformed(#[from] serde_json::Error),
    /// An event in it cannot be read.
    #[error(transparent)]
    Event(#[from] UnreadableEvent),
}

impl Envelope {
    /// Reads a stored message of any version ever written.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnreadableEnvelope> {
        Self::decode_with(bytes, &CHAIN)
    }

    /// The same, by another chain than the one for what wanwright itself has written.
    pub fn decode_with(bytes: &[u8], chain: &Chain) -> Result<Self, UnreadableEnvelope> {
        // Nearly every message is of the present version: it is read once.
        let wire = match serde_json::from_slice::<Wire>(bytes) {
            Ok(wire) if wire.v == chain.envelope => wire,
            read => old(bytes, chain, read.err())?,
        };
        let mut events = Vec::with_capacity(wire.events.len());
        for event in wire.events {
            Event::from_wire(event, chain, &mut events)?;
        }
        let Wire { v, command, body_sha256, actor, cause, correlation, time, prev, key, .. } = wire;
        Ok(Self { v, command, body_sha256, actor, cause, correlation, time, prev, key, events })
    }

    /// The bytes to store.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// Reads an envelope that is not of the present version, or says why it is none.
fn old(bytes: &[u8], chain: &Chain, error: Option<serde_json::Error>) -> Result<Wire, UnreadableEnvelope> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let Version { v } = serde_json::from_slice(bytes)?;
    if let Some(error) = error
        && v == chain.envelope
    {
        return Err(error.into());
    }
    if v > chain.envelope {
        return Err(UnreadableEnvelope::UnknownVersion(v));
    }
    match chain.raise_envelope(v, serde_json::from_slice(bytes)?) {
        None => Err(UnreadableEnvelope::UnknownVersion(v)),
        Some(Err(why)) => Err(UnreadableEnvelope::Step(why)),
        Some(Ok(fields)) => Ok(serde_json::from_value(Value::Object(fields))?),
    }
}

/// The digest that tells two commands with one id apart: what it was about and what it said.
pub fn command_digest(object: &str, verb: &str, body: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    for part in [object.as_bytes(), verb.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(body);
    Digest(hash.finalize().into())
}
