//! JSON pointers in vendor folders.

#[cfg(feature = "client")]
use serde_json::Value;

use crate::error::LoadError;
use crate::section::Section;

/// Whether text is a JSON pointer through objects. A part made of digits would mean an array's element when read and
/// an object's key when written, so it is refused where something is written.
pub(crate) fn is_writable(text: &str) -> bool {
    is_readable(text) && text.split('/').skip(1).all(|part| !part.chars().all(|c| c.is_ascii_digit()))
}

/// Whether text is a JSON pointer.
pub(crate) fn is_readable(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !part.is_empty()))
}

/// A place that is read and written.
pub(crate) fn writable(section: &mut Section, key: &str) -> Result<Option<String>, LoadError> {
    checked(
        section,
        key,
        is_writable,
        "is no JSON pointer into an object: write one like `/name` or `/spec/name`",
    )
}

/// A place that is only read: it may go through lists, `/errors/0/message`.
pub(crate) fn reading(section: &mut Section, key: &str) -> Result<Option<String>, LoadError> {
    checked(section, key, is_readable, "is no JSON pointer: write one like `/error/code`")
}

fn checked(
    section: &mut Section,
    key: &str,
    fits: impl Fn(&str) -> bool,
    message: &str,
) -> Result<Option<String>, LoadError> {
    match section.optional::<String>(key)? {
        Some(text) if !fits(&text) => Err(section.error(key, message)),
        other => Ok(other),
    }
}

/// A text or number at a place, as text; `None` if there is none or it is empty.
#[cfg(feature = "client")]
pub(crate) fn text_at(body: &Value, pointer: &str) -> Option<String> {
    match body.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
