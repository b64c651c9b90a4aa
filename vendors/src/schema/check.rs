//! Does a value fit? Recursion follows the schema, whose depth is bounded, never the value.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::FieldErrorKind::{Missing, NotAllowed, RuleBroken, Unknown, WrongType};
use super::{FieldError, FieldErrorKind, Node, Shape, rules};
use crate::suggest;

/// Most errors reported at once: a large wrong value says enough with these.
const MOST_ERRORS: usize = 32;

/// Longest piece of a wrong value shown in an error, in characters.
const LONGEST_SHOWN: usize = 40;

/// The value with its defaults. Rules are asked only once every field is what it has to be; `old` is the value before
/// the change, if there was one.
pub(super) fn check(
    node: &Node,
    path: &str,
    value: &Value,
    old: Option<&Value>,
) -> Result<Value, Vec<FieldError>> {
    let value = shaped(node, path, value)?;
    // What was right under an earlier edition of the schema may be wrong now; then there is nothing to compare with.
    let old = old.and_then(|old| shaped(node, path, old).ok());
    let mut errors = Vec::new();
    obeyed(node, path, &value, old.as_ref(), &[], &mut errors);
    if errors.is_empty() { Ok(value) } else { Err(errors) }
}

/// What is wrong with a value of which these places are not known yet and therefore not there. Whatever depends on them
/// is not judged.
pub(super) fn check_known(node: &Node, path: &str, value: &Value, unknown: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let value = visit(node, path, value, &mut errors);
    errors.retain(|error| error.kind != Missing || !unknown.contains(&error.path));
    if errors.is_empty() {
        obeyed(node, path, &value, None, unknown, &mut errors);
    }
    errors
}

/// The value with its defaults, whatever the rules say.
pub(super) fn shaped(node: &Node, path: &str, value: &Value) -> Result<Value, Vec<FieldError>> {
    let mut errors = Vec::new();
    let value = visit(node, path, value, &mut errors);
    if errors.is_empty() { Ok(value) } else { Err(errors) }
}

/// Asks the rules of a place and of every place below it, but for those that read what is not known.
fn obeyed(
    node: &Node,
    path: &str,
    value: &Value,
    old: Option<&Value>,
    unknown: &[String],
    errors: &mut Vec<FieldError>,
) {
    if errors.len() >= MOST_ERRORS || !node.has_rules {
        return;
    }
    let below = unknown.iter().filter_map(|place| place.strip_prefix(path)?.strip_prefix('.'));
    let unread: Vec<&str> = below.map(|rest| rest.split('.').next().unwrap_or(rest)).collect();
    let broken = rules::broken(node, value, old).into_iter();
    for (rule, why) in broken.filter(|(rule, _)| !unread.iter().any(|name| rule.reads(name))) {
        let at = rule.field.as_ref().map_or_else(|| path.to_owned(), |field| format!("{path}.{field}"));
        let why = why.map(|why| format!("; the rule could not be evaluated: {why}")).unwrap_or_default();
        let message = format!("breaks a rule: {} (`{}`{why})", rule.message, rule.source);
        push(errors, RuleBroken, &at, message, rule.source.clone());
    }
    match (&node.shape, value) {
        (Shape::Object { properties, .. }, Value::Object(map)) => {
            for (name, value) in map {
                let Some(node) = properties.get(name) else { continue };
                let old = old.and_then(|old| old.get(name));
                obeyed(node, &format!("{path}.{name}"), value, old, unknown, errors);
            }
        }
        (Shape::Array { items, .. }, Value::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                obeyed(items, &format!("{path}[{index}]"), value, None, unknown, errors);
            }
        }
        _ => {}
    }
}

fn visit(node: &Node, path: &str, value: &Value, errors: &mut Vec<FieldError>) -> Value {
    if errors.len() >= MOST_ERRORS {
        return Value::Null;
    }
    if node.secret {
        // Nothing of it is repeated: it may be the secret itself.
        if value.as_str().is_none_or(|text| crate::secret_name(text).is_none()) {
            push(errors, NotAllowed, path, "is no name of a secret".to_owned(), expected(node));
        }
        return value.clone();
    }
    let before = errors.len();
    let found = match (&node.shape, value) {
        (Shape::Object { properties, required }, Value::Object(map)) => {
            object(properties, required, path, map, errors)
        }
        (Shape::Array { items, fewest, most }, Value::Array(values)) => {
            let count = values.len() as u64;
            if count < *fewest {
                push(
                    errors,
                    NotAllowed,
                    path,
                    format!("has {count} items, fewer than {fewest}"),
                    expected(node),
                );
            }
            if let Some(most) = most.filter(|most| count > *most) {
                push(
                    errors,
                    NotAllowed,
                    path,
                    format!("has {count} items, more than {most}"),
                    expected(node),
                );
            }
            values
                .iter()
                .enumerate()
                .map(|(index, value)| visit(items, &format!("{path}[{index}]"), value, errors))
                .collect()
        }
        _ => match scalar(&node.shape, value) {
            Ok(value) => value,
            Err((kind, message)) => {
                push(errors, kind, path, message, expected(node));
                Value::Null
            }
        },
    };
    if let Some(choices) = &node.choices
        && errors.len() == before
        && !choices.contains(&found)
    {
        push(errors, NotAllowed, path, format!("is {}", shown(value)), expected(node));
    }
    found
}

fn object(
    properties: &BTreeMap<String, Node>,
    required: &[String],
    path: &str,
    map: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> Value {
    let mut found = Map::new();
    for key in map.keys().filter(|key| !properties.contains_key(*key)) {
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let message = format!("is not known: {}", suggest::advice(key, &known));
        let expected =
            if known.is_empty() { "no field".to_owned() } else { format!("one of {}", known.join(", ")) };
        push(errors, Unknown, &format!("{path}.{}", clip(key)), message, expected);
    }
    for (name, node) in properties {
        let at = format!("{path}.{name}");
        match (map.get(name), &node.default) {
            (Some(value), _) => {
                found.insert(name.clone(), visit(node, &at, value, errors));
            }
            (None, Some(default)) => {
                found.insert(name.clone(), default.clone());
            }
            (None, None) if required.contains(name) => {
                push(errors, Missing, &at, "is missing".to_owned(), expected(node));
            }
            (None, None) => {}
        }
    }
    Value::Object(found)
}

/// The value in its canonical form, or what is wrong with it.
fn scalar(shape: &Shape, value: &Value) -> Result<Value, (FieldErrorKind, String)> {
    match (shape, value) {
        (Shape::String { shortest, longest }, Value::String(text)) => {
            let length = text.chars().count() as u64;
            if length < *shortest {
                return Err((NotAllowed, format!("has {length} characters, fewer than {shortest}")));
            }
            match longest {
                Some(longest) if length > *longest => {
                    Err((NotAllowed, format!("has {length} characters, more than {longest}")))
                }
                _ => Ok(value.clone()),
            }
        }
        (Shape::Integer { minimum, maximum }, Value::Number(number)) => {
            let whole =
                integer(number).ok_or_else(|| (WrongType, format!("is {number}, not a whole number")))?;
            within(whole, *minimum, *maximum).map_err(|message| (NotAllowed, message))?;
            Ok(Value::from(whole))
        }
        (Shape::Number { minimum, maximum }, Value::Number(number)) => {
            let float = number.as_f64().ok_or_else(|| (NotAllowed, format!("is {number}, out of range")))?;
            within(float, *minimum, *maximum).map_err(|message| (NotAllowed, message))?;
            Ok(value.clone())
        }
        (Shape::Boolean, Value::Bool(_)) => Ok(value.clone()),
        _ => Err((WrongType, format!("is {}", shown(value)))),
    }
}

/// `1.0` is a whole number too, and is kept as `1`.
fn integer(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // Whole and inside the range where every whole number is exact, so the cast loses nothing.
        (number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
    })
}

fn within<T: PartialOrd + std::fmt::Display>(
    value: T,
    minimum: Option<T>,
    maximum: Option<T>,
) -> Result<(), String> {
    match (minimum, maximum) {
        (Some(minimum), _) if value < minimum => Err(format!("is {value}, less than {minimum}")),
        (_, Some(maximum)) if value > maximum => Err(format!("is {value}, more than {maximum}")),
        _ => Ok(()),
    }
}

pub(super) fn expected(node: &Node) -> String {
    if node.secret {
        return "`secret:` and the secret's name, 1 to 63 of a-z, 0-9 and -".to_owned();
    }
    if let Some(choices) = &node.choices {
        let choices: Vec<String> = choices.iter().map(shown).collect();
        return format!("one of {}", choices.join(", "));
    }
    match &node.shape {
        Shape::Object { .. } => "an object".to_owned(),
        Shape::Array { fewest: 0, most: None, .. } => "a list".to_owned(),
        Shape::Array { fewest, most: None, .. } => format!("a list of at least {fewest} items"),
        Shape::Array { fewest, most: Some(most), .. } => format!("a list of {fewest} to {most} items"),
        Shape::Boolean => "true or false".to_owned(),
        Shape::String { shortest, longest } => match (*shortest, longest) {
            (0, None) => "text".to_owned(),
            (0, Some(longest)) => format!("text of at most {longest} characters"),
            (shortest, None) => format!("text of at least {shortest} characters"),
            (shortest, Some(longest)) => format!("text of {shortest} to {longest} characters"),
        },
        Shape::Integer { minimum, maximum } => range("a whole number", minimum, maximum),
        Shape::Number { minimum, maximum } => range("a number", minimum, maximum),
    }
}

fn range<T: std::fmt::Display>(what: &str, low: &Option<T>, high: &Option<T>) -> String {
    match (low, high) {
        (None, None) => what.to_owned(),
        (Some(low), None) => format!("{what}, at least {low}"),
        (None, Some(high)) => format!("{what}, at most {high}"),
        (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("\"{}\"", clip(text)),
        other => other.to_string(),
    }
}

fn clip(text: &str) -> String {
    clipped(text, LONGEST_SHOWN)
}

/// The first characters of a text.
pub(super) fn clipped(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn push(errors: &mut Vec<FieldError>, kind: FieldErrorKind, path: &str, message: String, expected: String) {
    if errors.len() < MOST_ERRORS {
        errors.push(FieldError { kind, path: path.to_owned(), message, expected });
    }
}
