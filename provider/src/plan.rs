//! What a change will come to. Pure: no call, no clock.

use std::collections::BTreeMap;

use crate::cty::Value;
use crate::resource::{ID, KEY, ResourceType, State};

/// What Terraform is told before it applies.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) planned: State,
    /// Attributes whose change means delete and create.
    pub(crate) requires_replace: Vec<String>,
}

/// Plans a create (`prior` is none) or a change.
///
/// Everything the customer sets is taken from the configuration, with defaults for what it leaves out; what Terraform
/// proposes would keep the prior value of an attribute that is no longer set. What the vendor sets is unknown while
/// anything sent to the vendor changes, and otherwise stays.
pub(crate) fn plan(resource: &ResourceType, prior: Option<&State>, config: &State) -> Plan {
    let mut planned = BTreeMap::new();
    let mut requires_replace = Vec::new();
    let mut calls_vendor = prior.is_none();
    for (name, attribute) in &resource.api.attributes {
        if attribute.is_computed() {
            continue;
        }
        let default = || attribute.default_value().map_or(Value::Null, Value::from_json);
        let wanted = match config.get(name) {
            Value::Null => default(),
            value => value.clone(),
        };
        let value = match prior.map(|prior| prior.get(name)) {
            Some(before) if wanted.same(attribute, before) => {
                // Terraform accepts the prior way of writing a value, but not null for a value that is configured.
                if before.is_null() { wanted } else { before.clone() }
            }
            Some(_) => {
                calls_vendor = true;
                if attribute.replace {
                    requires_replace.push(name.clone());
                }
                wanted
            }
            None => wanted,
        };
        planned.insert(name.clone(), value);
    }
    for (name, _) in resource.api.attributes.iter().filter(|(_, attribute)| attribute.is_computed()) {
        let kept = prior.filter(|_| !calls_vendor).map(|prior| prior.get(name).clone());
        planned.insert(name.clone(), kept.unwrap_or(Value::Unknown));
    }
    if is_another_key(prior, config) {
        requires_replace.push(KEY.to_owned());
    }
    planned.insert(KEY.to_owned(), config.get(KEY).clone());
    planned.insert(ID.to_owned(), prior.map_or(Value::Unknown, |prior| prior.get(ID).clone()));
    Plan { planned: State::new(planned), requires_replace }
}

/// A different key means a different object. A key that was not there before (the object was imported), or is there no
/// more, is only noted in the state: the key counts when the object is created.
fn is_another_key(prior: Option<&State>, config: &State) -> bool {
    prior.is_some_and(|prior| {
        let (before, now) = (prior.get(KEY), config.get(KEY));
        !before.is_null() && !now.is_null() && before != now
    })
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
        assert_eq!(plan.requires_replace, [""; 0]);
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
        assert_eq!(plan.requires_replace, [""; 0]);
    }

    #[test]
    fn some_changes_replace() {
        let before = state(existing());
        let replaced = |changes: Json| plan(&tunnel(), Some(&before), &configured(changes)).requires_replace;
        assert_eq!(replaced(json!({"name": "other", "mtu": 1})), ["name"]);
        assert_eq!(replaced(json!({"idempotency_key": "other"})), [KEY]);
        assert_eq!(replaced(json!({"idempotency_key": null})), [""; 0]);
        let mut imported = existing();
        imported[KEY] = Json::Null;
        let plan = plan(&tunnel(), Some(&state(imported)), &configured(json!({})));
        assert_eq!(plan.requires_replace, [""; 0]);
        assert_eq!(plan.planned, before, "only the key is noted");
    }
}
