use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer of the API, not yet sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    body: Option<Vec<u8>>,
    retry_after: Option<u64>,
    replayed: bool,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: &Value) -> Self {
        Self { body: Some(body.to_string().into_bytes()), ..Self::empty(status) }
    }

    pub(crate) fn object(status: StatusCode, object: &Map<String, Value>) -> Self {
        Self::new(status, &Value::Object(object.clone()))
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, body: None, retry_after: None, replayed: false }
    }

    pub(crate) fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    pub(crate) fn too_many(seconds: u64, message: &str) -> Self {
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(seconds), ..refusal.reply() }
    }

    /// The id of the object in the body, if there is one.
    pub(crate) fn id(&self, id_field: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(self.body.as_deref()?).ok()?;
        body.get(id_field)?.as_str().map(str::to_owned)
    }

    /// The body.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body.as_deref()?).ok()
    }

    /// Bytes of the body.
    pub(crate) fn body_len(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(body) = self.body {
            *response.body_mut() = body.into();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Why a call is not done: `{"error":{"code","message"[,"field"][,"id"]}}`.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    field: Option<String>,
    id: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), field: None, id: None }
    }

    /// 400: the request itself is wrong in this field.
    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_field", message).field(field)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn field(self, field: &str) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(crate) fn id(self, id: String) -> Self {
        Self { id: Some(id), ..self }
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(field) = &self.field {
            error["field"] = json!(field);
        }
        if let Some(id) = &self.id {
            error["id"] = json!(id);
        }
        Reply::new(self.status, &json!({ "error": error }))
    }
}
