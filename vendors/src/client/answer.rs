//! What an answer means.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::error::ClientError;
use crate::errors::{Complaint, ErrorClass};
use crate::resource::ResourceApi;

/// Longest piece of an answer quoted in an error, in characters.
const LONGEST_QUOTED: usize = 300;

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn is_empty(&self) -> bool {
        self.body.iter().all(u8::is_ascii_whitespace)
    }

    pub(super) fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::unexpected(format!("the answer is no JSON: {error}")))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of this name, where an answer may have several.
    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()))
    }
}

/// Tells a success from an error, and what the error means: by the folder's rules, else by its status.
pub(super) fn judge(
    api: &ResourceApi,
    status: u16,
    retry_after: Option<Duration>,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, ClientError> {
    let success = (200..300).contains(&status);
    if success && api.errors.in_success.is_none() {
        return Ok(Answer { status, headers, body });
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if success && !api.errors.is_error(&json) {
        return Ok(Answer { status, headers, body });
    }
    let complaint = api.errors.complaint(&json);
    let rule = api.errors.rule(status, &complaint);
    let class = rule.map_or_else(|| by_status(status), |rule| Some(rule.means));
    let wait = retry_after.or(rule.and_then(|rule| rule.wait));
    Err(error(api, status, class, wait, complaint, &body))
}

/// The same for one result of many, which stands in a list. One without a status is an error where it says so.
pub(super) fn judge_result(
    api: &ResourceApi,
    status: Option<u16>,
    result: &Value,
) -> Result<(), ClientError> {
    let complaint = api.errors.complaint(result);
    let complains = complaint.code.is_some() || complaint.message.is_some() || api.errors.is_error(result);
    if status.map_or(!complains, |status| (200..300).contains(&status) && !api.errors.is_error(result)) {
        return Ok(());
    }
    let status = status.unwrap_or(200);
    let rule = api.errors.rule(status, &complaint);
    let class = rule.map_or_else(|| by_status(status), |rule| Some(rule.means));
    let wait = rule.and_then(|rule| rule.wait);
    Err(error(api, status, class, wait, complaint, result.to_string().as_bytes()))
}

/// `None` for what makes no sense: a redirect, say.
fn by_status(status: u16) -> Option<ErrorClass> {
    match status {
        // The error is in the body of a success, or repeating the call gives the same answer.
        200..=299 => Some(ErrorClass::Refused),
        404 => Some(ErrorClass::Gone),
        // 408, 423 and 425 are the vendor's way to say "not now" as well.
        408 | 423 | 425 | 429 | 503 => Some(ErrorClass::Busy),
        401 | 403 | 407 => Some(ErrorClass::Denied),
        400..=499 => Some(ErrorClass::Refused),
        _ => None,
    }
}

fn error(
    api: &ResourceApi,
    status: u16,
    class: Option<ErrorClass>,
    retry_after: Option<Duration>,
    complaint: Complaint,
    body: &[u8],
) -> ClientError {
    let message = complaint.message.as_deref().map_or_else(|| quoted(body), clip);
    match class {
        Some(class @ (ErrorClass::Refused | ErrorClass::Gone)) => ClientError::Refused {
            status,
            code: complaint.code.as_deref().map(clip),
            message,
            field: complaint
                .field
                .map(|field| api.attribute_of_field(&field).unwrap_or_else(|| clip(&field))),
            gone: class == ErrorClass::Gone,
        },
        Some(ErrorClass::Busy) => ClientError::Busy { status, retry_after, message },
        Some(ErrorClass::Denied) => ClientError::Denied { status, message },
        Some(ErrorClass::Broken) => ClientError::Broken { status, message },
        None => {
            ClientError::Unexpected { status: Some(status), message: format!("HTTP {status}: {message}") }
        }
    }
}

/// What a failed job says.
pub(super) fn of_job(api: &ResourceApi, job: &str, state: &str, message: Option<String>) -> ClientError {
    let complaint = Complaint { code: Some(state.to_owned()), message: message.clone(), field: None };
    let message = message.as_deref().map_or_else(|| "no explanation".to_owned(), clip);
    let message = format!("its job {} ended as {state}: {message}", clip(job));
    // The statuses of rules are those of answers, and the answer that tells of the job is a success.
    match api.errors.rule(200, &complaint).map(|rule| (rule.means, rule.wait)) {
        Some((ErrorClass::Busy, retry_after)) => ClientError::Busy { status: 200, retry_after, message },
        Some((ErrorClass::Broken, _)) => ClientError::Broken { status: 200, message },
        _ => {
            let code = Some("job_failed".to_owned());
            ClientError::Refused { status: 200, code, message, field: None, gone: false }
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
