//! When two values of an attribute mean the same.

use std::net::IpAddr;

use serde_json::{Number, Value};

use crate::resource::{Attribute, AttributeType, Normal};

impl Attribute {
    /// Whether two values mean the same here. `1` equals `1.0`, an empty list or map equals none, and what
    /// [`Attribute::normalise`] names makes no difference. Of objects those fields count that are compared.
    #[must_use]
    pub fn same(&self, left: &Value, right: &Value) -> bool {
        left == right || equal(&self.r#type, &self.canonical(left), &self.canonical(right))
    }

    /// The value in the one form that all values with its meaning have.
    fn canonical(&self, value: &Value) -> Value {
        let is = |normal: Normal| self.normalise.contains(&normal);
        let value = match value {
            Value::Null => self.default_value().filter(|_| is(Normal::Default)).unwrap_or(value),
            other => other,
        };
        match self.canonical_value(&self.r#type, value) {
            Value::String(text) if text.is_empty() && is(Normal::Empty) => Value::Null,
            Value::Object(fields)
                if fields.is_empty()
                    && is(Normal::Empty)
                    && matches!(self.r#type, AttributeType::Object(_)) =>
            {
                Value::Null
            }
            Value::Array(mut items) if is(Normal::Unordered) => {
                items.sort_by_cached_key(ToString::to_string);
                Value::Array(items)
            }
            other => other,
        }
    }

    fn canonical_value(&self, kind: &AttributeType, value: &Value) -> Value {
        match (kind, value) {
            (AttributeType::Object(fields), Value::Object(values)) => {
                let field = |(name, field): (&String, &Self)| {
                    let value = field.canonical(values.get(name).unwrap_or(&Value::Null));
                    // An empty list equals none, wherever it stands.
                    let counts = field.compare && !field.is_computed() && !is_nothing(&field.r#type, &value);
                    counts.then(|| (name.clone(), value))
                };
                Value::Object(fields.iter().filter_map(field).collect())
            }
            (AttributeType::List(item), Value::Array(values)) => {
                values.iter().map(|value| self.canonical_value(item, value)).collect()
            }
            (AttributeType::Map(item), Value::Object(values)) => {
                values.iter().map(|(key, value)| (key.clone(), self.canonical_value(item, value))).collect()
            }
            (_, Value::String(text)) => self.canonical_text(text).into(),
            // So that 1 and 1.0 are one item of a list, and one field of an object.
            (_, Value::Number(number)) => whole(number).map_or_else(|| value.clone(), Value::from),
            _ => value.clone(),
        }
    }

    fn canonical_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for normal in &self.normalise {
            let canonical = match normal {
                Normal::Case => Some(text.to_lowercase()),
                Normal::Ip => text.trim().parse::<IpAddr>().ok().map(|address| address.to_string()),
                Normal::Cidr => prefix(text.trim()),
                Normal::Unordered | Normal::Empty | Normal::Default => None,
            };
            // What is no address is compared as it is written.
            text = canonical.unwrap_or(text);
        }
        text
    }
}

/// A prefix without its host bits; `None` if the text is none.
fn prefix(text: &str) -> Option<String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.parse().ok()?, Some(length.parse::<u32>().ok()?)),
        None => (text.parse().ok()?, None),
    };
    match address {
        IpAddr::V4(address) => {
            let length = length.unwrap_or(32);
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
            Some(format!("{}/{length}", std::net::Ipv4Addr::from_bits(address.to_bits() & mask)))
        }
        IpAddr::V6(address) => {
            let length = length.unwrap_or(128);
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
            Some(format!("{}/{length}", std::net::Ipv6Addr::from_bits(address.to_bits() & mask)))
        }
    }
}

fn equal(kind: &AttributeType, left: &Value, right: &Value) -> bool {
    // Many vendors leave an empty collection out of their answers.
    let numbers = || match (left, right) {
        // Two whole numbers that are not equal may still be equal as floating-point numbers.
        (Value::Number(left), Value::Number(right)) => {
            (left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64()
        }
        _ => false,
    };
    left == right || is_nothing(kind, left) && is_nothing(kind, right) || numbers()
}

/// A number that is whole in spite of how it is written, as one; only where every whole number has a float of its own.
fn whole(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of exact floats")]
    (float.abs() <= EXACT).then_some(float as i64)
}

/// Null, or a list or map with nothing in it.
fn is_nothing(kind: &AttributeType, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null) => true,
        (AttributeType::List(_), Value::Array(items)) => items.is_empty(),
        (AttributeType::Map(_), Value::Object(items)) => items.is_empty(),
        _ => false,
    }
}
