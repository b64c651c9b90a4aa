//! Checks what a caller sends, by the attributes and rules of its kind.

use std::net::Ipv4Addr;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::reply::Refusal;
use crate::vendor::{Attribute, Format, Kind, Type};

impl Kind {
    /// The fields of a create or a replacement, with defaults filled in. `null` counts as left out.
    pub(crate) fn check(&self, body: &Value) -> Result<Map<String, Value>, Refusal> {
        let Some(sent) = body.as_object() else {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                "the body must be a JSON object",
            ));
        };
        for field in sent.keys() {
            match self.attributes.get(field) {
                Some(about) if about.computed.is_none() => {}
                Some(_) => return Err(Refusal::invalid(field, format!("{field} is set by the vendor"))),
                None => {
                    return Err(Refusal::invalid(
                        field,
                        format!("{field} is not a field of a {}", self.name),
                    ));
                }
            }
        }
        let mut fields = Map::new();
        for (field, about) in self.attributes.iter().filter(|(_, about)| about.computed.is_none()) {
            let value = sent.get(field).filter(|value| !value.is_null());
            if let Some(value) = value {
                about.check(field, value)?;
            } else if about.required {
                return Err(Refusal::invalid(field, format!("{field} is required")));
            }
            if let Some(value) = value.or(about.default.as_ref()) {
                fields.insert(field.clone(), value.clone());
            }
        }
        Ok(fields)
    }

    /// Refuses a replacement that changes what can only be set by a create.
    pub(crate) fn check_fixed(
        &self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let mut fixed = self.attributes.iter().filter(|(_, about)| about.replace);
        match fixed.find(|(field, _)| old.get(*field) != new.get(*field)) {
            Some((field, _)) => {
                let message = format!("{field} of a {} cannot be changed", self.name);
                Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "immutable_field", message).field(field))
            }
            None => Ok(()),
        }
    }
}

impl Attribute {
    fn check(&self, field: &str, value: &Value) -> Result<(), Refusal> {
        let (fits, expected) = match self.kind {
            Type::String => (value.is_string(), "a string"),
            Type::Number => (value.is_number(), "a number"),
            Type::Bool => (value.is_boolean(), "true or false"),
            Type::List => {
                (value.as_array().is_some_and(|list| list.iter().all(Value::is_string)), "a list of strings")
            }
            Type::Map => (
                value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
                "an object whose values are strings",
            ),
        };
        if !fits {
            return Err(Refusal::invalid(field, format!("{field} must be {expected}")));
        }
        if self.required && value.as_str() == Some("") {
            return Err(Refusal::invalid(field, format!("{field} must not be empty")));
        }
        self.check_range(field, value)?;
        self.check_text(field, value)
    }

    fn check_range(&self, field: &str, value: &Value) -> Result<(), Refusal> {
        let (minimum, maximum) = (self.rule.minimum, self.rule.maximum);
        if minimum.is_none() && maximum.is_none() {
            return Ok(());
        }
        let (low, high) = (minimum.unwrap_or(i64::MIN), maximum.unwrap_or(i64::MAX));
        match whole(value) {
            Some(number) if (low..=high).contains(&number) => Ok(()),
            _ => Err(Refusal::invalid(field, format!("{field} must be a whole number from {low} to {high}"))),
        }
    }

    fn check_text(&self, field: &str, value: &Value) -> Result<(), Refusal> {
        let Some(text) = value.as_str() else { return Ok(()) };
        if let Some(longest) = self.rule.max_length
            && text.chars().count() > longest
        {
            return Err(Refusal::invalid(field, format!("{field} must have at most {longest} characters")));
        }
        match self.rule.format {
            Some(Format::Ipv4) if text.parse::<Ipv4Addr>().is_err() => {
                Err(Refusal::invalid(field, format!("{field} must be an IPv4 address")))
            }
            _ => Ok(()),
        }
    }
}

/// A whole number, written with or without a decimal point.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
        Some(number as i64)
    })
}
