//! Structural schemas: what fits, what does not, and what is no schema.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use wanwright_vendors::StructuralSchema;

fn schema() -> StructuralSchema {
    StructuralSchema::parse(json!({
        "type": "object",
        "required": ["hostname"],
        "properties": {
            "hostname": { "type": "string", "minLength": 1, "maxLength": 5 },
            "vlan": { "type": "integer", "minimum": 1, "maximum": 4094, "default": 1 },
            "ratio": { "type": "number", "minimum": 0, "maximum": 1 },
            "mode": { "type": "string", "enum": ["active", "passive"], "default": "active" },
            "enabled": { "type": "boolean", "default": true },
            "dns": { "type": "array", "items": { "type": "string" } },
            "radio": { "type": "object", "properties": { "channel": { "type": "integer", "default": 6 } } },
        }
    }))
    .unwrap()
}

/// The errors as `path message | expected`.
fn errors(value: Value) -> Vec<String> {
    schema().check(&value).unwrap_err().iter().map(|error| format!("{error} | {}", error.expected)).collect()
}

#[test]
fn defaults_are_filled_in() {
    assert_eq!(
        schema().check(&json!({"hostname": "a"})).unwrap(),
        json!({"hostname": "a", "vlan": 1, "mode": "active", "enabled": true})
    );
    assert_eq!(
        schema().check(&json!({"hostname": "a", "vlan": 7.0, "radio": {}, "dns": ["x"]})).unwrap(),
        json!({"hostname": "a", "vlan": 7, "mode": "active", "enabled": true, "radio": {"channel": 6}, "dns": ["x"]})
    );
}

#[test]
fn what_does_not_fit_is_named() {
    assert_eq!(errors(json!({})), ["`settings.hostname` is missing | text of 1 to 5 characters"]);
    assert_eq!(
        errors(
            json!({"hostname": "toolong", "vlan": 5000, "ratio": 2, "mode": "off", "enabled": 1, "dns": [1, "x"]})
        ),
        [
            "`settings.dns[0]` is 1 | text",
            "`settings.enabled` is 1 | true or false",
            "`settings.hostname` has 7 characters, more than 5 | text of 1 to 5 characters",
            "`settings.mode` is \"off\" | one of \"active\", \"passive\"",
            "`settings.ratio` is 2, more than 1 | a number from 0 to 1",
            "`settings.vlan` is 5000, more than 4094 | a whole number from 1 to 4094",
        ]
    );
    assert_eq!(errors(json!({"hostname": "a", "vlan": 1.5, "vlann": 1, "colour": 1})).len(), 3);
    assert!(errors(json!({"hostname": "a", "vlann": 1}))[0].contains("did you mean `vlan`?"));
    assert!(errors(json!({"hostname": "a", "radio": {"chanel": 1}}))[0].contains("settings.radio.chanel"));
}

#[test]
fn any_value_is_answered() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let numbers = [json!(u64::MAX), json!(i64::MIN), json!(1e300), json!(-0.0), json!("x".repeat(1 << 16))];
    let others = [Value::Null, json!([]), json!(true), json!({"": ""}), deep];
    for value in numbers.into_iter().chain(others) {
        assert!(schema().check(&value).is_err());
        for field in ["hostname", "vlan", "ratio", "mode", "enabled", "dns", "radio"] {
            let _ = schema().check(&json!({ field: value }));
        }
    }
    let many: Vec<i32> = (0..100_000).collect();
    assert_eq!(errors(json!({"hostname": "a", "dns": many})).len(), 32);
}

#[test]
fn what_is_outside_the_subset_is_refused() {
    let place = |place: Value| json!({"type": "object", "properties": {"a": place}});
    for (json, says) in [
        (json!(1), "is not an object"),
        (json!({}), "`type`"),
        (json!({"type": "string"}), "has to be \"object\""),
        (json!({"type": ["object"]}), "`type`"),
        (json!({"type": "object", "additionalProperties": true}), "`additionalProperties`"),
        (json!({"type": "object", "required": ["b"]}), "names `b`"),
        (json!({"type": "object", "required": [1]}), "`required`"),
        (place(json!({"type": "null"})), "`properties.a.type`"),
        (place(json!({"type": "string", "pattern": "a+"})), "`properties.a.pattern`"),
        (place(json!({"type": "string", "minimum": 1})), "`properties.a.minimum`"),
        (place(json!({"type": "string", "minLength": -1})), "`properties.a.minLength`"),
        (place(json!({"type": "string", "minLength": 3, "maxLength": 2})), "`properties.a.minLength`"),
        (place(json!({"type": "integer", "minimum": 1.5})), "`properties.a.minimum`"),
        (place(json!({"type": "integer", "maximum": 3, "default": 4})), "`properties.a.default`"),
        (place(json!({"type": "integer", "enum": []})), "`properties.a.enum`"),
        (place(json!({"type": "integer", "enum": ["x"]})), "`properties.a.enum`"),
        (place(json!({"type": "integer", "enum": [1], "default": 2})), "`properties.a.default`"),
        (place(json!({"type": "array"})), "`properties.a.items`"),
        (place(json!({"type": "boolean", "description": 1})), "`properties.a.description`"),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "boolean", "default": true}}}),
            "has a default",
        ),
    ] {
        let error = StructuralSchema::parse(json.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{json}: {error}");
    }
}

#[test]
fn nesting_is_bounded() {
    let mut json = json!({"type": "object"});
    for _ in 0..20 {
        json = json!({"type": "object", "properties": {"a": json}});
    }
    let error = StructuralSchema::parse(json).unwrap_err().to_string();
    assert!(error.contains("nested more than 16 deep"), "{error}");
}
