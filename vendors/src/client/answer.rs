//! What an answer means.

use std::time::Duration;

use serde_json::Value;

use super::error::ClientError;
use crate::resource::ResourceApi;

/// Longest piece of an answer quoted in an error, in characters.
const LONGEST_QUOTED: usize = 300;

/// The body of a successful answer.
#[derive(Debug)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.0)
            .map_err(|error| ClientError::unexpected(format!("the answer is no JSON: {error}")))
    }
}

pub(super) fn judge(
    api: &ResourceApi,
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
) -> Result<Answer, ClientError> {
    match status {
        200..=299 => Ok(Answer(body)),
        // 408, 423 and 425 are the vendor's way to say "not now" as well.
        408 | 423 | 425 | 429 | 503 => {
            Err(ClientError::Busy { status, retry_after, message: Complaint::of(api, &body).message })
        }
        401 | 403 | 407 => Err(ClientError::Denied { status, message: Complaint::of(api, &body).message }),
        400..=499 => {
            let complaint = Complaint::of(api, &body);
            Err(ClientError::Refused {
                status,
                code: complaint.code,
                message: complaint.message,
                field: complaint.field,
            })
        }
        _ => Err(ClientError::Unexpected {
            status: Some(status),
            message: format!("HTTP {status}: {}", Complaint::of(api, &body).message),
        }),
    }
}

/// What an error answer says.
struct Complaint {
    code: Option<String>,
    message: String,
    field: Option<String>,
}

impl Complaint {
    fn of(api: &ResourceApi, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |pointer: &str| match json.pointer(pointer)? {
            Value::String(text) if !text.is_empty() => Some(clip(text)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let field = text(&api.errors.field).map(|field| {
            let attribute = api.attribute_of_field(&field).map(str::to_owned);
            attribute.unwrap_or(field)
        });
        Self {
            code: text(&api.errors.code),
            message: text(&api.errors.message).unwrap_or_else(|| quoted(body)),
            field,
        }
    }
}

fn quoted(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.trim() {
        "" => "no explanation".to_owned(),
        text => clip(text),
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTED) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
