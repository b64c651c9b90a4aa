//! The one HTTP client that obeys an `api/<kind>.toml`. The provider and the API engine both use it.

mod answer;
mod bulk;
mod call;
mod carrier;
mod error;
mod http;
mod job;
mod list;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use bulk::{BulkAnswer, BulkChange, BulkItem};
pub use carrier::{Brought, Carried, Carrier};
pub use error::{ClientError, CreateError};
pub use http::{ClientOptions, LOOKS_HEADER, VendorHttp};
pub use job::{JobNote, JobNotes, JobOf};
pub use list::Pages;

use answer::Answer;

use crate::resource::{Attribute, ResourceApi, Scope};

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
    address: Arc<Scope>,
    notes: Option<Arc<dyn JobNotes>>,
    patience: Option<Patience>,
}

/// How long a caller waits for the vendor's jobs, in place of the folder's limit.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until when; the folder's limit counts, if there is none.
    pub until: Option<tokio::time::Instant>,
    /// True once nobody waits any more. What was begun at the vendor goes on.
    pub stopped: tokio::sync::watch::Receiver<bool>,
}

impl ResourceClient {
    /// A client for one kind of object.
    #[must_use]
    pub fn new(http: VendorHttp, api: Arc<ResourceApi>) -> Self {
        Self { http, api, address: Arc::default(), notes: None, patience: None }
    }

    /// The same client for objects whose address has what these attributes say: the account that holds them, say.
    #[must_use]
    pub fn within(mut self, attributes: &Map<String, Value>) -> Self {
        self.address = Arc::new(self.api.address(attributes));
        self
    }

    /// The same client, which notes the jobs that the vendor begins.
    #[must_use]
    pub fn noting(mut self, notes: Arc<dyn JobNotes>) -> Self {
        self.notes = Some(notes);
        self
    }

    /// The same client, which waits for jobs as long as this says.
    #[must_use]
    pub fn waiting(mut self, patience: Patience) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The same client, which calls through these connections.
    #[must_use]
    pub fn through(mut self, http: VendorHttp) -> Self {
        self.http = http;
        self
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
        let Some(key) = idempotency_key.filter(|_| self.api.takes_key()) else {
            return self.create_once(attributes, None).await;
        };
        let mut row = key.to_owned();
        for next in 2..=MOST_KEYS + 1 {
            match self.create_once(attributes, Some(&row)).await {
                Err(error) if error.source.status() == Some(410) => row = format!("{key}.{next}"),
                other => return other,
            }
        }
        Err(CreateError::from(ClientError::Refused {
            status: 410,
            code: Some("idempotency_key_used_up".to_owned()),
            message: format!("`{key}` was created and deleted {MOST_KEYS} times: use another key"),
            field: None,
            gone: false,
        }))
    }

    /// The object that an earlier create with these attributes made, found by its name and changed to be as desired.
    /// `None` if the vendor has none of that name, or the folder does not say how to look for one.
    ///
    /// # Errors
    /// [`CreateError`], which carries the object where there is one that cannot be made as desired.
    pub async fn take_over(&self, attributes: &Map<String, Value>) -> Result<Option<Created>, CreateError> {
        let name = attributes.get("name").and_then(Value::as_str);
        let Some(name) = name.filter(|_| self.api.finds_by_name()) else { return Ok(None) };
        let client = self.clone().within(attributes);
        let Some(found) = client.find_by_name(name).await? else { return Ok(None) };
        let differences = self.api.differences(attributes, &found.attributes);
        if differences.is_empty() {
            return Ok(Some(Created { object: found, adopted: true }));
        }
        let known = Box::new(found.clone());
        let taken = client.adopt(found, attributes, &differences).await;
        taken.map(Some).map_err(|error| CreateError { known: Some(error.known.unwrap_or(known)), ..error })
    }

    async fn create_once(
        &self,
        attributes: &Map<String, Value>,
        key: Option<&str>,
    ) -> Result<Created, CreateError> {
        let operation = &self.api.create;
        let mut scope = self.api.sent(attributes, operation.nulls);
        if let Some(key) = key {
            scope.insert("idempotency_key".to_owned(), key.into());
        }
        let client = self.clone().within(attributes);
        let mut call = client.prepared(operation, &scope)?;
        call.header = self.api.idempotency_header.as_deref().zip(key);
        let answer = client.http.call(&client.api, &call).await?;
        let object = client.created(&answer, attributes).await?;
        let differences = self.api.differences(attributes, &object.attributes);
        if differences.is_empty() {
            return Ok(Created { object, adopted: false });
        }
        client.adopt(object, attributes, &differences).await
    }

    /// The object that a create made.
    async fn created(
        &self,
        answer: &Answer,
        attributes: &Map<String, Value>,
    ) -> Result<RemoteObject, CreateError> {
        let operation = &self.api.create;
        let id = match self.job_begun(operation, answer)? {
            Some((_, job)) => {
                let object = self.created_id(answer, attributes);
                let note = JobNote { change: JobOf::Create, job, object };
                self.carried_out(&note).await?
            }
            None if operation.read_after
                || self.api.created_id.is_some()
                || self.api.publish.is_some()
                || answer.is_empty() =>
            {
                self.created_id(answer, attributes)
            }
            None => {
                let made = self.object_in(operation, &answer.json()?, None)?;
                return made.ok_or_else(|| ClientError::unexpected("the create answered no object").into());
            }
        };
        if self.api.publish.is_none() {
            return self.made(id, attributes).await;
        }
        let id = match id {
            Some(id) => id,
            None => self.made(None, attributes).await?.id,
        };
        match self.publish(&id, attributes).await {
            Ok(()) => self.made(Some(id), attributes).await,
            Err(source) => {
                let known = Box::new(RemoteObject { id, attributes: attributes.clone() });
                Err(CreateError { known: Some(known), source })
            }
        }
    }

    /// Gives effect to what was stored, at a vendor where that is a call of its own.
    async fn publish(&self, id: &str, attributes: &Map<String, Value>) -> Result<(), ClientError> {
        let Some(operation) = &self.api.publish else { return Ok(()) };
        let mut scope = self.api.sent(attributes, operation.nulls);
        scope.extend(of(id));
        let answer = self.change(operation, &scope).await?;
        if let Some((_, job)) = self.job_begun(operation, &answer)? {
            let note = JobNote { change: JobOf::Publish, job, object: Some(id.to_owned()) };
            self.carried_out(&note).await?;
        }
        Ok(())
    }

    /// Reads what was made under an id, or is to be found by its name if the vendor named none.
    async fn made(
        &self,
        id: Option<String>,
        attributes: &Map<String, Value>,
    ) -> Result<RemoteObject, CreateError> {
        let name = attributes.get("name").and_then(Value::as_str);
        let found = match (&id, name) {
            (Some(id), _) => self.read(id).await,
            (None, Some(name)) if self.api.finds_by_name() => self.find_by_name(name).await,
            (None, _) => Err(ClientError::unexpected("the vendor does not say what it made")),
        };
        let known = |id: String| Box::new(RemoteObject { id, attributes: attributes.clone() });
        match found {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(ClientError::unexpected("what was made is not there right after").into()),
            Err(source) => Err(CreateError { known: id.map(known), source }),
        }
    }

    /// Makes an object that an earlier create made into the one that is desired.
    async fn adopt(
        &self,
        object: RemoteObject,
        attributes: &Map<String, Value>,
        differences: &[crate::FieldDifference],
    ) -> Result<Created, CreateError> {
        let fixed = differences.iter().find(|difference| {
            let attribute = self.api.attribute_at(&difference.attribute);
            self.api.replaces(&difference.attribute) || attribute.is_some_and(Attribute::is_computed)
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
                gone: false,
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
        match self.look(&self.api.read, &of(id)).await {
            Ok(answer) => self.object_in(&self.api.read, &answer.json()?, Some(id)),
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
        let operation = &self.api.update;
        let mut scope = self.api.sent(attributes, operation.nulls);
        scope.extend(of(id));
        let client = self.clone().within(attributes);
        let answer = client.change(operation, &scope).await?;
        let job = client.job_begun(operation, &answer)?;
        if let Some((_, job)) = &job {
            let note = JobNote { change: JobOf::Update, job: job.clone(), object: Some(id.to_owned()) };
            client.carried_out(&note).await?;
        }
        client.publish(id, attributes).await?;
        let read_after = job.is_some() || operation.read_after || self.api.publish.is_some();
        let after = if read_after || answer.is_empty() {
            client.read(id).await?
        } else {
            client.object_in(operation, &answer.json()?, Some(id))?
        };
        after.ok_or_else(|| ClientError::unexpected(format!("{id} is gone right after its change")))
    }

    /// Deletes an object. One that is gone already is deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, id: &str) -> Result<Deleted, ClientError> {
        let operation = &self.api.delete;
        let answer = match self.change(operation, &of(id)).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(Deleted::Before),
            Err(error) => return Err(error),
        };
        if let Some((_, job)) = self.job_begun(operation, &answer)? {
            let note = JobNote { change: JobOf::Delete, job, object: Some(id.to_owned()) };
            self.carried_out(&note).await?;
        }
        self.conclude(JobOf::Delete, id, &Map::new()).await?;
        Ok(Deleted::Now)
    }
}

fn of(id: &str) -> Scope {
    Scope::from_iter([("id".to_owned(), Value::from(id))])
}
