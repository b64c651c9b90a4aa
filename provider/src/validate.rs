//! What is wrong with a configuration, as far as its values are known. Nobody is called.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use wanwright_vendors::{Attribute, AttributePath, AttributeType, FieldError, FieldErrorKind, PathStep};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::resource::{ResourceType, State, TIMEOUTS};
use crate::timeouts;
use crate::wire::Attributes;

/// Where settings are in an order.
const SETTINGS: &str = "settings";

/// Everything that can be said of a configuration. `write_only` is whether this Terraform knows what is never kept.
pub(crate) fn validate(resource: &ResourceType, config: &State, write_only: bool) -> Vec<Diagnostic> {
    let mut check = Check { write_only, found: Vec::new() };
    if let Some(instead) = &resource.api.deprecated {
        let summary = format!("{} should not be used any more", resource.type_name);
        check.found.push(Diagnostic::warning(summary, instead.clone()));
    }
    for (name, attribute) in &resource.attributes {
        check.attribute(attribute, config.get(name), &AttributePath::of(name));
    }
    for (operation, text) in timeouts::written(config) {
        if timeouts::duration(text).is_none() {
            let summary = format!("`{text}` is no duration");
            let error = Diagnostic::invalid(summary, "Write one like `90s`, `10m` or `1h30m`.");
            check.found.push(error.at_path(AttributePath::of(TIMEOUTS).field(operation)));
        }
    }
    // What is wrong by itself is not said a second time.
    if !check.found.iter().any(|found| !found.warning) {
        check.found.extend(settings(resource, config));
    }
    check.found
}

struct Check {
    write_only: bool,
    found: Vec<Diagnostic>,
}

impl Check {
    fn wrong(&mut self, at: &AttributePath, message: &str) {
        self.found.push(Diagnostic::invalid(format!("`{at}` {message}"), "").at_path(at.clone()));
    }

    fn attribute(&mut self, attribute: &Attribute, value: &Value, at: &AttributePath) {
        if value.is_null() {
            return;
        }
        if let Some(instead) = &attribute.deprecated {
            let summary = format!("`{at}` should not be used any more");
            self.found.push(Diagnostic::warning(summary, instead.clone()).at_path(at.clone()));
        }
        if attribute.write_only && !self.write_only {
            self.wrong(at, "is write-only, which Terraform knows since 1.11: use a newer one");
        }
        self.value(attribute, &attribute.r#type, value, at);
    }

    fn value(&mut self, attribute: &Attribute, kind: &AttributeType, value: &Value, at: &AttributePath) {
        match (kind, value) {
            (_, Value::Unknown) => {}
            (_, Value::Null) => self.wrong(at, "is null: leave it out"),
            (AttributeType::Object(attributes), Value::Map(_)) => self.fields(attributes, value, at),
            (AttributeType::List(item), Value::List(items)) => {
                self.count(attribute, items.len(), at);
                for (index, value) in items.iter().enumerate() {
                    self.value(attribute, item, value, &at.then(PathStep::Index(index)));
                }
            }
            (AttributeType::Map(item), Value::Map(items)) => {
                self.count(attribute, items.len(), at);
                for (key, value) in items {
                    self.value(attribute, item, value, &at.then(PathStep::Key(key.clone())));
                }
            }
            (_, value) => {
                let refused =
                    value.to_json().and_then(|value| attribute.bounds.refuse(&value, attribute.sensitive));
                if let Some(message) = refused {
                    self.wrong(at, &message);
                }
            }
        }
    }

    fn count(&mut self, attribute: &Attribute, count: usize, at: &AttributePath) {
        if let Some(message) = attribute.bounds.refuse_count(count) {
            self.wrong(at, &message);
        }
    }

    fn fields(&mut self, attributes: &Attributes, value: &Value, at: &AttributePath) {
        for (name, attribute) in attributes {
            self.attribute(attribute, value.at(name), &at.field(name));
        }
    }
}

/// What the schema of the settings has against the attributes that come from them.
fn settings(resource: &ResourceType, config: &State) -> Vec<Diagnostic> {
    let Some(schema) = &resource.settings else { return Vec::new() };
    let mut laid = Laid::default();
    let mut root = Map::new();
    for (name, attribute) in resource.attributes.iter().filter(|(_, attribute)| attribute.is_sent()) {
        let Some(from) = attribute.from.strip_prefix("settings.") else { continue };
        let place = format!("{SETTINGS}.{from}");
        if let Some(json) = laid.value(attribute, config.get(name), &place, AttributePath::of(name)) {
            put(&mut root, from, json);
        }
    }
    let errors = schema.check_known(SETTINGS, &Json::Object(root), &laid.unknown);
    errors.into_iter().filter_map(|error| laid.diagnostic(error)).collect()
}

/// Attributes laid out as the settings they come from.
#[derive(Default)]
struct Laid {
    unknown: Vec<String>,
    /// Where in the settings what stands in the configuration.
    places: BTreeMap<String, AttributePath>,
}

impl Laid {
    /// The value as a setting; `None` if there is none, or it is not known.
    fn value(
        &mut self,
        attribute: &Attribute,
        value: &Value,
        place: &str,
        at: AttributePath,
    ) -> Option<Json> {
        self.places.insert(place.to_owned(), at.clone());
        // A setting names a secret where a configuration may have the secret itself.
        if attribute.sensitive {
            self.unknown.push(place.to_owned());
            return None;
        }
        if value.is_null() {
            return None;
        }
        self.within(&attribute.r#type, value, place, &at)
    }

    fn within(
        &mut self,
        kind: &AttributeType,
        value: &Value,
        place: &str,
        at: &AttributePath,
    ) -> Option<Json> {
        match (kind, value) {
            (AttributeType::Object(attributes), Value::Map(_)) => {
                let mut object = Map::new();
                for (name, field) in attributes.iter().filter(|(_, field)| field.is_sent()) {
                    let inner = format!("{place}.{}", field.from);
                    if let Some(json) = self.value(field, value.at(name), &inner, at.field(name)) {
                        put(&mut object, &field.from, json);
                    }
                }
                Some(Json::Object(object))
            }
            (AttributeType::List(item), Value::List(items)) if value.is_whole() => {
                let mut list = Vec::new();
                for (index, value) in items.iter().enumerate() {
                    let inner = format!("{place}[{index}]");
                    let at = at.then(PathStep::Index(index));
                    self.places.insert(inner.clone(), at.clone());
                    list.push(self.within(item, value, &inner, &at).unwrap_or(Json::Null));
                }
                Some(Json::Array(list))
            }
            _ => {
                let json = value.to_json();
                if json.is_none() {
                    self.unknown.push(place.to_owned());
                }
                json
            }
        }
    }

    /// What is wrong, where the configuration says it. What it cannot say is not its fault.
    fn diagnostic(&self, error: FieldError) -> Option<Diagnostic> {
        let mut place = error.path.as_str();
        let at = loop {
            match self.places.get(place) {
                Some(at) => break at,
                None => place = &place[..place.rfind(['.', '['])?],
            }
        };
        if error.kind == FieldErrorKind::Unknown {
            return None;
        }
        let detail = format!("It has to be {}.", error.expected);
        let detail = if error.kind == FieldErrorKind::RuleBroken { String::new() } else { detail };
        Some(Diagnostic::invalid(format!("`{at}` {}", error.message), detail).at_path(at.clone()))
    }
}

/// Puts a value at a dotted path, making the objects on the way.
fn put(object: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let next = object.entry(first).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(next) = next {
                put(next, rest, value);
            }
        }
    }
}
