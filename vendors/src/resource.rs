//! A vendor's HTTP resource: `api/<kind>.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LoadError;
use crate::folder::Folder;
use crate::kind::{self, Kind};
use crate::section::Section;
use crate::vendor::ErrorPointers;

/// Attribute names that Terraform or the provider itself uses.
const RESERVED: &[&str] = &[
    "connection",
    "count",
    "depends_on",
    "for_each",
    "id",
    "idempotency_key",
    "lifecycle",
    "provider",
    "provisioner",
];

/// One kind of object as the vendor's HTTP API has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceApi {
    /// The kind.
    pub kind: Kind,
    /// Path where POST creates and GET lists.
    pub collection: String,
    /// Path of one object, with `{id}` in it.
    pub item: String,
    /// JSON pointer to the id in an answer.
    pub id: String,
    /// How an object is changed. Either way the body carries every attribute that is set.
    pub update_method: UpdateMethod,
    /// Header that makes a repeated create answer the object the first one made.
    pub idempotency_header: Option<String>,
    /// How the collection is listed; `None` if it cannot be.
    pub list: Option<ListApi>,
    /// The attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Where an error answer says what was wrong.
    pub errors: ErrorPointers,
}

/// The HTTP method of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UpdateMethod {
    /// Replaces the object.
    Put,
    /// Changes what is sent; null takes a value away.
    Patch,
}

/// How a collection is listed, page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListApi {
    /// JSON pointer to the array of objects.
    pub items: String,
    /// JSON pointer to the next page's cursor; `None` if a list answer is always whole.
    pub next: Option<String>,
    /// Query parameter that carries the cursor.
    pub cursor: String,
    /// Query parameter that finds an object by its `name` attribute, if the vendor has one.
    pub name: Option<String>,
}

/// One attribute of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its type.
    pub r#type: AttributeType,
    /// Who sets it.
    pub presence: Presence,
    /// Whether a change means delete and create.
    pub replace: bool,
    /// JSON pointer in request and answer.
    pub json: String,
    /// Dotted path in an order's desired state.
    pub from: String,
    /// Whether a difference is drift.
    pub compare: bool,
    /// Whether people may see it.
    pub sensitive: bool,
    /// For people; may be empty.
    pub description: String,
}

/// Type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum AttributeType {
    /// Text.
    #[serde(rename = "string")]
    String,
    /// A number.
    #[serde(rename = "number")]
    Number,
    /// True or false.
    #[serde(rename = "bool")]
    Bool,
    /// A list of texts; order counts.
    #[serde(rename = "list(string)")]
    StringList,
    /// A map of texts.
    #[serde(rename = "map(string)")]
    StringMap,
}

/// Who sets an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// The customer, always.
    Required,
    /// The customer or, left out, the default; without a default nobody.
    Optional {
        /// What stands for a value that was left out.
        default: Option<Value>,
    },
    /// The vendor; never sent.
    Computed,
}

impl AttributeType {
    /// Whether a value is of this type. Null is of every type: it means "not set".
    #[must_use]
    pub fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Bool, Value::Bool(_)) => true,
            (Self::StringList, Value::Array(items)) => items.iter().all(Value::is_string),
            (Self::StringMap, Value::Object(items)) => items.values().all(Value::is_string),
            _ => false,
        }
    }

    /// As it is written in `api/<kind>.toml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::StringList => "list(string)",
            Self::StringMap => "map(string)",
        }
    }
}

impl Attribute {
    /// Whether the vendor sets it.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        matches!(self.presence, Presence::Computed)
    }

    /// What stands for a value that was left out.
    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        match &self.presence {
            Presence::Optional { default } => default.as_ref(),
            Presence::Required | Presence::Computed => None,
        }
    }
}

/// Reads every file in `api/`.
pub(crate) fn load_all(
    folder: &Folder,
    errors: &ErrorPointers,
) -> Result<BTreeMap<Kind, Arc<ResourceApi>>, LoadError> {
    let mut found = BTreeMap::new();
    for (name, path, bytes) in folder.part("api") {
        let Some(kind) = name.strip_suffix(".toml").and_then(Kind::new) else {
            return Err(LoadError::Layout {
                path,
                message: "has no name of the form <kind>.toml: rename or remove it".to_owned(),
            });
        };
        let api = resource(Section::parse(&path, bytes)?, kind.clone(), errors)?;
        found.insert(kind, Arc::new(api));
    }
    Ok(found)
}

fn resource(mut file: Section, kind: Kind, errors: &ErrorPointers) -> Result<ResourceApi, LoadError> {
    let collection = path(&mut file, "collection")?;
    let item = path(&mut file, "item")?;
    if item.matches("{id}").count() != 1 {
        return Err(file.error("item", "has to contain `{id}` once"));
    }
    let api = ResourceApi {
        kind,
        collection,
        item,
        id: pointer(&mut file, "id")?.ok_or_else(|| file.error("id", "is missing: add it"))?,
        update_method: file.optional("update_method")?.unwrap_or(UpdateMethod::Put),
        idempotency_header: file.optional("idempotency_header")?,
        list: match file.optional_section("list")? {
            Some(section) => Some(list(section)?),
            None => None,
        },
        attributes: attributes(file.section("attributes")?)?,
        errors: errors.clone(),
    };
    file.finish()?;
    Ok(api)
}

fn list(mut section: Section) -> Result<ListApi, LoadError> {
    let list = ListApi {
        items: pointer(&mut section, "items")?.ok_or_else(|| section.error("items", "is missing: add it"))?,
        next: pointer(&mut section, "next")?,
        cursor: section.optional("cursor")?.unwrap_or_else(|| "cursor".to_owned()),
        name: section.optional("name")?,
    };
    section.finish()?;
    Ok(list)
}

fn attributes(mut section: Section) -> Result<BTreeMap<String, Attribute>, LoadError> {
    let mut found: BTreeMap<String, Attribute> = BTreeMap::new();
    for name in section.keys() {
        if !kind::is_identifier(&name, 64) || RESERVED.contains(&name.as_str()) {
            return Err(section.error(
                &name,
                "cannot be an attribute's name: use lowercase letters, digits and `_`, and none that Terraform or wanwright use",
            ));
        }
        let attribute = attribute(section.section(&name)?, &name)?;
        // Two attributes in one place would overwrite each other in the request.
        let clash = found.iter().find(|(_, other)| overlap(&other.json, &attribute.json));
        if let Some((other, _)) = clash {
            return Err(section.error(&name, format!("has the same place in the JSON as `{other}`")));
        }
        found.insert(name, attribute);
    }
    section.finish()?;
    Ok(found)
}

fn attribute(mut section: Section, name: &str) -> Result<Attribute, LoadError> {
    let r#type: AttributeType = section.required("type")?;
    let required = section.optional("required")?.unwrap_or(false);
    let computed = section.optional("computed")?.unwrap_or(false);
    let default: Option<Value> = section.optional("default")?;
    let replace = section.optional("replace")?.unwrap_or(false);
    let from: Option<String> = section.optional("from")?;
    if let Some(default) = &default
        && !r#type.accepts(default)
    {
        return Err(section.error("default", format!("is no {}", r#type.as_str())));
    }
    let presence = match (required, computed, default) {
        (true, false, None) => Presence::Required,
        (false, true, None) if !replace && from.is_none() => Presence::Computed,
        (false, false, default) => Presence::Optional { default },
        _ => {
            return Err(section.error(
                "",
                "is one of `required`, optional (perhaps with `default`) or `computed`; \
                 a computed attribute has neither `replace` nor `from`",
            ));
        }
    };
    let json = pointer(&mut section, "json")?.unwrap_or_else(|| format!("/{name}"));
    let attribute = Attribute {
        compare: section.optional("compare")?.unwrap_or(!computed),
        sensitive: section.optional("sensitive")?.unwrap_or(false),
        description: section.optional("description")?.unwrap_or_default(),
        r#type,
        presence,
        replace,
        json,
        from: from.unwrap_or_else(|| name.to_owned()),
    };
    if attribute.from.split('.').any(str::is_empty) {
        return Err(section.error("from", "is no dotted path: write one like `settings.vlan`"));
    }
    section.finish()?;
    Ok(attribute)
}

fn path(section: &mut Section, key: &str) -> Result<String, LoadError> {
    let text: String = section.required(key)?;
    let plain = |c: char| c.is_ascii_graphic() && c != '?' && c != '#';
    if !text.starts_with('/') || !text.chars().all(plain) {
        return Err(section.error(key, "is no path: write one like `/v1/devices`"));
    }
    Ok(text)
}

fn pointer(section: &mut Section, key: &str) -> Result<Option<String>, LoadError> {
    match section.optional::<String>(key)? {
        Some(text) if !is_pointer(&text) => {
            Err(section
                .error(key, "is no JSON pointer into an object: write one like `/name` or `/spec/name`"))
        }
        other => Ok(other),
    }
}

/// Whether text is a JSON pointer through objects. A part made of digits would mean an array's element when read and
/// an object's key when written, so it is refused.
pub(crate) fn is_pointer(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && !part.chars().all(|c| c.is_ascii_digit()))
    })
}

fn overlap(left: &str, right: &str) -> bool {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
