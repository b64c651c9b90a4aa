//! `[create.bulk]`, `[update.bulk]`, `[delete.bulk]`: the change of many objects in one call.

use std::time::Duration;

use serde_json::Value;

use super::ResourceApi;
use super::operation::{Operation, Role, Shared};
use super::template::{Shape, Template};
use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// Most objects that a folder may put into one call.
const MOST_ITEMS: usize = 1_000;

/// Most bytes of items in one call, where the folder does not say: the gateway passes no call above 8 MiB.
const MOST_BYTES: usize = 1 << 20;

/// Milliseconds that a change waits for others, where the folder does not say.
const WAIT: u64 = 20;

/// How the vendor changes many objects in one call.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkApi {
    /// The call.
    pub operation: Operation,
    /// What it holds of each object.
    pub item: Shape,
    /// Most objects in one call.
    pub most_items: usize,
    /// Most bytes of items in one call.
    pub most_bytes: usize,
    /// How long a change waits for others that go with it.
    pub wait: Duration,
    /// JSON pointer to the list of results in the answer.
    pub results: String,
    /// The same in the last answer about a job, where that is another place.
    pub job_results: Option<String>,
    /// How a result's object is known; by its position where there is none.
    pub key: Option<BulkKey>,
    /// JSON pointer to a result's HTTP status; without one a result is an error where the folder's `[errors]` find one.
    pub status: Option<String>,
    /// JSON pointer to the object in a result; without one, and where a result has none, it is read.
    pub object: Option<String>,
    /// JSON pointer to the object's id in a result that has no object.
    pub id: Option<String>,
    /// Whether the engine makes such calls. A folder may describe what it does not use.
    pub used: bool,
}

/// How a result's object is known.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkKey {
    /// The key of an item.
    pub item: Template,
    /// JSON pointer to it in a result.
    pub result: String,
}

/// The bulk forms of the changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bulks {
    /// How many are created.
    pub create: Option<BulkApi>,
    /// How many are changed.
    pub update: Option<BulkApi>,
    /// How many are deleted.
    pub delete: Option<BulkApi>,
}

/// Takes the bulk form out of an operation's table.
pub(super) fn load(
    shared: &Shared<'_>,
    operation: &mut Section,
    role: Role,
) -> Result<Option<BulkApi>, LoadError> {
    let Some(mut section) = operation.optional_section("bulk")? else { return Ok(None) };
    let call = shared.operation(&mut section, Role::Bulk)?;
    if !call.names("items") {
        return Err(section.error("body", "does not say where the objects are: add `{items}` to it"));
    }
    let pointer_at = |section: &mut Section, key: &str| pointer::reading(section, key);
    let results = pointer_at(&mut section, "results")?.ok_or_else(|| {
        section.error("results", "is missing: say where the answer has the list of results")
    })?;
    let bulk = BulkApi {
        item: item(shared, &mut section, role)?,
        most_items: section.required("most_items")?,
        most_bytes: section.optional("most_bytes")?.unwrap_or(MOST_BYTES),
        wait: Duration::from_millis(section.optional("wait_milliseconds")?.unwrap_or(WAIT)),
        job_results: pointer_at(&mut section, "job_results")?,
        key: key(shared, &mut section, role)?,
        status: pointer_at(&mut section, "status")?,
        // What it means for one object: where it is in its result.
        object: call.object.clone(),
        id: pointer_at(&mut section, "id")?,
        used: section.optional("used")?.unwrap_or(true),
        results,
        operation: call,
    };
    if !(2..=MOST_ITEMS).contains(&bulk.most_items) {
        return Err(section.error("most_items", format!("is not from 2 to {MOST_ITEMS}")));
    }
    if !(1024..=4 << 20).contains(&bulk.most_bytes) {
        return Err(section.error("most_bytes", "is not from 1024 to 4194304"));
    }
    if bulk.wait > Duration::from_secs(1) {
        return Err(section.error("wait_milliseconds", "is above 1000: a change must not wait so long"));
    }
    section.finish()?;
    Ok(Some(bulk))
}

fn item(shared: &Shared<'_>, section: &mut Section, role: Role) -> Result<Shape, LoadError> {
    let json: Option<Value> = section.optional("item")?;
    let json =
        json.ok_or_else(|| section.error("item", "is missing: say what the call holds of each object"))?;
    let shape = Shape::parse(&json).map_err(|wrong| section.error("item", wrong))?;
    shared.known(section, "item", role, shape.places())?;
    if role != Role::Create && !shape.places().contains(&"id") {
        return Err(section.error("item", "does not say which object: add `{id}` to it"));
    }
    Ok(shape)
}

fn key(shared: &Shared<'_>, section: &mut Section, role: Role) -> Result<Option<BulkKey>, LoadError> {
    let (item, result) = (section.optional::<String>("item_key")?, pointer::reading(section, "result_key")?);
    match (item, result) {
        (None, None) => Ok(None),
        (Some(item), Some(result)) => {
            let item = Template::parse(&item).map_err(|wrong| section.error("item_key", wrong))?;
            shared.known(section, "item_key", role, item.places())?;
            Ok(Some(BulkKey { item, result }))
        }
        _ => Err(section.error("item_key", "and `result_key` belong together: add the other one")),
    }
}

impl Bulks {
    /// Refuses what could make an object twice, or none at all.
    pub(super) fn check(&self, api: &ResourceApi, file: &Section) -> Result<(), LoadError> {
        let any = [("create", &self.create), ("update", &self.update), ("delete", &self.delete)];
        if let Some((name, _)) = any.iter().find(|(_, bulk)| bulk.is_some())
            && api.publish.is_some()
        {
            let message = "cannot be used: with [publish] each object needs a call of its own";
            return Err(file.error(&format!("{name}.bulk"), message));
        }
        let Some(create) = &self.create else { return Ok(()) };
        let keyed = create.item.places().contains(&"idempotency_key");
        let wrong = match (api.takes_key(), keyed, api.finds_by_name()) {
            (true, false, _) => "has items without the idempotency key: add `{idempotency_key}` to `item`",
            (false, false, false) => {
                "makes objects that cannot be found again when its answer is lost: add `{idempotency_key}`, or [list] \
                 and an attribute `name`"
            }
            (false, true, _) => {
                "has the idempotency key, and a single create has not: add `idempotency_header`, or \
                 `{idempotency_key}` to what [create] sends"
            }
            _ => return Ok(()),
        };
        Err(file.error("create.bulk", wrong))
    }
}
