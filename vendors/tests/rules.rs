//! Rules across fields: what they forbid, what is no rule, and what they may cost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wanwright_vendors::{FieldErrorKind, StructuralSchema};

/// A schema with these rules at its root.
fn with(rules: Value) -> Result<StructuralSchema, String> {
    StructuralSchema::parse(json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "maxLength": 20 },
            "vlan": { "type": "integer", "minimum": 1, "maximum": 4094, "default": 1 },
            "native": { "type": "integer" },
            "trusted": { "type": "boolean", "default": false },
            "ratio": { "type": "number", "default": 1 },
            "dns": { "type": "array", "maxItems": 8, "items": { "type": "string", "maxLength": 15 } },
            "ports": { "type": "array", "default": [], "maxItems": 8, "items": {
                "type": "object",
                "properties": {
                    "id": { "type": "integer", "default": 0 },
                    "up": { "type": "boolean", "default": true },
                },
            } },
            "radio": { "type": "object", "default": {}, "properties": {
                "channel": { "type": "integer", "default": 6 },
            } },
        },
        "x-validations": rules,
    }))
    .map_err(|error| error.to_string())
}

fn one(rule: &str) -> Result<StructuralSchema, String> {
    with(json!([{ "rule": rule, "message": "it must be so" }]))
}

fn holds(rule: &str, value: Value) -> bool {
    one(rule).unwrap().check(&value).is_ok()
}

#[test]
fn a_broken_rule_names_field_rule_and_message() {
    let schema = with(json!([
        { "rule": "self.vlan != 1 || self.trusted", "message": "VLAN 1 is for trusted devices", "field": "vlan" },
        { "rule": "self.ports.all(port, port.id < 10)", "message": "ports are 0 to 9" },
    ]))
    .unwrap();
    assert!(schema.check(&json!({"name": "a", "vlan": 2})).is_ok());
    let errors = schema.check(&json!({"name": "a", "ports": [{"id": 10}]})).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert_eq!((errors[0].kind, errors[0].path.as_str()), (FieldErrorKind::RuleBroken, "settings.vlan"));
    assert_eq!(
        errors[0].to_string(),
        "`settings.vlan` breaks a rule: VLAN 1 is for trusted devices (`self.vlan != 1 || self.trusted`)"
    );
    assert_eq!(errors[0].expected, "self.vlan != 1 || self.trusted");
    assert_eq!(errors[1].path, "settings");
    let both = schema.check(&json!({"name": 1, "ports": [{"id": 10}]})).unwrap_err();
    assert_eq!(both.len(), 1, "rules are asked when every field is what it has to be: {both:?}");
}

#[test]
fn rules_see_defaults_and_what_is_there() {
    assert!(holds("self.vlan == 1 && !self.trusted && self.ratio == 1.0", json!({"name": "a"})));
    assert!(holds("self.ratio / 2.0 < 1.0", json!({"name": "a", "ratio": 1})), "1 is a number as 1.0 is");
    assert!(holds("!has(self.native) || self.native != self.vlan", json!({"name": "a"})));
    assert!(!holds("!has(self.native) || self.native != self.vlan", json!({"name": "a", "native": 1})));
    assert!(holds("self.name.startsWith('edge-') && size(self.name) > 5", json!({"name": "edge-1"})));
    let distinct = "self.ports.all(a, self.ports.exists_one(b, a.id == b.id))";
    assert!(holds(distinct, json!({"name": "a", "ports": [{"id": 1}, {"id": 2}]})));
    assert!(!holds(distinct, json!({"name": "a", "ports": [{"id": 1}, {"id": 1}]})));
    let up = "self.ports.filter(port, port.up).map(port, port.id * 2) == [2, 6]";
    assert!(holds(up, json!({"name": "a", "ports": [{"id": 1}, {"id": 2, "up": false}, {"id": 3}]})));
    assert!(holds("self.radio.channel in [1, 6, 11]", json!({"name": "a"})));
    assert!(!holds("self.ports[0].id == 0", json!({"name": "a"})), "what cannot be evaluated does not hold");
    assert!(!holds("self.vlan / (self.vlan - 1) > 0", json!({"name": "a"})));
}

#[test]
fn a_change_is_compared_with_what_was_there() {
    let schema = with(json!([
        { "rule": "self.vlan >= oldSelf.vlan", "message": "it may only rise", "field": "vlan" },
    ]))
    .unwrap();
    assert!(schema.check(&json!({"name": "a", "vlan": 5})).is_ok(), "there is nothing to compare with");
    let old = json!({"name": "a", "vlan": 5});
    assert!(schema.check_change("settings", &json!({"name": "a", "vlan": 6}), &old).is_ok());
    let errors = schema.check_change("settings", &json!({"name": "a", "vlan": 4}), &old).unwrap_err();
    assert_eq!(errors[0].path, "settings.vlan");
    let foreign = json!({"vlan": "five"});
    assert!(schema.check_change("settings", &json!({"name": "a", "vlan": 4}), &foreign).is_ok());
}

#[test]
fn rules_stand_at_any_place() {
    let schema = StructuralSchema::parse(json!({
        "type": "object",
        "properties": {
            "radio": { "type": "object", "properties": {
                "channel": { "type": "integer", "x-validations": [
                    { "rule": "self != 13", "message": "not here" },
                    { "rule": "self >= oldSelf", "message": "only up" },
                ] },
            } },
            "ports": { "type": "array", "maxItems": 4, "items": {
                "type": "integer", "x-validations": [{ "rule": "self > 0", "message": "ports start at 1" }],
            } },
        },
    }))
    .unwrap();
    let paths = |value: Value| -> Vec<String> {
        schema.check(&value).unwrap_err().into_iter().map(|error| error.path).collect()
    };
    assert_eq!(paths(json!({"radio": {"channel": 13}})), ["settings.radio.channel"]);
    assert_eq!(paths(json!({"ports": [1, 0, 2, -1]})), ["settings.ports[1]", "settings.ports[3]"]);
    let old = json!({"radio": {"channel": 6}});
    assert!(schema.check_change("settings", &json!({"radio": {"channel": 5}}), &old).is_err());
    assert!(schema.check_change("settings", &json!({"radio": {"channel": 7}}), &old).is_ok());
}

#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    for (rule, says) in [
        ("self.vlna > 1", "there is no field `vlna`: did you mean `vlan`?"),
        ("self.radio.chanel > 1", "did you mean `channel`?"),
        ("has(self.radio.chanel)", "did you mean `channel`?"),
        ("self.native > 1", "`self.native` may be absent"),
        ("self.ports.all(p, p.iq > 1)", "there is no field `iq`"),
        ("settings.vlan > 1", "there is no `settings`"),
        ("self.vlan", "is a whole number, and not true or false"),
        ("self.vlan > 'a'", "does not take a whole number and a text"),
        ("self.vlan == 'a'", "does not take"),
        ("self.vlan + 1.0 > 2.0", "does not take"),
        ("self.vlan > 1 &&", "does not parse"),
        ("self.vlan >", "does not parse"),
        ("self.name.matches('a+')", "there is no function `matches`"),
        ("timestamp('2026-01-01T00:00:00Z') == timestamp('2026-01-01T00:00:00Z')", "there is no function"),
        ("duration('1h') == duration('1h')", "there is no function"),
        ("dyn(self.vlan) == 1", "there is no function `dyn`"),
        ("type(self.vlan) == int", "there is no"),
        ("self.vlan == null", "null, bytes"),
        ("{'a': 1}['a'] == 1", "null, bytes"),
        ("self['vlan'] == 1", "does not take"),
        ("self.all(key, true)", "only a list"),
        ("self.ports.all(self, true)", "another meaning"),
        ("[1, 'a'] == [1]", "values of one type"),
        ("self.ports.map(p, p.id)", "is a list, and not true or false"),
    ] {
        let error = one(rule).unwrap_err();
        assert!(error.contains("`x-validations[0].rule`"), "{rule}: {error}");
        assert!(error.contains(says), "{rule}: {error}");
    }
    for (rules, says) in [
        (json!({}), "`x-validations`"),
        (json!(["self.vlan > 1"]), "`x-validations[0]`"),
        (json!([{ "rule": "true" }]), "`x-validations[0].message`"),
        (json!([{ "message": "m" }]), "`x-validations[0].rule`"),
        (json!([{ "rule": "true", "message": "m", "feild": "vlan" }]), "did you mean `field`?"),
        (json!([{ "rule": "true", "message": "m", "field": "vlna" }]), "names `vlna`"),
        (json!([{ "rule": "true", "message": " " }]), "`x-validations[0].message`"),
        (json!([{ "rule": "t".repeat(2000), "message": "m" }]), "1 to 1024 bytes"),
    ] {
        let error = with(rules).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let in_list = StructuralSchema::parse(json!({ "type": "object", "properties": { "a": {
        "type": "array", "maxItems": 2, "items": { "type": "integer",
            "x-validations": [{ "rule": "self > oldSelf", "message": "m" }] },
    } } }));
    assert!(in_list.unwrap_err().to_string().contains("have no identity"));
}

#[test]
fn a_rule_that_could_be_slow_is_refused_when_the_folder_is_loaded() {
    let lists = |most: u64, rule: &str| {
        StructuralSchema::parse(json!({
            "type": "object",
            "properties": {
                "a": { "type": "array", "default": [], "maxItems": most, "items": { "type": "integer" } },
                "open": { "type": "array", "default": [], "items": { "type": "integer" } },
                "text": { "type": "string", "default": "", "maxLength": 100_000 },
            },
            "x-validations": [{ "rule": rule, "message": "m" }],
        }))
    };
    for rule in [
        "self.a.all(x, self.a.all(y, self.a.exists(z, z == x + y)))",
        "self.open.all(x, x > 0)",
        "self.a.map(x, self.a).size() > 0",
        "self.a.all(x, self.text.contains('a'))",
        "self.a.map(x, self.text + self.text).size() > 0",
    ] {
        let error = lists(500, rule).unwrap_err().to_string();
        assert!(error.contains("steps, more than 200000"), "{rule}: {error}");
    }
    for depth in [40, 200, 1000] {
        for rule in [
            format!("{}true{}", "(".repeat(depth), ")".repeat(depth)),
            format!("{}1 > 0", "1+".repeat(depth.min(400))),
            "[".repeat(depth),
            format!("{}true", "true?true:".repeat(depth.min(90))),
            format!("self{}", ".a".repeat(depth.min(400))),
            "self.a.all(x, ".repeat(depth.min(60)),
        ] {
            let rule = &rule[..rule.len().min(1024)];
            lists(5, rule).unwrap_err();
        }
    }
}

/// The dearest rule the budget allows is what a customer's settings can make it cost.
#[test]
fn the_dearest_rule_stays_within_its_time() {
    let schema = |most: u64| {
        StructuralSchema::parse(json!({
            "type": "object",
            "properties": { "a": { "type": "array", "default": [], "maxItems": most,
                "items": { "type": "string", "maxLength": 64 } } },
            "x-validations": [{ "rule": "self.a.all(x, self.a.exists(y, x + y == x) || size(x) > 0)", "message": "m" }],
        }))
    };
    let most = (1..400).rev().find(|most| schema(*most).is_ok()).unwrap();
    assert!(most >= 20, "{most}");
    let texts: Vec<String> = (0..most).map(|n| format!("{n:064}")).collect();
    let began = Instant::now();
    schema(most).unwrap().check(&json!({ "a": texts })).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?} for {most} items");
}
