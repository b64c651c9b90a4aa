//! From an operation of the folder to a call, and from its answer to an object.

use std::cell::Cell;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::error::ClientError;
use super::http::{Call, percent_encoded};
use super::{RemoteObject, ResourceClient};
use crate::pointer::text_at;
use crate::resource::{Body, HttpMethod, IdPlace, Operation, Scope};

impl ResourceClient {
    /// Makes the call of an operation that changes nothing, with these values in its places.
    pub(super) async fn look(&self, operation: &Operation, scope: &Scope) -> Result<Answer, ClientError> {
        let call = Call { looks: true, ..self.prepared(operation, scope)? };
        self.http.call(&self.api, &call).await
    }

    /// Makes the call of an operation that changes something.
    pub(super) async fn change(&self, operation: &Operation, scope: &Scope) -> Result<Answer, ClientError> {
        self.http.call(&self.api, &self.prepared(operation, scope)?).await
    }

    /// The call of an operation.
    pub(super) fn prepared(&self, operation: &Operation, scope: &Scope) -> Result<Call<'_>, ClientError> {
        let mut scope = scope.clone();
        for (name, value) in self.address.iter() {
            scope.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let query = operation
            .query
            .iter()
            .filter_map(|(name, template)| Some((name.clone(), template.fill(&scope, str::to_owned).ok()?)));
        Ok(Call {
            method: method(operation.method),
            path: path(operation, &scope)?,
            query: query.collect(),
            body: body(operation, &scope),
            header: None,
            looks: false,
        })
    }

    /// The object in an answer; `None` if the answer says that there is none. Of a list it is the one with that id.
    pub(super) fn object_in(
        &self,
        operation: &Operation,
        body: &Value,
        id: Option<&str>,
    ) -> Result<Option<RemoteObject>, ClientError> {
        let at = match &operation.object {
            None => Some(body),
            Some(pointer) => body.pointer(pointer),
        };
        match at {
            Some(Value::Array(items)) => {
                let objects = items.iter().map(|item| self.object(item));
                let objects = objects.collect::<Result<Vec<_>, _>>()?;
                Ok(objects.into_iter().find(|object| id.is_none_or(|id| object.id == id)))
            }
            Some(Value::Null) if operation.gone_when_null => Ok(None),
            Some(object @ Value::Object(_)) => self.object(object).map(Some),
            _ => {
                let place = operation.object.as_deref().unwrap_or("the top");
                Err(ClientError::unexpected(format!("the answer has no object at {place}")))
            }
        }
    }

    pub(super) fn object(&self, json: &Value) -> Result<RemoteObject, ClientError> {
        let attributes = self.api.from_json(json, &self.address);
        let id = match (&self.api.id, &attributes) {
            (IdPlace::Json(pointer), _) => text_at(json, pointer),
            (IdPlace::Named(template), Ok(attributes)) => template.fill(attributes, str::to_owned).ok(),
            _ => None,
        };
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            let place = match &self.api.id {
                IdPlace::Json(pointer) => pointer,
                _ => "the attributes it is made of",
            };
            return Err(ClientError::unexpected(format!("the answer has no id at {place}")));
        };
        let attributes = attributes.map_err(|name| {
            ClientError::unexpected(format!("`{name}` of object {id} is of another type than expected"))
        })?;
        Ok(RemoteObject { id, attributes })
    }

    /// The id of the object that a create made, as far as its answer or the attributes tell.
    pub(super) fn created_id(&self, answer: &Answer, attributes: &Map<String, Value>) -> Option<String> {
        let own = self.api.created_id.as_ref().and_then(|place| self.id_at(place, answer, attributes));
        let named = || match &self.api.id {
            IdPlace::Named(template) => template.fill(attributes, str::to_owned).ok(),
            IdPlace::Json(pointer) => {
                let body = answer.json().ok()?;
                let object = self.api.create.object.as_deref().map_or(Some(&body), |at| body.pointer(at))?;
                text_at(object, pointer)
            }
            IdPlace::Header(_) => None,
        };
        own.or_else(named)
    }

    pub(super) fn id_at(
        &self,
        place: &IdPlace,
        answer: &Answer,
        attributes: &Map<String, Value>,
    ) -> Option<String> {
        let id = match place {
            IdPlace::Json(pointer) => text_at(&answer.json().ok()?, pointer)?,
            IdPlace::Header(name) => last_part(answer.header(name)?)?,
            IdPlace::Named(template) => template.fill(attributes, str::to_owned).ok()?,
        };
        (!id.is_empty()).then_some(id)
    }
}

fn path(operation: &Operation, scope: &Scope) -> Result<String, ClientError> {
    let climbs = Cell::new(false);
    let encoded = |value: &str| {
        // Nothing, or dots, would make it the path of something else.
        climbs.set(climbs.get() || matches!(value, "" | "." | ".."));
        percent_encoded(value)
    };
    match operation.path.fill(scope, encoded) {
        Ok(path) if climbs.get() => {
            Err(ClientError::configuration(format!("`{path}` cannot be the path of an object")))
        }
        Ok(path) => Ok(path),
        Err(place) => {
            let message = format!("the call's path needs `{place}`, which is not set");
            Err(ClientError::configuration(message))
        }
    }
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

fn body(operation: &Operation, scope: &Scope) -> Option<Value> {
    match &operation.body {
        Body::None => None,
        Body::Json(shape) => shape.fill(scope, operation.nulls),
        Body::GraphQl { name, document, variables } => Some(json!({
            "query": document,
            "operationName": name,
            "variables": variables.fill(scope, operation.nulls),
        })),
    }
}

/// The last part of a URL's path; text that is no path is its own last part.
fn last_part(text: &str) -> Option<String> {
    let path = text.trim().split(['?', '#']).next()?;
    let part = path.trim_end_matches('/').rsplit('/').next()?;
    percent_decoded(part)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}
