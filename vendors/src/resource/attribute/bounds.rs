//! What a value may be beyond its type, as far as that can be said before anybody is called.

use regex::Regex;
use serde_json::Value;

use super::AttributeType;
use crate::error::LoadError;
use crate::section::Section;

/// Longest pattern, in bytes.
const LONGEST_PATTERN: usize = 1024;

/// What a value may be beyond its type. Of a list or map that holds no objects it is said of each item.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Smallest number.
    pub minimum: Option<f64>,
    /// Largest number.
    pub maximum: Option<f64>,
    /// Fewest characters of a text.
    pub min_length: Option<u64>,
    /// Most characters of a text.
    pub max_length: Option<u64>,
    /// Fewest items of a list or map.
    pub min_items: Option<u64>,
    /// Most items of a list or map.
    pub max_items: Option<u64>,
    /// What the whole of a text has to match.
    pub pattern: Option<Regex>,
    /// The values there are; any, if there are none.
    pub choices: Vec<Value>,
}

impl PartialEq for Bounds {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |bounds: &Self| bounds.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        let numbers = |bounds: &Self| {
            let (items, lengths) =
                ((bounds.min_items, bounds.max_items), (bounds.min_length, bounds.max_length));
            (bounds.minimum, bounds.maximum, items, lengths)
        };
        numbers(self) == numbers(other) && pattern(self) == pattern(other) && self.choices == other.choices
    }
}

impl Bounds {
    pub(super) fn load(section: &mut Section, kind: &AttributeType) -> Result<Self, LoadError> {
        let bounds = Self {
            minimum: section.optional("minimum")?,
            maximum: section.optional("maximum")?,
            min_length: section.optional("min_length")?,
            max_length: section.optional("max_length")?,
            min_items: section.optional("min_items")?,
            max_items: section.optional("max_items")?,
            pattern: pattern(section)?,
            choices: section.optional("enum")?.unwrap_or_default(),
        };
        let single = single(kind);
        let text = single == Some(&AttributeType::String);
        let number = single == Some(&AttributeType::Number);
        let wrong = [
            ("minimum", bounds.minimum.is_some() && !number),
            ("maximum", bounds.maximum.is_some() && !number),
            ("min_length", bounds.min_length.is_some() && !text),
            ("max_length", bounds.max_length.is_some() && !text),
            ("min_items", bounds.min_items.is_some() && kind.is_single()),
            ("max_items", bounds.max_items.is_some() && kind.is_single()),
            ("pattern", bounds.pattern.is_some() && !text),
            ("enum", !bounds.choices.iter().all(|choice| single.is_some_and(|kind| kind.accepts(choice)))),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((key, _)) => Err(section.error(key, format!("means nothing for a {kind}: remove it"))),
            None => Ok(bounds),
        }
    }

    /// What is wrong with a single value, to be read after its name: `is 5000, more than 4094`. A value that nobody may
    /// see is not repeated.
    #[must_use]
    pub fn refuse(&self, value: &Value, secret: bool) -> Option<String> {
        let is = |text: String| if secret { "is not what it may be".to_owned() } else { text };
        let found = match value {
            Value::Number(number) => {
                let number = number.as_f64()?;
                match (self.minimum, self.maximum) {
                    (Some(minimum), _) if number < minimum => {
                        Some(is(format!("is {number}, less than {minimum}")))
                    }
                    (_, Some(maximum)) if number > maximum => {
                        Some(is(format!("is {number}, more than {maximum}")))
                    }
                    _ => None,
                }
            }
            Value::String(text) => self.refuse_text(text, is),
            _ => None,
        };
        let chosen = self.choices.is_empty()
            || value.is_null()
            || self.choices.iter().any(|choice| choice == value || both(choice, value));
        found.or_else(|| {
            let choices: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
            (!chosen).then(|| is(format!("is {value}: use one of {}", choices.join(", "))))
        })
    }

    fn refuse_text(&self, text: &str, is: impl Fn(String) -> String) -> Option<String> {
        let length = text.chars().count() as u64;
        match (self.min_length, self.max_length, &self.pattern) {
            (Some(fewest), ..) if length < fewest => {
                Some(format!("has {length} characters, fewer than {fewest}"))
            }
            (_, Some(most), _) if length > most => Some(format!("has {length} characters, more than {most}")),
            (.., Some(pattern)) if !pattern.is_match(text) => {
                let shown: String = text.chars().take(40).collect();
                Some(is(format!("is \"{shown}\", which does not match {}", inner(pattern.as_str()))))
            }
            _ => None,
        }
    }

    /// What is wrong with how many items there are.
    #[must_use]
    pub fn refuse_count(&self, count: usize) -> Option<String> {
        let count = count as u64;
        match (self.min_items, self.max_items) {
            (Some(fewest), _) if count < fewest => Some(format!("has {count} items, fewer than {fewest}")),
            (_, Some(most)) if count > most => Some(format!("has {count} items, more than {most}")),
            _ => None,
        }
    }

    /// What is allowed, for people; empty if everything is.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = Vec::new();
        let mut say = |what: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{what} {value}")));
        };
        say("at least", self.minimum.map(|value| value.to_string()));
        say("at most", self.maximum.map(|value| value.to_string()));
        say("characters: at least", self.min_length.map(|value| value.to_string()));
        say("characters: at most", self.max_length.map(|value| value.to_string()));
        say("items: at least", self.min_items.map(|value| value.to_string()));
        say("items: at most", self.max_items.map(|value| value.to_string()));
        say("matching", self.pattern.as_ref().map(|pattern| format!("`{}`", inner(pattern.as_str()))));
        let choices: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
        say("one of", (!choices.is_empty()).then(|| choices.join(", ")));
        words.join("; ")
    }
}

/// The single type that bounds are about.
fn single(kind: &AttributeType) -> Option<&AttributeType> {
    match kind {
        AttributeType::List(item) | AttributeType::Map(item) => single(item),
        AttributeType::Object(_) => None,
        single => Some(single),
    }
}

/// `1` and `1.0` are one number.
fn both(left: &Value, right: &Value) -> bool {
    matches!((left.as_f64(), right.as_f64()), (Some(left), Some(right)) if left == right)
}

/// Patterns are about the whole text, so that nobody forgets the anchors.
fn pattern(section: &mut Section) -> Result<Option<Regex>, LoadError> {
    let Some(text) = section.optional::<String>("pattern")? else { return Ok(None) };
    if text.len() > LONGEST_PATTERN {
        return Err(section.error("pattern", format!("is longer than {LONGEST_PATTERN} bytes")));
    }
    // Read alone first: `a)|(b` would be a pattern only because of what stands around it.
    Regex::new(&text)
        .and_then(|_| Regex::new(&format!("^(?:{text})$")))
        .map(Some)
        .map_err(|error| section.error("pattern", format!("is no pattern: {error}")))
}

fn inner(anchored: &str) -> &str {
    anchored.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(anchored)
}
