//! Whatever a schema file or a customer says: an answer, with bounded work.

mod folder;

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wanwright_vendors::{Present, SchemaVersion, StructuralSchema};

/// Most work for one schema or one value: so many times what reading a mebibyte of JSON takes. What is answered by trying
/// everything takes thousands of times as much.
const LIMIT: u32 = 100;

const WORDS: &[&str] = &[
    "type",
    "object",
    "array",
    "string",
    "integer",
    "number",
    "boolean",
    "properties",
    "required",
    "items",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "description",
    "x-validations",
    "rule",
    "message",
    "field",
    "a",
    "b",
    "self.a == self.b",
    "self.a.all(x, x > 0)",
    "moved",
    "dropped",
    "added",
    "values",
    "a.b",
    "",
    "💥",
];

/// JSON that looks like what is expected, and anything else.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        word.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A schema that is one, or nearly.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "string", "maxLength": 5 })),
        Just(json!({ "type": "integer", "minimum": 0, "default": 1 })),
        Just(json!({ "type": "boolean" })),
        Just(json!({ "type": "number" })),
        any_json(),
    ];
    let place = leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({ "type": "array", "maxItems": 4, "items": items })),
            (inner.clone(), inner, any_rule()).prop_map(|(a, b, rule)| {
                json!({ "type": "object", "properties": { "a": a, "b": b }, "x-validations": [{ "rule": rule, "message": "m" }] })
            }),
        ]
    });
    (place.clone(), place, any_rule()).prop_map(|(a, b, rule)| {
        json!({ "type": "object", "properties": { "a": a, "b": b }, "x-validations": [{ "rule": rule, "message": "m" }] })
    })
}

/// Rules made of what rules are made of, in any order, and texts that are none.
fn any_rule() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "self",
        "self.a",
        "self.b",
        "oldSelf.a",
        ".a",
        ".b",
        ".all(x, ",
        ".exists(y, ",
        ".map(z, ",
        ".filter(w, ",
        "x",
        "y",
        "has(",
        "size(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "&&",
        "||",
        "!",
        "==",
        "!=",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "?",
        ":",
        "1",
        "0",
        "2.5",
        "'t'",
        "\"",
        "in",
        "true",
        "null",
        "9223372036854775807",
        "-9223372036854775808",
        "1u",
        "b'x'",
        ",",
        " ",
        ".startsWith(",
        "int(",
        "string(",
        "timestamp(",
        "\\",
        "\n",
        "//",
        "💥",
    ]);
    prop_oneof![
        4 => prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
        1 => prop::sample::select(vec![
            "self.a == self.b", "has(self.a)", "!has(self.b) || has(self.a)", "true", "has(self.a) && self.a.all(x, true)",
            "size([1, 2].map(x, x + 9223372036854775807)) > 0", "-(-9223372036854775807 - 1) > 0", "1 / 0 == 1",
            "(-9223372036854775807 - 1) / -1 == 0", "(-9223372036854775807 - 1) % -1 == 0", "int(1e300) == 0",
            "[1][9223372036854775807] == 1", "[1][-1] == 1", "int('x') == 1", "double('nan') == 0.0",
        ]).prop_map(str::to_owned),
    ]
}

fn within_limit<T>(what: &str, run: impl FnOnce() -> T) -> T {
    // Measured in this run and build, so that neither a slow machine nor a busy one matters.
    static UNIT: LazyLock<u64> = LazyLock::new(|| {
        let text = format!("[{}1]", "1,".repeat(1 << 19));
        let read = || work(|| serde_json::from_str::<Value>(&text).expect("JSON")).1;
        (0..3).map(|_| read()).max().unwrap_or_default()
    });
    let unit = *UNIT;
    let (done, took) = work(run);
    assert!(took < unit * u64::from(LIMIT), "{what} took {} times reading a mebibyte", took / unit);
    done
}

/// Does something, and says how long this thread had a processor meanwhile, in nanoseconds.
fn work<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("a time")
    };
    let began = now();
    let done = run();
    (done, now() - began)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schema_and_any_settings_are_answered(schema in any_schema(), value in any_json(), old in any_json()) {
        let parsed = within_limit("a schema", || StructuralSchema::parse(schema.clone()));
        if let Ok(parsed) = parsed {
            within_limit("a value", || parsed.check(&value).ok());
            within_limit("a change", || parsed.check_change("settings", &value, &old).ok());
            let near = json!({ "a": value, "b": old });
            if let Ok(filled) = within_limit("a near value", || parsed.check(&near)) {
                prop_assert_eq!(parsed.check(&filled), Ok(filled.clone()), "what fits fits again");
            }
            let _ = parsed.fields();
        }
    }

    #[test]
    fn any_file_in_the_folder_is_answered(schema in any_schema(), other in any_schema(), conversion in any_json(), value in any_json()) {
        let files = [("site.v1.json", schema), ("site.v2.json", other), ("site.v1-v2.json", conversion)];
        let loaded = within_limit("a folder", || folder::vendor(&files, ""));
        if let Ok(vendor) = loaded {
            let kind = &vendor.schemas["site"];
            let present = Present { version: SchemaVersion::FIRST, settings: &value };
            kind.convert(present, kind.stored()).unwrap();
            let _ = kind.read(SchemaVersion::FIRST, &value, Some(present));
        }
    }

    #[test]
    fn any_bytes_in_a_file_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vendor.toml", "schemas/site.v1.json", "api/site.toml"] {
            let path = dir.path().join("a").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &bytes).unwrap();
        }
        prop_assert!(wanwright_vendors::Catalogue::load(dir.path()).is_err());
    }
}

#[test]
fn large_deep_and_long_settings_are_answered_with_bounded_work() {
    let schema = StructuralSchema::parse(json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "default": "", "maxLength": 100 },
            "list": { "type": "array", "default": [], "maxItems": 100, "items": { "type": "string", "maxLength": 20 } },
            "any": { "type": "array", "items": { "type": "integer" } },
        },
        "x-validations": [
            { "rule": "self.list.all(x, self.list.exists_one(y, x == y))", "message": "no text twice", "field": "list" },
            { "rule": "!self.text.contains('x')", "message": "no x", "field": "text" },
        ],
    }))
    .unwrap();
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({ "text": deep, "list": [deep] });
        if deep.to_string().len() > 1 << 20 {
            break;
        }
    }
    let keys: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), Value::from(n))).collect();
    let worst: Vec<String> = (0..100).map(|n| format!("{n:020}")).collect();
    for (value, fits) in [
        (json!({ "text": "y".repeat(100) }), true),
        (json!({ "text": "y".repeat(101) }), false),
        (json!({ "text": "y".repeat(1 << 20) }), false),
        (json!({ "text": "é".repeat(100) }), true),
        (json!({ "list": worst }), true),
        (json!({ "list": vec!["same"; 100] }), false),
        (json!({ "list": vec!["same"; 100_000] }), false),
        (json!({ "any": vec![1; 300_000] }), true),
        (Value::Object(keys), false),
        (deep, false),
        (json!({ "text": 1, "list": {}, "any": "x" }), false),
        (json!([]), false),
        (Value::Null, false),
    ] {
        let answer = within_limit("settings", || schema.check(&value));
        assert_eq!(answer.is_ok(), fits, "{:?}", answer.err().map(|errors| errors.len()));
    }
}
