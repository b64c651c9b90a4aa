//! Several versions of a kind's settings: what is said in one is stored in another, and nothing is lost on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod folder;

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use wanwright_vendors::{FieldErrorKind, KindSchemas, LoadError, Present, SchemaVersion};

const V1: SchemaVersion = SchemaVersion::FIRST;

fn version(text: &str) -> SchemaVersion {
    text.parse().unwrap()
}

fn v1() -> Value {
    json!({
        "type": "object",
        "properties": {
            "hostname": { "type": "string", "maxLength": 20, "default": "" },
            "vlan": { "type": "integer", "minimum": 1, "maximum": 4094, "default": 1 },
            "mode": { "type": "string", "enum": ["on", "off", "auto"], "default": "auto" },
            "dns": { "type": "array", "maxItems": 3, "items": { "type": "string" } },
            "legacy": { "type": "boolean", "default": false },
            "radio": { "type": "object", "properties": {
                "channel": { "type": "integer", "default": 6 },
                "power": { "type": "integer" },
            } },
        },
    })
}

fn v2() -> Value {
    json!({
        "type": "object",
        "properties": {
            "system": { "type": "object", "default": {}, "properties": {
                "name": { "type": "string", "maxLength": 20, "default": "" },
                "contact": { "type": "string", "maxLength": 20, "default": "" },
            } },
            "vlan": { "type": "integer", "minimum": 1, "maximum": 4094, "default": 1 },
            "mode": { "type": "string", "enum": ["up", "down", "auto", "dark"], "default": "auto" },
            "resolvers": { "type": "array", "maxItems": 3, "items": { "type": "string" } },
            "radio": { "type": "object", "properties": {
                "channel": { "type": "integer", "default": 6 },
                "power": { "type": "integer" },
            } },
            "country": { "type": "string", "enum": ["", "no", "se"], "default": "" },
        },
        "x-validations": [
            { "rule": "self.vlan >= oldSelf.vlan", "message": "it may only rise", "field": "vlan" },
            { "rule": "self.mode != 'down' || self.vlan == 1", "message": "down is VLAN 1", "field": "mode" },
        ],
    })
}

fn v3() -> Value {
    let mut json = v2();
    let properties = json["properties"].as_object_mut().unwrap();
    let vlan = properties.remove("vlan").unwrap();
    properties.insert(
        "management".into(),
        json!({ "type": "object", "default": {}, "properties": { "vlan": vlan } }),
    );
    json.as_object_mut().unwrap().remove("x-validations");
    json
}

fn up() -> Value {
    json!({
        "description": "What the system is called stands with the system.",
        "moved": { "hostname": "system.name", "dns": "resolvers" },
        "values": { "mode": [["on", "up"], ["off", "down"], ["auto", "auto"], ["off", "dark"]] },
        "dropped": { "legacy": false },
        "added": { "system.contact": null, "country": "" },
    })
}

fn further() -> Value {
    json!({ "moved": { "vlan": "management.vlan" } })
}

fn load(files: &[(&str, Value)], wish: &str) -> Result<KindSchemas, LoadError> {
    folder::vendor(files, wish).map(|vendor| vendor.schemas["site"].clone())
}

/// Three versions, of which this one is stored.
fn kind(stored: &str) -> KindSchemas {
    let files = [
        ("site.v1.json", v1()),
        ("site.v2.json", v2()),
        ("site.v3.json", v3()),
        ("site.v1-v2.json", up()),
        ("site.v2-v3.json", further()),
    ];
    load(&files, &format!("[schemas.site]\nstored = \"{stored}\"\n")).unwrap()
}

static THIRD: LazyLock<KindSchemas> = LazyLock::new(|| kind("v3"));

fn settings() -> impl Strategy<Value = Value> {
    let field = |name: &'static str, values: BoxedStrategy<Value>| {
        proptest::option::of(values).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let text = || "[a-z]{0,5}".prop_map(Value::from).boxed();
    let radio =
        (proptest::option::of(-5_i64..20), proptest::option::of(0_i64..9)).prop_map(|(channel, power)| {
            let fields = [("channel", channel), ("power", power)];
            fields
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
                .collect::<Value>()
        });
    let fields = (
        field("hostname", text()),
        field("vlan", (1_i64..=4094).prop_map(Value::from).boxed()),
        field("mode", prop::sample::select(vec!["on", "off", "auto"]).prop_map(Value::from).boxed()),
        field("dns", prop::collection::vec(text(), 0..=3).prop_map(Value::from).boxed()),
        field("legacy", Just(Value::from(false)).boxed()),
        field("radio", radio.boxed()),
    );
    fields.prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].into_iter().flatten().collect::<Value>())
}

proptest! {
    #[test]
    fn what_the_first_version_says_comes_back_as_it_was(said in settings()) {
        let kind = &*THIRD;
        let whole = kind.get(V1).unwrap().check(&said).unwrap();
        for later in ["v2", "v3"].map(version) {
            let there = kind.convert(Present { version: V1, settings: &whole }, later).unwrap();
            let back = kind.convert(Present { version: later, settings: &there }, V1).unwrap();
            prop_assert_eq!(&back, &whole);
        }
        let stored = kind.read(V1, &said, None);
        if whole["mode"] == "off" && whole["vlan"] != 1 {
            // Only the second version's rule minds, and nothing is stored in it here.
            prop_assert!(stored.is_ok());
        }
        let back = kind.convert(Present { version: version("v3"), settings: &stored.unwrap() }, V1).unwrap();
        prop_assert_eq!(&back, &whole);
    }

    #[test]
    fn a_change_in_an_older_version_changes_nothing_else(
        said in settings(), country in prop::sample::select(vec!["", "no", "se"]), dark in any::<bool>(), vlan in 2_i64..4000,
    ) {
        let kind = &*THIRD;
        let mut stored = kind.read(V1, &said, None).unwrap();
        stored["country"] = country.into();
        stored["system"]["contact"] = "noc".into();
        if dark {
            stored["mode"] = "dark".into();
        }
        let present = Present { version: version("v3"), settings: &stored };
        let mut seen = kind.convert(present, V1).unwrap();
        prop_assert!(seen.get("country").is_none());
        seen["vlan"] = vlan.into();
        let after = kind.read(V1, &seen, Some(present)).unwrap();
        let mut wanted = stored.clone();
        wanted["management"]["vlan"] = vlan.into();
        prop_assert_eq!(after, wanted);
    }
}

#[test]
fn settings_are_read_in_one_version_and_stored_in_another() {
    let kind = kind("v2");
    let read = |said: Value| kind.read(V1, &said, None);
    assert_eq!(
        read(json!({"hostname": "edge", "mode": "on", "dns": ["a"]})).unwrap(),
        json!({"system": {"name": "edge", "contact": ""}, "mode": "up", "vlan": 1, "resolvers": ["a"], "country": ""})
    );
    let first = |said: Value| read(said).unwrap_err().remove(0);
    let error = first(json!({"legacy": true}));
    assert_eq!((error.kind, error.path.as_str()), (FieldErrorKind::NotConvertible, "settings.legacy"));
    assert!(error.message.contains("is true, which the stored version cannot say"), "{error}");
    assert_eq!(first(json!({"system": {}})).path, "settings.system", "it is no field of v1");
    let error = first(json!({"mode": "off", "vlan": 7}));
    assert_eq!((error.kind, error.path.as_str()), (FieldErrorKind::RuleBroken, "settings.mode"));
    assert!(error.message.ends_with("(as v2)"), "{error}");
    // A newer version is spoken, and an older one is stored.
    let old = self::kind("v1");
    let v2 = version("v2");
    assert_eq!(old.read(v2, &json!({"system": {"name": "a"}}), None).unwrap()["hostname"], "a");
    assert_eq!(old.read(v2, &json!({"mode": "dark"}), None).unwrap()["mode"], "off");
    assert_eq!(old.read(v2, &json!({"country": "no"}), None).unwrap_err()[0].path, "settings.country");
}

#[test]
fn transition_rules_hold_in_the_stored_version_whatever_is_spoken() {
    let kind = kind("v2");
    let stored = kind.read(V1, &json!({"vlan": 9}), None).unwrap();
    let present = Some(Present { version: version("v2"), settings: &stored });
    assert!(kind.read(V1, &json!({"vlan": 10}), present).is_ok());
    assert_eq!(kind.read(V1, &json!({"vlan": 8}), present).unwrap_err()[0].path, "settings.vlan");
    let first = json!({"vlan": 9});
    let present = Some(Present { version: V1, settings: &first });
    assert_eq!(kind.read(V1, &json!({"vlan": 8}), present).unwrap_err()[0].path, "settings.vlan");
}

#[test]
fn what_is_stored_is_always_readable() {
    let kind = kind("v3");
    let odd =
        json!({"legacy": true, "mode": "sideways", "hostname": 7, "gone": [1], "radio": 3, "system": 1});
    let read = kind.convert(Present { version: V1, settings: &odd }, version("v3")).unwrap();
    assert_eq!(read["mode"], "sideways");
    assert_eq!(read["gone"], json!([1]));
    let later = kind.convert(Present { version: version("v9"), settings: &odd }, V1).unwrap_err();
    assert_eq!(later.to_string(), "there is no version v9; there are v1, v2, v3");
}

#[test]
fn a_retired_version_is_read_and_not_spoken() {
    let files = [("site.v1.json", v1()), ("site.v2.json", v2()), ("site.v1-v2.json", up())];
    let kind = load(&files, "[schemas.site]\nretired = [\"v1\"]\n").unwrap();
    assert_eq!(kind.stored(), version("v2"));
    assert_eq!(kind.served().collect::<Vec<_>>(), [version("v2")]);
    assert!(kind.spoken(V1).is_err());
    let stored = json!({"hostname": "a"});
    let read = kind.convert(Present { version: V1, settings: &stored }, version("v2")).unwrap();
    assert_eq!(read["system"]["name"], "a");
}

#[test]
fn a_conversion_that_forgets_or_loses_is_no_conversion() {
    let tried = |change: &dyn Fn(&mut Value)| {
        let mut conversion = up();
        change(&mut conversion);
        let files = [("site.v1.json", v1()), ("site.v2.json", v2()), ("site.v1-v2.json", conversion)];
        load(&files, "").unwrap_err().to_string()
    };
    let remove = |part: &'static str, name: &'static str| {
        tried(&|json| {
            json[part].as_object_mut().unwrap().remove(name);
        })
    };
    assert!(remove("moved", "dns").contains("`dns` of the older version goes nowhere"));
    assert!(remove("dropped", "legacy").contains("`legacy` of the older version goes nowhere"));
    assert!(remove("added", "country").contains("`country` of the newer version comes from nowhere"));
    assert!(remove("values", "mode").contains("does not convert to the newer version"));
    let set = |part: &'static str, name: &'static str, value: Value| {
        tried(&|json| json[part][name] = value.clone())
    };
    assert!(set("moved", "hostnam", json!("vlan")).contains("`hostnam` is no field of the older version"));
    assert!(set("moved", "vlan", json!("vlam")).contains("`vlam` is no field of the newer version"));
    assert!(set("moved", "vlan", json!("country")).contains("gets its value from two places"));
    assert!(set("dropped", "hostname", json!("")).contains("is dropped too"));
    assert!(set("dropped", "radio.channel", json!(6)).contains("`radio.channel`"));
    assert!(set("moved", "hostname", json!("system")).contains("gets its value from two places"));
    assert!(set("moved", "dns", json!("system.contact")).contains("two places"));
    assert!(
        set("values", "mode", json!([["on", "up"], ["off", "up"], ["auto", "auto"]]))
            .contains("comes back as")
    );
    assert!(set("added", "country", json!("dk")).contains("does not convert to the newer version"));
    assert!(set("values", "nothing", json!([])).contains("`nothing` is no field of the newer version"));
    assert!(tried(&|json| json["added"] = json!(7)).contains("site.v1-v2.json"));
}

#[test]
fn versions_are_whole() {
    let error = |files: &[(&str, Value)], wish: &str| load(files, wish).unwrap_err().to_string();
    let both = || [("site.v1.json", v1()), ("site.v2.json", v2())];
    assert!(error(&both(), "").contains("site.v1-v2.json: is missing"));
    let gap = error(&[("site.v2.json", v2())], "");
    assert!(gap.contains("site.v1.json: is missing: settings of v1 may be stored"), "{gap}");
    assert!(gap.contains("retired = [\"v1\"]"), "{gap}");
    let stray = [("site.v1.json", v1()), ("site.v2-v3.json", up())];
    assert!(error(&stray, "").contains("no neighbours"));
    let good = || [("site.v1.json", v1()), ("site.v2.json", v2()), ("site.v1-v2.json", up())];
    for (wish, says) in [
        ("stored = \"v3\"", "`schemas.site.stored`: names v3"),
        ("stored = \"2\"", "`schemas.site.stored`"),
        ("retired = [\"v2\"]", "`schemas.site.retired`: names v2, which is the stored version"),
        ("retired = [\"v9\"]", "`schemas.site.retired`: names v9"),
        ("storde = \"v1\"", "did you mean `stored`?"),
    ] {
        let error = error(&good(), &format!("[schemas.site]\n{wish}\n"));
        assert!(error.contains(says), "{error}");
    }
    assert!(error(&good(), "[schemas.router]\nstored = \"v1\"\n").contains("`schemas.router`"));
    for odd in
        ["site.json", "site.v0.json", "site.v1.toml", "site.v1-v2-v3.json", "Site.v1.json", "site.v01.json"]
    {
        assert!(error(&[(odd, v1())], "").contains(odd), "{odd}");
    }
}
