//! The version of an order: what whoever carries it out has to know.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What whoever carries an order out has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderVersion {
    /// `1`: what every executor knows.
    First,
    /// `"2"`: that it is brought about by the version of the template that it names. Executors from before there were any
    /// pass over what they do not know, this number among it, and would bring the stack about by the first one. So it is
    /// no number: to them the row is none that can be read ([`crate::Reason::OrderUnreadable`]), and they do nothing.
    WithTemplate,
}

/// How the second one is written.
const SECOND: &str = "2";

impl Serialize for OrderVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::First => serializer.serialize_u64(1),
            Self::WithTemplate => serializer.serialize_str(SECOND),
        }
    }
}

impl<'de> Deserialize<'de> for OrderVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = serde_json::Value::deserialize(deserializer)?;
        match (said.as_u64(), said.as_str()) {
            (Some(1), _) => Ok(Self::First),
            (_, Some(SECOND)) => Ok(Self::WithTemplate),
            _ => Err(D::Error::custom(format_args!("an order of version {said} is not known here"))),
        }
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for OrderVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OrderVersion".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What whoever carries the order out has to know: \"2\" where it names a version of the template.",
            "enum": [1, SECOND],
        })
    }
}
