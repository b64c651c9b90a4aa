//! Values of whole objects on the wire and in stored states.

use std::collections::BTreeMap;

use rmpv::Value as Packed;
use serde_json::{Map, Value as Json};
use wanwright_vendors::{Attribute, AttributePath, AttributeType, PathStep};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::proto::tfplugin6::DynamicValue;

/// Deepest nesting read from the wire: objects stand in four others at most, each perhaps in a list.
const DEEPEST: usize = 24;

/// Attributes of one object, by name.
pub(crate) type Attributes = BTreeMap<String, Attribute>;
/// Their values.
pub(crate) type Values = BTreeMap<String, Value>;

/// Reads an object with these attributes; `None` for null.
pub(crate) fn decode(
    value: Option<&DynamicValue>,
    attributes: &Attributes,
) -> Result<Option<Values>, Diagnostic> {
    let wrong = |detail: String| Diagnostic::unexpected("Terraform sent a value that cannot be read", detail);
    let packed = match value {
        None => return Ok(None),
        Some(value) if value.msgpack.is_empty() && !value.json.is_empty() => {
            serde_json::from_slice::<Json>(&value.json)
                .map(|json| Value::from_json(&json).to_packed())
                .map_err(|error| wrong(error.to_string()))?
        }
        Some(value) => rmpv::decode::read_value_with_max_depth(&mut value.msgpack.as_slice(), DEEPEST)
            .map_err(|error| wrong(error.to_string()))?,
    };
    let fields = match packed {
        Packed::Nil => return Ok(None),
        Packed::Map(fields) => fields,
        _ => return Err(wrong("It is no object.".to_owned())),
    };
    let mut found = Values::new();
    for (name, attribute) in attributes {
        let packed = fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
        let value = Value::from_packed(&attribute.r#type, packed.unwrap_or(&Packed::Nil));
        let value = value.ok_or_else(|| wrong(format!("`{name}` is no {}.", attribute.r#type)).at(name))?;
        found.insert(name.clone(), value);
    }
    Ok(Some(found))
}

/// Reads a state as it was stored, by this version or another: what is missing is null, what is not known is gone, what
/// had another name is found under it, and text is read as the number or truth value that it says.
pub(crate) fn decode_stored(json: &[u8], attributes: &Attributes) -> Result<Values, Diagnostic> {
    let stored: Map<String, Json> = serde_json::from_slice(json)
        .map_err(|error| Diagnostic::unexpected("the stored state is no JSON object", error.to_string()))?;
    stored_fields(attributes, &stored, &AttributePath::default())
}

fn stored_fields(
    attributes: &Attributes,
    stored: &Map<String, Json>,
    at: &AttributePath,
) -> Result<Values, Diagnostic> {
    let mut values = Values::new();
    for (name, attribute) in attributes {
        let names = std::iter::once(name).chain(&attribute.formerly);
        let json = names.filter_map(|name| stored.get(name)).find(|json| !json.is_null());
        let value = match json {
            _ if attribute.write_only => Value::Null,
            None => Value::Null,
            Some(json) => stored_value(&attribute.r#type, json, &at.field(name))?,
        };
        values.insert(name.clone(), with_blocks(attribute, value));
    }
    Ok(values)
}

fn stored_value(kind: &AttributeType, json: &Json, at: &AttributePath) -> Result<Value, Diagnostic> {
    let wrong = || {
        let summary = format!("the stored state's `{at}` is no {kind}");
        Diagnostic::unexpected(summary, "").at_path(at.clone())
    };
    Ok(match (kind, json) {
        (_, Json::Null) => Value::Null,
        (AttributeType::Object(fields), Json::Object(stored)) => {
            Value::Map(stored_fields(fields, stored, at)?)
        }
        (AttributeType::List(item), Json::Array(items)) => {
            let item = |(index, json)| stored_value(item, json, &at.then(PathStep::Index(index)));
            Value::List(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
        }
        (AttributeType::Map(item), Json::Object(items)) => {
            let item = |(key, json): (&String, &Json)| {
                Ok((key.clone(), stored_value(item, json, &at.then(PathStep::Key(key.clone())))?))
            };
            Value::Map(items.iter().map(item).collect::<Result<_, Diagnostic>>()?)
        }
        (AttributeType::Number | AttributeType::Bool, Json::String(text)) => {
            let json = serde_json::from_str(text).ok().filter(|json| kind.accepts(json));
            Value::from_json(&json.ok_or_else(wrong)?)
        }
        (AttributeType::String, Json::Number(number)) => Value::String(number.to_string()),
        (AttributeType::String, Json::Bool(truth)) => Value::String(truth.to_string()),
        (kind, json) if kind.accepts(json) => Value::from_json(json),
        _ => return Err(wrong()),
    })
}

/// No blocks are an empty list to Terraform, never null.
pub(crate) fn with_blocks(attribute: &Attribute, value: Value) -> Value {
    let is_list = matches!(attribute.r#type, AttributeType::List(_));
    if attribute.block && is_list && value.is_null() { Value::List(Vec::new()) } else { value }
}

/// An object.
pub(crate) fn encode(values: &Values) -> DynamicValue {
    let pair = |(name, value): (&String, &Value)| (Packed::from(name.as_str()), value.to_packed());
    packed(&Packed::Map(values.iter().map(pair).collect()))
}

/// No object.
pub(crate) fn nothing() -> DynamicValue {
    packed(&Packed::Nil)
}

fn packed(value: &Packed) -> DynamicValue {
    let mut msgpack = Vec::new();
    // Writing to a Vec does not fail.
    let _ = rmpv::encode::write_value(&mut msgpack, value);
    DynamicValue { msgpack, json: Vec::new() }
}
