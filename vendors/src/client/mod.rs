//! The one HTTP client that obeys an `api/<kind>.toml`. The provider and the API engine both use it.

mod answer;
mod error;
mod http;

use std::ops::ControlFlow;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Map, Value};

pub use error::{ClientError, CreateError};
pub use http::{ClientOptions, VendorHttp};

use crate::resource::{ListApi, ResourceApi, UpdateMethod};

/// Most pages read of one list; a vendor whose cursor never ends is not followed for ever.
const MOST_PAGES: usize = 100_000;

/// Most keys tried for one create, the first one included.
const MOST_KEYS: usize = 64;

/// An object as the vendor has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteObject {
    /// The vendor's id.
    pub id: String,
    /// Every attribute of the resource; null where the vendor's answer has none.
    pub attributes: Map<String, Value>,
}

/// What a create came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The object, as desired.
    pub object: RemoteObject,
    /// Whether an earlier create with the same key had made it with other attributes, so that it was changed.
    pub adopted: bool,
}

/// What a delete came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The vendor deleted it.
    Now,
    /// The vendor did not have it any more.
    Before,
}

/// Does to one kind of object at one vendor what its `api/<kind>.toml` says. Attributes are maps from attribute names
/// to values; where they are in the vendor's JSON is this client's business.
#[derive(Clone, Debug)]
pub struct ResourceClient {
    http: VendorHttp,
    api: Arc<ResourceApi>,
}

impl ResourceClient {
    /// A client for one kind of object.
    #[must_use]
    pub fn new(http: VendorHttp, api: Arc<ResourceApi>) -> Self {
        Self { http, api }
    }

    /// The resource it obeys.
    #[must_use]
    pub fn api(&self) -> &ResourceApi {
        &self.api
    }

    /// Creates an object. A vendor that knows `idempotency_key` answers the object an earlier create made; if that one
    /// is not as desired, it is changed to be, so that the answer to `create` is always what was asked for.
    ///
    /// A key whose object has been deleted is used up (the vendor answers 410), and an object that is to be created
    /// again under the same key gets the next of a row: `key`, `key.2`, `key.3`. Repeating that create walks the same
    /// row and finds the same object.
    ///
    /// # Errors
    /// [`CreateError`], which carries the object if one is known to exist in spite of the error.
    pub async fn create(
        &self,
        attributes: &Map<String, Value>,
        idempotency_key: Option<&str>,
    ) -> Result<Created, CreateError> {
        let (Some(header), Some(key)) = (self.api.idempotency_header.as_deref(), idempotency_key) else {
            return self.create_once(attributes, None).await;
        };
        let mut row = key.to_owned();
        for next in 2..=MOST_KEYS + 1 {
            match self.create_once(attributes, Some((header, &row))).await {
                Err(error) if error.source.status() == Some(410) => row = format!("{key}.{next}"),
                other => return other,
            }
        }
        Err(CreateError::from(ClientError::Refused {
            status: 410,
            code: Some("idempotency_key_used_up".to_owned()),
            message: format!("`{key}` was created and deleted {MOST_KEYS} times: use another key"),
            field: None,
        }))
    }

    async fn create_once(
        &self,
        attributes: &Map<String, Value>,
        key: Option<(&str, &str)>,
    ) -> Result<Created, CreateError> {
        let body = self.api.to_json(attributes);
        let answer =
            self.http.call(&self.api, Method::POST, &self.api.collection, &[], Some(&body), key).await?;
        let object = self.object(&answer.json()?)?;
        let differences = self.api.differences(attributes, &object.attributes);
        if differences.is_empty() {
            return Ok(Created { object, adopted: false });
        }
        self.adopt(object, attributes, &differences).await
    }

    /// Makes an object that an earlier create made into the one that is desired.
    async fn adopt(
        &self,
        object: RemoteObject,
        attributes: &Map<String, Value>,
        differences: &[crate::FieldDifference],
    ) -> Result<Created, CreateError> {
        let fixed = differences.iter().find(|difference| {
            let attribute = self.api.attributes.get(&difference.attribute);
            attribute.is_some_and(|attribute| attribute.replace || attribute.is_computed())
        });
        if let Some(fixed) = fixed {
            let source = ClientError::Refused {
                status: 409,
                code: Some("created_with_other_values".to_owned()),
                message: format!(
                    "the create answered object {} with `{}` {} instead of {}, which cannot be changed: \
                     use another idempotency key, or delete that object",
                    object.id, fixed.attribute, fixed.observed, fixed.desired
                ),
                field: Some(fixed.attribute.clone()),
            };
            // It is another object than the one asked for, so it is not handed back as if it were ours.
            return Err(CreateError { known: None, source });
        }
        match self.update(&object.id, attributes).await {
            Ok(object) => Ok(Created { object, adopted: true }),
            Err(source) => Err(CreateError { known: Some(Box::new(object)), source }),
        }
    }

    /// The object with that id; `None` if the vendor does not have it.
    ///
    /// # Errors
    /// [`ClientError`]; an object that is not there is no error.
    pub async fn read(&self, id: &str) -> Result<Option<RemoteObject>, ClientError> {
        let answer = self.http.call(&self.api, Method::GET, &self.item(id)?, &[], None, None).await;
        match answer {
            Ok(answer) => Ok(Some(self.object(&answer.json()?)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an object these attributes and answers it as it is afterwards.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_not_found`] if the vendor does not have it.
    pub async fn update(
        &self,
        id: &str,
        attributes: &Map<String, Value>,
    ) -> Result<RemoteObject, ClientError> {
        let method = match self.api.update_method {
            UpdateMethod::Put => Method::PUT,
            UpdateMethod::Patch => Method::PATCH,
        };
        let body = self.api.to_update(attributes);
        let answer = self.http.call(&self.api, method, &self.item(id)?, &[], Some(&body), None).await?;
        if !answer.is_empty() {
            return self.object(&answer.json()?);
        }
        let after = self.read(id).await?;
        after.ok_or_else(|| ClientError::unexpected(format!("{id} is gone right after its change")))
    }

    /// Deletes an object. One that is gone already is deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, id: &str) -> Result<Deleted, ClientError> {
        let answer = self.http.call(&self.api, Method::DELETE, &self.item(id)?, &[], None, None).await;
        match answer {
            Ok(_) => Ok(Deleted::Now),
            Err(error) if error.is_not_found() => Ok(Deleted::Before),
            Err(error) => Err(error),
        }
    }

    /// The object whose attribute `name` is `name`.
    ///
    /// # Errors
    /// [`ClientError`]; several objects of that name are [`ClientError::Unexpected`].
    pub async fn find_by_name(&self, name: &str) -> Result<Option<RemoteObject>, ClientError> {
        let mut found: Vec<RemoteObject> = Vec::new();
        // A vendor that does not know the query parameter answers everything, so the name is compared here too.
        self.pages(Some(name), |objects| {
            let named =
                |object: &RemoteObject| object.attributes.get("name").and_then(Value::as_str) == Some(name);
            found.extend(objects.into_iter().filter(named));
            if found.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(ClientError::unexpected(format!("more than one object is named `{name}`"))),
        }
    }

    /// Hands every object of the collection over, page by page, until the last page or until `page` breaks.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Unexpected`] if the resource has no list.
    pub async fn list(
        &self,
        page: impl FnMut(Vec<RemoteObject>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.pages(None, page).await
    }

    async fn pages(
        &self,
        name: Option<&str>,
        mut page: impl FnMut(Vec<RemoteObject>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let Some(list) = &self.api.list else {
            let message = format!("the vendor folder has no [list] for {}", self.api.kind);
            return Err(ClientError::unexpected(message));
        };
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = Vec::new();
            query.extend(list.name.as_deref().zip(name));
            query.extend(cursor.as_deref().map(|cursor| (list.cursor.as_str(), cursor)));
            let body = self
                .http
                .call(&self.api, Method::GET, &self.api.collection, &query, None, None)
                .await?
                .json()?;
            if page(self.objects(list, &body)?).is_break() {
                return Ok(());
            }
            let next = next_cursor(list, &body)?;
            if next.is_none() {
                return Ok(());
            }
            if next == cursor {
                return Err(ClientError::unexpected("the list's next page is the page itself"));
            }
            cursor = next;
        }
        Err(ClientError::unexpected(format!("the list has more than {MOST_PAGES} pages")))
    }

    fn objects(&self, list: &ListApi, body: &Value) -> Result<Vec<RemoteObject>, ClientError> {
        let Some(Value::Array(items)) = body.pointer(&list.items) else {
            let message = format!("the list has no array at {}", list.items);
            return Err(ClientError::unexpected(message));
        };
        items.iter().map(|item| self.object(item)).collect()
    }

    fn object(&self, body: &Value) -> Result<RemoteObject, ClientError> {
        let id = match body.pointer(&self.api.id) {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => {
                let message = format!("the answer has no id at {}", self.api.id);
                return Err(ClientError::unexpected(message));
            }
        };
        let attributes = self.api.from_json(body).map_err(|name| {
            ClientError::unexpected(format!("`{name}` of object {id} is of another type than expected"))
        })?;
        Ok(RemoteObject { id, attributes })
    }

    /// The path of one object. An id that is empty or dots would be the path of something else.
    fn item(&self, id: &str) -> Result<String, ClientError> {
        if matches!(id, "" | "." | "..") {
            let message = format!("`{id}` cannot be an object's id");
            return Err(ClientError::Configuration { message });
        }
        Ok(self.api.item.replace("{id}", &http::percent_encoded(id)))
    }
}

fn next_cursor(list: &ListApi, body: &Value) -> Result<Option<String>, ClientError> {
    let at = list.next.as_deref().and_then(|pointer| body.pointer(pointer));
    match at {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(ClientError::unexpected("the list's cursor is neither text nor a number")),
    }
}
