//! From an order's desired state to attributes, from attributes to JSON and back, and what differs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::{Attribute, AttributeType, ResourceApi, UpdateMethod};

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
    /// attributes that are compared count. `1` equals `1.0`, an empty list or map equals none, order in lists counts.
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
            if attribute.compare && asked && !same(attribute.r#type, desired, observed) {
                found.push(FieldDifference {
                    attribute: name.clone(),
                    desired: desired.clone(),
                    observed: observed.clone(),
                });
            }
        }
        found
    }

    /// The request body for some attributes. Computed attributes and nulls are not sent.
    #[must_use]
    pub fn to_json(&self, attributes: &Map<String, Value>) -> Value {
        let mut body = Map::new();
        for (attribute, value) in self.sendable(attributes) {
            if !value.is_null() {
                insert(&mut body, &attribute.json, value.clone());
            }
        }
        Value::Object(body)
    }

    /// The body that turns an object into one with these attributes: as [`ResourceApi::to_json`], but for a vendor whose
    /// changes are patches with null for what is not set, because a patch leaves alone what it does not mention.
    #[must_use]
    pub fn to_update(&self, attributes: &Map<String, Value>) -> Value {
        if self.update_method == UpdateMethod::Put {
            return self.to_json(attributes);
        }
        let mut body = Map::new();
        for (attribute, value) in self.sendable(attributes) {
            insert(&mut body, &attribute.json, value.clone());
        }
        Value::Object(body)
    }

    /// Every attribute that may be sent, with its value.
    fn sendable<'a>(
        &'a self,
        attributes: &'a Map<String, Value>,
    ) -> impl Iterator<Item = (&'a Attribute, &'a Value)> {
        let sendable = self.attributes.iter().filter(|(_, attribute)| !attribute.is_computed());
        sendable.map(|(name, attribute)| (attribute, attributes.get(name).unwrap_or(&Value::Null)))
    }

    /// Every attribute of an answer, null where the answer has none.
    ///
    /// # Errors
    /// The name of the attribute whose value is of another type than the vendor folder says.
    pub fn from_json(&self, body: &Value) -> Result<Map<String, Value>, String> {
        let mut found = Map::new();
        for (name, attribute) in &self.attributes {
            let value = body.pointer(&attribute.json).unwrap_or(&Value::Null);
            if !attribute.r#type.accepts(value) {
                return Err(name.clone());
            }
            found.insert(name.clone(), value.clone());
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

impl AttributeType {
    /// Whether two values of this type mean the same.
    #[must_use]
    pub fn same(self, left: &Value, right: &Value) -> bool {
        same(self, left, right)
    }
}

fn same(kind: AttributeType, left: &Value, right: &Value) -> bool {
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
