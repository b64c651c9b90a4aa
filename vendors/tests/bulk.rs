//! Many objects in one call: whose result is whose, what is an error, and what a folder may not say.
#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod script;

use std::fs;
use std::sync::Arc;

use script::answer;
use serde_json::{Value, json};
use wanwright_vendors::{BulkChange, BulkItem, ClientError, LoadError, ResourceApi, Vendor};

const VENDOR: &str = r#"
name = "otherwan"
title = "Another vendor"
base_url = "http://127.0.0.1:9"
credential = { env = "NONE", header = "Authorization" }
budget = { per_second = 1, burst = 1 }
engines = {}
limits = { tunnels_per_site = 1 }
"#;

const BOX: &str = r#"
collection = "/boxes"
item = "/boxes/{id}"
id = "/id"
idempotency_header = "Idempotency-Key"
[create.bulk]
path = "/boxes/many"
body = { boxes = "{items}" }
item = { ref = "{idempotency_key}", box = "{attributes}" }
most_items = 3
results = "/done"
object = "/box"
[attributes.name]
type = "string"
required = true
"#;

const KEYED: &str = "item_key = \"{idempotency_key}\"\nresult_key = \"/ref\"\nstatus = \"/status\"";

fn load(text: &str) -> Result<Arc<ResourceApi>, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("otherwan");
    fs::create_dir_all(folder.join("api")).unwrap();
    fs::write(folder.join("vendor.toml"), VENDOR).unwrap();
    fs::write(folder.join("api/box.toml"), text).unwrap();
    Ok(Arc::clone(&Vendor::load(&folder)?.api["box"]))
}

/// With more in `[create.bulk]`.
fn saying(more: &str) -> String {
    BOX.replace("object = \"/box\"", &format!("object = \"/box\"\n{more}"))
}

fn item(name: &str) -> BulkItem {
    BulkItem {
        attributes: json!({ "name": name }).as_object().unwrap().clone(),
        key: Some(format!("k-{name}")),
        ..BulkItem::default()
    }
}

/// What comes of three boxes; an object's id, or an error's class.
async fn three(more: &str, said: Value) -> Result<Vec<String>, ClientError> {
    let (script, base_url) = script::serve([answer(200, said)]).await;
    let client = script::client(&base_url, load(&saying(more)).unwrap());
    let came = client.bulk(BulkChange::Create, &["a", "b", "c"].map(item)).await;
    let sent = r#"{"boxes":[{"box":{"name":"a"},"ref":"k-a"},{"box":{"name":"b"},"ref":"k-b"},{"box":{"name":"c"},"ref":"k-c"}]}"#;
    assert!(script.lock().unwrap().asked[0].contains(sent), "{:?}", script.lock().unwrap().asked);
    let told = |result: Result<wanwright_vendors::BulkAnswer, ClientError>| match result {
        Ok(answer) => answer.object.map_or("none".to_owned(), |object| object.id),
        Err(error) => format!("{}{}", error.class(), if error.is_passing() { " in passing" } else { "" }),
    };
    Ok(came?.into_iter().map(told).collect())
}

fn made(id: u32, name: &str) -> Value {
    json!({ "ref": format!("k-{name}"), "status": 201, "box": { "id": id.to_string(), "name": name } })
}

#[tokio::test]
async fn results_are_known_by_key_or_by_position() {
    let all = json!({ "done": [made(3, "c"), made(1, "a"), made(2, "b")] });
    assert_eq!(three(KEYED, all.clone()).await.unwrap(), ["1", "2", "3"]);
    assert_eq!(three("", all).await.unwrap(), ["3", "1", "2"]);
    // What is not said, or said twice, is not known: it is tried again.
    let some = json!({ "done": [made(3, "c"), made(1, "a"), made(7, "a")] });
    assert_eq!(three(KEYED, some).await.unwrap(), ["Unexpected in passing", "Unexpected in passing", "3"]);
    let few = json!({ "done": [made(3, "c"), made(1, "a")] });
    assert!(three("", few).await.unwrap_err().is_passing(), "whose they are cannot be told");
    assert!(three("", json!({ "ok": true })).await.unwrap_err().is_passing());
}

#[tokio::test]
async fn an_error_is_one_objects_and_has_its_class() {
    let failed = |name: &str, status: u16| json!({ "ref": format!("k-{name}"), "status": status, "error": { "code": "no", "message": "no" } });
    let all = json!({ "done": [made(1, "a"), failed("b", 422), failed("c", 429)] });
    assert_eq!(three(KEYED, all).await.unwrap(), ["1", "VendorRefused", "VendorBusy in passing"]);
    // Without a status, an error is what has one.
    let quiet = json!({ "done": [made(1, "a"), { "error": { "code": "no" } }, {}] });
    assert_eq!(three("", quiet).await.unwrap(), ["1", "VendorRefused", "none"]);
}

#[test]
fn a_folder_cannot_say_what_would_make_something_twice() {
    for (from, to, key, says) in [
        ("ref = \"{idempotency_key}\", ", "", "create.bulk", "without the idempotency key"),
        ("idempotency_header = \"Idempotency-Key\"\n", "", "create.bulk", "a single create has not"),
        ("{items}", "{name}", "create.bulk.body", "not known here"),
        ("body = { boxes = \"{items}\" }\n", "", "create.bulk.body", "where the objects are"),
        ("most_items = 3", "most_items = 1", "create.bulk.most_items", "from 2 to"),
        ("results = \"/done\"\n", "", "create.bulk.results", "is missing"),
        ("object = \"/box\"", "item_key = \"{name}\"", "create.bulk.item_key", "belong together"),
        ("object = \"/box\"", "wait_milliseconds = 2000", "create.bulk.wait_milliseconds", "above 1000"),
        ("[attributes.name]", "[publish]\npath = \"/p/{id}\"\n[attributes.name]", "create.bulk", "[publish]"),
        ("[create.bulk]", "[update.bulk]", "update.bulk.item", "idempotency_key"),
    ] {
        assert!(BOX.contains(from), "{from}");
        let error = load(&BOX.replacen(from, to, 1)).unwrap_err();
        let LoadError::Field { field, message, .. } = &error else { panic!("{error}") };
        assert_eq!(field, key, "{error}");
        assert!(message.contains(says), "{error}");
    }
}
