//! Real Terraform and a vendor whose objects have every shape that a folder can describe.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/gadgets.rs"]
mod gadgets;
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::path::{Path, PathBuf};

use gadgets::{Random, gadget};
use serde_json::{Map, Value, json};
use support::{Shared, Stack, errors, world};

const GADGET: &str = "wanwright_shapes_gadget";

fn shapes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendors")
}

fn template(more: &Value) -> String {
    let mut template = json!({"terraform": {
        "required_providers": {"wanwright": {"source": "wanwright/wanwright"}}, "backend": {"http": {}},
    }});
    for (name, value) in more.as_object().unwrap() {
        template[name] = value.clone();
    }
    template.to_string()
}

async fn stack() -> Stack {
    let world = Shared::default();
    let url = world::serve(world.clone()).await;
    Stack::of(world, (url.clone(), url), &shapes(), ("main.tf.json", &template(&json!({})))).await
}

fn write(stack: &Stack, file: &str, text: &str) {
    std::fs::write(stack.path("run").join(file), text).unwrap();
}

/// These gadgets are the whole configuration.
fn configure(stack: &Stack, gadgets: Map<String, Value>) {
    write(stack, "main.tf.json", &template(&json!({"resource": {GADGET: gadgets}})));
}

fn one(config: Value) -> Map<String, Value> {
    Map::from_iter([("one".to_owned(), config)])
}

/// Whether there is nothing to do.
async fn is_settled(stack: &Stack) -> bool {
    let (code, messages) = stack.run(&["plan", "-json", "-detailed-exitcode"], &json!({})).await;
    assert_ne!(code, 1, "{messages:#?}");
    code == 0
}

async fn destroy(stack: &Stack) {
    let (code, messages) = stack.run(&["destroy", "-json", "-auto-approve"], &json!({})).await;
    assert_eq!(code, 0, "{messages:#?}");
    assert!(stack.world.lock().unwrap().objects.is_empty(), "a destroy leaves nothing");
}

/// The attributes in the state of a resource's only instance.
fn attributes(stack: &Stack, name: &str) -> Value {
    let state = stack.state();
    let resources = state["resources"].as_array().unwrap();
    let found = resources.iter().find(|found| found["name"] == name && found["mode"] == "managed").unwrap();
    found["instances"][0]["attributes"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_gadgets_are_applied_changed_and_destroyed_without_a_surprise() {
    let stack = stack().await;
    let mut random = Random::new(2026);
    for round in 0..3 {
        for _ in 0..2 {
            let named = |index| (format!("g{index}"), gadget(&mut random, &format!("g-{round}-{index}")));
            configure(&stack, (0..12).map(named).collect());
            stack.apply(&json!({})).await;
            assert!(is_settled(&stack).await, "a plan after an apply is empty");
        }
        let state = stack.state().to_string();
        assert!(!state.contains("s3cret"), "what is write-only is in no state");
        destroy(&stack).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_writes_a_configuration_that_changes_nothing() {
    let stack = stack().await;
    let object = json!({
        "name": "found", "note": "x", "mode": "off", "low": 1, "high": 2, "amount": "7", "enabled": true, "mac": "AA:BB",
        "bgp": {"asn": 65_001, "timers": {"hold": 30}, "neighbors": [{"address": "192.0.2.7", "weight": 1}]},
        "routes": [{"prefix": "10.0.0.0/16", "metric": 3}], "peers": {"a": {"host": "h", "port": 1}},
        "zone": {"name": "b"}, "rules": [{"action": "deny", "ports": [1], "match": [{"source": "lan", "log": true}]}],
        "limits": {"soft": 1, "hard": 2}, "labels": {"k": "v"},
    });
    let _ = stack.world.lock().unwrap().create("/v1/gadgets", object, None);
    write(&stack, "import.tf", &format!("import {{\n  to = {GADGET}.found\n  id = \"name=found\"\n}}\n"));
    let (code, messages) =
        stack.run(&["plan", "-json", "-generate-config-out=generated.tf"], &json!({})).await;
    assert_eq!(code, 0, "{messages:#?}");
    let written = std::fs::read_to_string(stack.path("run/generated.tf")).unwrap();
    assert!(written.contains("hold_time = 30"), "{written}");
    assert_eq!(stack.apply(&json!({})).await, [0, 0, 0], "{written}");
    assert!(is_settled(&stack).await);
    assert_eq!(stack.world.lock().unwrap().take_changes(), [""; 0], "nothing was changed at the vendor");
    assert_eq!(attributes(&stack, "found")["bgp"]["neighbors"][0]["weight"], 1);
    for (id, says) in
        [("name=lost", "the vendor has no gadget `name=lost`"), ("o-99", "the vendor has no gadget")]
    {
        write(&stack, "import.tf", &format!("import {{\n  to = {GADGET}.found2\n  id = \"{id}\"\n}}\n"));
        let (code, messages) =
            stack.run(&["plan", "-json", "-generate-config-out=more.tf"], &json!({})).await;
        assert_eq!(code, 1);
        assert!(errors(&messages)[0]["summary"].as_str().unwrap().contains(says), "{messages:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_replaced_also_inside_an_object() {
    let stack = stack().await;
    let mut config =
        json!({"name": "a", "color": "red", "bgp": {"asn": 1}, "routes": [{"prefix": "10.0.0.0/8"}]});
    configure(&stack, one(config.clone()));
    assert_eq!(stack.apply(&json!({})).await, [1, 0, 0]);
    for (place, value, counts) in [
        ("/color", json!("green"), [1, 0, 1]),
        ("/bgp/asn", json!(2), [1, 0, 1]),
        ("/routes/0/prefix", json!("10.1.0.0/16"), [0, 1, 0]),
        ("/routes/0/prefix", json!("10.1.2.3/16"), [0, 0, 0]),
    ] {
        *config.pointer_mut(place).unwrap() = value;
        configure(&stack, one(config.clone()));
        assert_eq!(stack.apply(&json!({})).await, counts, "{place}");
        assert!(is_settled(&stack).await, "{place}");
    }
    let valid = config.clone();
    config["name"] = json!("NO");
    configure(&stack, one(config));
    let (code, messages) = stack.run(&["plan", "-json"], &json!({})).await;
    assert_eq!(code, 1);
    let found = errors(&messages);
    assert!(found[0]["summary"].as_str().unwrap().starts_with("Invalid: `name` is \"NO\""), "{found:#?}");
    configure(&stack, one(valid));
    destroy(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_value_is_sent_again_when_its_version_says_so() {
    let stack = stack().await;
    let config = |secret: &str, version: u32, inner: u32| {
        let bgp = json!({"asn": 1, "secret": secret, "secret_version": inner});
        one(json!({"name": "a", "secret": secret, "secret_version": version, "token": "t0ken", "bgp": bgp}))
    };
    let kept = |stack: &Stack| {
        let world = stack.world.lock().unwrap();
        let object = world.only("/v1/gadgets");
        (object["secret"].as_str().unwrap().to_owned(), object["bgp"]["secret"].as_str().unwrap().to_owned())
    };
    let both = |secret: &str| (secret.to_owned(), secret.to_owned());
    configure(&stack, config("first", 1, 1));
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &json!({})).await;
    assert_eq!(code, 0);
    let said = json!(messages).to_string() + &stack.state().to_string();
    assert!(
        !said.contains("first")
            && stack.state()["resources"][0]["instances"][0]["attributes"]["secret"].is_null()
    );
    assert!(!json!(messages).to_string().contains("t0ken"), "what is sensitive is not shown");
    assert_eq!(kept(&stack), both("first"));
    configure(&stack, config("second", 1, 1));
    assert_eq!(stack.apply(&json!({})).await, [0, 0, 0], "Terraform does not know that it has changed");
    configure(&stack, config("third", 2, 1));
    assert_eq!(stack.apply(&json!({})).await, [0, 1, 0]);
    assert_eq!(kept(&stack), both("third"), "an object is sent as a whole");
    configure(&stack, config("fourth", 2, 2));
    assert_eq!(stack.apply(&json!({})).await, [0, 1, 0]);
    assert_eq!(kept(&stack), both("fourth"));
    assert!(is_settled(&stack).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_sources_find_one_by_id_or_name_and_list_all() {
    let stack = stack().await;
    for name in ["a", "b"] {
        let object = json!({"name": name, "bgp": {"asn": 7}, "secret": "s", "amount": "3"});
        let _ = stack.world.lock().unwrap().create("/v1/gadgets", object, None);
    }
    let outputs = json!({
        "data": {GADGET: {"by_id": {"id": "o-1"}, "by_name": {"name": "b"}}, "wanwright_shapes_gadgets": {"all": {}}},
        "output": {
            "by_id": {"value": format!("${{data.{GADGET}.by_id.name}}")},
            "by_name": {"value": format!("${{data.{GADGET}.by_name}}"), "sensitive": true},
            "asn": {"value": format!("${{data.{GADGET}.by_name.bgp.asn}}")},
            "ids": {"value": "${data.wanwright_shapes_gadgets.all.ids}"},
            "amounts": {"value": "${data.wanwright_shapes_gadgets.all.items[*].amount}"},
        },
    });
    write(&stack, "main.tf.json", &template(&outputs));
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &json!({})).await;
    assert_eq!(code, 0, "{messages:#?}");
    let state = stack.state();
    let value = |name: &str| state["outputs"][name]["value"].clone();
    assert_eq!((value("by_id"), value("asn"), value("ids")), (json!("a"), json!(7), json!(["o-1", "o-2"])));
    assert_eq!(value("amounts"), json!([3, 3]));
    assert_eq!((&value("by_name")["id"], &value("by_name")["secret"]), (&json!("o-2"), &Value::Null));
    for (config, says) in [
        (json!({}), "Invalid: nothing says which object"),
        (json!({"id": "o-1", "name": "a"}), "Invalid: `id` and `name` are both given"),
        (json!({"name": "c"}), "VendorRefused: the vendor has no gadget `c`"),
    ] {
        write(&stack, "main.tf.json", &template(&json!({"data": {GADGET: {"one": config}}})));
        let (code, messages) = stack.run(&["plan", "-json"], &json!({})).await;
        assert_eq!((code, errors(&messages)[0]["summary"].as_str().unwrap()), (1, says));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_an_earlier_edition_is_read_and_a_renamed_kind_moved() {
    let stack = stack().await;
    configure(&stack, one(json!({"name": "a", "note": "x"})));
    stack.apply(&json!({})).await;
    let mut state = stack.state();
    state["resources"][0]["type"] = json!("wanwright_shapes_widget");
    let old = state["resources"][0]["instances"][0]["attributes"].as_object_mut().unwrap();
    let note = old.remove("note").unwrap();
    old.insert("remark".to_owned(), note);
    old.insert("amount".to_owned(), json!("1"));
    old.insert("gone".to_owned(), json!([1]));
    old.remove("timeouts");
    state["serial"] = json!(100);
    stack.world.lock().unwrap().states.insert("/state/run".to_owned(), state.to_string().into());
    let moved = "moved {\n  from = wanwright_shapes_widget.one\n  to = wanwright_shapes_gadget.one\n}\n";
    write(&stack, "moved.tf", moved);
    assert_eq!(stack.apply(&json!({})).await, [0, 0, 0]);
    assert_eq!(attributes(&stack, "one")["note"], "x");
    assert_eq!(stack.world.lock().unwrap().objects.len(), 1);
    assert!(is_settled(&stack).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_says_what_there_is() {
    let stack = stack().await;
    let output = stack.terraform_in("run", &["providers", "schema", "-json"]).await;
    let schemas: Value = serde_json::from_slice(&output.stdout).unwrap();
    let provider = &schemas["provider_schemas"]["registry.terraform.io/wanwright/wanwright"];
    let block = &provider["resource_schemas"][GADGET]["block"];
    assert_eq!(block["description"], "A gadget has every shape there is.");
    let of = |name: &str| &block["attributes"][name];
    assert_eq!(of("secret")["write_only"], true);
    assert_eq!((&of("token")["sensitive"], &of("old_way")["deprecated"]), (&json!(true), &json!(true)));
    assert_eq!(of("matrix")["type"], json!(["list", ["list", "number"]]));
    assert_eq!(of("mode")["description"], "How it runs. Default: `\"auto\"`.");
    assert!(of("name")["description"].as_str().unwrap().contains("matching `[a-z][a-z0-9-]{0,30}`"));
    for (name, mode) in [("bgp", "single"), ("routes", "list"), ("peers", "map")] {
        assert_eq!(of(name)["nested_type"]["nesting_mode"], mode);
    }
    assert_eq!(of("bgp")["nested_type"]["attributes"]["secret"]["write_only"], true);
    let rule = &block["block_types"]["rule"];
    assert_eq!((&rule["nesting_mode"], &rule["max_items"]), (&json!("list"), &json!(5)));
    assert_eq!(rule["block"]["block_types"]["match"]["nesting_mode"], "list");
    assert_eq!(block["block_types"]["timeouts"]["nesting_mode"], "single");
    let data = &provider["data_source_schemas"];
    assert_eq!(data[GADGET]["block"]["attributes"]["bgp"]["computed"], true);
    assert_eq!(data[GADGET]["block"]["attributes"].get("secret"), None, "what cannot be read is not there");
    assert_eq!(
        data["wanwright_shapes_gadgets"]["block"]["attributes"]["items"]["nested_type"]["nesting_mode"],
        "list"
    );
}
