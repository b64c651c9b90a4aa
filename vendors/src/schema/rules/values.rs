//! Settings as the language sees them.

use std::collections::HashMap;

use cel::Value as CelValue;
use cel::objects::Key;
use serde_json::Value;

use crate::schema::{Node, Shape};

/// A value that fits the place, with those of its fields that are read. The schema decides the type: `2` in the place
/// of a number is the number 2.0.
pub(super) fn of(node: &Node, value: &Value, reads: &dyn Fn(&str) -> bool) -> CelValue {
    match (&node.shape, value) {
        (Shape::Object { properties, .. }, Value::Object(map)) => {
            let read = map.iter().filter(|(name, _)| reads(name));
            let known = read.filter_map(|(name, value)| {
                Some((Key::from(name.as_str()), of(properties.get(name)?, value, &|_| true)))
            });
            CelValue::from(known.collect::<HashMap<Key, CelValue>>())
        }
        (Shape::Array { items, .. }, Value::Array(values)) => {
            CelValue::from(values.iter().map(|value| of(items, value, &|_| true)).collect::<Vec<_>>())
        }
        (Shape::Number { .. }, Value::Number(number)) => {
            number.as_f64().map_or(CelValue::Null, CelValue::Float)
        }
        (_, Value::Number(number)) => number.as_i64().map_or(CelValue::Null, CelValue::Int),
        (_, Value::String(text)) => CelValue::from(text.as_str()),
        (_, Value::Bool(answer)) => CelValue::Bool(*answer),
        _ => CelValue::Null,
    }
}
