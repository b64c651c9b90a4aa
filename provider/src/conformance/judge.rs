//! What Terraform holds a provider to, judged by the schemas that the provider gives and by nothing else of it.
//!
//! Values are JSON here; what is not known is [`unknown`]. All numbers are floats, so that 1 and 1.0 are one.

use rmpv::Value as Packed;
use serde_json::{Map, Value, json};

use crate::proto::tfplugin6::DynamicValue;
use crate::proto::tfplugin6::schema::{Attribute, Block, NestedBlock, nested_block, object};

/// A value that is not known.
pub(crate) fn unknown() -> Value {
    json!({"\u{0}": "unknown"})
}

/// Terraform's message of a value: everything the schema names is in it.
pub(crate) fn write(block: &Block, value: &Value) -> DynamicValue {
    let mut msgpack = Vec::new();
    rmpv::encode::write_value(&mut msgpack, &packed_block(block, value)).unwrap();
    DynamicValue { msgpack, json: Vec::new() }
}

/// A value from a message of the provider.
pub(crate) fn read(block: &Block, value: &DynamicValue) -> Value {
    let packed = rmpv::decode::read_value(&mut value.msgpack.as_slice()).unwrap();
    json_block(block, &packed)
}

fn packed_block(block: &Block, value: &Value) -> Packed {
    if value.is_null() {
        return Packed::Nil;
    }
    let mut fields = Vec::new();
    for attribute in &block.attributes {
        fields.push((Packed::from(attribute.name.as_str()), packed(attribute, &value[&attribute.name])));
    }
    for nested in &block.block_types {
        let value = &value[&nested.type_name];
        let inner = nested.block.as_ref().unwrap();
        let packed = match (value, is_list(nested)) {
            (Value::Array(items), _) => {
                Packed::Array(items.iter().map(|item| packed_block(inner, item)).collect())
            }
            (Value::Null, true) => Packed::Array(Vec::new()),
            (value, _) => packed_block(inner, value),
        };
        fields.push((Packed::from(nested.type_name.as_str()), packed));
    }
    Packed::Map(fields)
}

fn packed(attribute: &Attribute, value: &Value) -> Packed {
    if *value == unknown() {
        return Packed::Ext(0, vec![0]);
    }
    let Some(nested) = &attribute.nested_type else { return packed_plain(value) };
    let inside = |value: &Value| {
        if *value == unknown() {
            return Packed::Ext(0, vec![0]);
        }
        let field = |attribute: &Attribute| {
            (Packed::from(attribute.name.as_str()), packed(attribute, &value[&attribute.name]))
        };
        Packed::Map(nested.attributes.iter().map(field).collect())
    };
    match (value, nested.nesting()) {
        (Value::Null, _) => Packed::Nil,
        (Value::Array(items), _) => Packed::Array(items.iter().map(inside).collect()),
        (Value::Object(items), object::NestingMode::Map) => Packed::Map(
            items.iter().map(|(key, value)| (Packed::from(key.as_str()), inside(value))).collect(),
        ),
        (value, _) => inside(value),
    }
}

fn packed_plain(value: &Value) -> Packed {
    match value {
        Value::Null => Packed::Nil,
        Value::Bool(truth) => Packed::from(*truth),
        Value::String(text) => Packed::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Packed::from(whole),
            (None, Some(float)) if float.fract() == 0.0 => Packed::from(float as i64),
            // As Terraform sends what no float is exactly.
            _ => Packed::from(number.to_string()),
        },
        Value::Array(items) => Packed::Array(items.iter().map(packed_plain).collect()),
        value if *value == unknown() => Packed::Ext(0, vec![0]),
        Value::Object(items) => {
            let pair = |(key, value): (&String, &Value)| (Packed::from(key.as_str()), packed_plain(value));
            Packed::Map(items.iter().map(pair).collect())
        }
    }
}

fn at<'p>(packed: &'p Packed, name: &str) -> &'p Packed {
    let fields = packed.as_map().unwrap();
    let found = fields.iter().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value).unwrap_or_else(|| panic!("`{name}` is not there"))
}

fn json_block(block: &Block, packed: &Packed) -> Value {
    if packed.is_nil() {
        return Value::Null;
    }
    let count = block.attributes.len() + block.block_types.len();
    assert_eq!(packed.as_map().unwrap().len(), count, "exactly what the schema names: {packed}");
    let mut fields = Map::new();
    for attribute in &block.attributes {
        fields.insert(attribute.name.clone(), json_of(attribute, at(packed, &attribute.name)));
    }
    for nested in &block.block_types {
        let inner = nested.block.as_ref().unwrap();
        let value = match at(packed, &nested.type_name) {
            Packed::Array(items) => items.iter().map(|item| json_block(inner, item)).collect(),
            packed => json_block(inner, packed),
        };
        fields.insert(nested.type_name.clone(), value);
    }
    Value::Object(fields)
}

fn json_of(attribute: &Attribute, packed: &Packed) -> Value {
    if matches!(packed, Packed::Ext(..)) {
        return unknown();
    }
    let Some(nested) = &attribute.nested_type else {
        return json_plain(&serde_json::from_slice(&attribute.r#type).unwrap(), packed);
    };
    let inside = |packed: &Packed| {
        if matches!(packed, Packed::Ext(..)) {
            return unknown();
        }
        assert_eq!(packed.as_map().unwrap().len(), nested.attributes.len(), "exactly its fields: {packed}");
        let field =
            |attribute: &Attribute| (attribute.name.clone(), json_of(attribute, at(packed, &attribute.name)));
        Value::Object(nested.attributes.iter().map(field).collect())
    };
    match (packed, nested.nesting()) {
        (Packed::Nil, _) => Value::Null,
        (Packed::Array(items), _) => items.iter().map(inside).collect(),
        (Packed::Map(items), object::NestingMode::Map) => {
            items.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), inside(value))).collect()
        }
        (packed, _) => inside(packed),
    }
}

fn json_plain(kind: &Value, packed: &Packed) -> Value {
    match (packed, kind) {
        (Packed::Nil, _) => Value::Null,
        (Packed::Ext(..), _) => unknown(),
        (packed, Value::Array(kind)) => match packed {
            Packed::Array(items) => items.iter().map(|item| json_plain(&kind[1], item)).collect(),
            Packed::Map(items) => {
                let pair = |(key, value): &(Packed, Packed)| {
                    (key.as_str().unwrap().to_owned(), json_plain(&kind[1], value))
                };
                items.iter().map(pair).collect()
            }
            packed => panic!("{packed} is no {kind:?}"),
        },
        (packed, kind) => match kind.as_str().unwrap() {
            "number" => {
                let text = packed.as_str().map(|text| text.parse::<f64>().unwrap());
                json!(text.or_else(|| packed.as_f64()).unwrap())
            }
            "bool" => json!(packed.as_bool().unwrap()),
            _ => json!(packed.as_str().unwrap()),
        },
    }
}

fn is_list(nested: &NestedBlock) -> bool {
    nested.nesting() == nested_block::NestingMode::List
}

/// The same value as it would come back from the wire.
pub(crate) fn as_read(block: &Block, value: &Value) -> Value {
    read(block, &write(block, value))
}

/// What Terraform has against a plan.
pub(crate) fn invalid_plan(block: &Block, [prior, config, planned]: [&Value; 3]) -> Vec<String> {
    let mut wrong = Vec::new();
    plan_of_block(block, [prior, config, planned], "", &mut wrong);
    wrong
}

fn plan_of_block(block: &Block, values: [&Value; 3], at: &str, wrong: &mut Vec<String>) {
    let [prior, config, planned] = values;
    if planned.is_null() || config.is_null() {
        if planned.is_null() != config.is_null() {
            wrong.push(format!("{at}: planned {planned} where the configuration has {config}"));
        }
        return;
    }
    for attribute in &block.attributes {
        let at = format!("{at}.{}", attribute.name);
        plan_of(attribute, values.map(|value| &value[&attribute.name]), &at, wrong);
    }
    for nested in &block.block_types {
        let at = format!("{at}.{}", nested.type_name);
        let inner = nested.block.as_ref().unwrap();
        let [prior, config, planned] = [prior, config, planned].map(|value| &value[&nested.type_name]);
        if !is_list(nested) {
            plan_of_block(inner, [prior, config, planned], &at, wrong);
            continue;
        }
        let (Some(config), Some(planned)) = (config.as_array(), planned.as_array()) else {
            wrong.push(format!("{at}: blocks are a list, {config} and {planned}"));
            continue;
        };
        if config.len() != planned.len() {
            wrong.push(format!("{at}: {} blocks planned, {} configured", planned.len(), config.len()));
            continue;
        }
        for (index, (config, planned)) in config.iter().zip(planned).enumerate() {
            plan_of_block(inner, [&prior[index], config, planned], &format!("{at}[{index}]"), wrong);
        }
    }
}

fn plan_of(attribute: &Attribute, [prior, config, planned]: [&Value; 3], at: &str, wrong: &mut Vec<String>) {
    let mut say = |what: &str| {
        wrong.push(format!("{at}: {what}: planned {planned}, configured {config}, before {prior}"));
    };
    if planned == config || planned == prior && !prior.is_null() && !config.is_null() {
        return;
    }
    if attribute.write_only {
        if !planned.is_null() {
            say("a write-only value is planned");
        }
        return;
    }
    if attribute.computed && (!attribute.optional || config.is_null()) {
        return;
    }
    if config.is_null() {
        return say("nobody asked for it");
    }
    let Some(nested) = &attribute.nested_type else { return say("neither what is wanted nor what was") };
    if planned.is_null() || *planned == unknown() {
        return say("it is configured");
    }
    let mut inside = |[prior, config, planned]: [&Value; 3], at: String| {
        if config == planned {
            return;
        }
        for attribute in &nested.attributes {
            let values = [prior, config, planned].map(|value| &value[&attribute.name]);
            plan_of(attribute, values, &format!("{at}.{}", attribute.name), wrong);
        }
    };
    match (config, planned, nested.nesting()) {
        (Value::Array(config), Value::Array(planned), object::NestingMode::List) => {
            if config.len() != planned.len() {
                return wrong.push(format!("{at}: {} planned, {} configured", planned.len(), config.len()));
            }
            for (index, (config, planned)) in config.iter().zip(planned).enumerate() {
                inside([&prior[index], config, planned], format!("{at}[{index}]"));
            }
        }
        (Value::Object(config), Value::Object(planned), object::NestingMode::Map) => {
            if !config.keys().eq(planned.keys()) {
                return wrong.push(format!("{at}: other keys are planned than configured"));
            }
            for (key, config) in config {
                inside([&prior[key], config, &planned[key]], format!("{at}[{key:?}]"));
            }
        }
        _ => inside([prior, config, planned], at.to_owned()),
    }
}

/// What Terraform has against what came of a plan: everything that was known is as it was planned.
pub(crate) fn inconsistent(planned: &Value, actual: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    compare(planned, actual, "", &mut wrong);
    wrong
}

fn compare(planned: &Value, actual: &Value, at: &str, wrong: &mut Vec<String>) {
    if *planned == unknown() {
        return;
    }
    match (planned, actual) {
        (Value::Array(planned), Value::Array(actual)) if planned.len() == actual.len() => {
            for (index, (planned, actual)) in planned.iter().zip(actual).enumerate() {
                compare(planned, actual, &format!("{at}[{index}]"), wrong);
            }
        }
        (Value::Object(planned), Value::Object(actual)) if planned.keys().eq(actual.keys()) => {
            for (key, planned) in planned {
                compare(planned, &actual[key], &format!("{at}.{key}"), wrong);
            }
        }
        _ if planned == actual => {}
        _ => wrong.push(format!("{at}: planned {planned}, is {actual}")),
    }
}

/// Whether any part of it is not known.
pub(crate) fn is_open(value: &Value) -> bool {
    *value == unknown()
        || match value {
            Value::Array(items) => items.iter().any(is_open),
            Value::Object(items) => items.values().any(is_open),
            _ => false,
        }
}
