//! What the vendor has, as a state: what means the same stays as it was written, so that Terraform sees no change where
//! there is none.

use wanwright_vendors::{Attribute, AttributeType};

use crate::cty::Value;
use crate::wire::{Attributes, Values, with_blocks};

/// The values of attributes as the vendor has them, compared with what they were or were planned to be.
pub(crate) fn fields(attributes: &Attributes, observed: &Value, before: Option<&Value>) -> Values {
    let value = |(name, attribute): (&String, &Attribute)| {
        let value = value(attribute, observed.at(name), before.map(|before| before.at(name)));
        (name.clone(), with_blocks(attribute, value))
    };
    attributes.iter().map(value).collect()
}

fn value(attribute: &Attribute, observed: &Value, before: Option<&Value>) -> Value {
    let known = before.filter(|before| before.is_whole());
    if attribute.write_only {
        return Value::Null;
    }
    if attribute.local {
        return known.cloned().unwrap_or(Value::Null);
    }
    // What is not compared stays as it was sent: the vendor may hide it, or write it in its own way.
    if let Some(known) =
        known.filter(|known| !attribute.is_computed() && !attribute.compare && !known.is_null())
    {
        return known.clone();
    }
    if attribute.r#type.fields().is_none() || nowhere(observed) || before.is_some_and(nowhere) {
        let kept = known.filter(|known| observed.same(attribute, known));
        return kept.cloned().unwrap_or_else(|| within(&attribute.r#type, observed, None));
    }
    within(&attribute.r#type, observed, before)
}

/// Whether there is nothing to go into.
fn nowhere(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        _ => false,
    }
}

/// Objects get all of their fields, each compared with the one that stood in its place.
fn within(kind: &AttributeType, observed: &Value, before: Option<&Value>) -> Value {
    match (kind, observed) {
        (AttributeType::Object(attributes), Value::Map(_)) => {
            Value::Map(fields(attributes, observed, before.filter(|before| matches!(before, Value::Map(_)))))
        }
        (AttributeType::List(item), Value::List(items)) if item.fields().is_some() => {
            let place = |(index, observed)| {
                within(item, observed, before.and_then(|before| before.items().get(index)))
            };
            Value::List(items.iter().enumerate().map(place).collect())
        }
        (AttributeType::Map(item), Value::Map(items)) if item.fields().is_some() => {
            let place = |(key, observed): (&String, &Value)| {
                let before = before.map(|before| before.at(key)).filter(|before| !before.is_null());
                (key.clone(), within(item, observed, before))
            };
            Value::Map(items.iter().map(place).collect())
        }
        _ => observed.clone(),
    }
}
