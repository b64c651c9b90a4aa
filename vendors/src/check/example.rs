//! A recorded example: what the client is asked for, what it has to send, what it is answered, and what comes out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Problem;
use crate::client::BulkChange;

/// One file of `examples/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    /// What it shows, for people.
    #[serde(rename = "about")]
    pub(super) _about: String,
    pub(super) kind: String,
    pub(super) operation: Wanted,
    /// An order's desired state, from which the attributes are taken.
    #[serde(default)]
    pub(super) desired: Option<Value>,
    /// The attributes themselves, in place of `desired`.
    #[serde(default)]
    pub(super) attributes: Option<Map<String, Value>>,
    /// The object's id, for `read`, `update` and `delete`.
    #[serde(default)]
    pub(super) id: Option<String>,
    /// The idempotency key of a create.
    #[serde(default)]
    pub(super) key: Option<String>,
    /// The name, for `find`.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// The objects, for `bulk-create`, `bulk-update` and `bulk-delete`.
    #[serde(default)]
    pub(super) items: Vec<Item>,
    /// What is sent and answered, in this order.
    pub(super) exchanges: Vec<Exchange>,
    pub(super) result: Expected,
}

/// What the client is asked to do.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wanted {
    Create,
    Read,
    Update,
    Delete,
    Find,
    List,
    #[serde(rename = "bulk-create")]
    BulkCreate,
    #[serde(rename = "bulk-update")]
    BulkUpdate,
    #[serde(rename = "bulk-delete")]
    BulkDelete,
}

impl Wanted {
    /// The operation, as an example names it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Find => "find",
            Self::List => "list",
            Self::BulkCreate => "bulk-create",
            Self::BulkUpdate => "bulk-update",
            Self::BulkDelete => "bulk-delete",
        }
    }

    /// The change that is asked for of many objects.
    pub(super) fn bulk(self) -> Option<BulkChange> {
        match self {
            Self::BulkCreate => Some(BulkChange::Create),
            Self::BulkUpdate => Some(BulkChange::Update),
            Self::BulkDelete => Some(BulkChange::Delete),
            _ => None,
        }
    }
}

/// One object of many: as in an example for one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    #[serde(default)]
    pub(super) desired: Option<Value>,
    #[serde(default)]
    pub(super) attributes: Option<Map<String, Value>>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) key: Option<String>,
}

/// One request and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) answer: Answer,
}

/// What the client has to send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) method: String,
    /// Percent-encoded, as it is sent.
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: BTreeMap<String, String>,
    /// Headers that have to be there; others may be.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Option<Value>,
    /// In place of `body`: the file of the GraphQL document that is sent.
    #[serde(default)]
    pub(super) document: Option<String>,
    /// The document's variables.
    #[serde(default)]
    pub(super) variables: Option<Value>,
}

/// What it is answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Option<Value>,
}

/// What comes out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    /// This object, as the client hands it over; attributes that are not set are left out.
    Object(Object),
    /// These objects.
    Objects(Vec<Object>),
    /// There is no such object.
    Nothing,
    /// It was deleted.
    Deleted,
    /// The call fails.
    Error(Failure),
    /// What comes of each of many objects: an object, `"deleted"` or an error.
    Items(Vec<Expected>),
}

impl Expected {
    /// The attributes of the objects that come out.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Map<String, Value>> + Clone {
        let objects = match self {
            Self::Object(object) => std::slice::from_ref(object),
            Self::Objects(objects) => objects.as_slice(),
            Self::Nothing | Self::Deleted | Self::Error(_) | Self::Items(_) => &[],
        };
        objects.iter().map(|object| &object.attributes)
    }
}

/// An object of the vendor's.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Object {
    pub(super) id: String,
    pub(super) attributes: Map<String, Value>,
}

/// How a call fails. What is left out is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failure {
    /// `VendorRefused`, `VendorBusy`, `Network` or `Unexpected`.
    pub(super) class: String,
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) field: Option<String>,
    /// A piece of the sentence.
    #[serde(default)]
    pub(super) says: Option<String>,
    #[serde(default)]
    pub(super) retry_after_seconds: Option<u64>,
}

pub(super) fn read(name: &str, file: &Path) -> Result<Example, Problem> {
    if !name.ends_with(".json") {
        return Err(Problem::error(file, None, "is no example: name it <what it shows>.json, or remove it"));
    }
    let text =
        fs::read(file).map_err(|error| Problem::error(file, None, format!("cannot be read: {error}")))?;
    let example: Example = serde_json::from_slice(&text).map_err(|error| {
        Problem::error(file, None, format!("{error}: see \"Examples\" in vendors/README.md"))
    })?;
    let missing = match example.operation {
        Wanted::Create if example.desired.is_none() && example.attributes.is_none() => Some("desired"),
        Wanted::Update if example.desired.is_none() && example.attributes.is_none() => Some("desired"),
        Wanted::Read | Wanted::Update | Wanted::Delete if example.id.is_none() => Some("id"),
        Wanted::Find if example.name.is_none() => Some("name"),
        many if many.bulk().is_some() && example.items.is_empty() => Some("items"),
        _ => None,
    };
    if let Some(key) = missing {
        return Err(Problem::error(file, Some(key), "is missing: this operation needs it"));
    }
    if example.desired.is_some() && example.attributes.is_some() {
        return Err(Problem::error(
            file,
            Some("attributes"),
            "come from `desired` already: remove one of the two",
        ));
    }
    Ok(example)
}
