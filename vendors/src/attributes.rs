//! From an order's desired state to attributes, from attributes to JSON and back, and what differs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::{Attribute, AttributeType, ResourceApi, Scope, Wire};

/// One attribute that is not as desired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDifference {
    /// The attribute's name.
    pub attribute: String,
    /// What it should be; null if it should not be set.
    pub desired: Value,
    /// What it is; null if it is not set.
    pub observed: Value,
}

impl ResourceApi {
    /// The attributes to send for an order's desired state: each from its `from` path, else its default. What has
    /// neither is left out; a required attribute left out is for the vendor to refuse.
    #[must_use]
    pub fn desired_attributes(&self, desired: &Value) -> Map<String, Value> {
        let mut found = Map::new();
        for (name, attribute) in &self.attributes {
            if attribute.is_computed() {
                continue;
            }
            let mut value = Some(desired);
            for key in attribute.from.split('.') {
                value = value.and_then(|value| value.get(key));
            }
            let value = value.filter(|value| !value.is_null()).or(attribute.default_value());
            if let Some(value) = value {
                found.insert(name.clone(), value.clone());
            }
        }
        found
    }

    /// What differs between the attributes that should be and those that are, in the attributes' order. Only
    /// attributes that are compared count; [`Attribute::same`] says what is no difference.
    #[must_use]
    pub fn differences(
        &self,
        desired: &Map<String, Value>,
        observed: &Map<String, Value>,
    ) -> Vec<FieldDifference> {
        let mut found = Vec::new();
        for (name, attribute) in &self.attributes {
            let desired = desired.get(name).unwrap_or(&Value::Null);
            let observed = observed.get(name).unwrap_or(&Value::Null);
            // Nobody asks for a value of a computed attribute that has none yet.
            let asked = !attribute.is_computed() || !desired.is_null();
            if attribute.compare && asked && !attribute.same(desired, observed) {
                found.push(FieldDifference {
                    attribute: name.clone(),
                    desired: desired.clone(),
                    observed: observed.clone(),
                });
            }
        }
        found
    }

    /// What templates of a create or change are filled with: every attribute by its name, and all of them, where they
    /// stand in the vendor's JSON, as `attributes`. With `nulls` what is not set is null there, because a patch leaves
    /// alone what it does not mention; otherwise it is left out. Computed attributes are never sent, and those of an
    /// object's address only where a template names them.
    #[must_use]
    pub fn sent(&self, attributes: &Map<String, Value>, nulls: bool) -> Scope {
        let (mut scope, mut body) = (Scope::new(), Map::new());
        for (name, attribute) in self.attributes.iter().filter(|(_, attribute)| !attribute.is_computed()) {
            let value = attribute.to_wire(attributes.get(name).unwrap_or(&Value::Null));
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
            Some((name.clone(), attribute.to_wire(attributes.get(name).filter(|value| !value.is_null())?)))
        });
        known.collect()
    }

    /// Every attribute of an answer, null where the answer has none. What the answer does not repeat of the object's
    /// address is taken from `address`.
    ///
    /// # Errors
    /// The name of the attribute whose value is of another type than the vendor folder says.
    pub fn from_json(&self, body: &Value, address: &Scope) -> Result<Map<String, Value>, String> {
        let mut found = Map::new();
        for (name, attribute) in &self.attributes {
            let answered = body.pointer(&attribute.json).filter(|value| !value.is_null());
            let value = answered.or_else(|| address.get(name)).unwrap_or(&Value::Null);
            let value = attribute.read_wire(value).ok_or_else(|| name.clone())?;
            found.insert(name.clone(), value);
        }
        Ok(found)
    }

    /// The attribute an error answer means: by name, by JSON pointer, or by dotted path in the JSON.
    #[must_use]
    pub fn attribute_of_field(&self, field: &str) -> Option<&str> {
        let pointer = format!("/{}", field.trim_start_matches('/').replace('.', "/"));
        self.attributes
            .iter()
            .find(|(name, attribute)| *name == field || attribute.json == pointer)
            .map(|(name, _)| name.as_str())
    }
}

impl Attribute {
    fn to_wire(&self, value: &Value) -> Value {
        match (self.wire, value) {
            (Wire::Text, Value::Number(number)) => number.to_string().into(),
            (Wire::Text, Value::Bool(truth)) => truth.to_string().into(),
            _ => value.clone(),
        }
    }

    /// `None` if the value is of another type.
    fn read_wire(&self, value: &Value) -> Option<Value> {
        let read = match (self.wire, self.r#type, value) {
            (Wire::Text, AttributeType::Number | AttributeType::Bool, Value::String(text)) => {
                serde_json::from_str(text.trim()).ok()?
            }
            (Wire::Text, AttributeType::String, Value::Number(number)) => number.to_string().into(),
            _ => value.clone(),
        };
        self.r#type.accepts(&read).then_some(read)
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
