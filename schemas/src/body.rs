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
    // Where something is wrong is looked for when something is.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(refusal)?;
    reader
        .end()
        .map_err(|error| Refusal::new(Reason::BrokenJson, words(Reason::BrokenJson, &error.to_string())))?;
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
    let read = read_value(&value)?;
    strict::shape(&value, &read)?;
    Ok(read)
}

/// The same, where it was made sure of that no list stands for an object; see [`strict::shape`].
///
/// # Errors
/// A refusal that names the field.
pub fn read_value<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    T::deserialize(value).or_else(|_| serde_path_to_error::deserialize(value).map_err(refusal))
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
    let refusal = Refusal::new(code, words(code, &text));
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

/// What the JSON reader says, in words for who typed the body: it speaks of types that nobody but a program knows.
fn words(code: Reason, text: &str) -> String {
    let said = text.rsplit_once(" at line ").map_or(text, |(said, _)| said);
    let after = |start: &str| said.strip_prefix(start).unwrap_or(said);
    match code {
        Reason::BrokenJson => format!("the body is no JSON: {text}"),
        Reason::UnknownField => {
            let (name, known) =
                after("unknown field ").split_once(", ").unwrap_or((after("unknown field "), ""));
            let known = known.strip_prefix("expected one of ").or_else(|| known.strip_prefix("expected "));
            let known = known.map_or_else(|| "there is none".to_owned(), |known| format!("there is {known}"));
            format!("there is no field {name}; {known}")
        }
        Reason::MissingField => format!("{} is missing", after("missing field ")),
        Reason::WrongType => match after("invalid type: ").rsplit_once(", expected ") {
            Some((is, must_be)) => format!("it is {}, and must be {}", kind(is), kind(must_be)),
            None => said.to_owned(),
        },
        _ => said.to_owned(),
    }
}

/// A kind of value as JSON calls it.
fn kind(said: &str) -> String {
    let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
    match word {
        "sequence" => "a list".to_owned(),
        "map" | "struct" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        "string" if !rest.is_empty() => format!("the text {rest}"),
        "integer" | "floating" => {
            format!("the number {}", rest.trim_start_matches("point ").trim_matches('`'))
        }
        "boolean" => rest.trim_matches('`').to_owned(),
        _ if matches!(said, "a sequence") => "a list".to_owned(),
        _ if matches!(said, "a map") => "an object".to_owned(),
        _ => said.to_owned(),
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
    fn a_mistake_is_told_in_words_of_json_and_not_of_a_program() {
        let message = |body: &str| parse::<SiteSpec>(body.as_bytes()).expect_err(body).message;
        let said = [
            r#"{"vendor":7,"lan":[]}"#,
            r#"{"vendor":"simwan","lan":{}}"#,
            r#"{"vendor":true,"lan":[]}"#,
            r#"{"vendor":null,"lan":[]}"#,
            r#"{"vendor":"simwan"}"#,
            "[[]]",
        ]
        .map(message);
        assert_eq!(
            said,
            [
                "it is the number 7, and must be a string",
                "it is an object, and must be a list",
                "it is true, and must be a string",
                "it is null, and must be a string",
                "`lan` is missing",
                "it is a list, and must be a string",
            ]
        );
        let unknown = message(r#"{"vendor":"simwan","lan":[],"lam":1}"#);
        assert!(unknown.starts_with("there is no field `lam`; there is `vendor`, `lan`"), "{unknown}");
        assert!(message("{").starts_with("the body is no JSON: "));
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
