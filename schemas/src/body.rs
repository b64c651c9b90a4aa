//! Reading JSON that people typed: every error says what is wrong, where, and is a refusal.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::reason::{Reason, Refusal};
use crate::strict;

/// Largest body of a command, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// Reads a body as a type. An empty body reads as `{}`.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.len() > MAX_BODY {
        return Err(Refusal::new(Reason::BodyTooLarge, format!("the body has {} bytes", body.len())));
    }
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(refusal)?;
    reader.end().map_err(|error| Refusal::new(Reason::BrokenJson, error.to_string()))?;
    Ok(value)
}

/// Refuses a body with the character U+0000 in it, which JSON can only write escaped and a Postgres text cannot hold: the
/// rows would say something else than the customer did.
pub fn refuse_nul(body: &[u8]) -> Result<(), Refusal> {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        if rest.starts_with(b"u0000") {
            return Err(Refusal::new(Reason::InvalidValue, "a text has the character U+0000"));
        }
        // What is escaped may be a backslash itself.
        rest = rest.get(1..).unwrap_or_default();
    }
    Ok(())
}

/// Reads a JSON value as a type, with the same refusals.
pub fn from_value<T: DeserializeOwned + Serialize>(value: Value) -> Result<T, Refusal> {
    let read = serde_path_to_error::deserialize(&value).map_err(refusal)?;
    strict::shape(&value, &read)?;
    Ok(read)
}

fn refusal(error: serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let path = error.path().to_string();
    let inner = error.into_inner();
    let text = inner.to_string();
    let code = match inner.classify() {
        serde_json::error::Category::Data if text.starts_with("unknown field") => Reason::UnknownField,
        serde_json::error::Category::Data if text.starts_with("missing field") => Reason::MissingField,
        serde_json::error::Category::Data if text.starts_with("invalid type") => Reason::WrongType,
        serde_json::error::Category::Data => Reason::InvalidValue,
        _ => Reason::BrokenJson,
    };
    let refusal = Refusal::new(code, text.clone());
    match code {
        Reason::BrokenJson => refusal,
        // serde puts the name of a missing field into its sentence only; the path ends at the object that lacks it.
        Reason::MissingField => {
            let name = text.split('`').nth(1).unwrap_or_default();
            refusal.field(if path == "." { name.to_owned() } else { format!("{path}.{name}") })
        }
        _ if path == "." => refusal,
        _ => refusal.field(path),
    }
}

/// Applies a JSON merge patch (RFC 7396): objects merge, null removes, everything else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge_patch(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::SiteSpec;

    fn code(body: &str) -> (Reason, Option<String>) {
        let refusal = parse::<SiteSpec>(body.as_bytes()).expect_err(body);
        (refusal.code, refusal.field)
    }

    #[test]
    fn each_mistake_has_its_reason_and_its_place() {
        assert_eq!(code("{"), (Reason::BrokenJson, None));
        assert_eq!(code("{} x"), (Reason::MissingField, Some("vendor".into())));
        assert_eq!(code(r#"{"vendor":"simwan","lan":[]} x"#), (Reason::BrokenJson, None));
        assert_eq!(code(""), (Reason::MissingField, Some("vendor".into())));
        assert_eq!(
            code(r#"{"vendor":"simwan","lan":[],"lam":1}"#),
            (Reason::UnknownField, Some("lam".into()))
        );
        assert_eq!(code(r#"{"vendor":7,"lan":[]}"#), (Reason::WrongType, Some("vendor".into())));
        assert_eq!(
            code(r#"{"vendor":"simwan","lan":["10.0.0.0/33"]}"#),
            (Reason::InvalidValue, Some("lan[0]".into()))
        );
        let deep = "[".repeat(100_000);
        assert_eq!(code(&deep).0, Reason::WrongType);
        let large = format!("\"{}\"", "x".repeat(MAX_BODY));
        assert_eq!(code(&large).0, Reason::BodyTooLarge);
    }

    #[test]
    fn the_character_nul_is_refused_and_nothing_like_it() {
        assert_eq!(refuse_nul(br#"{"a":"\\u0000","b":"\\\\u0000 \u0001","c":"\"#), Ok(()));
        assert!(refuse_nul(br#"{"a":"\\\u0000"}"#).is_err());
    }

    #[test]
    fn merge_patch_follows_rfc_7396() {
        let mut target = json!({"a": "b", "c": {"d": "e", "f": "g"}});
        merge_patch(&mut target, &json!({"a": "z", "c": {"f": null}}));
        assert_eq!(target, json!({"a": "z", "c": {"d": "e"}}));
        merge_patch(&mut target, &json!({"c": [1]}));
        assert_eq!(target, json!({"a": "z", "c": [1]}));
    }
}
