//! The attributes of a resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LoadError;
use crate::kind;
use crate::pointer;
use crate::section::Section;

/// Names that Terraform, the provider or the places of templates use.
const RESERVED: &[&str] = &[
    "attributes",
    "connection",
    "count",
    "cursor",
    "depends_on",
    "for_each",
    "id",
    "idempotency_key",
    "job",
    "lifecycle",
    "provider",
    "provisioner",
    "size",
];

/// One attribute of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its type.
    pub r#type: AttributeType,
    /// Who sets it.
    pub presence: Presence,
    /// Whether a change means delete and create.
    pub replace: bool,
    /// Whether it is part of an object's address: reads, deletes and lists may name it in their templates.
    pub scope: bool,
    /// JSON pointer in request and answer.
    pub json: String,
    /// How it is written there.
    pub wire: Wire,
    /// Dotted path in an order's desired state.
    pub from: String,
    /// Whether a difference is drift.
    pub compare: bool,
    /// What does not make two values different.
    pub normalise: Vec<Normal>,
    /// Whether people may see it.
    pub sensitive: bool,
    /// For people; may be empty.
    pub description: String,
}

/// Type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum AttributeType {
    /// Text.
    #[serde(rename = "string")]
    String,
    /// A number.
    #[serde(rename = "number")]
    Number,
    /// True or false.
    #[serde(rename = "bool")]
    Bool,
    /// A list of texts; order counts unless it is normalised away.
    #[serde(rename = "list(string)")]
    StringList,
    /// A map of texts.
    #[serde(rename = "map(string)")]
    StringMap,
}

/// Who sets an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// The customer, always.
    Required,
    /// The customer or, left out, the default; without a default nobody.
    Optional {
        /// What stands for a value that was left out.
        default: Option<Value>,
    },
    /// The vendor; never sent.
    Computed,
}

/// How a value is written in the vendor's JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As its type says.
    #[default]
    Typed,
    /// As text, `"1400"`; read from text, number or truth value.
    Text,
}

/// What does not make two values different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normal {
    /// Upper and lower case.
    Case,
    /// How an IP address is written: `2001:DB8::0` is `2001:db8::`.
    Ip,
    /// How a prefix is written, and its host bits: `10.0.0.1/24` is `10.0.0.0/24`, an address alone is its longest prefix.
    Cidr,
    /// The order of a list.
    Unordered,
    /// An empty text, list or map is the same as none.
    Empty,
    /// None is the same as the default.
    Default,
}

impl AttributeType {
    /// Whether a value is of this type. Null is of every type: it means "not set".
    #[must_use]
    pub fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Bool, Value::Bool(_)) => true,
            (Self::StringList, Value::Array(items)) => items.iter().all(Value::is_string),
            (Self::StringMap, Value::Object(items)) => items.values().all(Value::is_string),
            _ => false,
        }
    }

    /// As it is written in `api/<kind>.toml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::StringList => "list(string)",
            Self::StringMap => "map(string)",
        }
    }
}

impl Normal {
    fn fits(self, r#type: AttributeType) -> bool {
        use AttributeType::{String, StringList, StringMap};
        match self {
            Self::Case | Self::Ip | Self::Cidr => matches!(r#type, String | StringList),
            Self::Unordered => r#type == StringList,
            Self::Empty => matches!(r#type, String | StringList | StringMap),
            Self::Default => true,
        }
    }
}

impl Attribute {
    /// Whether the vendor sets it.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        matches!(self.presence, Presence::Computed)
    }

    /// What stands for a value that was left out.
    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        match &self.presence {
            Presence::Optional { default } => default.as_ref(),
            Presence::Required | Presence::Computed => None,
        }
    }
}

pub(super) fn load(mut section: Section) -> Result<BTreeMap<String, Attribute>, LoadError> {
    let mut found: BTreeMap<String, Attribute> = BTreeMap::new();
    for name in section.keys() {
        if !kind::is_identifier(&name, 64) || RESERVED.contains(&name.as_str()) {
            return Err(section.error(
                &name,
                "cannot be an attribute's name: use lowercase letters, digits and `_`, and none that Terraform or wanwright use",
            ));
        }
        let attribute = attribute(section.section(&name)?, &name)?;
        // Two attributes in one place would overwrite each other in the request.
        let clash = found.iter().find(|(_, other)| overlap(&other.json, &attribute.json));
        if let Some((other, _)) = clash {
            return Err(section.error(&name, format!("has the same place in the JSON as `{other}`")));
        }
        found.insert(name, attribute);
    }
    section.finish()?;
    Ok(found)
}

fn attribute(mut section: Section, name: &str) -> Result<Attribute, LoadError> {
    let r#type: AttributeType = section.required("type")?;
    let computed = section.optional("computed")?.unwrap_or(false);
    let replace = section.optional("replace")?.unwrap_or(false);
    let from: Option<String> = section.optional("from")?;
    let presence = presence(&mut section, r#type, computed, replace || from.is_some())?;
    let attribute = Attribute {
        compare: section.optional("compare")?.unwrap_or(!computed),
        sensitive: section.optional("sensitive")?.unwrap_or(false),
        description: section.optional("description")?.unwrap_or_default(),
        json: pointer::writable(&mut section, "json")?.unwrap_or_else(|| format!("/{name}")),
        scope: section.optional("scope")?.unwrap_or(false),
        wire: section.optional("wire")?.unwrap_or_default(),
        normalise: section.optional("normalise")?.unwrap_or_default(),
        from: from.unwrap_or_else(|| name.to_owned()),
        r#type,
        presence,
        replace,
    };
    check(&section, &attribute)?;
    section.finish()?;
    Ok(attribute)
}

fn presence(
    section: &mut Section,
    r#type: AttributeType,
    computed: bool,
    ours: bool,
) -> Result<Presence, LoadError> {
    let required = section.optional("required")?.unwrap_or(false);
    let default: Option<Value> = section.optional("default")?;
    if let Some(default) = &default
        && !r#type.accepts(default)
    {
        return Err(section.error("default", format!("is no {}", r#type.as_str())));
    }
    match (required, computed, default) {
        (true, false, None) => Ok(Presence::Required),
        (false, true, None) if !ours => Ok(Presence::Computed),
        (false, false, default) => Ok(Presence::Optional { default }),
        _ => Err(section.error(
            "",
            "is one of `required`, optional (perhaps with `default`) or `computed`; \
             a computed attribute has neither `replace` nor `from`",
        )),
    }
}

fn check(section: &Section, attribute: &Attribute) -> Result<(), LoadError> {
    let kind = attribute.r#type;
    if attribute.from.split('.').any(str::is_empty) {
        return Err(section.error("from", "is no dotted path: write one like `settings.vlan`"));
    }
    if attribute.scope && (!attribute.replace || attribute.presence != Presence::Required) {
        let message = "is part of the object's address: make it `required` with `replace = true`";
        return Err(section.error("scope", message));
    }
    if attribute.wire == Wire::Text && matches!(kind, AttributeType::StringList | AttributeType::StringMap) {
        return Err(
            section.error("wire", format!("is for single values: remove it, a {} is none", kind.as_str()))
        );
    }
    if let Some(normal) = attribute.normalise.iter().find(|normal| !normal.fits(kind)) {
        let word = format!("{normal:?}").to_lowercase();
        let message = format!("has \"{word}\", which means nothing for a {}: remove it", kind.as_str());
        return Err(section.error("normalise", message));
    }
    if attribute.normalise.contains(&Normal::Default) && attribute.default_value().is_none() {
        return Err(section.error("normalise", "has \"default\", but there is none: add `default`"));
    }
    Ok(())
}

fn overlap(left: &str, right: &str) -> bool {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
