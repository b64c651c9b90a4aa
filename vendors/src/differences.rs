//! What differs between the attributes that should be and those that are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::{Attribute, AttributePath, AttributeType, PathStep, ResourceApi};

/// One attribute that is not as desired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDifference {
    /// The attribute's name, or the way to what differs in it: `bgp.asn`, `routes[1].metric`. See [`AttributePath`].
    pub attribute: String,
    /// What it should be; null if it should not be set.
    pub desired: Value,
    /// What it is; null if it is not set.
    pub observed: Value,
}

impl ResourceApi {
    /// What differs between the attributes that should be and those that are, in the attributes' order. Only
    /// attributes that are compared count; [`Attribute::same`] says what is no difference. Objects are compared field by
    /// field, in lists of one length and in maps of the same keys as well.
    #[must_use]
    pub fn differences(
        &self,
        desired: &Map<String, Value>,
        observed: &Map<String, Value>,
    ) -> Vec<FieldDifference> {
        let mut found = Vec::new();
        compare(&self.attributes, &AttributePath::default(), desired, observed, &mut found);
        found
    }

    /// The attribute, or field of an object, that a path of [`FieldDifference`] leads to.
    #[must_use]
    pub fn attribute_at(&self, path: &str) -> Option<&Attribute> {
        self.steps_to(&AttributePath::parse(path)?)?.pop()
    }

    /// Whether a difference there means delete and create.
    #[must_use]
    pub fn replaces(&self, path: &str) -> bool {
        let steps = AttributePath::parse(path).and_then(|path| self.steps_to(&path));
        steps.is_some_and(|steps| steps.iter().any(|attribute| attribute.replace))
    }

    /// The attributes that a path passes; `None` if it leads nowhere.
    fn steps_to(&self, path: &AttributePath) -> Option<Vec<&Attribute>> {
        let (mut found, mut fields) = (Vec::new(), Some(&self.attributes));
        for step in &path.0 {
            if let PathStep::Attribute(name) = step {
                let attribute = fields?.get(name)?;
                fields = attribute.r#type.fields().map(AsRef::as_ref);
                found.push(attribute);
            }
        }
        Some(found)
    }
}

fn compare(
    attributes: &BTreeMap<String, Attribute>,
    at: &AttributePath,
    desired: &Map<String, Value>,
    observed: &Map<String, Value>,
    found: &mut Vec<FieldDifference>,
) {
    for (name, attribute) in attributes {
        let desired = desired.get(name).unwrap_or(&Value::Null);
        let observed = observed.get(name).unwrap_or(&Value::Null);
        // Nobody asks for a value of a computed attribute that has none yet.
        let asked = !attribute.is_computed() || !desired.is_null();
        if attribute.compare && asked && !attribute.same(desired, observed) {
            inside(&attribute.r#type, &at.field(name), desired, observed, found);
        }
    }
}

/// What differs in two values that are not the same: as far inside as both have the same places.
fn inside(
    kind: &AttributeType,
    at: &AttributePath,
    desired: &Value,
    observed: &Value,
    found: &mut Vec<FieldDifference>,
) {
    match (kind, desired, observed) {
        (AttributeType::Object(fields), Value::Object(desired), Value::Object(observed)) => {
            compare(fields, at, desired, observed, found);
        }
        (AttributeType::List(item), Value::Array(desired), Value::Array(observed))
            if item.fields().is_some() && desired.len() == observed.len() =>
        {
            for (index, (desired, observed)) in desired.iter().zip(observed).enumerate() {
                inside(item, &at.then(PathStep::Index(index)), desired, observed, found);
            }
        }
        (AttributeType::Map(item), Value::Object(desired), Value::Object(observed))
            if item.fields().is_some() && desired.keys().all(|key| observed.contains_key(key)) =>
        {
            for (key, observed) in observed {
                let Some(desired) = desired.get(key) else { continue };
                inside(item, &at.then(PathStep::Key(key.clone())), desired, observed, found);
            }
            let more = observed.iter().filter(|(key, _)| !desired.contains_key(*key));
            found.extend(more.map(|(key, observed)| FieldDifference {
                attribute: at.then(PathStep::Key(key.clone())).to_string(),
                desired: Value::Null,
                observed: observed.clone(),
            }));
        }
        _ => {
            found.push(FieldDifference {
                attribute: at.to_string(),
                desired: desired.clone(),
                observed: observed.clone(),
            });
        }
    }
}
