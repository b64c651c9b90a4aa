//! A vendor's resource: `api/<kind>.toml`.

mod attribute;
mod bulk;
mod job;
mod list;
mod operation;
mod template;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::LoadError;
use crate::errors::{self, ErrorRules};
use crate::folder::Folder;
use crate::kind::{Kind, is_identifier};
use crate::section::Section;

pub use attribute::{Attribute, AttributePath, AttributeType, Bounds, Normal, PathStep, Presence, Wire};
pub use bulk::{BulkApi, BulkKey, Bulks};
pub use job::JobApi;
pub use list::{Count, CountOf, ListApi, Paging};
pub use operation::{Body, HttpMethod, IdPlace, Operation};
pub use template::{Scope, Shape, Template};

use operation::{Role, Shared, path_text};

/// Headers that are not the folder's to set: the gateway's, the client's, or those of one connection.
const FOREIGN_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "traceparent",
    "transfer-encoding",
    "upgrade",
];

/// One kind of object as the vendor's API has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceApi {
    /// The kind.
    pub kind: Kind,
    /// What such an object is, for people; may be empty.
    pub description: String,
    /// What to use instead, if it should not be used any more.
    pub deprecated: Option<String>,
    /// The word for many of them, in the name of Terraform's data source: the kind with an `s`, if the folder does not say.
    pub plural: String,
    /// The kinds it was in earlier versions of the folder.
    pub formerly: Vec<Kind>,
    /// Where an object has its id.
    pub id: IdPlace,
    /// How one is created.
    pub create: Operation,
    /// Where the answer to a create has the id, if not where every object has it.
    pub created_id: Option<IdPlace>,
    /// How one is read.
    pub read: Operation,
    /// How one is changed. The body carries every attribute that is set.
    pub update: Operation,
    /// How one is deleted.
    pub delete: Operation,
    /// How many are changed in one call.
    pub bulk: Bulks,
    /// The call without which a create or a change has no effect: a deployment, a publication. `None` if there is none.
    pub publish: Option<Operation>,
    /// Whether a delete has no effect without it, either.
    pub publish_deletes: bool,
    /// How the collection is listed; `None` if it cannot be.
    pub list: Option<ListApi>,
    /// How the vendor's jobs are followed; `None` if every answer is the end of its work.
    pub job: Option<JobApi>,
    /// Header that makes a repeated create answer the object the first one made.
    pub idempotency_header: Option<String>,
    /// Headers of every call.
    pub headers: BTreeMap<String, String>,
    /// The attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Where an error answer says what was wrong, and what that means.
    pub errors: ErrorRules,
}

impl ResourceApi {
    /// Whether a repeated create finds what the first one made, by the key it carries.
    #[must_use]
    pub fn takes_key(&self) -> bool {
        self.idempotency_header.is_some() || self.create.names("idempotency_key")
    }

    /// Whether an object can be found by its name.
    #[must_use]
    pub fn finds_by_name(&self) -> bool {
        self.list.is_some() && self.attributes.contains_key("name")
    }

    /// Whether a create whose answer was lost can be told from one that never happened.
    #[must_use]
    pub fn finds_lost_create(&self) -> bool {
        self.takes_key() || self.finds_lost_create_by_name()
    }

    /// The same for a create without a key. A name does not tell where the vendor makes the object in a job: it is not there
    /// until the job has ended.
    #[must_use]
    pub fn finds_lost_create_by_name(&self) -> bool {
        self.finds_by_name() && !(self.job.is_some() && self.create.job)
    }
}

/// Reads every file in `api/`.
pub(crate) fn load_all(
    folder: &Folder,
    errors: &ErrorRules,
) -> Result<BTreeMap<Kind, Arc<ResourceApi>>, LoadError> {
    let mut documents = BTreeMap::new();
    for (name, file, bytes) in folder.part("api").filter(|(name, ..)| name.ends_with(".graphql")) {
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| LoadError::Syntax { file, message: "is not UTF-8 text".to_owned() })?;
        documents.insert(name.to_owned(), text);
    }
    let used = RefCell::default();
    let mut found = BTreeMap::new();
    for (name, path, bytes) in folder.part("api") {
        if documents.contains_key(name) {
            continue;
        }
        let Some(kind) = name.strip_suffix(".toml").and_then(Kind::new) else {
            return Err(LoadError::Layout {
                path,
                message: "has no name of the form <kind>.toml or <name>.graphql: rename or remove it"
                    .to_owned(),
            });
        };
        let api = resource(Section::parse(&path, bytes)?, kind.clone(), errors, (&documents, &used))?;
        found.insert(kind, Arc::new(api));
    }
    match documents.keys().find(|name| !used.borrow().contains(*name)) {
        None => Ok(found),
        Some(name) => Err(LoadError::Layout {
            path: folder.dir.join("api").join(name),
            message: "is named by no operation: name it with `document`, or remove it".to_owned(),
        }),
    }
}

fn resource(
    mut file: Section,
    kind: Kind,
    errors: &ErrorRules,
    (documents, used): (&BTreeMap<String, String>, &RefCell<BTreeSet<String>>),
) -> Result<ResourceApi, LoadError> {
    let attributes = attribute::load(file.section("attributes")?, 0)?;
    let job = file.optional_section("job")?;
    let shared = Shared {
        collection: path_text(&mut file, "collection")?,
        item: path_text(&mut file, "item")?,
        attributes: &attributes,
        documents,
        used,
        jobs: job.is_some(),
    };
    if shared.item.as_ref().is_some_and(|item| item.matches("{id}").count() != 1) {
        return Err(file.error("item", "has to contain `{id}` once"));
    }
    let id = match shared.id_place(&mut file, "id")? {
        Some(IdPlace::Header(_)) => {
            return Err(file.error(
                "id",
                "is in every object: write a JSON pointer, or `{name}`; a create has its own `id`",
            ));
        }
        Some(id) => id,
        None => return Err(file.error("id", "is missing: add it")),
    };
    let update_method: Option<HttpMethod> = file.optional("update_method")?;
    if !matches!(update_method, None | Some(HttpMethod::Put | HttpMethod::Patch)) {
        return Err(file.error("update_method", "is PUT or PATCH: anything else goes into [update]"));
    }
    let mut section = file.section_or_empty("create")?;
    let created_id = shared.id_place(&mut section, "id")?;
    let create_bulk = bulk::load(&shared, &mut section, Role::Create)?;
    let create = finished(&shared, section, Role::Create)?;
    let read = finished(&shared, file.section_or_empty("read")?, Role::Read)?;
    let role = Role::Update(update_method.unwrap_or(HttpMethod::Put));
    let mut section = file.section_or_empty("update")?;
    let update_bulk = bulk::load(&shared, &mut section, role)?;
    let update = finished(&shared, section, role)?;
    let mut section = file.section_or_empty("delete")?;
    let delete_bulk = bulk::load(&shared, &mut section, Role::Delete)?;
    let delete = finished(&shared, section, Role::Delete)?;
    let (publish, publish_deletes) = match file.optional_section("publish")? {
        None => (None, false),
        Some(mut section) => {
            let deletes = section.optional("deletes")?.unwrap_or(false);
            let operation = shared.operation(&mut section, Role::Publish)?;
            let known = !deletes
                || !operation.names("attributes") && !attributes.keys().any(|name| operation.names(name));
            if !known {
                return Err(
                    section.error("deletes", "has no attributes of what was deleted: name `{id}` only")
                );
            }
            section.finish()?;
            (Some(operation), deletes)
        }
    };
    let list = file.optional_section("list")?.map(|section| list::load(&shared, section)).transpose()?;
    let job = job.map(|section| job::load(&shared, section)).transpose()?;
    let own_errors = file.optional_section("errors")?;
    let errors = if own_errors.is_some() { errors::load(own_errors)? } else { errors.clone() };
    let idempotency_header = file.optional("idempotency_header")?;
    let headers = headers(&mut file)?;
    let plural: String = file.optional("plural")?.unwrap_or_else(|| format!("{kind}s"));
    if !is_identifier(&plural, 64) || plural == kind.as_str() {
        return Err(file.error("plural", "is no name of its own: use lowercase letters, digits and `_`"));
    }
    let api = ResourceApi {
        description: file.optional("description")?.unwrap_or_default(),
        deprecated: file.optional("deprecated")?,
        formerly: file.optional("formerly")?.unwrap_or_default(),
        plural,
        kind,
        id,
        create,
        created_id,
        read,
        update,
        delete,
        bulk: Bulks { create: create_bulk, update: update_bulk, delete: delete_bulk },
        publish,
        publish_deletes,
        list,
        job,
        idempotency_header,
        headers,
        errors,
        attributes,
    };
    api.bulk.check(&api, &file)?;
    file.finish()?;
    Ok(api)
}

fn finished(shared: &Shared<'_>, mut section: Section, role: Role) -> Result<Operation, LoadError> {
    let operation = shared.operation(&mut section, role)?;
    if role != Role::Create && !operation.names("id") {
        return Err(section.error("path", "does not say which object: add `{id}` to it, or to what is sent"));
    }
    section.finish()?;
    Ok(operation)
}

fn headers(file: &mut Section) -> Result<BTreeMap<String, String>, LoadError> {
    let headers: BTreeMap<String, String> = file.optional("headers")?.unwrap_or_default();
    for (name, value) in &headers {
        let key = format!("headers.{name}");
        let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty()
            || !name.chars().all(token)
            || FOREIGN_HEADERS.contains(&name.to_lowercase().as_str())
        {
            return Err(file.error(&key, "is no header that a folder may set: remove it"));
        }
        if !value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(file.error(&key, "has characters that a header cannot carry"));
        }
    }
    Ok(headers)
}
