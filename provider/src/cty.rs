//! Terraform's values, as far as attributes of vendor resources need them, and their MessagePack form.

use std::collections::BTreeMap;

use rmpv::Value as Packed;
use serde_json::{Map, Number, Value as Json};
use wanwright_vendors::{Attribute, AttributeType};

/// A value of an attribute. Any part of it may not be known yet while Terraform plans.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unknown,
    Null,
    Bool(bool),
    Number(Number),
    /// A number that arrived as decimal text, because no whole number or float is exactly it.
    Decimal(String),
    String(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The value as JSON; `None` if any of it is unknown.
    pub(crate) fn to_json(&self) -> Option<Json> {
        Some(match self {
            Self::Unknown => return None,
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(number) => Json::Number(number.clone()),
            Self::Decimal(text) => text.parse::<f64>().map_or(Json::Null, Json::from),
            Self::String(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect::<Option<_>>()?,
            Self::Map(items) => {
                let pair = |(key, value): (&String, &Self)| Some((key.clone(), value.to_json()?));
                Json::Object(items.iter().map(pair).collect::<Option<Map<_, _>>>()?)
            }
        })
    }

    /// JSON as a value; what it should be was checked before.
    pub(crate) fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::String(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Json::Object(items) => {
                let pair = |(key, value): (&String, &Json)| (key.clone(), Self::from_json(value));
                Self::Map(items.iter().map(pair).collect())
            }
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether two values are known and mean the same to an attribute.
    pub(crate) fn same(&self, attribute: &Attribute, other: &Self) -> bool {
        match (self.to_json(), other.to_json()) {
            (Some(left), Some(right)) => attribute.same(&left, &right),
            _ => false,
        }
    }

    pub(crate) fn to_packed(&self) -> Packed {
        match self {
            // Extension 0 with any body stands for a value that is not known.
            Self::Unknown => Packed::Ext(0, vec![0]),
            Self::Null => Packed::Nil,
            Self::Bool(value) => Packed::Boolean(*value),
            // Numbers go as text. Terraform reads 0.1 written as a float as the float's exact value, which is not 0.1;
            // and it keeps whole numbers from the wire with another precision than those from its state file, takes
            // the two for different, and then reports drift where there is none.
            Self::Number(number) => Packed::from(number.to_string()),
            Self::Decimal(text) | Self::String(text) => Packed::from(text.as_str()),
            Self::List(items) => Packed::Array(items.iter().map(Self::to_packed).collect()),
            Self::Map(items) => Packed::Map(
                items.iter().map(|(key, value)| (Packed::from(key.as_str()), value.to_packed())).collect(),
            ),
        }
    }

    /// Reads a value of a given type; `None` if it is of another. An object gets all of its fields.
    pub(crate) fn from_packed(kind: &AttributeType, packed: &Packed) -> Option<Self> {
        Some(match (kind, packed) {
            (_, Packed::Nil) => Self::Null,
            // Also an unknown value about which something is known, extension 12.
            (_, Packed::Ext(..)) => Self::Unknown,
            (AttributeType::Bool, Packed::Boolean(value)) => Self::Bool(*value),
            (AttributeType::String, Packed::String(text)) => Self::String(text.as_str()?.to_owned()),
            (AttributeType::Number, packed) => number(packed)?,
            (AttributeType::List(item), Packed::Array(items)) => {
                let item = |packed| Self::from_packed(item, packed);
                Self::List(items.iter().map(item).collect::<Option<_>>()?)
            }
            (AttributeType::Map(item), Packed::Map(items)) => {
                let item = |(key, value): &(Packed, Packed)| {
                    Some((key.as_str()?.to_owned(), Self::from_packed(item, value)?))
                };
                Self::Map(items.iter().map(item).collect::<Option<_>>()?)
            }
            (AttributeType::Object(fields), Packed::Map(items)) => {
                let field = |(name, field): (&String, &Attribute)| {
                    let packed = items.iter().find(|(key, _)| key.as_str() == Some(name));
                    let packed = packed.map_or(&Packed::Nil, |(_, value)| value);
                    Some((name.clone(), Self::from_packed(&field.r#type, packed)?))
                };
                Self::Map(fields.iter().map(field).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// Whether no part of it is unknown.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::List(items) => items.iter().all(Self::is_whole),
            Self::Map(items) => items.values().all(Self::is_whole),
            _ => true,
        }
    }

    /// The items of a list; none if it is no list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// What a map has under a key, or an object as a field; null if there is nothing.
    pub(crate) fn at(&self, key: &str) -> &Self {
        match self {
            Self::Map(items) => items.get(key).unwrap_or(&Self::Null),
            _ => &Self::Null,
        }
    }
}

fn number(packed: &Packed) -> Option<Value> {
    Some(match packed {
        Packed::Integer(whole) => match (whole.as_i64(), whole.as_u64()) {
            (Some(whole), _) => Value::Number(whole.into()),
            (None, Some(whole)) => Value::Number(whole.into()),
            (None, None) => return None,
        },
        Packed::F32(float) => Value::Number(Number::from_f64(f64::from(*float))?),
        Packed::F64(float) => Value::Number(Number::from_f64(*float)?),
        Packed::String(text) => {
            let text = text.as_str()?;
            if let Ok(whole) = text.parse::<i64>() {
                return Some(Value::Number(whole.into()));
            }
            if let Ok(whole) = text.parse::<u64>() {
                return Some(Value::Number(whole.into()));
            }
            text.parse::<f64>().ok().filter(|float| float.is_finite())?;
            Value::Decimal(text.to_owned())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round(kind: &AttributeType, value: &Value) -> Option<Value> {
        Value::from_packed(kind, &value.to_packed())
    }

    fn list() -> AttributeType {
        AttributeType::List(Box::new(AttributeType::String))
    }

    fn map() -> AttributeType {
        AttributeType::Map(Box::new(AttributeType::String))
    }

    #[test]
    fn values_survive_the_wire() {
        for (kind, json) in [
            (AttributeType::String, json!("ø")),
            (AttributeType::Bool, json!(true)),
            (AttributeType::Number, json!(-3)),
            (AttributeType::Number, json!(u64::MAX)),
            (list(), json!(["a", null])),
            (map(), json!({"a": "b"})),
            (map(), Json::Null),
        ] {
            let value = Value::from_json(&json);
            assert_eq!(round(&kind, &value), Some(value.clone()));
            assert_eq!(value.to_json(), Some(json));
        }
        let partly = Value::List(vec![Value::Unknown, Value::String("a".into())]);
        assert_eq!(round(&list(), &partly), Some(partly.clone()));
        assert_eq!(partly.to_json(), None);
    }

    #[test]
    fn numbers_are_written_as_text_and_stay_what_they_are() {
        assert_eq!(Value::from_json(&json!(1400)).to_packed(), Packed::from("1400"));
        let whole = Value::from_packed(&AttributeType::Number, &Packed::from(1400));
        assert_eq!(whole, Some(Value::from_json(&json!(1400))));
        let tenth = Value::from_json(&json!(0.1));
        assert_eq!(tenth.to_packed(), Packed::from("0.1"));
        let read = round(&AttributeType::Number, &tenth).unwrap();
        assert_eq!(read, Value::Decimal("0.1".into()));
        assert_eq!(read.to_json(), tenth.to_json());
        let long = Value::Decimal("0.1234567890123456789".into());
        assert_eq!(round(&AttributeType::Number, &long), Some(long.clone()));
    }

    #[test]
    fn another_type_is_refused() {
        for (kind, packed) in [
            (AttributeType::String, Packed::from(1)),
            (AttributeType::Number, Packed::from("one")),
            (AttributeType::Number, Packed::from("inf")),
            (AttributeType::Bool, Packed::from("true")),
            (list(), Packed::Array(vec![Packed::from(1)])),
            (map(), Packed::Map(vec![(Packed::from(1), Packed::from("a"))])),
        ] {
            assert_eq!(Value::from_packed(&kind, &packed), None, "{packed}");
        }
        assert_eq!(
            Value::from_packed(&AttributeType::Bool, &Packed::Ext(12, vec![0x80])),
            Some(Value::Unknown)
        );
    }
}
