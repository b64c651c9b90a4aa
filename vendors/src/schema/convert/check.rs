//! Proving a conversion when the folder is loaded: every field it names exists, no field of either version is forgotten,
//! and what the older version can say comes back as it was.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Conversion, Kept, Loss, Path};
use crate::schema::check::shaped;
use crate::schema::{FieldErrorKind, Node, SchemaError, Shape, samples};

/// The places of a schema that are no objects, the places that are, and what each is when nobody gives it.
#[derive(Default)]
struct Places {
    fields: Vec<Path>,
    objects: Vec<Path>,
    defaults: BTreeMap<Path, Value>,
}

impl Places {
    fn of(node: &Node) -> Self {
        let mut places = Self::default();
        places.visit(node, &Path::root());
        places
    }

    fn visit(&mut self, node: &Node, at: &Path) {
        if let Some(default) = &node.default {
            self.defaults.insert(at.clone(), default.clone());
        }
        match &node.shape {
            Shape::Object { properties, .. } => {
                self.objects.push(at.clone());
                for (name, node) in properties {
                    self.visit(node, &at.below(name));
                }
            }
            _ => self.fields.push(at.clone()),
        }
    }

    fn has(&self, path: &Path) -> bool {
        self.fields.contains(path) || self.objects.contains(path)
    }
}

/// The conversion between two versions, proven.
pub(in crate::schema) fn check(json: Value, older: &Node, newer: &Node) -> Result<Conversion, SchemaError> {
    let mut conversion: Conversion =
        serde_json::from_value(json).map_err(|error| wrong(".", &error.to_string()))?;
    let (before, after) = (Places::of(older), Places::of(newer));
    conversion.named(&before, &after)?;
    conversion.complete(&before, &after)?;
    conversion.objects.older = before.objects.into_iter().collect();
    conversion.objects.newer = after.objects.into_iter().collect();
    conversion.objects.silent = after.defaults;
    conversion.there_and_back(older, newer)?;
    conversion.back_fits(older, newer)?;
    Ok(conversion)
}

impl Conversion {
    /// Every path is a place of the version it belongs to, and none is said to go two ways.
    fn named(&self, before: &Places, after: &Places) -> Result<(), SchemaError> {
        let missing = |key: &str, path: &Path, version: &str| {
            wrong(&format!("{key}.{path}"), &format!("`{path}` is no field of the {version} version"))
        };
        for (key, path) in self.departing() {
            if !before.has(path) {
                return Err(missing(key, path, "older"));
            }
            if let Some((_, other)) = self.departing().find(|(_, other)| *other != path && other.holds(path))
            {
                return Err(wrong(
                    &format!("{key}.{path}"),
                    &format!("`{other}` holds it and goes elsewhere"),
                ));
            }
        }
        for (key, path) in self.arriving().chain(self.values.keys().map(|path| ("values", path))) {
            if !after.has(path) {
                return Err(missing(key, path, "newer"));
            }
        }
        for (key, path) in self.arriving() {
            let others = self.arriving().filter(|(_, other)| *other == path).count();
            if others > 1 || self.arriving().any(|(_, other)| other != path && other.holds(path)) {
                return Err(wrong(&format!("{key}.{path}"), "gets its value from two places"));
            }
        }
        match self.moved.keys().find(|path| self.dropped.contains_key(path)) {
            Some(path) => Err(wrong(&format!("moved.{path}"), "is dropped too: say one of the two")),
            None => Ok(()),
        }
    }

    /// The fields that leave their place in the older version.
    fn departing(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.moved.keys().map(|path| ("moved", path)).chain(self.dropped.keys().map(|path| ("dropped", path)))
    }

    /// The fields of the newer version that do not come from the same place.
    fn arriving(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.moved.values().map(|path| ("moved", path)).chain(self.added.keys().map(|path| ("added", path)))
    }

    /// No field of either version is forgotten.
    fn complete(&self, before: &Places, after: &Places) -> Result<(), SchemaError> {
        let leaves = |path: &Path| self.departing().any(|(_, from)| from.holds(path));
        let arrives = |path: &Path| self.arriving().any(|(_, to)| to.holds(path));
        for path in &before.fields {
            if !leaves(path) && (!after.fields.contains(path) || arrives(path)) {
                let message =
                    format!("`{path}` of the older version goes nowhere: list it under moved or dropped");
                return Err(wrong("dropped", &message));
            }
        }
        for path in &after.fields {
            if !arrives(path) && (!before.fields.contains(path) || leaves(path)) {
                let message =
                    format!("`{path}` of the newer version comes from nowhere: list it under moved or added");
                return Err(wrong("added", &message));
            }
        }
        Ok(())
    }

    /// What the older version can say fits the newer one, and comes back as it was.
    fn there_and_back(&self, older: &Node, newer: &Node) -> Result<(), SchemaError> {
        let none = Kept::default();
        for mut sample in samples::of(older) {
            for (path, stands) in &self.dropped {
                path.take(&mut sample, &self.objects.older);
                if !stands.is_null() {
                    path.put(&mut sample, stands.clone());
                }
            }
            let Ok(said) = shaped(older, "settings", &sample) else { continue };
            let there = self
                .up(said.clone(), Loss::Refused, &none)
                .map_err(|error| failed("to", &said, &error.to_string()))?;
            let there = shaped(newer, "settings", &there).map_err(|errors| {
                failed("to", &said, &errors.first().map(ToString::to_string).unwrap_or_default())
            })?;
            let back = self
                .down(there, Loss::Refused, &mut Kept::default())
                .map_err(|error| failed("back from", &said, &error.to_string()))?;
            let back = shaped(older, "settings", &back).map_err(|errors| {
                failed("back from", &said, &errors.first().map(ToString::to_string).unwrap_or_default())
            })?;
            if back != said {
                return Err(failed("back from", &said, &format!("it comes back as {}", shown(&back))));
            }
        }
        Ok(())
    }

    /// What the newer version says has the fields and types of the older one. Its values may be more than the older one
    /// allows: then only the newer version can change that field.
    fn back_fits(&self, older: &Node, newer: &Node) -> Result<(), SchemaError> {
        for sample in samples::of(newer) {
            let Ok(said) = shaped(newer, "settings", &sample) else { continue };
            let Ok(back) = self.down(said.clone(), Loss::Accepted, &mut Kept::default()) else { continue };
            let errors = shaped(older, "settings", &back).err().unwrap_or_default();
            if let Some(error) = errors.iter().find(|error| error.kind != FieldErrorKind::NotAllowed) {
                return Err(failed("back from", &said, &error.to_string()));
            }
        }
        Ok(())
    }
}

fn wrong(path: &str, message: &str) -> SchemaError {
    SchemaError { path: path.to_owned(), message: message.to_owned() }
}

fn failed(direction: &str, said: &Value, why: &str) -> SchemaError {
    wrong(".", &format!("{} does not convert {direction} the newer version: {why}", shown(said)))
}

fn shown(value: &Value) -> String {
    super::clipped(&value.to_string(), 160)
}
