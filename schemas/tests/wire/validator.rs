//! As much of JSON Schema (draft 2020-12) as the published schemas use. A word it does not know is an error, so that no
//! rule is taken for granted.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Words that forbid nothing.
const SILENT: [&str; 6] = ["$schema", "$defs", "title", "description", "default", "examples"];

/// Checks a value against a schema. The error says where and why it does not fit.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    Check { root: schema }.all(schema, value).map_err(|(place, why)| format!("{place}: {why}"))
}

type Verdict = Result<(), (String, String)>;

struct Check<'a> {
    root: &'a Value,
}

fn no<T: Into<String>>(why: T) -> Verdict {
    Err((String::new(), why.into()))
}

fn at(place: &str, verdict: Verdict) -> Verdict {
    verdict.map_err(|(inner, why)| (format!("/{place}{inner}"), why))
}

impl Check<'_> {
    fn all(&self, schema: &Value, value: &Value) -> Verdict {
        let rules = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(rules) => rules,
            _ => return no("nothing fits here"),
        };
        rules.iter().try_for_each(|(word, rule)| self.one(word, rule, rules, value))
    }

    fn one(&self, word: &str, rule: &Value, rules: &Map<String, Value>, value: &Value) -> Verdict {
        let schemas = || rule.as_array().into_iter().flatten();
        let fitting = || schemas().filter(|schema| self.all(schema, value).is_ok()).count();
        match word {
            "type" => {
                let mut types = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice).iter();
                if types.any(|name| is_of(value, name.as_str().unwrap_or_default())) {
                    Ok(())
                } else {
                    no(format!("it is no {rule}"))
                }
            }
            "const" => {
                if value == rule {
                    Ok(())
                } else {
                    no(format!("it is not {rule}"))
                }
            }
            "enum" => {
                if schemas().any(|one| one == value) {
                    Ok(())
                } else {
                    no(format!("it is none of {rule}"))
                }
            }
            "oneOf" => {
                if fitting() == 1 {
                    Ok(())
                } else {
                    no(format!("{} of the alternatives fit", fitting()))
                }
            }
            "anyOf" => {
                if fitting() > 0 {
                    Ok(())
                } else {
                    no("no alternative fits")
                }
            }
            "allOf" => schemas().try_for_each(|schema| self.all(schema, value)),
            "$ref" => {
                let name = rule.as_str().and_then(|text| text.strip_prefix("#/$defs/")).unwrap_or_default();
                let schema = self.root["$defs"].get(name).unwrap_or_else(|| panic!("there is no {rule}"));
                self.all(schema, value)
            }
            "properties" | "patternProperties" | "required" | "additionalProperties" => match value {
                Value::Object(fields) => self.fields(word, rule, rules, fields),
                _ => Ok(()),
            },
            "unevaluatedProperties" => {
                assert_eq!(rule, false, "the validator knows only false");
                let known = self.evaluated(&Value::Object(rules.clone()), value);
                let mut names = value.as_object().into_iter().flatten().map(|(name, _)| name);
                names
                    .find(|name| !known.contains(*name))
                    .map_or(Ok(()), |name| no(format!("{name} is not known")))
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.into_iter().try_for_each(|(index, item)| at(&index.to_string(), self.all(rule, item)))
            }
            "uniqueItems" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let twice = items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
                if twice && *rule == Value::Bool(true) {
                    no("an item is there twice".to_owned())
                } else {
                    Ok(())
                }
            }
            "minimum" | "maximum" => {
                let (Some(value), Some(limit)) = (value.as_f64(), rule.as_f64()) else { return Ok(()) };
                let fits = if word == "minimum" { value >= limit } else { value <= limit };
                if fits { Ok(()) } else { no(format!("{word} is {rule}")) }
            }
            "pattern" => match value {
                Value::String(text) if !matches(rule, text) => no(format!("it does not match {rule}")),
                _ => Ok(()),
            },
            "format" => match value {
                Value::String(text) if !has_format(rule.as_str().unwrap_or_default(), text) => {
                    no(format!("it is no {rule}"))
                }
                _ => Ok(()),
            },
            silent if SILENT.contains(&silent) => Ok(()),
            unknown => panic!("the validator does not know `{unknown}`"),
        }
    }

    /// The names of fields that a schema and whatever fits of it have looked at.
    fn evaluated(&self, schema: &Value, value: &Value) -> BTreeSet<String> {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let mut names: BTreeSet<String> = properties.map(|(name, _)| name.clone()).collect();
        let inner = ["allOf", "oneOf", "anyOf"].map(|word| schema[word].as_array().into_iter().flatten());
        for schema in inner.into_iter().flatten().filter(|schema| self.all(schema, value).is_ok()) {
            names.extend(self.evaluated(schema, value));
        }
        names
    }

    fn fields(
        &self,
        word: &str,
        rule: &Value,
        rules: &Map<String, Value>,
        fields: &Map<String, Value>,
    ) -> Verdict {
        let by_pattern = |name: &str| {
            let patterns = rules.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
            patterns
                .filter(|(pattern, _)| matches(&Value::from(pattern.as_str()), name))
                .map(|(_, schema)| schema)
                .next()
        };
        match word {
            "required" => {
                let missing = rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|name| !fields.contains_key(name.as_str().unwrap_or_default()));
                missing.map_or(Ok(()), |name| no(format!("{name} is missing")))
            }
            "properties" => fields.iter().try_for_each(|(name, value)| {
                rule.get(name).map_or(Ok(()), |schema| at(name, self.all(schema, value)))
            }),
            "patternProperties" => fields.iter().try_for_each(|(name, value)| {
                by_pattern(name).map_or(Ok(()), |schema| at(name, self.all(schema, value)))
            }),
            _ => {
                let named = |name: &str| {
                    rules.get("properties").is_some_and(|properties| properties.get(name).is_some())
                };
                let mut others = fields.iter().filter(|(name, _)| !named(name) && by_pattern(name).is_none());
                others.try_for_each(|(name, value)| at(name, self.all(rule, value)))
            }
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        other => panic!("the validator does not know the type `{other}`"),
    }
}

fn matches(pattern: &Value, text: &str) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, regex::Regex>> = RefCell::default();
    }
    let pattern = pattern.as_str().unwrap_or_default();
    let new = || regex::Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    KNOWN.with_borrow_mut(|known| known.entry(pattern.to_owned()).or_insert_with(new).is_match(text))
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        // Of numbers; `minimum` and `maximum` say the same.
        "uint8" | "uint16" | "uint32" | "int64" | "uint64" => true,
        other => panic!("the validator does not know the format `{other}`"),
    }
}

#[test]
fn the_validator_refuses_what_does_not_fit() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {"a": {"type": ["integer", "null"], "minimum": 1, "maximum": 3}, "b": {"$ref": "#/$defs/B"}},
        "patternProperties": {"^x-": {"type": "string", "pattern": "^[a-z]+$"}},
        "$defs": {"B": {"oneOf": [{"const": 1}, {"type": "array", "items": {"enum": [1, 2]}}, {"type": "integer"}]}},
    });
    let fits = |text: &str| check(&schema, &serde_json::from_str(text).expect("JSON"));
    for good in [r#"{"a":1}"#, r#"{"a":null,"b":[1,2]}"#, r#"{"a":3,"b":7,"x-y":"abc"}"#] {
        assert_eq!(fits(good), Ok(()), "{good}");
    }
    for bad in [
        "[]",
        "{}",
        r#"{"a":0}"#,
        r#"{"a":4}"#,
        r#"{"a":1.5}"#,
        r#"{"a":"1"}"#,
        r#"{"a":1,"c":1}"#,
        r#"{"a":1,"b":1}"#,
        r#"{"a":1,"b":[3]}"#,
        r#"{"a":1,"b":"x"}"#,
        r#"{"a":1,"x-y":"ABC"}"#,
        r#"{"a":1,"x-y":1}"#,
    ] {
        assert!(fits(bad).is_err(), "{bad}");
    }
}
