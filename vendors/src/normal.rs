//! When two values of an attribute mean the same.

use std::net::IpAddr;

use serde_json::Value;

use crate::resource::{Attribute, AttributeType, Normal};

impl Attribute {
    /// Whether two values mean the same here. `1` equals `1.0`, an empty list or map equals none, and what
    /// [`Attribute::normalise`] names makes no difference.
    #[must_use]
    pub fn same(&self, left: &Value, right: &Value) -> bool {
        left == right || equal(self.r#type, &self.canonical(left), &self.canonical(right))
    }

    /// The value in the one form that all values with its meaning have.
    fn canonical(&self, value: &Value) -> Value {
        let is = |normal: Normal| self.normalise.contains(&normal);
        let value = match value {
            Value::Null => self.default_value().filter(|_| is(Normal::Default)).unwrap_or(value),
            other => other,
        };
        match value {
            Value::String(text) if text.is_empty() && is(Normal::Empty) => Value::Null,
            Value::String(text) => self.canonical_text(text).into(),
            Value::Array(items) => {
                let texts = items.iter().filter_map(Value::as_str);
                let mut texts: Vec<String> = texts.map(|text| self.canonical_text(text)).collect();
                if is(Normal::Unordered) {
                    texts.sort();
                }
                texts.into()
            }
            other => other.clone(),
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

fn equal(kind: AttributeType, left: &Value, right: &Value) -> bool {
    if left == right {
        return true;
    }
    match kind {
        AttributeType::Number => {
            matches!((left.as_f64(), right.as_f64()), (Some(left), Some(right)) if left == right)
                && !both_integers(left, right)
        }
        // Many vendors leave an empty collection out of their answers.
        AttributeType::StringList | AttributeType::StringMap => is_empty(left) && is_empty(right),
        AttributeType::String | AttributeType::Bool => false,
    }
}

/// Two whole numbers that are not equal may still be equal as floating-point numbers.
fn both_integers(left: &Value, right: &Value) -> bool {
    let whole = |value: &Value| value.is_i64() || value.is_u64();
    whole(left) && whole(right)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}
