//! The place of a property, through objects only.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Names of properties, from the outside to the inside; written with dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(super) struct Path(Vec<String>);

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Path {
    /// The property of this name below this place.
    pub(super) fn below(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// Whether `other` is this place or inside it.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    pub(super) fn get_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(value, |value, name| value.as_object_mut()?.get_mut(name))
    }

    /// Takes the value out, and the objects around it that are empty then and are none of `objects`.
    pub(super) fn take(&self, value: &mut Value, objects: &BTreeSet<Self>) -> Option<Value> {
        let (last, above) = self.0.split_last()?;
        let mut holder = Self(above.to_vec());
        let taken = holder.get_mut(value)?.as_object_mut()?.remove(last)?;
        while let Some((last, above)) = holder.0.split_last() {
            let empty = holder.get_mut(value).and_then(|value| value.as_object()).is_some_and(Map::is_empty);
            if !empty || objects.contains(&holder) {
                break;
            }
            let (last, outer) = (last.clone(), Self(above.to_vec()));
            if let Some(map) = outer.get_mut(value).and_then(Value::as_object_mut) {
                map.remove(&last);
            }
            holder = outer;
        }
        Some(taken)
    }

    /// Puts a value there, with the objects around it. Where something else than an object is in the way, it stays.
    pub(super) fn put(&self, value: &mut Value, said: Value) {
        let Some((last, above)) = self.0.split_last() else { return };
        let holder = above.iter().try_fold(value, |value, name| {
            Some(value.as_object_mut()?.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())))
        });
        if let Some(map) = holder.and_then(Value::as_object_mut) {
            map.insert(last.clone(), said);
        }
    }
}
