//! What people say about an object: notes, and that they know of a trouble.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A note for whoever reads the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoteBody {
    /// The note: 1 to 2,000 characters, in several lines if need be. It is kept for ever and not sealed.
    pub text: String,
}

/// Why a failure or a drift is known and left as it is for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeBody {
    /// Why, in a sentence of 1 to 500 characters.
    pub reason: String,
    /// The moment up to which nobody else has to look; without one, until the trouble is another one or gone.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// A trouble that an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Trouble {
    /// The change failed for good.
    Failure,
    /// The vendor has something else than what was applied.
    Drift,
}

impl Trouble {
    /// The trouble in a word, as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Drift => "drift",
        }
    }
}

/// The generation whose specification an object should have again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevertBody {
    /// The generation.
    pub to_generation: u64,
}
