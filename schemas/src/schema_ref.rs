//! Which schema judged the settings of an object.

use serde::{Deserialize, Serialize};

use crate::envelope::Digest;

/// The version in which an event's settings are written, and the edition of it that judged them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SchemaRef {
    /// The version: `v1`, `v2`, ….
    pub version: String,
    /// The digest of the schema's canonical JSON.
    pub digest: Digest,
}
