use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Which objects have which text in the attributes that are looked up: unique ones, references and list filters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    attributes: BTreeMap<String, BTreeMap<String, BTreeSet<u64>>>,
}

impl Index {
    pub(crate) fn new(attributes: impl IntoIterator<Item = String>) -> Self {
        let attributes = attributes.into_iter().map(|attribute| (attribute, BTreeMap::new())).collect();
        Self { attributes }
    }

    pub(crate) fn add(&mut self, number: u64, object: &Map<String, Value>) {
        for (attribute, values) in &mut self.attributes {
            if let Some(text) = object.get(attribute).and_then(Value::as_str) {
                values.entry(text.to_owned()).or_default().insert(number);
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u64, object: &Map<String, Value>) {
        for (attribute, values) in &mut self.attributes {
            let Some(text) = object.get(attribute).and_then(Value::as_str) else { continue };
            let empty = values.get_mut(text).is_some_and(|numbers| {
                numbers.remove(&number);
                numbers.is_empty()
            });
            if empty {
                values.remove(text);
            }
        }
    }

    /// The objects with this text, in the order they were made.
    pub(crate) fn find(&self, attribute: &str, text: &str) -> impl Iterator<Item = u64> + '_ {
        let numbers = self.attributes.get(attribute).and_then(|values| values.get(text));
        numbers.into_iter().flatten().copied()
    }
}
