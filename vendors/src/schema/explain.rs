//! A schema as people read it: its fields one by one.

use serde::Serialize;
use serde_json::Value;

use super::{Node, Shape, StructuralSchema, check};

/// One field of a schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldExplained {
    /// Dotted path below the settings; `[]` stands for every item of a list. Empty for the settings themselves.
    pub path: String,
    /// `text`, `whole number`, `number`, `true or false`, `list` or `object`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it has to be given.
    pub required: bool,
    /// What it is when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it may be: `a whole number from 1 to 4094`.
    pub allowed: String,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The rules that stand at it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleExplained>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleExplained {
    /// The rule in the Common Expression Language; `self` is the field it stands at.
    pub rule: String,
    /// What is said when it is broken.
    pub message: String,
    /// The field that is named then, when it is not the one the rule stands at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether it compares with what was there before, so that it holds for changes only.
    pub change: bool,
}

impl StructuralSchema {
    /// Every field, a place before what is below it.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldExplained> {
        let mut found = Vec::new();
        visit(&self.root, &self.json, "", false, &mut found);
        found
    }
}

fn visit(node: &Node, json: &Value, path: &str, required: bool, found: &mut Vec<FieldExplained>) {
    found.push(FieldExplained {
        path: path.to_owned(),
        kind: name(&node.shape),
        required,
        default: node.default.clone(),
        allowed: check::expected(node),
        description: json.get("description").and_then(Value::as_str).map(str::to_owned),
        rules: node.rules.iter().map(explained).collect(),
    });
    match &node.shape {
        Shape::Object { properties, required } => {
            for (name, node) in properties {
                let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                visit(node, &json["properties"][name], &at, required.contains(name), found);
            }
        }
        Shape::Array { items, .. } => visit(items, &json["items"], &format!("{path}[]"), false, found),
        _ => {}
    }
}

fn explained(rule: &super::rules::Rule) -> RuleExplained {
    RuleExplained {
        rule: rule.source.clone(),
        message: rule.message.clone(),
        field: rule.field.clone(),
        change: rule.transition,
    }
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Object { .. } => "object",
        Shape::Array { .. } => "list",
        Shape::String { .. } => "text",
        Shape::Integer { .. } => "whole number",
        Shape::Number { .. } => "number",
        Shape::Boolean => "true or false",
    }
}
