//! One operation on a kind of object: the call that is made, and where its answer has what.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::attribute::Attribute;
use super::template::{Shape, Template};
use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// One call, as the folder describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// HTTP method.
    pub method: HttpMethod,
    /// Path; values go in percent-encoded.
    pub path: Template,
    /// Query parameters; one whose place is not set is left out.
    pub query: Vec<(String, Template)>,
    /// What is sent.
    pub body: Body,
    /// Whether a member of the body that is not set is sent as null; otherwise it is left out.
    pub nulls: bool,
    /// JSON pointer to the object in the answer; `None` if the answer is the object.
    pub object: Option<String>,
    /// Whether the answer holds no object, so that it has to be read.
    pub read_after: bool,
    /// Whether null where the object should be means that there is none.
    pub gone_when_null: bool,
    /// Whether the answer may begin a job.
    pub job: bool,
}

impl Operation {
    /// Whether a call with this method and path may be one of it. Where every document goes to one place, others are as well.
    #[must_use]
    pub fn is_call(&self, method: &str, path: &str) -> bool {
        self.method.as_str() == method && self.path.fits(path)
    }
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Reads.
    Get,
    /// Creates, or carries a document.
    Post,
    /// Replaces the object.
    Put,
    /// Changes what is sent; null takes a value away.
    Patch,
    /// Deletes.
    Delete,
}

impl HttpMethod {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What a call sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Shape),
    /// A GraphQL document with its variables.
    GraphQl {
        /// The name of the operation in the document.
        name: String,
        /// The document's text; nothing is ever put into it.
        document: String,
        /// The variables.
        variables: Shape,
    },
}

/// Where an id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// JSON pointer.
    Json(String),
    /// Last part of the path in a header, or the header's text where it is no path: `Location`.
    Header(String),
    /// Made of attributes.
    Named(Template),
}

/// What the operations of one file share while they are loaded.
pub(super) struct Shared<'a> {
    pub(super) collection: Option<String>,
    pub(super) item: Option<String>,
    pub(super) attributes: &'a BTreeMap<String, Attribute>,
    pub(super) documents: &'a BTreeMap<String, String>,
    pub(super) used: &'a RefCell<BTreeSet<String>>,
    pub(super) jobs: bool,
}

/// Which operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Create,
    Read,
    Update(HttpMethod),
    Delete,
    List,
    Job,
    Publish,
    /// A call with many objects.
    Bulk,
}

impl Role {
    fn method(self) -> HttpMethod {
        match self {
            Self::Create | Self::Publish | Self::Bulk => HttpMethod::Post,
            Self::Read | Self::List | Self::Job => HttpMethod::Get,
            Self::Update(method) => method,
            Self::Delete => HttpMethod::Delete,
        }
    }

    /// Whether the object's attributes are known.
    fn sends(self) -> bool {
        matches!(self, Self::Create | Self::Update(_) | Self::Publish)
    }

    /// The places an operation's templates may name, beside the attributes.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["attributes", "idempotency_key"],
            Self::Update(_) | Self::Publish => &["attributes", "id"],
            Self::Read | Self::Delete => &["id"],
            Self::List => &["name", "cursor", "size"],
            Self::Job => &["job"],
            Self::Bulk => &["items"],
        }
    }
}

impl Shared<'_> {
    /// Reads an operation's own keys out of its table, which may be empty; what else the table holds is the caller's.
    pub(super) fn operation(&self, section: &mut Section, role: Role) -> Result<Operation, LoadError> {
        let named: Option<HttpMethod> = section.optional("method")?;
        let document = self.document(section)?;
        let usual = if document.is_some() { HttpMethod::Post } else { role.method() };
        let method = named.unwrap_or(usual);
        let body = self.body(section, role, document)?;
        if method == HttpMethod::Get && body != Body::None {
            return Err(
                section.error("method", "is GET, which sends nothing: use POST, or remove what is sent")
            );
        }
        let operation = Operation {
            method,
            path: self.path(section, role, &body)?,
            query: self.query(section, role)?,
            nulls: nulls(section, method == HttpMethod::Patch)?,
            body,
            object: pointer::reading(section, "object")?,
            read_after: role.sends()
                && role != Role::Publish
                && section.optional("read_after")?.unwrap_or(false),
            gone_when_null: role == Role::Read && section.optional("gone_when_null")?.unwrap_or(false),
            job: match role {
                Role::Create | Role::Update(_) | Role::Delete | Role::Publish | Role::Bulk => {
                    section.optional("job")?.unwrap_or(self.jobs)
                }
                _ => false,
            },
        };
        if operation.job && !self.jobs {
            return Err(section.error("job", "needs to be told what a job is: add [job]"));
        }
        Ok(operation)
    }

    fn path(&self, section: &mut Section, role: Role, body: &Body) -> Result<Template, LoadError> {
        let own = path_text(section, "path")?;
        // Every document goes to the one place.
        let graph = matches!(body, Body::GraphQl { .. });
        let usual = match role {
            Role::Create | Role::List => self.collection.clone(),
            Role::Job | Role::Publish | Role::Bulk => self.collection.clone().filter(|_| graph),
            _ if graph => self.collection.clone(),
            _ => self.item.clone(),
        };
        let key = if matches!(role, Role::Create | Role::List) { "collection" } else { "item" };
        let text = own.or(usual).ok_or_else(|| {
            let elsewhere = match role {
                Role::Job | Role::Publish | Role::Bulk => String::new(),
                _ => format!(" here, or `{key}` at the top of the file"),
            };
            section.error("path", format!("is missing: add it{elsewhere}"))
        })?;
        let template = Template::parse(&text).map_err(|wrong| section.error("path", wrong))?;
        self.known(section, "path", role, template.places())?;
        Ok(template)
    }

    fn query(&self, section: &mut Section, role: Role) -> Result<Vec<(String, Template)>, LoadError> {
        let given: BTreeMap<String, Value> = section.optional("query")?.unwrap_or_default();
        let mut found = Vec::new();
        for (name, value) in given {
            let key = format!("query.{name}");
            let text = match value {
                Value::String(text) => text,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(section.error(&key, "is no text: write one like `\"{name}\"`")),
            };
            let template = Template::parse(&text).map_err(|wrong| section.error(&key, wrong))?;
            self.known(section, &key, role, template.places())?;
            found.push((name, template));
        }
        Ok(found)
    }

    fn document(&self, section: &mut Section) -> Result<Option<(String, String)>, LoadError> {
        let Some(file) = section.optional::<String>("document")? else { return Ok(None) };
        let Some(text) = self.documents.get(&file) else {
            return Err(section.error("document", format!("is no file of the folder: add api/{file}")));
        };
        self.used.borrow_mut().insert(file);
        let name = operation_name(text).ok_or_else(|| {
            section.error("document", "has no named operation: begin it with `query Name` or `mutation Name`")
        })?;
        Ok(Some((name, text.clone())))
    }

    fn body(
        &self,
        section: &mut Section,
        role: Role,
        document: Option<(String, String)>,
    ) -> Result<Body, LoadError> {
        let body: Option<Value> = section.optional("body")?;
        let variables: Option<Value> = section.optional("variables")?;
        let shape = |section: &Section, key: &str, json: &Value| {
            let shape = Shape::parse(json).map_err(|wrong| section.error(key, wrong))?;
            self.known(section, key, role, shape.places())?;
            Ok::<_, LoadError>(shape)
        };
        match (document, body, variables) {
            (Some((name, document)), None, variables) => {
                let variables = shape(section, "variables", &variables.unwrap_or_else(|| json!({})))?;
                Ok(Body::GraphQl { name, document, variables })
            }
            (Some(_), Some(_), _) => {
                Err(section.error("body", "and `document` cannot both be sent: remove one"))
            }
            (None, _, Some(_)) => Err(section.error("variables", "belong to a document: add `document`")),
            (None, Some(body), None) => Ok(Body::Json(shape(section, "body", &body)?)),
            (None, None, None) if role.sends() && role != Role::Publish => {
                Ok(Body::Json(Shape::Place("attributes".to_owned())))
            }
            (None, None, None) => Ok(Body::None),
        }
    }

    pub(super) fn known<'t>(
        &self,
        section: &Section,
        key: &str,
        role: Role,
        places: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), LoadError> {
        for place in places {
            if role.places().contains(&place) {
                continue;
            }
            let message = match self.attributes.get(place) {
                Some(attribute) if attribute.local => {
                    format!("names `{{{place}}}`, which is Terraform's alone and never sent")
                }
                Some(attribute) if attribute.is_computed() => {
                    format!("names `{{{place}}}`, which only the vendor sets")
                }
                Some(attribute) if !role.sends() && !attribute.scope => format!(
                    "names `{{{place}}}`, which is not known here: give the attribute `scope = true`, or use {}",
                    role.places().join(", ")
                ),
                Some(_) => continue,
                None => format!(
                    "names `{{{place}}}`, which is no attribute: use {} or an attribute's name",
                    role.places().join(", ")
                ),
            };
            return Err(section.error(key, message));
        }
        Ok(())
    }

    /// Where an id is: a JSON pointer, `header:Name`, or a text with attributes.
    pub(super) fn id_place(&self, section: &mut Section, key: &str) -> Result<Option<IdPlace>, LoadError> {
        let Some(text) = section.optional::<String>(key)? else { return Ok(None) };
        let wrong = "is no id's place: write a JSON pointer like `/id`, `header:Location`, or `{name}`";
        if text.starts_with('/') {
            return Ok(Some(IdPlace::Json(text)));
        }
        if let Some(header) = text.strip_prefix("header:") {
            let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let valid = !header.is_empty() && header.chars().all(token);
            return if valid {
                Ok(Some(IdPlace::Header(header.to_owned())))
            } else {
                Err(section.error(key, wrong))
            };
        }
        let template = Template::parse(&text).map_err(|wrong| section.error(key, wrong))?;
        let mut places = template.places().peekable();
        if places.peek().is_none() {
            return Err(section.error(key, wrong));
        }
        for place in places {
            if !self.attributes.contains_key(place) {
                return Err(section.error(key, format!("names `{{{place}}}`, which is no attribute")));
            }
        }
        Ok(Some(IdPlace::Named(template)))
    }
}

fn nulls(section: &mut Section, usual: bool) -> Result<bool, LoadError> {
    match section.optional::<String>("unset")?.as_deref() {
        None => Ok(usual),
        Some("null") => Ok(true),
        Some("omit") => Ok(false),
        Some(_) => Err(section.error("unset", "is \"null\" or \"omit\"")),
    }
}

pub(super) fn path_text(section: &mut Section, key: &str) -> Result<Option<String>, LoadError> {
    let Some(text) = section.optional::<String>(key)? else { return Ok(None) };
    let plain = |c: char| c.is_ascii_graphic() && c != '?' && c != '#';
    let climbs = text.split('/').any(|part| part == "." || part == "..");
    if !text.starts_with('/') || text.starts_with("//") || climbs || !text.chars().all(plain) {
        return Err(section.error(key, "is no path: write one like `/v1/devices`"));
    }
    Ok(Some(text))
}

/// The name of a GraphQL document's first operation.
fn operation_name(document: &str) -> Option<String> {
    let code = document.lines().map(|line| line.split('#').next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join(" ");
    let rest = ["query", "mutation"].iter().find_map(|word| code.trim_start().strip_prefix(word))?;
    let name: String =
        rest.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (rest.starts_with(char::is_whitespace) && !name.is_empty()).then_some(name)
}
