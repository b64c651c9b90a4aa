//! From an order's desired state to attributes, from attributes to JSON and back.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::resource::{Attribute, AttributePath, AttributeType, PathStep, ResourceApi, Scope, Wire};

impl ResourceApi {
    /// The attributes to send for an order's desired state: each from its `from` path, else its default. What has
    /// neither is left out; a required attribute left out is for the vendor to refuse.
    #[must_use]
    pub fn desired_attributes(&self, desired: &Value) -> Map<String, Value> {
        desired_of(&self.attributes, desired)
    }

    /// What templates of a create or change are filled with: every attribute by its name, and all of them, where they
    /// stand in the vendor's JSON, as `attributes`. With `nulls` what is not set is null there, because a patch leaves
    /// alone what it does not mention; otherwise it is left out. Computed attributes are never sent, and those of an
    /// object's address only where a template names them.
    #[must_use]
    pub fn sent(&self, attributes: &Map<String, Value>, nulls: bool) -> Scope {
        let (mut scope, mut body) = (Scope::new(), Map::new());
        for (name, attribute) in self.attributes.iter().filter(|(_, attribute)| attribute.is_sent()) {
            let value = attribute.to_wire(attributes.get(name).unwrap_or(&Value::Null), nulls);
            if !attribute.scope && (nulls || !value.is_null()) {
                insert(&mut body, &attribute.json, value.clone());
            }
            scope.insert(name.clone(), value);
        }
        scope.insert("attributes".to_owned(), Value::Object(body));
        scope
    }

    /// The part of some attributes that is an object's address.
    #[must_use]
    pub fn address(&self, attributes: &Map<String, Value>) -> Scope {
        let parts = self.attributes.iter().filter(|(_, attribute)| attribute.scope);
        let known = parts.filter_map(|(name, attribute)| {
            Some((
                name.clone(),
                attribute.to_wire(attributes.get(name).filter(|value| !value.is_null())?, false),
            ))
        });
        known.collect()
    }

    /// Every attribute of an answer, null where the answer has none. What the answer does not repeat of the object's
    /// address is taken from `address`.
    ///
    /// # Errors
    /// The path of the attribute whose value is of another type than the vendor folder says.
    pub fn from_json(&self, body: &Value, address: &Scope) -> Result<Map<String, Value>, String> {
        read_object(&self.attributes, body, address, &AttributePath::default())
            .map_err(|path| path.to_string())
    }

    /// The attribute an error answer means, or the way to a field in it: by name, by JSON pointer, or by dotted path in
    /// the JSON. See [`AttributePath`].
    #[must_use]
    pub fn attribute_of_field(&self, field: &str) -> Option<String> {
        if self.attributes.get(field).is_some_and(Attribute::is_known) {
            return Some(field.to_owned());
        }
        let text = field.trim_start_matches('/').replace('[', "/").replace(['.', ']'], "/");
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        // Whichever leads further: the vendor may use its own words or ours.
        let by_place = place(&self.attributes, AttributePath::default(), &parts);
        let by_name = named(&self.attributes, AttributePath::default(), &parts);
        let steps = |path: &Option<AttributePath>| path.as_ref().map_or(0, |path| path.0.len());
        let found = if steps(&by_name) > steps(&by_place) { by_name } else { by_place };
        found.map(|path| path.to_string())
    }
}

/// Finds what the parts of a name or place lead to.
type Search = fn(&BTreeMap<String, Attribute>, AttributePath, &[&str]) -> Option<AttributePath>;

/// Where a place in the vendor's JSON belongs to; of what lies below a value, the value.
fn place(
    attributes: &BTreeMap<String, Attribute>,
    at: AttributePath,
    parts: &[&str],
) -> Option<AttributePath> {
    attributes.iter().filter(|(_, attribute)| attribute.is_known()).find_map(|(name, attribute)| {
        let own: Vec<&str> = attribute.json.split('/').skip(1).collect();
        let rest = parts.strip_prefix(own.as_slice())?;
        Some(below(&attribute.r#type, at.field(name), rest, place))
    })
}

/// The same by the names of attributes and fields.
fn named(
    attributes: &BTreeMap<String, Attribute>,
    at: AttributePath,
    parts: &[&str],
) -> Option<AttributePath> {
    let (name, rest) = parts.split_first()?;
    let attribute = attributes.get(*name).filter(|attribute| attribute.is_known())?;
    Some(below(&attribute.r#type, at.field(name), rest, named))
}

fn below(kind: &AttributeType, at: AttributePath, parts: &[&str], next: Search) -> AttributePath {
    match (kind, parts) {
        (AttributeType::Object(fields), _) => next(fields, at.clone(), parts).unwrap_or(at),
        (AttributeType::List(item), [index, rest @ ..]) => match index.parse() {
            Ok(index) => below(item, at.then(PathStep::Index(index)), rest, next),
            Err(_) => at,
        },
        (AttributeType::Map(item), [key, rest @ ..]) => {
            below(item, at.then(PathStep::Key((*key).to_owned())), rest, next)
        }
        _ => at,
    }
}

/// Each attribute from its place in what is desired, else its default.
fn desired_of(attributes: &BTreeMap<String, Attribute>, desired: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    for (name, attribute) in attributes.iter().filter(|(_, attribute)| attribute.is_sent()) {
        let mut value = Some(desired);
        for key in attribute.from.split('.') {
            value = value.and_then(|value| value.get(key));
        }
        let value = value.filter(|value| !value.is_null()).or(attribute.default_value());
        if let Some(value) = value {
            found.insert(name.clone(), with_fields(&attribute.r#type, value));
        }
    }
    found
}

/// A value whose objects have their fields; what is of another type is for the vendor to refuse.
fn with_fields(kind: &AttributeType, value: &Value) -> Value {
    match (kind, value) {
        (AttributeType::Object(fields), Value::Object(_)) => Value::Object(desired_of(fields, value)),
        (AttributeType::List(item), Value::Array(values)) => {
            values.iter().map(|value| with_fields(item, value)).collect()
        }
        (AttributeType::Map(item), Value::Object(values)) => {
            values.iter().map(|(key, value)| (key.clone(), with_fields(item, value))).collect()
        }
        _ => value.clone(),
    }
}

/// Every attribute of an object in the vendor's JSON.
fn read_object(
    attributes: &BTreeMap<String, Attribute>,
    body: &Value,
    address: &Scope,
    at: &AttributePath,
) -> Result<Map<String, Value>, AttributePath> {
    let mut found = Map::new();
    for (name, attribute) in attributes.iter().filter(|(_, attribute)| attribute.is_known()) {
        let answered = body.pointer(&attribute.json).filter(|value| !value.is_null());
        let value = answered.or_else(|| address.get(name)).unwrap_or(&Value::Null);
        let value = if attribute.write_only {
            // Whatever a vendor shows in its place is not it.
            Value::Null
        } else {
            read_value(attribute.wire, &attribute.r#type, value, &at.field(name))?
        };
        found.insert(name.clone(), value);
    }
    Ok(found)
}

fn read_value(
    wire: Wire,
    kind: &AttributeType,
    value: &Value,
    at: &AttributePath,
) -> Result<Value, AttributePath> {
    let read = match (kind, value) {
        (AttributeType::Number | AttributeType::Bool, Value::String(text)) if wire == Wire::Text => {
            serde_json::from_str(text.trim()).map_err(|_| at.clone())?
        }
        (AttributeType::String, Value::Number(number)) if wire == Wire::Text => number.to_string().into(),
        (AttributeType::Object(fields), Value::Object(_)) => {
            Value::Object(read_object(fields, value, &Scope::new(), at)?)
        }
        (AttributeType::List(item), Value::Array(values)) => {
            let item = |(index, value)| {
                let at = at.then(PathStep::Index(index));
                read_value(Wire::Typed, item, value, &at)
            };
            values.iter().enumerate().map(item).collect::<Result<_, _>>()?
        }
        (AttributeType::Map(item), Value::Object(values)) => {
            let item = |(key, value): (&String, &Value)| {
                let at = at.then(PathStep::Key(key.clone()));
                Ok((key.clone(), read_value(Wire::Typed, item, value, &at)?))
            };
            Value::Object(values.iter().map(item).collect::<Result<_, AttributePath>>()?)
        }
        _ => value.clone(),
    };
    if kind.accepts(&read) { Ok(read) } else { Err(at.clone()) }
}

impl Attribute {
    /// Whether the vendor knows it.
    fn is_known(&self) -> bool {
        !self.local
    }

    fn to_wire(&self, value: &Value, nulls: bool) -> Value {
        match (self.wire, value) {
            (Wire::Text, Value::Number(number)) => number.to_string().into(),
            (Wire::Text, Value::Bool(truth)) => truth.to_string().into(),
            _ => to_wire(&self.r#type, value, nulls),
        }
    }
}

/// A value with the fields of its objects where the vendor has them. In lists and maps what is not set is left out: there
/// is no object before it whose values would stay.
fn to_wire(kind: &AttributeType, value: &Value, nulls: bool) -> Value {
    match (kind, value) {
        (AttributeType::Object(fields), Value::Object(values)) => {
            let mut body = Map::new();
            for (name, field) in fields.iter().filter(|(_, field)| field.is_sent()) {
                let value = field.to_wire(values.get(name).unwrap_or(&Value::Null), nulls);
                if nulls || !value.is_null() {
                    insert(&mut body, &field.json, value);
                }
            }
            Value::Object(body)
        }
        (AttributeType::List(item), Value::Array(values)) => {
            values.iter().map(|value| to_wire(item, value, false)).collect()
        }
        (AttributeType::Map(item), Value::Object(values)) => {
            values.iter().map(|(key, value)| (key.clone(), to_wire(item, value, false))).collect()
        }
        _ => value.clone(),
    }
}

/// Puts a value where a JSON pointer says, making the objects on the way.
fn insert(body: &mut Map<String, Value>, pointer: &str, value: Value) {
    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let mut parts: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
    let Some(last) = parts.pop() else { return };
    let mut at = body;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
        match next {
            Value::Object(map) => at = map,
            // The loader refuses attributes that overlap, so there is always an object here.
            _ => return,
        }
    }
    at.insert(last, value);
}
