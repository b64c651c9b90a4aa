//! JSON that means one thing only, whoever reads it.
//!
//! A command's body is read here and its parts end up in Postgres, where another parser reads them. Where the two would
//! not understand the same, nobody can say what was asked for, and the body is refused: a name that is there twice (one
//! parser takes the first, another the last), a number with more digits than are kept, the character U+0000, and a list
//! where an object is meant (which this parser would take field by field).

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::body::{self, MAX_BODY, refuse_nul};
use crate::reason::{Reason, Refusal};

/// Reads a body that says everything once. An empty body reads as `{}`.
///
/// # Errors
/// A refusal that names the field.
pub fn read(body: &[u8]) -> Result<Value, Refusal> {
    if body.len() > MAX_BODY {
        return Err(Refusal::new(Reason::BodyTooLarge, format!("the body has {} bytes", body.len())));
    }
    refuse_nul(body)?;
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut twice = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let broken = |error: serde_json::Error| Refusal::new(Reason::BrokenJson, error.to_string());
    let value =
        Once { path: &Path::Root, twice: &mut twice }.deserialize(&mut reader).map_err(
            |error| match twice.take() {
                Some(path) => {
                    Refusal::new(Reason::InvalidValue, format!("the field {path} is there twice")).field(path)
                }
                None => broken(error),
            },
        )?;
    reader.end().map_err(broken)?;
    if !value.is_object() {
        return Err(Refusal::new(Reason::WrongType, "the body is not a JSON object"));
    }
    numbers(body)?;
    Ok(value)
}

/// Where in a body the reader is.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(&clipped(name)),
            Self::Field(before, name) => write!(f, "{before}.{}", clipped(name)),
            Self::Item(before, index) => write!(f, "{before}[{index}]"),
        }
    }
}

fn clipped(name: &str) -> String {
    name.chars().take(80).collect()
}

/// Reads a value in which no object has a name twice.
struct Once<'a> {
    path: &'a Path<'a>,
    /// The name that was there twice.
    twice: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Item(self.path, list.len());
            match items.next_element_seed(Once { path: &path, twice: &mut *self.twice })? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = Path::Field(self.path, &name);
            if map.contains_key(&name) {
                *self.twice = Some(path.to_string());
                return Err(A::Error::custom("a name is there twice"));
            }
            let value = fields.next_value_seed(Once { path: &path, twice: &mut *self.twice })?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// Refuses a number that would not be written again as it was. `body` is JSON.
fn numbers(body: &[u8]) -> Result<(), Refusal> {
    let mut rest = body;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => {
                let end = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
                let length = end.unwrap_or(rest.len());
                let text = std::str::from_utf8(&rest[..length]).unwrap_or_default();
                if !survives(text) {
                    let shown: String = text.chars().take(40).collect();
                    let message = format!(
                        "the number {shown} has more digits than can be kept, or is too large or too small"
                    );
                    return Err(Refusal::new(Reason::InvalidValue, message)
                        .next("Send it as a text, or with fewer digits."));
                }
                length
            }
            _ => 1,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// How long the string is that begins here.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether a number that is read and written again is the same number, and stays it.
fn survives(text: &str) -> bool {
    if text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let Ok(number) = serde_json::from_str::<Number>(text) else { return false };
    let written = number.to_string();
    let same = decimal(text) == decimal(&written);
    same && (!number.is_f64() || serde_json::from_str::<Number>(&written).is_ok_and(|again| again == number))
}

/// A number as its digits without zeros at either end, and the power of ten of the last one. Zero has no sign.
fn decimal(text: &str) -> Option<(bool, Vec<u8>, i64)> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mut power = power.parse::<i64>().ok()?.checked_sub(i64::try_from(part.len()).ok()?)?;
    let mut digits: Vec<u8> = whole.bytes().chain(part.bytes()).skip_while(|digit| *digit == b'0').collect();
    while digits.last() == Some(&b'0') {
        digits.pop();
        power += 1;
    }
    if digits.is_empty() { Some((false, digits, 0)) } else { Some((is_negative, digits, power)) }
}

/// Reads a body as a type, where `said` is what it says as plain JSON.
///
/// # Errors
/// A refusal that names the field.
pub fn typed<T: DeserializeOwned + Serialize>(said: &Value, body: &[u8]) -> Result<T, Refusal> {
    let read = body::parse(body)?;
    shape(said, &read)?;
    Ok(read)
}

/// Reads a body that says everything once as a type.
///
/// # Errors
/// A refusal that names the field.
pub fn parse<T: DeserializeOwned + Serialize>(body: &[u8]) -> Result<T, Refusal> {
    typed(&read(body)?, body)
}

/// Refuses a list where `read`, what was made of it, has an object.
///
/// # Errors
/// A refusal that names the field.
pub fn shape<T: Serialize>(said: &Value, read: &T) -> Result<(), Refusal> {
    if !has_list(said) {
        return Ok(());
    }
    let Ok(read) = serde_json::to_value(read) else { return Ok(()) };
    match differs(said, &read, &Path::Root) {
        Some(path) => {
            let refusal = Refusal::new(Reason::WrongType, "a list where an object is expected");
            Err(if path.is_empty() { refusal } else { refusal.field(path) })
        }
        None => Ok(()),
    }
}

fn has_list(said: &Value) -> bool {
    match said {
        Value::Array(_) => true,
        Value::Object(fields) => fields.values().any(has_list),
        _ => false,
    }
}

fn differs(said: &Value, read: &Value, path: &Path<'_>) -> Option<String> {
    match (said, read) {
        (Value::Array(_), Value::Object(_)) => Some(path.to_string()),
        (Value::Object(said), Value::Object(read)) => {
            said.iter().find_map(|(name, said)| differs(said, read.get(name)?, &Path::Field(path, name)))
        }
        (Value::Array(said), Value::Array(read)) => {
            let mut pairs = said.iter().zip(read).enumerate();
            pairs.find_map(|(index, (said, read))| differs(said, read, &Path::Item(path, index)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Reason, Option<String>) {
        let refusal = read(body.as_bytes()).expect_err(body);
        (refusal.code, refusal.field)
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused_and_named() {
        let twice = |body: &str| {
            let (code, field) = refused(body);
            assert_eq!(code, Reason::InvalidValue, "{body}");
            field.unwrap()
        };
        assert_eq!(twice(r#"{"a":1,"a":1}"#), "a");
        assert_eq!(twice(r#"{"a":1,"\u0061":2}"#), "a");
        assert_eq!(twice(r#"{"a":[{"b":1},{"b":{"c":1,"d":2,"c":3}}]}"#), "a[1].b.c");
        assert!(read(br#"{"a":{"b":1},"b":{"a":1,"A":2}}"#).is_ok());
    }

    #[test]
    fn a_number_that_would_not_survive_is_refused() {
        for good in [
            "0",
            "-0",
            "0.0",
            "-0.0e5",
            "1.0",
            "1.10",
            "100",
            "1e2",
            "1E+2",
            "0.1",
            "-273.15",
            "1e-7",
            "18446744073709551615",
            "-9223372036854775808",
            "9007199254740993",
            "1e22",
            "123456789.123456",
        ] {
            assert!(read(format!(r#"{{"a":[{good}]}}"#).as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "12345678901234567890123",
            "18446744073709551616",
            "18446744073709551617",
            "0.1234567890123456789",
            "1e400",
            "-1e400",
            "1e-400",
            "1e99999999999999999999",
            "0.1000000000000000000000000000000000001",
            "3.141592653589793238462643383279",
        ] {
            let (code, _) = refused(&format!(r#"{{"a":[{bad}]}}"#));
            assert!(matches!(code, Reason::InvalidValue | Reason::BrokenJson), "{bad} {code}");
        }
        // Digits in a text are a text.
        assert!(read(br#"{"a":"12345678901234567890123 \" 1e400","1e400":"\\"}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(refused("[]"), (Reason::WrongType, None));
        assert_eq!(refused("7"), (Reason::WrongType, None));
        assert_eq!(refused("{} {}"), (Reason::BrokenJson, None));
        assert_eq!(refused(&"[".repeat(100_000)), (Reason::BrokenJson, None));
        assert_eq!(refused(r#"{"a":"\ud800"}"#), (Reason::BrokenJson, None));
        assert_eq!(refused(r#"{"a":"\u0000"}"#).0, Reason::InvalidValue);
        assert_eq!(read(b" \n"), Ok(serde_json::json!({})));
    }

    #[test]
    fn a_list_is_no_object() {
        use crate::spec::TunnelSpec;
        let said = r#"{"site":"a","peer":{"hub":"h"},"inside":"10.0.0.0/30","bgp":[1,2]}"#;
        let read: TunnelSpec = serde_json::from_str(said).expect("the parser takes it");
        let refusal = shape(&serde_json::from_str(said).unwrap(), &read).expect_err("a list");
        assert_eq!((refusal.code, refusal.field.as_deref()), (Reason::WrongType, Some("bgp")));
    }
}
