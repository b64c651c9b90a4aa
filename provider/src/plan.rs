//! What a change will come to. Pure: no call, no clock.

use wanwright_vendors::{Attribute, AttributePath, AttributeType, PathStep};

use crate::cty::Value;
use crate::resource::{ID, KEY, ResourceType, State, TIMEOUTS};
use crate::wire::{Attributes, Values, with_blocks};

/// What Terraform is told before it applies.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) planned: State,
    /// Where a change means delete and create.
    pub(crate) requires_replace: Vec<AttributePath>,
    /// Whether the vendor has anything to do.
    pub(crate) calls_vendor: bool,
}

/// Plans a create (`prior` is none) or a change.
///
/// Everything the customer sets is taken from the configuration, with defaults for what it leaves out; what Terraform
/// proposes would keep the prior value of an attribute that is no longer set. What the vendor sets is unknown while
/// anything sent to the vendor changes, and otherwise stays.
pub(crate) fn plan(resource: &ResourceType, prior: Option<&State>, config: &State) -> Plan {
    let mut wishes = Wishes { changed: prior.is_none(), requires_replace: Vec::new() };
    let mut planned = Values::new();
    for (name, attribute) in resource.attributes.iter().filter(|(name, _)| !is_own(name)) {
        let prior = prior.map(|prior| prior.get(name));
        planned.insert(
            name.clone(),
            wishes.wanted(attribute, config.get(name), prior, &AttributePath::of(name)),
        );
    }
    let Wishes { changed, mut requires_replace } = wishes;
    for (name, attribute) in &resource.attributes {
        if let Some(value) = planned.get_mut(name) {
            set_by_vendor(attribute, value, prior.filter(|_| !changed).map(|prior| prior.get(name)));
        }
    }
    if is_another_key(prior, config) {
        requires_replace.push(AttributePath::of(KEY));
    }
    for name in [KEY, TIMEOUTS] {
        planned.insert(name.to_owned(), config.get(name).clone());
    }
    planned.insert(ID.to_owned(), prior.map_or(Value::Unknown, |prior| prior.get(ID).clone()));
    Plan { planned: State::new(planned), requires_replace, calls_vendor: changed }
}

/// What the vendor neither gets nor gives.
fn is_own(name: &str) -> bool {
    [ID, KEY, TIMEOUTS].contains(&name)
}

/// A different key means a different object. A key that was not there before (the object was imported), or is there no
/// more, is only noted in the state: the key counts when the object is created.
fn is_another_key(prior: Option<&State>, config: &State) -> bool {
    prior.is_some_and(|prior| {
        let (before, now) = (prior.get(KEY), config.get(KEY));
        !before.is_null() && !now.is_null() && before != now
    })
}

/// Goes through what is wanted and notes what differs from what there was.
struct Wishes {
    changed: bool,
    requires_replace: Vec<AttributePath>,
}

impl Wishes {
    /// What an attribute is to be. `prior` is none where there was nothing before, neither the object nor the one in the
    /// object that this is in.
    fn wanted(
        &mut self,
        attribute: &Attribute,
        config: &Value,
        prior: Option<&Value>,
        at: &AttributePath,
    ) -> Value {
        if attribute.is_computed() {
            return Value::Unknown;
        }
        if attribute.write_only {
            return Value::Null;
        }
        if attribute.local {
            // A version that is not given any more says nothing.
            self.changed |= !config.is_null() && prior.is_some_and(|prior| prior != config);
            return config.clone();
        }
        let config = match config {
            Value::Null => attribute.default_value().map_or(Value::Null, Value::from_json),
            value => value.clone(),
        };
        let config = with_blocks(attribute, config);
        let before = std::mem::take(&mut self.changed);
        let value = if prior.is_some_and(|prior| config.same(attribute, prior)) {
            self.kept(attribute, config, prior, at)
        } else if is_structured(&attribute.r#type, &config) {
            self.changed |= prior.is_some_and(|prior| !has_places_of(&config, prior));
            self.within(&attribute.r#type, &config, prior, at)
        } else {
            self.changed |= prior.is_some();
            config
        };
        if self.changed && attribute.replace && prior.is_some() {
            self.requires_replace.push(at.clone());
        }
        self.changed |= before;
        value
    }

    /// A value that means what there was. Terraform accepts the prior way of writing a value, but not null for a value
    /// that is configured, nor a value for one that is not.
    fn kept(
        &mut self,
        attribute: &Attribute,
        config: Value,
        prior: Option<&Value>,
        at: &AttributePath,
    ) -> Value {
        if is_structured(&attribute.r#type, &config) {
            return self.within(&attribute.r#type, &config, prior, at);
        }
        match prior {
            Some(prior) if !config.is_null() && !prior.is_null() => prior.clone(),
            _ => config,
        }
    }

    /// The same for each field of the objects in a value.
    fn within(
        &mut self,
        kind: &AttributeType,
        config: &Value,
        prior: Option<&Value>,
        at: &AttributePath,
    ) -> Value {
        match (kind, config) {
            (AttributeType::Object(attributes), Value::Map(_)) => {
                let prior = prior.filter(|prior| matches!(prior, Value::Map(_)));
                Value::Map(self.fields(attributes, config, prior, at))
            }
            (AttributeType::List(item), Value::List(items)) => {
                let place = |(index, config)| {
                    let prior = prior.and_then(|prior| prior.items().get(index));
                    self.within(item, config, prior, &at.then(PathStep::Index(index)))
                };
                Value::List(items.iter().enumerate().map(place).collect())
            }
            (AttributeType::Map(item), Value::Map(items)) => {
                let place = |(key, config): (&String, &Value)| {
                    let prior = prior.map(|prior| prior.at(key)).filter(|prior| !prior.is_null());
                    let at = at.then(PathStep::Key(key.clone()));
                    (key.clone(), self.within(item, config, prior, &at))
                };
                Value::Map(items.iter().map(place).collect())
            }
            _ => config.clone(),
        }
    }

    fn fields(
        &mut self,
        attributes: &Attributes,
        config: &Value,
        prior: Option<&Value>,
        at: &AttributePath,
    ) -> Values {
        let field = |(name, attribute): (&String, &Attribute)| {
            let prior = prior.map(|prior| prior.at(name));
            (name.clone(), self.wanted(attribute, config.at(name), prior, &at.field(name)))
        };
        attributes.iter().map(field).collect()
    }
}

/// Whether there are objects in a value to go into.
fn is_structured(kind: &AttributeType, value: &Value) -> bool {
    kind.fields().is_some() && matches!(value, Value::List(_) | Value::Map(_))
}

/// Whether two values have the same items, so that they differ, if at all, in fields.
fn has_places_of(value: &Value, prior: &Value) -> bool {
    match (value, prior) {
        (Value::List(items), Value::List(prior)) => {
            let unknown = items.iter().any(Value::is_unknown);
            items.len() == prior.len() && !unknown
        }
        // An object has its fields always.
        (Value::Map(items), Value::Map(prior)) => {
            let unknown = items.values().any(Value::is_unknown);
            items.keys().eq(prior.keys()) && !unknown
        }
        _ => false,
    }
}

/// Puts in what the vendor sets: what it was before, or that nobody knows.
fn set_by_vendor(attribute: &Attribute, planned: &mut Value, prior: Option<&Value>) {
    if attribute.is_computed() {
        *planned = prior.cloned().unwrap_or(Value::Unknown);
    } else {
        set_within(&attribute.r#type, planned, prior);
    }
}

fn set_within(kind: &AttributeType, planned: &mut Value, prior: Option<&Value>) {
    match (kind, planned) {
        (AttributeType::Object(attributes), Value::Map(values)) => {
            for (name, attribute) in attributes.iter() {
                if let Some(value) = values.get_mut(name) {
                    set_by_vendor(attribute, value, prior.map(|prior| prior.at(name)));
                }
            }
        }
        (AttributeType::List(item), Value::List(items)) if item.fields().is_some() => {
            for (index, value) in items.iter_mut().enumerate() {
                set_within(item, value, prior.and_then(|prior| prior.items().get(index)));
            }
        }
        (AttributeType::Map(item), Value::Map(items)) if item.fields().is_some() => {
            for (key, value) in items {
                set_within(item, value, prior.map(|prior| prior.at(key)));
            }
        }
        _ => {}
    }
}
#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value as Json, json};
    use wanwright_vendors::Catalogue;

    use super::*;
    use crate::resource::resource_types;

    fn tunnel() -> ResourceType {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        let types = resource_types(&Catalogue::load(vendors).unwrap());
        types["wanwright_simwan_tunnel"].clone()
    }

    fn state(json: Json) -> State {
        tunnel().decode_stored(json.to_string().as_bytes()).unwrap()
    }

    fn existing() -> Json {
        json!({
            "id": "o-1", "idempotency_key": "k", "name": "t", "site_id": "s", "peer_address": "p", "inside": "i",
            "local_asn": 1, "peer_asn": 2, "mtu": 1400, "status": "up",
        })
    }

    fn configured(changes: Json) -> State {
        let mut json = existing();
        for name in ["id", "status"] {
            json[name] = Json::Null;
        }
        for (name, value) in changes.as_object().unwrap() {
            json[name] = value.clone();
        }
        state(json)
    }

    #[test]
    fn a_create_knows_all_but_what_the_vendor_sets() {
        let plan = plan(&tunnel(), None, &configured(json!({"mtu": null, "idempotency_key": null})));
        assert_eq!(plan.planned.get("mtu").to_json(), Some(json!(1400)), "the default");
        assert_eq!(plan.planned.get("status"), &Value::Unknown);
        assert_eq!(plan.planned.get(ID), &Value::Unknown);
        assert_eq!(plan.requires_replace, []);
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let before = state(existing());
        for changes in [json!({}), json!({"mtu": null}), json!({"mtu": 1400.0})] {
            let plan = plan(&tunnel(), Some(&before), &configured(changes));
            assert_eq!(plan.planned, before);
        }
    }

    #[test]
    fn a_change_makes_the_vendors_part_unknown_and_a_removed_value_goes_back_to_its_default() {
        let mut before = existing();
        before["mtu"] = json!(1300);
        let plan = plan(&tunnel(), Some(&state(before)), &configured(json!({"mtu": null})));
        assert_eq!(plan.planned.get("mtu").to_json(), Some(json!(1400)));
        assert_eq!(plan.planned.get("status"), &Value::Unknown);
        assert_eq!(plan.planned.id(), Some("o-1"));
        assert_eq!(plan.requires_replace, []);
    }

    #[test]
    fn some_changes_replace() {
        let before = state(existing());
        let replaced = |changes: Json| plan(&tunnel(), Some(&before), &configured(changes)).requires_replace;
        assert_eq!(replaced(json!({"name": "other", "mtu": 1})), [AttributePath::of("name")]);
        assert_eq!(replaced(json!({"idempotency_key": "other"})), [AttributePath::of(KEY)]);
        assert_eq!(replaced(json!({"idempotency_key": null})), []);
        let mut imported = existing();
        imported[KEY] = Json::Null;
        let plan = plan(&tunnel(), Some(&state(imported)), &configured(json!({})));
        assert_eq!(plan.requires_replace, []);
        assert_eq!(plan.planned, before, "only the key is noted");
    }
}
