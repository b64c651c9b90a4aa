//! Resource types made from vendor folders, and the states of their objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use wanwright_vendors::{
    Attribute, AttributeType, Catalogue, Presence, RemoteObject, ResourceApi, StructuralSchema, Vendor,
};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::observe;
use crate::proto::tfplugin6::{DynamicValue, Schema};
use crate::schema;
use crate::timeouts;
use crate::wire::{self, Attributes, Values};

/// Attribute that holds the vendor's id.
pub(crate) const ID: &str = "id";
/// Attribute that holds the key sent with the create.
pub(crate) const KEY: &str = "idempotency_key";
/// Block that says how long to wait.
pub(crate) const TIMEOUTS: &str = "timeouts";

/// One resource type, `wanwright_<vendor>_<kind>`.
#[derive(Clone, Debug)]
pub(crate) struct ResourceType {
    pub(crate) type_name: String,
    pub(crate) title: String,
    pub(crate) api: Arc<ResourceApi>,
    /// The vendor's attributes and Terraform's own.
    pub(crate) attributes: Attributes,
    /// What the settings of such an object may be.
    pub(crate) settings: Option<StructuralSchema>,
    /// Resource types whose states it takes over.
    pub(crate) formerly: Vec<String>,
}

/// The attributes of one object; always all of its type's attributes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State(Value);

/// The resource types of every vendor, by type name.
pub(crate) fn resource_types(catalogue: &Catalogue) -> BTreeMap<String, ResourceType> {
    let mut types = BTreeMap::new();
    for vendor in catalogue.iter() {
        for (kind, api) in &vendor.api {
            let found = type_of(vendor, kind.as_str(), api);
            types.insert(found.type_name.clone(), found);
        }
    }
    types
}

/// The name of the resource type that a vendor's kind of object is.
#[must_use]
pub fn resource_type(vendor: &str, kind: &str) -> String {
    format!("wanwright_{vendor}_{kind}")
}

fn type_of(vendor: &Vendor, kind: &str, api: &Arc<ResourceApi>) -> ResourceType {
    let name = |kind: &str| resource_type(&vendor.name, kind);
    let title = match api.description.as_str() {
        "" => format!("A {kind} at {}.", vendor.title),
        description => description.to_owned(),
    };
    let settings = vendor.schemas.get(kind).and_then(|schemas| schemas.get(schemas.stored())).cloned();
    let mut attributes = api.attributes.clone();
    describe(&mut attributes, settings.as_ref());
    if let Some(model) = attributes.get_mut("model").filter(|model| model.from == "model")
        && model.bounds.choices.is_empty()
    {
        model.bounds.choices = vendor.models.iter().map(|model| model.as_str().into()).collect();
    }
    attributes.extend(own_attributes());
    ResourceType {
        type_name: name(kind),
        title,
        api: api.clone(),
        attributes,
        settings,
        formerly: api.formerly.iter().map(|kind| name(kind.as_str())).collect(),
    }
}

/// Attributes without a description of their own have that of the setting they come from.
fn describe(attributes: &mut Attributes, settings: Option<&StructuralSchema>) {
    let fields = settings.map(StructuralSchema::fields).unwrap_or_default();
    for attribute in attributes.values_mut().filter(|attribute| attribute.description.is_empty()) {
        let Some(path) = attribute.from.strip_prefix("settings.") else { continue };
        let field = fields.iter().find(|field| field.path == path);
        attribute.description = field.and_then(|field| field.description.clone()).unwrap_or_default();
    }
}

/// What every resource has besides what the vendor's folder says.
fn own_attributes() -> [(String, Attribute); 3] {
    let optional = || Presence::Optional { default: None };
    let id = Attribute {
        description: "The vendor's id.".to_owned(),
        ..Attribute::new(AttributeType::String, Presence::Computed)
    };
    let key = Attribute {
        local: true,
        description:
            "Sent with the create, so that repeating it makes one object. Another key means another object."
                .to_owned(),
        ..Attribute::new(AttributeType::String, optional())
    };
    [(ID.to_owned(), id), (KEY.to_owned(), key), (TIMEOUTS.to_owned(), timeouts::attribute())]
}

impl ResourceType {
    pub(crate) fn schema(&self) -> Schema {
        let mut title = self.title.clone();
        if let Some(instead) = &self.api.deprecated {
            title.push_str(&format!(" Deprecated: {instead}"));
        }
        schema::schema(&self.attributes, &title, self.api.deprecated.is_some())
    }

    /// Reads a state or configuration; `None` for none at all.
    pub(crate) fn decode(&self, value: Option<&DynamicValue>) -> Result<Option<State>, Diagnostic> {
        Ok(wire::decode(value, &self.attributes)?.map(State::new))
    }

    /// Reads a state as it was stored, by this version or another.
    pub(crate) fn decode_stored(&self, json: &[u8]) -> Result<State, Diagnostic> {
        wire::decode_stored(json, &self.attributes).map(State::new)
    }

    /// The state of an object as the vendor has it. What means the same stays as it was written in `before`.
    pub(crate) fn state_of(&self, object: &RemoteObject, before: Option<&State>) -> State {
        let observed = Value::from_json(&Json::Object(object.attributes.clone()));
        let mut state = observe::fields(&self.attributes, &observed, before.map(|before| &before.0));
        state.insert(ID.to_owned(), Value::String(object.id.clone()));
        State::new(state)
    }

    /// The attributes that are sent to the vendor. Those that are never kept are in the configuration only.
    pub(crate) fn sent(&self, planned: &State, config: Option<&State>) -> Map<String, Json> {
        let config = config.map_or(&Value::Null, |config| &config.0);
        sent_fields(&self.api.attributes, &planned.0, config)
    }
}

fn sent_fields(attributes: &Attributes, planned: &Value, config: &Value) -> Map<String, Json> {
    let field = |(name, attribute): (&String, &Attribute)| {
        let (planned, config) = (planned.at(name), config.at(name));
        let value =
            if attribute.write_only { config.to_json() } else { sent(&attribute.r#type, planned, config) };
        Some((name.clone(), value?))
    };
    attributes.iter().filter(|(_, attribute)| attribute.is_sent()).filter_map(field).collect()
}

fn sent(kind: &AttributeType, planned: &Value, config: &Value) -> Option<Json> {
    Some(match (kind, planned) {
        (AttributeType::Object(attributes), Value::Map(_)) => {
            Json::Object(sent_fields(attributes, planned, config))
        }
        (AttributeType::List(item), Value::List(items)) => {
            let item =
                |(index, planned)| sent(item, planned, config.items().get(index).unwrap_or(&Value::Null));
            Json::Array(items.iter().enumerate().map(item).collect::<Option<_>>()?)
        }
        (AttributeType::Map(item), Value::Map(items)) => {
            let item =
                |(key, planned): (&String, &Value)| Some((key.clone(), sent(item, planned, config.at(key))?));
            Json::Object(items.iter().map(item).collect::<Option<_>>()?)
        }
        _ => planned.to_json()?,
    })
}

impl State {
    pub(crate) fn new(values: Values) -> Self {
        Self(Value::Map(values))
    }

    /// An attribute's value; one that is not there is null.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.0.at(name)
    }

    /// The vendor's id, if it is known.
    pub(crate) fn id(&self) -> Option<&str> {
        self.get(ID).as_str()
    }

    /// Whether no part of it is unknown.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    pub(crate) fn encode(&self) -> DynamicValue {
        match &self.0 {
            Value::Map(values) => wire::encode(values),
            _ => wire::nothing(),
        }
    }
}

/// A state, or that there is no object.
pub(crate) fn encode_state(state: Option<&State>) -> DynamicValue {
    state.map_or_else(wire::nothing, State::encode)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::wire::nothing;

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
        site.attributes.get_mut("location").unwrap().compare = false;
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
        let mut site = site();
        let stored = json!({"id": "o-1", "name": "a", "lan": ["x"], "gone": 1});
        let state = site.decode_stored(stored.to_string().as_bytes()).unwrap();
        assert_eq!(state.get("location"), &Value::Null);
        assert_eq!(site.decode(Some(&state.encode())).unwrap(), Some(state));
        assert_eq!(site.decode(Some(&nothing())).unwrap(), None);
        assert_eq!(site.decode(None).unwrap(), None);
        let json = DynamicValue { msgpack: Vec::new(), json: stored.to_string().into_bytes() };
        assert_eq!(site.decode(Some(&json)).unwrap().unwrap().id(), Some("o-1"));
        site.attributes.get_mut("location").unwrap().formerly = vec!["place".to_owned(), "gone".to_owned()];
        let state = site.decode_stored(stored.to_string().as_bytes()).unwrap();
        assert_eq!(state.get("location").as_str(), Some("1"), "under an older name and of another type");
    }

    #[test]
    fn what_cannot_be_read_is_a_diagnostic() {
        let site = site();
        for msgpack in [vec![], vec![0x01], vec![0x91; 100], vec![0x81, 0xa4, b'n', b'a', b'm', b'e', 0x01]] {
            let value = DynamicValue { msgpack, json: Vec::new() };
            let error = site.decode(Some(&value)).unwrap_err();
            assert!(error.summary.starts_with("Unexpected: "), "{error:?}");
        }
        for stored in ["", "[]", "{\"lan\": 1}", "{\"lan\": [[]]}"] {
            assert!(site.decode_stored(stored.as_bytes()).is_err());
        }
    }
}
