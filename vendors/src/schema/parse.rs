//! From JSON to a schema. Whatever is not understood is refused, so that nothing in a schema is without effect.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Node, SchemaError, Shape, check, rules};
use crate::suggest;

/// Deepest nesting of a schema; it bounds every recursion here and in checking.
const DEEPEST: usize = 16;

/// Keywords every place may have.
const COMMON: &[&str] = &["type", "default", "enum", "description", rules::KEY];

/// The keyword of texts that name a secret.
const SECRET: &str = "x-secret";

/// Longest name of a property, in bytes.
const LONGEST_NAME: usize = 64;

pub(super) fn root(json: &Value) -> Result<Node, SchemaError> {
    let root = node(json, "", At { depth: 0, in_list: false })?;
    if !matches!(root.shape, Shape::Object { .. }) {
        return Err(error("", "type", "of the whole has to be \"object\""));
    }
    rules::within_budget(&root)?;
    Ok(root)
}

/// Where in the schema a place is.
#[derive(Clone, Copy)]
struct At {
    depth: usize,
    in_list: bool,
}

impl At {
    fn below(self, in_list: bool) -> Self {
        Self { depth: self.depth + 1, in_list: self.in_list || in_list }
    }
}

fn node(json: &Value, path: &str, at: At) -> Result<Node, SchemaError> {
    if at.depth > DEEPEST {
        return Err(error(path, "", format!("is nested more than {DEEPEST} deep: flatten it")));
    }
    let Value::Object(fields) = json else {
        return Err(error(path, "", "is not an object: write { \"type\": … }"));
    };
    let name = match fields.get("type") {
        Some(Value::String(name)) => name.as_str(),
        _ => return Err(error(path, "type", "is missing: give every place one type")),
    };
    let (shape, allowed) = shape(name, fields, path, at)?;
    refuse_unknown(fields, allowed, path)?;
    if fields.get("description").is_some_and(|text| !text.is_string()) {
        return Err(error(path, "description", "is no text"));
    }
    let below = match &shape {
        Shape::Object { properties, .. } => properties.values().any(|node| node.has_rules),
        Shape::Array { items, .. } => items.has_rules,
        _ => false,
    };
    let secret = match fields.get(SECRET) {
        None => false,
        Some(Value::Bool(secret)) => *secret,
        Some(_) => return Err(error(path, SECRET, "is neither true nor false")),
    };
    let mut node = Node { shape, default: None, choices: None, secret, rules: Vec::new(), has_rules: below };
    node.choices = choices(&node, fields, path)?;
    node.rules = rules::read(&node, fields, path, at.in_list)?;
    node.has_rules |= !node.rules.is_empty();
    if let Some(default) = fields.get("default") {
        node.default = Some(conform(&node, default, path, "default")?);
    }
    Ok(node)
}

fn shape(
    name: &str,
    fields: &Map<String, Value>,
    path: &str,
    at: At,
) -> Result<(Shape, &'static [&'static str]), SchemaError> {
    Ok(match name {
        "object" => (object(fields, path, at)?, &["properties", "required"]),
        "array" => {
            let items = fields
                .get("items")
                .ok_or_else(|| error(path, "items", "is missing: say what the array holds"))?;
            let items = Box::new(node(items, &join(path, "items"), at.below(true))?);
            let fewest = bound(fields, "minItems", path, Value::as_u64)?;
            let most = bound(fields, "maxItems", path, Value::as_u64)?;
            ordered(&fewest, &most, path, "minItems")?;
            (Shape::Array { items, fewest: fewest.unwrap_or(0), most }, &["items", "minItems", "maxItems"])
        }
        "string" => {
            let shortest = bound(fields, "minLength", path, Value::as_u64)?;
            let longest = bound(fields, "maxLength", path, Value::as_u64)?;
            ordered(&shortest, &longest, path, "minLength")?;
            let shortest = shortest.unwrap_or(0);
            (Shape::String { shortest, longest }, &["minLength", "maxLength", SECRET])
        }
        "integer" => {
            let minimum = bound(fields, "minimum", path, Value::as_i64)?;
            let maximum = bound(fields, "maximum", path, Value::as_i64)?;
            ordered(&minimum, &maximum, path, "minimum")?;
            (Shape::Integer { minimum, maximum }, &["minimum", "maximum"])
        }
        "number" => {
            let minimum = bound(fields, "minimum", path, Value::as_f64)?;
            let maximum = bound(fields, "maximum", path, Value::as_f64)?;
            ordered(&minimum, &maximum, path, "minimum")?;
            (Shape::Number { minimum, maximum }, &["minimum", "maximum"])
        }
        "boolean" => (Shape::Boolean, &[]),
        _ => {
            let message = "is not one of object, array, string, integer, number, boolean";
            return Err(error(path, "type", message));
        }
    })
}

fn object(fields: &Map<String, Value>, path: &str, place: At) -> Result<Shape, SchemaError> {
    let mut properties = BTreeMap::new();
    match fields.get("properties") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, json) in map {
                let at = join(path, &format!("properties.{name}"));
                if !is_name(name) {
                    let message =
                        format!("is no name: use at most {LONGEST_NAME} of A-Z, a-z, 0-9, `_` and `-`");
                    return Err(error(&at, "", message));
                }
                properties.insert(name.clone(), node(json, &at, place.below(false))?);
            }
        }
        Some(_) => return Err(error(path, "properties", "is not an object")),
    }
    let required: Vec<String> = match fields.get("required") {
        None => Vec::new(),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|_| error(path, "required", "is not a list of property names"))?,
    };
    for name in &required {
        match properties.get(name) {
            None => {
                let message = format!("names `{name}`, which is no property: add or remove it");
                return Err(error(path, "required", message));
            }
            Some(node) if node.default.is_some() => {
                let message = format!("names `{name}`, which has a default: remove one of the two");
                return Err(error(path, "required", message));
            }
            Some(_) => {}
        }
    }
    Ok(Shape::Object { properties, required })
}

/// Names are joined by dots to paths, so they cannot hold any.
fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn choices(node: &Node, fields: &Map<String, Value>, path: &str) -> Result<Option<Vec<Value>>, SchemaError> {
    match fields.get("enum") {
        None => Ok(None),
        Some(Value::Array(values)) if !values.is_empty() => values
            .iter()
            .map(|value| conform(node, value, path, "enum"))
            .collect::<Result<Vec<_>, _>>()
            .map(Some),
        Some(_) => Err(error(path, "enum", "is not a list of at least one value")),
    }
}

/// A value the schema itself gives has to fit the schema.
fn conform(node: &Node, value: &Value, path: &str, key: &str) -> Result<Value, SchemaError> {
    check::check(node, "value", value, None).map_err(|errors| {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        error(path, key, format!("does not fit: {}", text.join("; ")))
    })
}

fn bound<T>(
    fields: &Map<String, Value>,
    key: &str,
    path: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, SchemaError> {
    match fields.get(key) {
        None => Ok(None),
        Some(value) => match read(value) {
            Some(bound) => Ok(Some(bound)),
            None => Err(error(path, key, "is no number that can be a bound here")),
        },
    }
}

fn ordered<T: PartialOrd>(
    low: &Option<T>,
    high: &Option<T>,
    path: &str,
    key: &str,
) -> Result<(), SchemaError> {
    match (low, high) {
        (Some(low), Some(high)) if low > high => {
            Err(error(path, key, "is above its opposite: nothing would fit"))
        }
        _ => Ok(()),
    }
}

fn refuse_unknown(
    fields: &Map<String, Value>,
    allowed: &[&'static str],
    path: &str,
) -> Result<(), SchemaError> {
    let known: Vec<&str> = COMMON.iter().chain(allowed).copied().collect();
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let advice = suggest::advice(key, &known);
            Err(error(path, key, format!("is outside the subset for this type: {advice}")))
        }
    }
}

pub(super) fn error(path: &str, key: &str, message: impl Into<String>) -> SchemaError {
    SchemaError { path: join(path, key), message: message.into() }
}

pub(super) fn join(path: &str, key: &str) -> String {
    match (path.is_empty(), key.is_empty()) {
        (true, true) => ".".to_owned(),
        (true, false) => key.to_owned(),
        (false, true) => path.to_owned(),
        (false, false) => format!("{path}.{key}"),
    }
}
