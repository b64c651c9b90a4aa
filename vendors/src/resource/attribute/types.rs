//! What an attribute may hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Attribute;

/// Type of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeType {
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A list; order counts unless it is normalised away.
    List(Box<AttributeType>),
    /// A map from texts.
    Map(Box<AttributeType>),
    /// An object with these fields, which are attributes themselves.
    Object(Arc<BTreeMap<String, Attribute>>),
}

impl AttributeType {
    /// Reads a type as `api/<kind>.toml` has it; `object` has these fields. `None` if the text is no type. Objects stand
    /// alone, in a list or in a map, and nowhere deeper.
    pub(super) fn parse(text: &str, fields: &Arc<BTreeMap<String, Attribute>>) -> Option<Self> {
        let within = |word: &str| text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')');
        let item = |text: &str| {
            let item = Self::parse(text, fields)?;
            let too_deep = item.fields().is_some() && !matches!(item, Self::Object(_));
            (!too_deep).then(|| Box::new(item))
        };
        Some(match text {
            "string" => Self::String,
            "number" => Self::Number,
            "bool" => Self::Bool,
            "object" => Self::Object(Arc::clone(fields)),
            _ => match (within("list"), within("map")) {
                (Some(text), _) => Self::List(item(text)?),
                (_, Some(text)) => Self::Map(item(text)?),
                _ => return None,
            },
        })
    }

    /// Whether a value is of this type. Null is of every type: it means "not set". In objects it does not matter which
    /// fields are there.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Bool, Value::Bool(_)) => true,
            (Self::List(item), Value::Array(values)) => {
                values.iter().all(|value| !value.is_null() && item.accepts(value))
            }
            (Self::Map(item), Value::Object(values)) => {
                values.values().all(|value| !value.is_null() && item.accepts(value))
            }
            (Self::Object(fields), Value::Object(values)) => values
                .iter()
                .all(|(name, value)| fields.get(name).is_none_or(|field| field.r#type.accepts(value))),
            _ => false,
        }
    }

    /// The fields of the object, or of the objects in the list or map; `None` if there are none in it.
    #[must_use]
    pub fn fields(&self) -> Option<&Arc<BTreeMap<String, Attribute>>> {
        match self {
            Self::Object(fields) => Some(fields),
            Self::List(item) | Self::Map(item) => item.fields(),
            Self::String | Self::Number | Self::Bool => None,
        }
    }

    /// Whether it is text, a number or a truth value.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self, Self::String | Self::Number | Self::Bool)
    }
}

/// As it is written in `api/<kind>.toml`.
impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(item) => write!(f, "map({item})"),
            Self::Object(_) => f.write_str("object"),
        }
    }
}
