//! Resource types made from vendor folders, their schemas, and the states of their objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmpv::Value as Packed;
use serde_json::{Map, Value as Json};
use wanwright_vendors::{AttributeType, Catalogue, Presence, RemoteObject, ResourceApi};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::proto::tfplugin6::{DynamicValue, Schema, schema};

/// Attribute that holds the vendor's id.
pub(crate) const ID: &str = "id";
/// Attribute that holds the key sent with the create.
pub(crate) const KEY: &str = "idempotency_key";

/// Deepest nesting read from the wire; attributes need three.
const DEEPEST: usize = 16;

/// One resource type, `wanwright_<vendor>_<kind>`.
#[derive(Clone, Debug)]
pub(crate) struct ResourceType {
    pub(crate) type_name: String,
    pub(crate) title: String,
    pub(crate) api: Arc<ResourceApi>,
}

/// The attributes of one object; always all of its type's attributes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State(BTreeMap<String, Value>);

/// The resource types of every vendor, by type name.
pub(crate) fn resource_types(catalogue: &Catalogue) -> BTreeMap<String, ResourceType> {
    let mut types = BTreeMap::new();
    for vendor in catalogue.iter() {
        for (kind, api) in &vendor.api {
            let type_name = format!("wanwright_{}_{kind}", vendor.name);
            let title = format!("A {kind} at {}.", vendor.title);
            let api = api.clone();
            types.insert(type_name.clone(), ResourceType { type_name, title, api });
        }
    }
    types
}

impl ResourceType {
    /// Every attribute's name and type.
    fn types(&self) -> impl Iterator<Item = (&str, AttributeType)> {
        let own = self.api.attributes.iter().map(|(name, attribute)| (name.as_str(), attribute.r#type));
        own.chain([(ID, AttributeType::String), (KEY, AttributeType::String)])
    }

    pub(crate) fn schema(&self) -> Schema {
        let mut attributes: Vec<schema::Attribute> = self
            .api
            .attributes
            .iter()
            .map(|(name, attribute)| {
                let (required, optional, computed) = match &attribute.presence {
                    Presence::Required => (true, false, false),
                    // Terraform lets a provider fill in only what it calls computed too.
                    Presence::Optional { default } => (false, true, default.is_some()),
                    Presence::Computed => (false, false, true),
                };
                schema::Attribute {
                    required,
                    optional,
                    computed,
                    sensitive: attribute.sensitive,
                    ..describe(name, attribute.r#type, &attribute.description)
                }
            })
            .collect();
        attributes.push(schema::Attribute {
            computed: true,
            ..describe(ID, AttributeType::String, "The vendor's id.")
        });
        attributes.push(schema::Attribute {
            optional: true,
            ..describe(
                KEY,
                AttributeType::String,
                "Sent with the create, so that repeating it makes one object. Another key means another object.",
            )
        });
        schema_of(attributes, &self.title)
    }

    /// Reads a state or configuration; `None` for none at all.
    pub(crate) fn decode(&self, value: Option<&DynamicValue>) -> Result<Option<State>, Diagnostic> {
        let found = decode(value, self.types())?;
        Ok(found.map(State))
    }

    /// Reads a state as it was stored, by this version or another: what is missing is null, what is not known is gone.
    pub(crate) fn decode_stored(&self, json: &[u8]) -> Result<State, Diagnostic> {
        let stored: Map<String, Json> = serde_json::from_slice(json).map_err(|error| {
            Diagnostic::unexpected("the stored state is no JSON object", error.to_string())
        })?;
        let mut state = BTreeMap::new();
        for (name, kind) in self.types() {
            let json = stored.get(name).unwrap_or(&Json::Null);
            if !kind.accepts(json) {
                let summary = format!("the stored state's `{name}` is no {}", kind.as_str());
                return Err(Diagnostic::unexpected(summary, "").at(name));
            }
            state.insert(name.to_owned(), Value::from_json(json));
        }
        Ok(State(state))
    }

    /// The state of an object as the vendor has it. What means the same stays as it was written in `before`, so that
    /// Terraform sees no change where there is none; what is not compared stays as it was anyway.
    pub(crate) fn state_of(&self, object: &RemoteObject, before: Option<&State>) -> State {
        let mut state = BTreeMap::new();
        for (name, attribute) in &self.api.attributes {
            let observed = Value::from_json(object.attributes.get(name).unwrap_or(&Json::Null));
            let before = before.map(|before| before.get(name)).filter(|value| !value.is_unknown());
            let ours = !attribute.is_computed() && !attribute.compare;
            let kept =
                before.filter(|before| observed.same(attribute, before) || (ours && !before.is_null()));
            state.insert(name.clone(), kept.cloned().unwrap_or(observed));
        }
        state.insert(ID.to_owned(), Value::String(object.id.clone()));
        let key = before.map_or(Value::Null, |before| before.get(KEY).clone());
        state.insert(KEY.to_owned(), key);
        State(state)
    }
}

impl State {
    pub(crate) fn new(values: BTreeMap<String, Value>) -> Self {
        Self(values)
    }

    /// An attribute's value; one that is not there is null.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// The vendor's id, if it is known.
    pub(crate) fn id(&self) -> Option<&str> {
        self.get(ID).as_str()
    }

    /// The attributes that are sent to the vendor.
    pub(crate) fn sent(&self, api: &ResourceApi) -> Map<String, Json> {
        let sent = api.attributes.iter().filter(|(_, attribute)| !attribute.is_computed());
        sent.filter_map(|(name, _)| Some((name.clone(), self.get(name).to_json()?))).collect()
    }

    pub(crate) fn encode(&self) -> DynamicValue {
        let pair = |(name, value): (&String, &Value)| (Packed::from(name.as_str()), value.to_packed());
        encode(&Packed::Map(self.0.iter().map(pair).collect()))
    }
}

/// No object.
pub(crate) fn nothing() -> DynamicValue {
    encode(&Packed::Nil)
}

/// A state, or that there is no object.
pub(crate) fn encode_state(state: Option<&State>) -> DynamicValue {
    state.map_or_else(nothing, State::encode)
}

/// Reads an object whose attributes have these types; `None` for null.
pub(crate) fn decode<'a>(
    value: Option<&DynamicValue>,
    types: impl Iterator<Item = (&'a str, AttributeType)>,
) -> Result<Option<BTreeMap<String, Value>>, Diagnostic> {
    let wrong = |detail: String| Diagnostic::unexpected("Terraform sent a value that cannot be read", detail);
    let packed = match value {
        None => return Ok(None),
        Some(value) if value.msgpack.is_empty() && !value.json.is_empty() => {
            serde_json::from_slice::<Json>(&value.json)
                .map(|json| Value::from_json(&json).to_packed())
                .map_err(|error| wrong(error.to_string()))?
        }
        Some(value) => rmpv::decode::read_value_with_max_depth(&mut value.msgpack.as_slice(), DEEPEST)
            .map_err(|error| wrong(error.to_string()))?,
    };
    let fields = match packed {
        Packed::Nil => return Ok(None),
        Packed::Map(fields) => fields,
        _ => return Err(wrong("It is no object.".to_owned())),
    };
    let mut found = BTreeMap::new();
    for (name, kind) in types {
        let packed = fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
        let value = Value::from_packed(kind, packed.unwrap_or(&Packed::Nil));
        let value = value.ok_or_else(|| wrong(format!("`{name}` is no {}.", kind.as_str())).at(name))?;
        found.insert(name.to_owned(), value);
    }
    Ok(Some(found))
}

fn encode(packed: &Packed) -> DynamicValue {
    let mut msgpack = Vec::new();
    // Writing to a Vec does not fail.
    let _ = rmpv::encode::write_value(&mut msgpack, packed);
    DynamicValue { msgpack, json: Vec::new() }
}

/// An attribute of a schema, neither required nor optional nor computed yet.
pub(crate) fn describe(name: &str, kind: AttributeType, description: &str) -> schema::Attribute {
    let r#type: &[u8] = match kind {
        AttributeType::String => b"\"string\"",
        AttributeType::Number => b"\"number\"",
        AttributeType::Bool => b"\"bool\"",
        AttributeType::StringList => b"[\"list\",\"string\"]",
        AttributeType::StringMap => b"[\"map\",\"string\"]",
    };
    schema::Attribute {
        name: name.to_owned(),
        r#type: r#type.to_vec(),
        description: description.to_owned(),
        ..schema::Attribute::default()
    }
}

/// A schema of these attributes.
pub(crate) fn schema_of(attributes: Vec<schema::Attribute>, description: &str) -> Schema {
    Schema {
        version: 0,
        block: Some(schema::Block {
            attributes,
            description: description.to_owned(),
            ..schema::Block::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn site() -> ResourceType {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        let types = resource_types(&Catalogue::load(vendors).unwrap());
        types["wanwright_simwan_site"].clone()
    }

    fn object(json: Json) -> RemoteObject {
        RemoteObject { id: "o-1".to_owned(), attributes: json.as_object().unwrap().clone() }
    }

    #[test]
    fn what_means_the_same_stays_as_it_was_written() {
        let mut site = site();
        let secret = Arc::make_mut(&mut site.api).attributes.get_mut("location").unwrap();
        secret.compare = false;
        let stored =
            json!({"id": "o-1", "idempotency_key": "k", "name": "a", "lan": [], "location": "secret"});
        let before = site.decode_stored(stored.to_string().as_bytes()).unwrap();
        let observed = object(json!({"name": "b", "lan": null, "location": "***", "status": "up"}));
        let state = site.state_of(&observed, Some(&before));
        assert_eq!(state.get("name").as_str(), Some("b"));
        assert_eq!(state.get("lan"), &Value::List(Vec::new()));
        assert_eq!(state.get("location").as_str(), Some("secret"));
        assert_eq!(state.get("status").as_str(), Some("up"));
        assert_eq!(state.get(KEY).as_str(), Some("k"));
        let imported = site.state_of(&observed, None);
        assert_eq!(imported.get("location").as_str(), Some("***"));
        assert_eq!(imported.get(KEY), &Value::Null);
    }

    #[test]
    fn states_survive_the_wire_and_other_versions() {
        let site = site();
        let stored = json!({"id": "o-1", "name": "a", "lan": ["x"], "gone": 1});
        let state = site.decode_stored(stored.to_string().as_bytes()).unwrap();
        assert_eq!(state.get("location"), &Value::Null);
        assert_eq!(site.decode(Some(&state.encode())).unwrap(), Some(state));
        assert_eq!(site.decode(Some(&nothing())).unwrap(), None);
        assert_eq!(site.decode(None).unwrap(), None);
        let json = DynamicValue { msgpack: Vec::new(), json: stored.to_string().into_bytes() };
        assert_eq!(site.decode(Some(&json)).unwrap().unwrap().id(), Some("o-1"));
    }

    #[test]
    fn what_cannot_be_read_is_a_diagnostic() {
        let site = site();
        for msgpack in [vec![], vec![0x01], vec![0x91; 100], vec![0x81, 0xa4, b'n', b'a', b'm', b'e', 0x01]] {
            let value = DynamicValue { msgpack, json: Vec::new() };
            let error = site.decode(Some(&value)).unwrap_err();
            assert!(error.summary.starts_with("Unexpected: "), "{error:?}");
        }
        for stored in ["", "[]", "{\"name\": 1}"] {
            assert!(site.decode_stored(stored.as_bytes()).is_err());
        }
    }
}
