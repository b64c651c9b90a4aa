//! What has to happen before a change is brought about.
//!
//! In JSON a rule is `"apply"`, `"approve"`, or `{"approve":{"by":2,"group":"network"}}`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::Name;

/// What has to happen before a change is brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it is brought about at once.
    #[default]
    Apply,
    /// Others than those who asked for it approve it.
    Approve(Approvals),
}

impl Rule {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The approvals that a change needs. Who asked for the change can give none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// How many people have to approve, 1 to [`MOST_APPROVALS`].
    #[serde(default = "one", deserialize_with = "count", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "json-schema", schemars(range(min = 1, max = 16)))]
    pub by: u32,
    /// The group they have to belong to; without one, anybody who may approve counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
}

/// The largest number of approvals that a rule may want.
pub const MOST_APPROVALS: u32 = 16;

impl Default for Approvals {
    fn default() -> Self {
        Self { by: one(), group: None }
    }
}

impl Approvals {
    /// Whether one approval by anybody is enough.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(by: &u32) -> bool {
    *by == one()
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let by = u32::deserialize(deserializer)?;
    if (1..=MOST_APPROVALS).contains(&by) {
        return Ok(by);
    }
    Err(D::Error::custom(format!("a change is approved by 1 to {MOST_APPROVALS} people")))
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Apply => serializer.serialize_str("apply"),
            Self::Approve(approvals) if approvals.is_default() => serializer.serialize_str("approve"),
            Self::Approve(approvals) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("approve", approvals)?;
                map.end()
            }
        }
    }
}

/// A rule that says how many approvals it wants, and whose.
#[derive(Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Counted {
    /// The approvals that a change needs.
    #[serde(deserialize_with = "object")]
    approve: Approvals,
}

/// Reads an object only: a derived reader would take a list field by field, and an empty one for the default.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Approvals, D::Error> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Approvals;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Approvals, A::Error> {
            Approvals::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object)
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Said)
    }
}

struct Said;

impl<'de> Visitor<'de> for Said {
    type Value = Rule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`apply`, `approve`, or an object with `approve`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rule, E> {
        match text {
            "apply" => Ok(Rule::Apply),
            "approve" => Ok(Rule::Approve(Approvals::default())),
            _ => Err(E::custom("a rule is `apply`, `approve`, or an object with `approve`")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        let counted = Counted::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Rule::Approve(counted.approve))
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let counted = generator.subschema_for::<Counted>();
        schemars::json_schema!({
            "description": "What has to happen before a change is brought about.",
            "anyOf": [
                { "type": "string", "enum": ["apply", "approve"] },
                counted,
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_word_or_says_how_many_and_who() {
        for (said, written) in [
            (r#""apply""#, r#""apply""#),
            (r#""approve""#, r#""approve""#),
            (r#"{"approve":{}}"#, r#""approve""#),
            (r#"{"approve":{"by":1}}"#, r#""approve""#),
            (r#"{"approve":{"by":2}}"#, r#"{"approve":{"by":2}}"#),
            (r#"{"approve":{"by":1,"group":"net"}}"#, r#"{"approve":{"group":"net"}}"#),
            (r#"{"approve":{"by":16,"group":"net"}}"#, r#"{"approve":{"by":16,"group":"net"}}"#),
        ] {
            let rule: Rule = serde_json::from_str(said).expect(said);
            assert_eq!(serde_json::to_string(&rule).expect("JSON"), written);
        }
        for wrong in [
            r#""ask""#,
            "7",
            "null",
            "{}",
            r#"{"approve":[]}"#,
            r#"{"approve":[2]}"#,
            r#"{"apply":{}}"#,
            r#"{"approve":{"by":0}}"#,
            r#"{"approve":{"by":17}}"#,
            r#"{"approve":{"by":"2"}}"#,
            r#"{"approve":{"by":2,"of":3}}"#,
            r#"{"approve":{"group":"No Name"}}"#,
            r#"{"approve":{},"apply":{}}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(wrong).is_err(), "{wrong}");
        }
    }
}
