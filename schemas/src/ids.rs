//! Ids: parsed once at the edge, valid ever after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Longest id, in bytes.
pub const MAX_TOKEN: usize = 63;

/// The one actor that may report.
pub const EXECUTOR: &str = "executor";

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` is not 1 to 63 characters of a-z, 0-9 and -")]
pub struct InvalidToken {
    what: &'static str,
    text: String,
}

/// Whether a text is `[a-z0-9-]{1,63}`: safe as a subject token, a key, a path component and a column.
pub fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidToken;
            fn from_str(text: &str) -> Result<Self, InvalidToken> {
                if is_token(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(InvalidToken { what: $what, text })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidToken;
            fn try_from(text: String) -> Result<Self, InvalidToken> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token!(
    /// A customer: the consistency boundary and the unit of fairness.
    CustomerId, "customer"
);
token!(
    /// Who sent a command, as the account or its permissions say.
    Actor, "actor"
);
token!(
    /// A vendor: the name of its folder.
    VendorId, "vendor"
);
token!(
    /// A site, unique within its customer.
    SiteId, "site"
);
token!(
    /// A tunnel, unique within its customer.
    TunnelId, "tunnel"
);
token!(
    /// A device, unique within its customer.
    DeviceId, "device"
);
token!(
    /// An id of any kind of object, before its kind has been looked at.
    ObjectId, "id"
);

/// What kind of object a command or an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The customer itself.
    Customer,
    /// A site.
    Site,
    /// A tunnel.
    Tunnel,
    /// A device.
    Device,
}

impl Kind {
    /// All kinds, in the order in which they are documented.
    pub const ALL: [Kind; 4] = [Kind::Customer, Kind::Site, Kind::Tunnel, Kind::Device];

    /// The kind as it stands in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Customer => "customer",
            Kind::Site => "site",
            Kind::Tunnel => "tunnel",
            Kind::Device => "device",
        }
    }

    /// The kind a subject token names.
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == token)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a command: a UUID version 7, whose first 48 bits are the time it was minted. An id that another system gave
/// is carried as a UUID version 8 that begins with 48 ones, so that it is behind every minted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Uuid", into = "Uuid")]
pub struct CommandId(Uuid);

impl CommandId {
    /// A new id from the machine's clock and randomness. For clients; the command service never mints one to decide.
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that a stored inbox message without one always gets: its time and its place in the stream.
    pub fn of_message(unix_millis: u64, stream_sequence: u64) -> Self {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&stream_sequence.to_be_bytes());
        Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
    }

    /// The id of a command that its sender named in its own way: an actor's `id` of a `source` is always the same
    /// command, and what one actor names is never what another one does.
    pub fn foreign(actor: &Actor, source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [actor.as_str(), source, id] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0xff; 16];
        bytes[6..].copy_from_slice(&hash.finalize()[..10]);
        Self(Uuid::new_v8(bytes))
    }

    /// Whether another system gave the id. Nothing in it tells when: the command is as old as its message.
    pub fn is_foreign(self) -> bool {
        self.0.get_version_num() == 8
    }

    /// When the id was minted, in milliseconds since 1970; for ever ahead for a foreign one.
    pub fn unix_millis(self) -> u64 {
        let bytes = self.0.as_bytes();
        bytes[..6].iter().fold(0, |millis, byte| (millis << 8) | u64::from(*byte))
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

/// Why a UUID is not a command id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommandId {
    /// Not a UUID at all.
    #[error("`{0}` is not a UUID")]
    NotAUuid(String),
    /// A UUID of another version.
    #[error("{0} is not a UUID of version 7")]
    NotVersion7(Uuid),
}

impl CommandId {
    /// The id's 16 bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id of these bytes.
    ///
    /// # Errors
    /// [`InvalidCommandId`], when they are no command's id.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, InvalidCommandId> {
        Uuid::from_bytes(bytes).try_into()
    }
}

impl TryFrom<Uuid> for CommandId {
    type Error = InvalidCommandId;
    fn try_from(uuid: Uuid) -> Result<Self, InvalidCommandId> {
        let is_foreign = uuid.get_version_num() == 8 && uuid.as_bytes().starts_with(&[0xff; 6]);
        if uuid.get_version_num() == 7 || is_foreign {
            Ok(Self(uuid))
        } else {
            Err(InvalidCommandId::NotVersion7(uuid))
        }
    }
}

impl From<CommandId> for Uuid {
    fn from(id: CommandId) -> Uuid {
        id.0
    }
}

impl FromStr for CommandId {
    type Err = InvalidCommandId;
    fn from_str(text: &str) -> Result<Self, InvalidCommandId> {
        let uuid =
            Uuid::try_parse(text).map_err(|_| InvalidCommandId::NotAUuid(text.chars().take(80).collect()))?;
        uuid.try_into()
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an order: the digest of what it asks for, so that the same wish is the same order wherever it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(Uuid);

impl OrderId {
    /// The id of the order whose content has this digest.
    pub fn of_digest(digest: [u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(Uuid::new_v8(bytes))
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for OrderId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked_at_the_edge() {
        let long = "a".repeat(64);
        for bad in ["", "A", "a.b", "a b", "a*", ">", "ü", "a/b", "..", "a\n", long.as_str()] {
            assert!(bad.parse::<CustomerId>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("oslo-01".parse::<SiteId>().map(|id| id.to_string()), Ok("oslo-01".into()));
        assert!(serde_json::from_str::<SiteId>("\"A\"").is_err());
    }

    #[test]
    fn an_inbox_message_always_gets_the_same_command_id() {
        let id = CommandId::of_message(1_795_000_000_123, 42);
        assert_eq!(id, CommandId::of_message(1_795_000_000_123, 42));
        assert_ne!(id, CommandId::of_message(1_795_000_000_123, 43));
        assert_eq!(id.unix_millis(), 1_795_000_000_123);
        assert_eq!(id.to_string().parse::<CommandId>(), Ok(id));
    }

    #[test]
    fn a_foreign_id_is_the_same_for_the_same_sender_and_source() {
        let actor = |name: &str| name.parse::<Actor>().expect("an actor");
        let id = CommandId::foreign(&actor("demo"), "/shop", "42");
        assert_eq!(id, CommandId::foreign(&actor("demo"), "/shop", "42"));
        for other in [
            ("dem", "o/shop", "42"),
            ("demo", "/shop4", "2"),
            ("demo", "/shop", "43"),
            ("other", "/shop", "42"),
        ] {
            assert_ne!(id, CommandId::foreign(&actor(other.0), other.1, other.2));
        }
        assert!(id.is_foreign() && id > CommandId::of_message(1 << 47, 0) && !CommandId::mint().is_foreign());
        assert_eq!(id.to_string().parse::<CommandId>(), Ok(id));
        assert_eq!(id.to_string(), "ffffffff-ffff-8b8a-ae92-8c8048da5987");
    }

    #[test]
    fn only_version_7_is_a_command_id() {
        assert!("a6a2dd08-5a0c-4e2b-9f0e-0d3c6a1b2c3d".parse::<CommandId>().is_err());
        assert!("44136fa3-55b3-878a-9146-ad16f7e8649e".parse::<CommandId>().is_err());
        assert!("nonsense".parse::<CommandId>().is_err());
    }
}
