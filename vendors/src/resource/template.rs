//! Templates: text and JSON with `{places}` that are filled with values when a call is made.
//!
//! A value goes into JSON as JSON and into a path percent-encoded. There is no way to put one into the text of a query
//! document, or to make a path longer with one.

use serde_json::{Map, Value};

/// What templates are filled with: values by the name of their place. Null and a name that is not there are not set.
pub type Scope = Map<String, Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

/// Text with places; `{{` and `}}` are braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// JSON whose texts may have places.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// As it stands.
    Literal(Value),
    /// One place alone: its value, of whatever type.
    Place(String),
    /// Text with places.
    Text(Template),
    /// A list.
    List(Vec<Shape>),
    /// An object's members.
    Object(Vec<(String, Shape)>),
}

impl Template {
    /// Reads a template; an error says what is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let tail = &rest[at..];
            if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
                plain.push_str(&tail[..1]);
                rest = after;
                continue;
            }
            let named = tail.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, after) = named
                .filter(|(name, _)| is_name(name))
                .ok_or("has a brace that belongs to no place: write `{name}`, or `{{` for a brace")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Place(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// The names of its places.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Place(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with every value passed through `encode`.
    ///
    /// # Errors
    /// The place that is not set, or that holds neither text, number nor truth value.
    pub fn fill(&self, scope: &Scope, encode: impl Fn(&str) -> String) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Place(name) => {
                    text.push_str(&encode(&plain(scope.get(name)).ok_or_else(|| name.clone())?));
                }
            }
        }
        Ok(text)
    }

    /// Whether a path may have come of it. A place has something in it, and no slash.
    pub(crate) fn fits(&self, path: &str) -> bool {
        fits(&self.0, path)
    }

    fn alone(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Place(name)] => Some(name),
            _ => None,
        }
    }
}

impl Shape {
    /// Reads a shape from the JSON that the folder has; an error says what is wrong.
    pub(crate) fn parse(json: &Value) -> Result<Self, String> {
        Ok(match json {
            Value::String(text) => {
                let template = Template::parse(text)?;
                match template.alone() {
                    Some(name) => Self::Place(name.to_owned()),
                    None if template.places().next().is_none() => {
                        Self::Literal(template.fill(&Scope::new(), str::to_owned).unwrap_or_default().into())
                    }
                    None => Self::Text(template),
                }
            }
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), Self::parse(member)?)))
                    .collect::<Result<_, String>>()?,
            ),
            other => Self::Literal(other.clone()),
        })
    }

    /// The names of its places.
    pub(crate) fn places(&self) -> Vec<&str> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Place(name) => vec![name],
            Self::Text(template) => template.places().collect(),
            Self::List(items) => items.iter().flat_map(Self::places).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, member)| member.places()).collect(),
        }
    }

    /// The JSON; `None` if it is nothing but a place that is not set. Members and elements that are not set are left
    /// out, or members are null with `nulls`.
    #[must_use]
    pub fn fill(&self, scope: &Scope, nulls: bool) -> Option<Value> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Place(name) => scope.get(name).filter(|value| !value.is_null()).cloned(),
            Self::Text(template) => template.fill(scope, str::to_owned).ok().map(Value::String),
            Self::List(items) => Some(items.iter().filter_map(|item| item.fill(scope, nulls)).collect()),
            Self::Object(members) => {
                let filled = members.iter().filter_map(|(name, member)| {
                    let value = member.fill(scope, nulls).or(nulls.then_some(Value::Null))?;
                    Some((name.clone(), value))
                });
                Some(Value::Object(filled.collect()))
            }
        }
    }
}

fn fits(pieces: &[Piece], text: &str) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Text(plain), rest @ ..] => {
            text.strip_prefix(plain.as_str()).is_some_and(|text| fits(rest, text))
        }
        [Piece::Place(_), rest @ ..] => {
            let part = text.find('/').unwrap_or(text.len());
            (1..=part).filter_map(|end| text.get(end..)).any(|text| fits(rest, text))
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn plain(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let values = json!({"name": "a\"b/c", "vlan": 7, "lan": ["10.0.0.0/8"], "none": null});
        values.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn values_go_in_as_json() {
        let json = json!({"device": {"n": "{name}", "v": "{vlan}", "l": "{lan}", "t": "vlan-{vlan}",
            "gone": "{none}", "half": "x{none}", "list": ["{none}", "{vlan}"], "brace": "{{name}}", "k": 1}});
        let shape = Shape::parse(&json).unwrap();
        let filled = json!({"device": {"n": "a\"b/c", "v": 7, "l": ["10.0.0.0/8"], "t": "vlan-7", "list": [7],
            "brace": "{name}", "k": 1}});
        assert_eq!(shape.fill(&scope(), false), Some(filled.clone()));
        let with_nulls = shape.fill(&scope(), true).unwrap();
        assert_eq!(
            (&with_nulls["device"]["gone"], &with_nulls["device"]["list"]),
            (&Value::Null, &json!([7]))
        );
        assert_eq!(Shape::parse(&json!("{none}")).unwrap().fill(&scope(), true), None);
        assert_eq!(shape.places(), ["none", "none", "lan", "none", "vlan", "name", "vlan", "vlan"]);
    }

    #[test]
    fn a_path_is_known_by_its_template() {
        let path = Template::parse("/v1/{name}/sites-{vlan}").unwrap();
        for fits in ["/v1/a/sites-1", "/v1/%2F/sites-a-b", "/v1/sites-/sites-sites-"] {
            assert!(path.fits(fits), "{fits}");
        }
        for other in ["/v1/a/sites-", "/v1//sites-1", "/v1/a/b/sites-1", "/v1/a/sites-1/2", "/v1/a", ""] {
            assert!(!path.fits(other), "{other}");
        }
    }

    #[test]
    fn a_path_names_the_place_that_is_not_set() {
        let path = Template::parse("/v1/{name}/{vlan}").unwrap();
        assert_eq!(path.fill(&scope(), |text| text.replace('/', "%2F")), Ok("/v1/a\"b%2Fc/7".to_owned()));
        assert_eq!(Template::parse("/{lan}").unwrap().fill(&scope(), str::to_owned), Err("lan".to_owned()));
        for wrong in ["/{", "/}", "/{}", "/{Name}", "/{a b}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
