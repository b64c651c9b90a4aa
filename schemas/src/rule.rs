//! What has to happen before a change is brought about.
//!
//! In JSON a rule is `"apply"`, `"approve"`, `{"approve":{"by":2,"group":"network"}}`, `"plan"`, or
//! `{"plan":{"by":2,"group":"network","only":"destroys","valid":"24h"}}`.

use std::fmt;
use std::marker::PhantomData;

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
    /// It is planned, and the plan waits for approvals where the rule wants some. What is applied is that very plan.
    Plan(PlanRule),
}

/// Which plans need approvals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Approved {
    /// Every plan that would change something.
    #[default]
    Changes,
    /// Plans that would take something away, be it to make it anew. Others are applied at once.
    Destroys,
}

/// What a plan needs before it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanRule {
    /// How many people have to approve, 1 to [`MOST_APPROVALS`].
    #[serde(default = "one", deserialize_with = "count", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "json-schema", schemars(range(min = 1, max = 16)))]
    pub by: u32,
    /// The group they have to belong to; without one, anybody who may approve counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Which plans need their approval.
    #[serde(default, skip_serializing_if = "Approved::is_default")]
    pub only: Approved,
    /// How long a plan may be approved and begun.
    #[serde(default, skip_serializing_if = "Validity::is_default")]
    pub valid: Validity,
}

impl Default for PlanRule {
    fn default() -> Self {
        Self { by: one(), group: None, only: Approved::default(), valid: Validity::default() }
    }
}

impl PlanRule {
    /// The approvals that a plan needs which needs some.
    pub fn approvals(&self) -> Approvals {
        Approvals { by: self.by, group: self.group.clone() }
    }
}

impl Approved {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long a plan may be approved and begun: 1 second to 30 days, as `90s`, `15m`, `24h` or `3d`. A policy asks for
/// [`Validity::SHORTEST`] at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Validity(u32);

/// The units of a [`Validity`], the largest first, in seconds.
const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Validity {
    const LONGEST: u32 = 30 * 86_400;

    /// The shortest that a policy may ask for: ten minutes. Whatever is not begun by then is planned anew, so a shorter
    /// time would make plans for ever that nobody has read. Histories from before there was a shortest one have others.
    pub const SHORTEST: Self = Self(600);

    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A day: so many wait for somebody who works in the daytime.
impl Default for Validity {
    fn default() -> Self {
        Self(86_400)
    }
}

impl TryFrom<String> for Validity {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const NO: &str = "a plan is valid for 1s to 30d, written as 90s, 15m, 24h or 3d";
        let unit = text.chars().last().ok_or(NO)?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NO)?;
        let number = &text[..text.len() - 1];
        if number.is_empty() || number.len() > 7 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(NO);
        }
        let whole = number.parse::<u32>().ok().and_then(|number| number.checked_mul(*seconds)).ok_or(NO)?;
        if (1..=Self::LONGEST).contains(&whole) { Ok(Self(whole)) } else { Err(NO) }
    }
}

impl From<Validity> for String {
    fn from(validity: Validity) -> String {
        validity.to_string()
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every number of seconds has a unit: the last one.
        let (unit, seconds) =
            UNITS.into_iter().find(|(_, unit)| self.0.is_multiple_of(*unit)).unwrap_or(('s', 1));
        // A day is written as hours, as people say it of a plan.
        match (unit, self.0 / seconds) {
            ('d', 1) => f.write_str("24h"),
            (unit, number) => write!(f, "{number}{unit}"),
        }
    }
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
            Self::Plan(rule) if *rule == PlanRule::default() => serializer.serialize_str("plan"),
            Self::Plan(rule) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("plan", rule)?;
                map.end()
            }
        }
    }
}

/// A rule that says what it wants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    #[serde(default, deserialize_with = "object")]
    approve: Option<Approvals>,
    #[serde(default, deserialize_with = "object")]
    plan: Option<PlanRule>,
}

/// A rule that says how many approvals it wants, and whose.
#[cfg(feature = "json-schema")]
#[derive(schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read as `Detailed`")]
struct Counted {
    /// The approvals that a change needs.
    approve: Approvals,
}

/// A rule that says what a plan needs before it is applied.
#[cfg(feature = "json-schema")]
#[derive(schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read as `Detailed`")]
struct Planned {
    /// What a plan needs before it is applied.
    plan: PlanRule,
}

/// Reads an object only: a derived reader would take a list field by field, and an empty one for the default.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData)).map(Some)
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
        f.write_str("`apply`, `approve`, `plan`, or an object with `approve` or `plan`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rule, E> {
        match text {
            "apply" => Ok(Rule::Apply),
            "approve" => Ok(Rule::Approve(Approvals::default())),
            "plan" => Ok(Rule::Plan(PlanRule::default())),
            _ => {
                Err(E::custom("a rule is `apply`, `approve`, `plan`, or an object with `approve` or `plan`"))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        match Detailed::deserialize(MapAccessDeserializer::new(map))? {
            Detailed { approve: Some(approvals), plan: None } => Ok(Rule::Approve(approvals)),
            Detailed { approve: None, plan: Some(rule) } => Ok(Rule::Plan(rule)),
            // A patch adds the one beside the other, unless it takes that away.
            Detailed { approve: Some(_), plan: Some(_) } => {
                Err(A::Error::custom("a rule has `approve` or `plan`, not both; set the other one to null"))
            }
            Detailed { approve: None, plan: None } => Err(A::Error::missing_field("approve")),
        }
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let counted = generator.subschema_for::<Counted>();
        let planned = generator.subschema_for::<Planned>();
        schemars::json_schema!({
            "description": "What has to happen before a change is brought about.",
            "anyOf": [
                { "type": "string", "enum": ["apply", "approve", "plan"] },
                counted,
                planned,
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
            (r#""plan""#, r#""plan""#),
            (r#"{"plan":{}}"#, r#""plan""#),
            (r#"{"plan":{"only":"changes","valid":"1d"}}"#, r#""plan""#),
            (r#"{"plan":{"by":2,"only":"destroys"}}"#, r#"{"plan":{"by":2,"only":"destroys"}}"#),
            (r#"{"plan":{"group":"net","valid":"48h"}}"#, r#"{"plan":{"group":"net","valid":"2d"}}"#),
            (r#"{"plan":{"valid":"120s"}}"#, r#"{"plan":{"valid":"2m"}}"#),
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
            r#"{"approve":{},"plan":{}}"#,
            r#"{"plan":null}"#,
            r#"{"plan":[]}"#,
            r#"{"plan":{"by":0}}"#,
            r#"{"plan":{"only":"nothing"}}"#,
            r#"{"plan":{"valid":"0s"}}"#,
            r#"{"plan":{"valid":"31d"}}"#,
            r#"{"plan":{"valid":"99999999999d"}}"#,
            r#"{"plan":{"valid":"-1h"}}"#,
            r#"{"plan":{"valid":"1ü"}}"#,
            r#"{"plan":{"valid":""}}"#,
            r#"{"plan":{"valid":24}}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(wrong).is_err(), "{wrong}");
        }
    }
}
