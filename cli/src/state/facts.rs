//! What a state says, one value a line.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// What stands in the place of a value that Terraform calls sensitive.
const SENSITIVE: &str = "(sensitive)";

/// A state, as far as people look at it.
#[derive(Deserialize)]
struct State {
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    value: Value,
    #[serde(default)]
    sensitive: bool,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    module: Option<String>,
    mode: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(default)]
    index_key: Option<Value>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    attributes: Value,
    #[serde(default)]
    sensitive_attributes: Vec<Vec<Step>>,
}

/// A step of the path to a sensitive attribute.
#[derive(Deserialize)]
struct Step {
    value: Value,
}

/// What a state says: the address of a value, and the value. Empty values are left out.
pub fn of(body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let state: State = serde_json::from_slice(body).context("reading the state")?;
    let mut facts = BTreeMap::new();
    for (name, output) in state.outputs {
        let value = if output.sensitive { SENSITIVE.into() } else { output.value };
        lay_out(format!("output.{name}"), value, &BTreeSet::new(), &mut facts);
    }
    for resource in state.resources {
        let module = resource.module.map(|module| format!("{module}.")).unwrap_or_default();
        let data = if resource.mode == "data" { "data." } else { "" };
        let address = format!("{module}{data}{}.{}", resource.kind, resource.name);
        for instance in resource.instances {
            let address = match &instance.index_key {
                Some(key) => format!("{address}[{key}]"),
                None => address.clone(),
            };
            let path = |steps: &Vec<Step>| {
                steps.iter().fold(address.clone(), |path, step| match &step.value {
                    Value::String(name) => format!("{path}.{name}"),
                    // An index is written with its type.
                    Value::Object(index) => {
                        format!("{path}[{}]", index.get("value").unwrap_or(&Value::Null))
                    }
                    other => format!("{path}[{other}]"),
                })
            };
            let sensitive: BTreeSet<String> = instance.sensitive_attributes.iter().map(path).collect();
            if let Some(status) = instance.status {
                facts.insert(format!("{address} (status)"), status.into());
            }
            lay_out(address.clone(), instance.attributes, &sensitive, &mut facts);
        }
    }
    Ok(facts)
}

fn lay_out(path: String, value: Value, sensitive: &BTreeSet<String>, facts: &mut BTreeMap<String, Value>) {
    if sensitive.contains(&path) {
        facts.insert(path, SENSITIVE.into());
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                lay_out(format!("{path}.{name}"), value, sensitive, facts);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                lay_out(format!("{path}[{index}]"), item, sensitive, facts);
            }
        }
        Value::Null => {}
        value => {
            facts.insert(path, value);
        }
    }
}

/// A value in which two states differ.
#[derive(Debug, PartialEq)]
pub struct Change<'a> {
    /// Its address.
    pub what: &'a str,
    /// What the earlier state says; none when it says nothing.
    pub before: Option<&'a Value>,
    /// What the later one says.
    pub after: Option<&'a Value>,
}

/// In what two states differ. Whether a sensitive value changed is not told.
pub fn changes<'a>(
    before: &'a BTreeMap<String, Value>,
    after: &'a BTreeMap<String, Value>,
) -> Vec<Change<'a>> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let compare = |what: &'a String| Change { what, before: before.get(what), after: after.get(what) };
    all.into_iter().map(compare).filter(|change| change.before != change.after).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(name: &str, secret: &str) -> Vec<u8> {
        json!({
            "version": 4, "serial": 1, "lineage": "l",
            "outputs": {"id": {"value": "s-1", "type": "string"}, "token": {"value": secret, "sensitive": true}},
            "resources": [
                {"mode": "managed", "type": "wanwright_site", "name": "this", "provider": "p", "instances": [{
                    "schema_version": 0,
                    "attributes": {"name": name, "lan": ["10.0.0.0/24"], "key": secret, "wan": [{"key": secret}], "none": null},
                    "sensitive_attributes": [
                        [{"type": "get_attr", "value": "key"}],
                        [
                            {"type": "get_attr", "value": "wan"},
                            {"type": "index", "value": {"value": 0, "type": "number"}},
                            {"type": "get_attr", "value": "key"}
                        ]
                    ]
                }]},
                {"mode": "managed", "type": "wanwright_tunnel", "name": "to", "instances": [
                    {"index_key": "a", "status": "tainted", "attributes": {"mtu": 1400}}
                ]}
            ]
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_state_is_laid_out_without_what_is_sensitive() {
        let facts = of(&state("oslo", "hush")).unwrap();
        assert!(!format!("{facts:?}").contains("hush"), "{facts:?}");
        assert_eq!(facts["wanwright_site.this.lan[0]"], "10.0.0.0/24");
        assert_eq!(facts["wanwright_site.this.wan[0].key"], SENSITIVE);
        assert_eq!(facts["wanwright_tunnel.to[\"a\"] (status)"], "tainted");
        assert_eq!(facts["wanwright_tunnel.to[\"a\"].mtu"], 1400);
        assert!(!facts.contains_key("wanwright_site.this.none"));
    }

    #[test]
    fn two_states_differ_in_what_changed() {
        let (before, after) = (of(&state("oslo", "hush")).unwrap(), of(&state("bergen", "other")).unwrap());
        let changes = changes(&before, &after);
        let (oslo, bergen) = (json!("oslo"), json!("bergen"));
        let expected = Change { what: "wanwright_site.this.name", before: Some(&oslo), after: Some(&bergen) };
        assert_eq!(changes, [expected]);
    }
}
