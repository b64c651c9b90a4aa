//! Field by field what changed between two specifications.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wanwright_schemas::report::DriftField;

/// A field that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field, as a dotted path.
    pub field: String,
    /// What it was; null when it was not there.
    pub before: Value,
    /// What it is; null when it is not there any more.
    pub after: Value,
}

impl From<&DriftField> for FieldChange {
    fn from(drift: &DriftField) -> Self {
        Self { field: drift.field.clone(), before: drift.desired.clone(), after: drift.observed.clone() }
    }
}

/// What differs, by path. Lists are compared whole: a place in a list says little to a person.
pub fn differences<S: Serialize>(before: &S, after: &S) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    if let (Ok(before), Ok(after)) = (serde_json::to_value(before), serde_json::to_value(after)) {
        collect("", &before, &after, &mut changes);
    }
    changes
}

fn collect(path: &str, before: &Value, after: &Value, changes: &mut Vec<FieldChange>) {
    if before == after {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        let field = path.to_owned();
        changes.push(FieldChange { field, before: before.clone(), after: after.clone() });
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let (old, new) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        collect(&path, old, new, changes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_named_by_path() {
        let before = json!({"lan": ["10.0.0.0/24"], "settings": {"mtu": 1400, "location": "Oslo"}});
        let after = json!({"lan": ["10.0.1.0/24"], "settings": {"mtu": 1400, "note": "x"}});
        let said: Vec<String> = differences(&before, &after)
            .iter()
            .map(|change| format!("{}: {} -> {}", change.field, change.before, change.after))
            .collect();
        assert_eq!(
            said,
            [
                r#"lan: ["10.0.0.0/24"] -> ["10.0.1.0/24"]"#,
                r#"settings.location: "Oslo" -> null"#,
                r#"settings.note: null -> "x""#
            ]
        );
        assert!(differences(&before, &before).is_empty());
    }
}
