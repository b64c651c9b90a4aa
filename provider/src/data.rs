//! Data sources: one object by its id or name, and all objects.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use wanwright_vendors::{Attribute, AttributeType, Presence, RemoteObject, ResourceClient};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::import::NAME;
use crate::observe;
use crate::proto::tfplugin6::Schema;
use crate::resource::{ID, ResourceType};
use crate::schema;
use crate::wire::{Attributes, Values};

/// The ids of a list's objects.
const IDS: &str = "ids";
/// A list's objects.
const ITEMS: &str = "items";

/// One data source.
#[derive(Clone, Debug)]
pub(crate) struct DataSource {
    pub(crate) resource: ResourceType,
    pub(crate) attributes: Attributes,
    /// Whether it is all objects, and not one.
    pub(crate) list: bool,
}

/// `wanwright_<vendor>_<kind>` of every kind, and `wanwright_<vendor>_<kinds>` of those that can be listed.
pub(crate) fn data_sources(resources: &BTreeMap<String, ResourceType>) -> BTreeMap<String, DataSource> {
    let mut found = BTreeMap::new();
    for (name, resource) in resources {
        found.insert(name.clone(), one(resource));
    }
    for (name, resource) in resources.iter().filter(|(_, resource)| resource.api.list.is_some()) {
        let kind = resource.api.kind.as_str();
        let plural = format!("{}{}", name.strip_suffix(kind).unwrap_or(name), resource.api.plural);
        // A kind of that name would come first.
        found.entry(plural).or_insert_with(|| all(resource));
    }
    found
}

fn one(resource: &ResourceType) -> DataSource {
    let mut attributes = readable(&resource.api.attributes);
    // Given or found out: what stands for "both" is a default, and Terraform never asks what it is.
    let asked = |description: &str| Attribute {
        description: description.to_owned(),
        ..Attribute::new(AttributeType::String, Presence::Optional { default: Some(Json::Null) })
    };
    attributes.insert(ID.to_owned(), asked("The vendor's id. Give it, or the name."));
    if resource.api.finds_by_name() {
        attributes.insert(NAME.to_owned(), asked("The name. Give it, or the id."));
    }
    for (name, attribute) in resource.api.attributes.iter().filter(|(_, attribute)| attribute.scope) {
        attributes.insert(name.clone(), Attribute { replace: false, ..attribute.clone() });
    }
    DataSource { resource: resource.clone(), attributes, list: false }
}

fn all(resource: &ResourceType) -> DataSource {
    let mut item = readable(&resource.api.attributes);
    item.insert(ID.to_owned(), computed(AttributeType::String, "The vendor's id."));
    let strings = AttributeType::List(Box::new(AttributeType::String));
    let objects = AttributeType::List(Box::new(AttributeType::Object(Arc::new(item))));
    let mut attributes = Attributes::new();
    attributes.insert(IDS.to_owned(), computed(strings, "The ids, sorted."));
    attributes.insert(ITEMS.to_owned(), computed(objects, "The objects, sorted by their ids."));
    for (name, attribute) in resource.api.attributes.iter().filter(|(_, attribute)| attribute.scope) {
        attributes.insert(name.clone(), Attribute { replace: false, ..attribute.clone() });
    }
    DataSource { resource: resource.clone(), attributes, list: true }
}

fn computed(kind: AttributeType, description: &str) -> Attribute {
    Attribute { description: description.to_owned(), ..Attribute::new(kind, Presence::Computed) }
}

/// The attributes that can be read, as what only the vendor sets.
fn readable(attributes: &Attributes) -> Attributes {
    let readable = attributes.iter().filter(|(_, attribute)| !attribute.write_only && !attribute.local);
    let of = |(name, attribute): (&String, &Attribute)| {
        let read = Attribute {
            sensitive: attribute.sensitive,
            ..computed(kind_of(&attribute.r#type), &attribute.description)
        };
        (name.clone(), read)
    };
    readable.map(of).collect()
}

fn kind_of(kind: &AttributeType) -> AttributeType {
    match kind {
        AttributeType::Object(fields) => AttributeType::Object(Arc::new(readable(fields))),
        AttributeType::List(item) => AttributeType::List(Box::new(kind_of(item))),
        AttributeType::Map(item) => AttributeType::Map(Box::new(kind_of(item))),
        single => single.clone(),
    }
}

impl DataSource {
    pub(crate) fn schema(&self) -> Schema {
        let title = &self.resource.title;
        let title = if self.list { format!("All of them. {title}") } else { title.clone() };
        schema::schema(&self.attributes, &title, self.resource.api.deprecated.is_some())
    }

    /// What is wrong with a configuration.
    pub(crate) fn validate(&self, config: &Values) -> Vec<Diagnostic> {
        let given = |name: &str| config.get(name).is_some_and(|value| !value.is_null());
        let (id, name) = (given(ID), self.resource.api.finds_by_name() && given(NAME));
        if self.list || id != name {
            return Vec::new();
        }
        let how = if self.resource.api.finds_by_name() {
            "Give `id` or `name`, one of them."
        } else {
            "Give `id`."
        };
        let summary = if id { "`id` and `name` are both given" } else { "nothing says which object" };
        vec![Diagnostic::invalid(summary, how).at(ID)]
    }

    /// Reads what the configuration names.
    pub(crate) async fn read(&self, client: ResourceClient, config: &Values) -> Result<Values, Diagnostic> {
        let scope: Map<String, Json> = config
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.to_json()?)))
            .filter(|(name, value)| self.resource.api.attributes.contains_key(name) && !value.is_null())
            .collect();
        let client = client.within(&scope);
        if self.list { self.read_all(&client, config).await } else { self.read_one(&client, config).await }
    }

    async fn read_one(&self, client: &ResourceClient, config: &Values) -> Result<Values, Diagnostic> {
        let text = |name: &str| config.get(name).and_then(Value::as_str);
        let (asked, found) = match (text(ID), text(NAME)) {
            (Some(id), _) => (id, client.read(id).await),
            (None, Some(name)) => (name, client.find_by_name(name).await),
            (None, None) => {
                return Err(Diagnostic::invalid("nothing says which object", "Give `id` or `name`."));
            }
        };
        let found = found.map_err(|error| Diagnostic::of(&error, &self.resource, "reading"))?;
        let object = found.ok_or_else(|| {
            let summary = format!("VendorRefused: the vendor has no {} `{asked}`", self.resource.api.kind);
            Diagnostic::error(summary, "").at(if text(ID).is_some() { ID } else { NAME })
        })?;
        let given = Value::Map(config.clone());
        let mut values = observe::fields(&self.attributes, &attributes_of(&object), Some(&given));
        values.insert(ID.to_owned(), Value::String(object.id));
        Ok(values)
    }

    async fn read_all(&self, client: &ResourceClient, config: &Values) -> Result<Values, Diagnostic> {
        let failed = |error| Diagnostic::of(&error, &self.resource, "listing");
        let mut objects = BTreeMap::new();
        let listed = client.list(|page| {
            objects.extend(page.into_iter().map(|object| (object.id.clone(), object)));
            ControlFlow::Continue(())
        });
        listed.await.map_err(failed)?;
        if self.resource.api.list.as_ref().is_some_and(|list| list.partial) {
            objects = whole(client, objects).await.map_err(failed)?;
        }
        let ids = objects.keys().map(|id| Value::String(id.clone())).collect();
        let items = objects.values().map(|object| self.item(object)).collect();
        let mut values = config.clone();
        values.insert(IDS.to_owned(), Value::List(ids));
        values.insert(ITEMS.to_owned(), Value::List(items));
        Ok(values)
    }

    fn item(&self, object: &RemoteObject) -> Value {
        let fields = self.attributes.get(ITEMS).and_then(|items| items.r#type.fields().cloned());
        let mut values = observe::fields(&fields.unwrap_or_default(), &attributes_of(object), None);
        values.insert(ID.to_owned(), Value::String(object.id.clone()));
        Value::Map(values)
    }
}

/// A list that lacks attributes names the objects to be read.
async fn whole(
    client: &ResourceClient,
    listed: BTreeMap<String, RemoteObject>,
) -> Result<BTreeMap<String, RemoteObject>, wanwright_vendors::ClientError> {
    let mut found = BTreeMap::new();
    for id in listed.into_keys() {
        // One that is gone since is no part of the list.
        if let Some(object) = client.read(&id).await? {
            found.insert(id, object);
        }
    }
    Ok(found)
}

fn attributes_of(object: &RemoteObject) -> Value {
    Value::from_json(&Json::Object(object.attributes.clone()))
}
