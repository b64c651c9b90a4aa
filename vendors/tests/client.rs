//! The HTTP client against a vendor of a hundred lines that answers what it is told to.
#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod script;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use script::{Answer, Shared, answer};
use serde_json::{Map, Value, json};
use wanwright_vendors::{ClientError, ClientOptions, Deleted, ResourceClient, Vendor, VendorHttp};

async fn vendor(answers: impl IntoIterator<Item = Answer>) -> (Shared, ResourceClient) {
    let (script, base_url) = script::serve(answers).await;
    (script, client(&base_url))
}

fn client(base_url: &str) -> ResourceClient {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("simwan");
    script::client(base_url, Vendor::load(&dir).unwrap().api["site"].clone())
}

fn site(location: &str) -> Value {
    json!({"id": "s/1", "name": "oslo", "lan": ["10.0.0.0/24"], "location": location, "address": "192.0.2.1"})
}

fn wanted(location: &str) -> Map<String, Value> {
    let value = json!({"name": "oslo", "lan": ["10.0.0.0/24"], "location": location});
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let (script, client) = vendor([
        answer(201, site("")),
        answer(200, site("")),
        answer(200, site("quay")),
        answer(204, ""),
        answer(404, json!({"error": {"code": "not_found"}})),
        answer(404, ""),
    ])
    .await;
    let created = client.create(&wanted(""), Some("key-1")).await.unwrap();
    assert!(!created.adopted);
    assert_eq!(created.object.id, "s/1");
    assert_eq!(created.object.attributes["address"], "192.0.2.1");
    assert_eq!(created.object.attributes["status"], Value::Null);
    assert_eq!(client.read("s/1").await.unwrap(), Some(created.object));
    let changed = client.update("s/1", &wanted("quay")).await.unwrap();
    assert_eq!(changed.attributes["location"], "quay");
    assert_eq!(client.delete("s/1").await.unwrap(), Deleted::Now);
    assert_eq!(client.delete("s/1").await.unwrap(), Deleted::Before);
    assert_eq!(client.read("a.b?c").await.unwrap(), None);
    for id in ["", ".", ".."] {
        assert!(matches!(client.delete(id).await, Err(ClientError::Configuration { .. })));
    }
    assert_eq!(
        script.lock().unwrap().asked,
        [
            r#"POST /run/7/v1/sites key-1 7 {"lan":["10.0.0.0/24"],"location":"","name":"oslo"}"#,
            "GET /run/7/v1/sites/s%2F1 - 7",
            r#"PUT /run/7/v1/sites/s%2F1 - 7 {"lan":["10.0.0.0/24"],"location":"quay","name":"oslo"}"#,
            "DELETE /run/7/v1/sites/s%2F1 - 7",
            "DELETE /run/7/v1/sites/s%2F1 - 7",
            "GET /run/7/v1/sites/a.b%3Fc - 7",
        ]
    );
}

#[tokio::test]
async fn an_object_made_before_is_adopted() {
    let (script, client) = vendor([answer(200, site("")), answer(200, site("quay"))]).await;
    let created = client.create(&wanted("quay"), Some("key-1")).await.unwrap();
    assert!(created.adopted);
    assert_eq!(created.object.attributes["location"], "quay");
    assert_eq!(script.lock().unwrap().asked.len(), 2);

    // The change is refused: the object is known to be there.
    let refused = answer(422, json!({"error": {"code": "bad", "message": "no", "field": "location"}}));
    let (_, client) = vendor([answer(200, site("")), refused]).await;
    let error = client.create(&wanted("quay"), Some("key-1")).await.unwrap_err();
    assert_eq!(error.known.unwrap().id, "s/1");
    assert_eq!(error.source.class(), "VendorRefused");

    // It is another object: it stays as it is.
    let mut other = site("");
    other["name"] = json!("bergen");
    let (script, client) = vendor([answer(200, other)]).await;
    let error = client.create(&wanted(""), Some("key-1")).await.unwrap_err();
    assert!(error.known.is_none());
    assert!(error.source.to_string().contains("`name` \"bergen\" instead of \"oslo\""), "{}", error.source);
    assert_eq!(script.lock().unwrap().asked.len(), 1);
}

#[tokio::test]
async fn a_key_whose_object_was_deleted_is_followed_by_the_next() {
    let (script, client) = vendor([answer(410, ""), answer(410, ""), answer(201, site(""))]).await;
    let created = client.create(&wanted(""), Some("key")).await.unwrap();
    assert_eq!(created.object.id, "s/1");
    let keys = |script: &Shared| -> Vec<String> {
        let asked = script.lock().unwrap();
        asked.asked.iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&script), ["key", "key.2", "key.3"]);

    let (script, client) = vendor((0..100).map(|_| answer(410, ""))).await;
    let error = client.create(&wanted(""), Some("key")).await.unwrap_err();
    assert_eq!(error.source.class(), "VendorRefused");
    assert_eq!(keys(&script).len(), 64);
    let error = client.create(&wanted(""), None).await.unwrap_err();
    assert_eq!(error.source.status(), Some(410));
    assert_eq!(keys(&script).len(), 65, "without a key there is no row");
}

#[tokio::test]
async fn errors_have_their_class() {
    let busy = Answer {
        headers: vec![("retry-after", "7")],
        ..answer(429, json!({"error": {"message": "slow down"}}))
    };
    let moved = Answer { headers: vec![("location", "http://127.0.0.1:1/")], ..answer(302, "") };
    let (_, client) = vendor([
        answer(422, json!({"error": {"code": "bad_lan", "message": "not a prefix", "field": "/lan"}})),
        busy,
        answer(503, ""),
        answer(500, "<html>"),
        moved,
        answer(200, "{"),
        answer(200, json!({"name": "oslo"})),
        answer(200, json!({"id": "s", "name": 1})),
        answer(200, "x".repeat(9 << 20)),
        Answer { after: Duration::from_secs(30), ..answer(200, "") },
    ])
    .await;
    let Err(ClientError::Refused { status, code, message, field, gone: false }) = client.read("a").await
    else {
        panic!("not refused")
    };
    assert_eq!((status, code.as_deref(), &*message), (422, Some("bad_lan"), "not a prefix"));
    assert_eq!(field.as_deref(), Some("lan"));
    let Err(ClientError::Busy { retry_after, .. }) = client.read("a").await else { panic!("not busy") };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert!(matches!(client.read("a").await, Err(ClientError::Busy { retry_after: None, .. })));
    let error = client.read("a").await.unwrap_err();
    assert!(error.is_passing() && error.class() == "VendorBusy", "{error}");
    for says in ["HTTP 302", "no JSON", "no id", "`name`", "larger than"] {
        let error = client.read("a").await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.class(), "Unexpected");
    }
    let Err(ClientError::Network { connected, .. }) = client.read("a").await else { panic!("no time-out") };
    assert!(connected);
    let nobody = self::client("http://127.0.0.1:1");
    assert!(matches!(nobody.read("a").await, Err(ClientError::Network { connected: false, .. })));
}

#[tokio::test]
async fn a_credential_or_a_lock_may_be_right_again_later() {
    let (_script, client) = vendor([401, 403, 408, 423, 425].map(|status| answer(status, ""))).await;
    for _ in 0..2 {
        let error = client.read("a").await.unwrap_err();
        assert!(matches!(error, ClientError::Denied { .. }) && error.is_passing(), "{error}");
        assert_eq!(error.class(), "Unexpected");
    }
    for _ in 0..3 {
        let error = client.read("a").await.unwrap_err();
        assert!(matches!(error, ClientError::Busy { .. }) && error.is_passing(), "{error}");
    }
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let page = |ids: &[&str], next: Value| {
        let items: Vec<Value> = ids.iter().map(|id| json!({"id": id, "name": format!("n-{id}")})).collect();
        answer(200, json!({"items": items, "next": next}))
    };
    let (script, client) = vendor([
        page(&["1", "2"], json!("a b")),
        page(&["3"], Value::Null),
        page(&["1"], json!("x")),
        page(&["1", "2"], json!(2)),
        page(&["3"], Value::Null),
        page(&["1", "1"], json!("more")),
        page(&[], json!("same")),
        page(&[], json!("same")),
        answer(200, json!({"items": {}})),
    ])
    .await;
    let mut ids = Vec::new();
    let collect = |objects: Vec<wanwright_vendors::RemoteObject>| {
        ids.extend(objects.into_iter().map(|object| object.id));
        ControlFlow::Continue(())
    };
    client.list(collect).await.unwrap();
    assert_eq!(ids, ["1", "2", "3"]);
    client.list(|_| ControlFlow::Break(())).await.unwrap();
    assert_eq!(client.find_by_name("n-3").await.unwrap().unwrap().id, "3");
    assert!(client.find_by_name("n-1").await.unwrap_err().to_string().contains("more than one"));
    let endless = client.list(|_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(endless.to_string().contains("the page itself"), "{endless}");
    let no_array = client.list(|_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(no_array.to_string().contains("no array at /items"), "{no_array}");
    let asked = &script.lock().unwrap().asked;
    assert_eq!(asked[1], "GET /run/7/v1/sites?cursor=a+b - 7");
    assert_eq!(asked[3], "GET /run/7/v1/sites?name=n-3 - 7");
    assert_eq!(asked[4], "GET /run/7/v1/sites?name=n-3&cursor=2 - 7");
}

#[test]
fn a_base_url_or_header_that_is_not_valid_is_named() {
    let options = |base_url: &str, name: &str| ClientOptions {
        base_url: base_url.to_owned(),
        connect_timeout: Duration::from_secs(1),
        call_timeout: Duration::from_secs(1),
        headers: vec![(name.to_owned(), "v".to_owned())],
    };
    for (base_url, name) in
        [("127.0.0.1:9", "a"), ("ftp://h", "a"), ("http://h/?a=b", "a"), ("http://h", "a b")]
    {
        let error = VendorHttp::new(&options(base_url, name)).unwrap_err();
        assert!(matches!(error, ClientError::Configuration { .. }), "{error}");
    }
}
