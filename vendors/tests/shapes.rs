//! Other vendors' shapes: envelopes, templates, ids elsewhere, jobs, paging, GraphQL, errors in successes.
#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod script;

use std::fs;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use script::{Answer, Shared, answer};
use serde_json::{Map, Value, json};
use wanwright_vendors::{
    ClientError, Deleted, JobNote, JobNotes, JobOf, LoadError, ResourceApi, ResourceClient, Vendor,
};

const VENDOR: &str = r#"
name = "otherwan"
title = "Another vendor"
base_url = "http://127.0.0.1:9"
credential = { env = "NONE", header = "Authorization" }
budget = { per_second = 1, burst = 1 }
engines = {}
limits = { tunnels_per_site = 1 }
"#;

const ATTRIBUTES: &str = r#"
[attributes.name]
type = "string"
required = true
[attributes.vlan]
type = "number"
default = 1
json = "/spec/vlan"
"#;

fn load(files: &[(&str, &str)]) -> Result<Arc<ResourceApi>, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("otherwan");
    fs::create_dir_all(folder.join("api")).unwrap();
    fs::write(folder.join("vendor.toml"), VENDOR).unwrap();
    for (name, text) in files {
        fs::write(folder.join("api").join(name), text).unwrap();
    }
    Ok(Arc::clone(&Vendor::load(&folder)?.api["box"]))
}

async fn vendor(
    files: &[(&str, &str)],
    answers: impl IntoIterator<Item = Answer>,
) -> (Shared, ResourceClient) {
    let api = load(files).unwrap_or_else(|error| panic!("{error}"));
    let (script, base_url) = script::serve(answers).await;
    (script, script::client(&base_url, api))
}

fn file(operations: &str) -> String {
    format!("{operations}\n{ATTRIBUTES}")
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn wanted() -> Map<String, Value> {
    map(json!({"name": "a", "vlan": 7}))
}

fn boxed(id: &str) -> Value {
    json!({"id": id, "name": "a", "spec": {"vlan": 7}})
}

/// What was asked, without the words that are the same in every line.
fn asked(script: &Shared) -> Vec<String> {
    let asked = &script.lock().unwrap().asked;
    asked.iter().map(|line| line.replace("/run/7", "").replacen(" - 7", "", 1)).collect()
}

#[tokio::test]
async fn bodies_and_answers_have_envelopes() {
    let api = file(
        r#"
collection = "/boxes"
item = "/boxes/{id}"
id = "/id"
[create]
path = "/boxes/new"
query = { dry = false, kind = "{name}-x" }
body = { box = "{attributes}", version = 2 }
object = "/data/box"
[read]
object = "/data"
[update]
method = "PATCH"
body = { box = { spec = { vlan = "{vlan}", label = "vlan {vlan}" } } }
read_after = true
[delete]
method = "POST"
path = "/boxes/{id}/remove"
body = { force = true }
"#,
    );
    let (script, client) = vendor(
        &[("box.toml", &api)],
        [
            answer(201, json!({"data": {"box": boxed("b/1")}})),
            answer(200, json!({"status": "stored"})),
            answer(200, json!({"data": boxed("b/1")})),
            answer(200, json!({"status": "stored"})),
            answer(200, json!({"data": [boxed("x"), boxed("b/1")]})),
            answer(200, json!({"data": []})),
            answer(200, json!({"data": "what"})),
            answer(200, "{}"),
        ],
    )
    .await;
    let created = client.create(&wanted(), None).await.unwrap().object;
    assert_eq!(created.id, "b/1");
    assert_eq!(client.update("b/1", &wanted()).await.unwrap(), created);
    let unset = map(json!({"name": "a"}));
    assert_eq!(client.update("b/1", &unset).await.unwrap(), created, "of a list the one with the id");
    assert_eq!(client.read("b/1").await.unwrap(), None);
    assert!(client.read("b/1").await.unwrap_err().to_string().contains("no object at /data"));
    assert_eq!(client.delete("b/1").await.unwrap(), Deleted::Now);
    assert_eq!(
        asked(&script),
        [
            r#"POST /boxes/new?dry=false&kind=a-x {"box":{"name":"a","spec":{"vlan":7}},"version":2}"#,
            r#"PATCH /boxes/b%2F1 {"box":{"spec":{"label":"vlan 7","vlan":7}}}"#,
            "GET /boxes/b%2F1",
            r#"PATCH /boxes/b%2F1 {"box":{"spec":{"label":null,"vlan":null}}}"#,
            "GET /boxes/b%2F1",
            "GET /boxes/b%2F1",
            "GET /boxes/b%2F1",
            r#"POST /boxes/b%2F1/remove {"force":true}"#,
        ]
    );
}

#[tokio::test]
async fn ids_are_in_headers_in_names_and_in_an_address() {
    let located = |value| Answer { headers: vec![("location", value)], ..answer(201, "") };
    let plain = "collection = \"/boxes\"\nitem = \"/boxes/{id}\"\n";
    let api = file(&format!("{plain}id = \"/id\"\n[create]\nid = \"header:Location\""));
    let (script, client) = vendor(
        &[("box.toml", &api)],
        [located("https://elsewhere.example/v3/boxes/b%2F1?x=1"), answer(200, boxed("b/1")), located("/")],
    )
    .await;
    assert_eq!(client.create(&wanted(), None).await.unwrap().object.id, "b/1");
    assert_eq!(asked(&script)[1], "GET /boxes/b%2F1", "of a location only the last part is taken");
    let error = client.create(&wanted(), None).await.unwrap_err().source;
    assert!(error.to_string().contains("does not say what it made"), "{error}");

    let api = r#"
collection = "/orgs/{org}/boxes"
item = "/orgs/{org}/boxes/{id}"
id = "{name}"
[attributes.name]
type = "string"
required = true
[attributes.org]
type = "string"
required = true
replace = true
scope = true
"#;
    let (script, client) = vendor(
        &[("box.toml", api)],
        [answer(204, ""), answer(200, json!({"name": "a"})), answer(200, json!({"name": "a"}))],
    )
    .await;
    let wanted = map(json!({"name": "a", "org": "o p"}));
    let made = client.create(&wanted, None).await.unwrap().object;
    assert_eq!((made.id.as_str(), &made.attributes["org"]), ("a", &json!("o p")));
    let nowhere = client.read("a").await.unwrap_err();
    assert!(nowhere.to_string().contains("needs `org`"), "{nowhere}");
    let within = client.clone().within(&wanted);
    assert_eq!(within.read("a").await.unwrap(), Some(made));
    let climbing = client.within(&map(json!({"org": ".."})));
    assert!(matches!(climbing.read("a").await, Err(ClientError::Configuration { .. })));
    assert_eq!(
        asked(&script),
        [r#"POST /orgs/o%20p/boxes {"name":"a"}"#, "GET /orgs/o%20p/boxes/a", "GET /orgs/o%20p/boxes/a"]
    );
}

const JOBS: &str = r#"
collection = "/boxes"
item = "/boxes/{id}"
id = "/id"
[job]
statuses = [200, 202]
id = "/task/id"
path = "/tasks/{job}"
state = "/task/state"
running = ["pending", "working"]
succeeded = ["done"]
failed = ["failed", "cancelled"]
message = "/task/errors/0/text"
object_id = "/task/made"
interval_seconds = 0
limit_seconds = 30
[[errors.rules]]
contains = "try later"
means = "busy"
wait_seconds = 9
"#;

#[derive(Debug, Default)]
struct Notebook(Mutex<Vec<JobNote>>);

impl JobNotes for Notebook {
    fn begun<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.lock().unwrap().push(note.clone());
        Box::pin(std::future::ready(()))
    }

    fn failed<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.lock().unwrap().retain(|noted| noted != note);
        Box::pin(std::future::ready(()))
    }
}

fn task(state: &str) -> Answer {
    answer(200, json!({"task": {"id": 5, "state": state, "made": "b-1"}}))
}

#[tokio::test]
async fn a_job_is_noted_and_followed_to_its_end() {
    let begun = || answer(202, json!({"task": {"id": 5}}));
    let (script, client) = vendor(
        &[("box.toml", &file(JOBS))],
        [
            begun(),
            task("pending"),
            answer(503, ""),
            task("working"),
            task("done"),
            answer(200, boxed("b-1")),
            begun(),
            task("done"),
            answer(200, boxed("b-1")),
            begun(),
            task("done"),
        ],
    )
    .await;
    let notes = Arc::new(Notebook::default());
    let client = client.noting(notes.clone());
    let made = client.create(&wanted(), None).await.unwrap().object;
    assert_eq!(made.id, "b-1", "the job says what it made");
    assert_eq!(client.update("b-1", &wanted()).await.unwrap(), made);
    assert_eq!(client.delete("b-1").await.unwrap(), Deleted::Now);
    let noted = |change, object: Option<&str>| JobNote {
        change,
        job: "5".to_owned(),
        object: object.map(str::to_owned),
    };
    assert_eq!(
        *notes.0.lock().unwrap(),
        [noted(JobOf::Create, None), noted(JobOf::Update, Some("b-1")), noted(JobOf::Delete, Some("b-1"))]
    );
    let asked = asked(&script);
    assert_eq!(
        asked[1..=5],
        ["GET /tasks/5", "GET /tasks/5", "GET /tasks/5", "GET /tasks/5", "GET /boxes/b-1"]
    );
}

#[tokio::test]
async fn a_job_may_fail_go_on_or_be_forgotten() {
    let failed =
        |text: &str| answer(200, json!({"task": {"id": 5, "state": "failed", "errors": [{"text": text}]}}));
    let api = file(JOBS);
    let (_, client) = vendor(
        &[("box.toml", &api)],
        [failed("no such model"), failed("Try later, please"), answer(404, ""), task("odd")],
    )
    .await;
    let note = JobNote { change: JobOf::Create, job: "5".to_owned(), object: None };
    let error = client.follow(&note).await.unwrap_err();
    assert!(error.to_string().contains("its job 5 ended as failed: no such model"), "{error}");
    assert_eq!((error.class(), error.is_passing()), ("VendorRefused", false));
    let ClientError::Busy { retry_after, .. } = client.follow(&note).await.unwrap_err() else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(9)));
    assert!(client.follow(&note).await.unwrap_err().is_not_found());
    let error = client.follow(&note).await.unwrap_err();
    assert!(
        error.is_passing() && error.to_string().contains("`odd`, which the folder does not name"),
        "{error}"
    );

    let impatient = api
        .replace("limit_seconds = 30", "limit_seconds = 0")
        .replace("interval_seconds = 0", "interval_seconds = 1");
    let (_, client) = vendor(&[("box.toml", &impatient)], [task("working")]).await;
    let error = client.follow(&note).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Pending { job, .. } if job == "5") && error.is_passing(),
        "{error}"
    );
}

async fn listed(list: &str, answers: Vec<Answer>) -> (Vec<String>, Result<Vec<String>, String>) {
    let top = "collection = \"/boxes\"\nitem = \"/boxes/{id}\"\nid = \"/id\"\n[list]\nitems = \"/items\"\n";
    let (script, client) = vendor(&[("box.toml", &file(&format!("{top}{list}")))], answers).await;
    let mut ids = Vec::new();
    let read = client
        .list(|objects| {
            ids.extend(objects.into_iter().map(|object| object.id));
            ControlFlow::Continue(())
        })
        .await;
    (asked(&script), read.map(|()| ids).map_err(|error| error.to_string()))
}

fn page(ids: &[&str]) -> Answer {
    let items: Vec<Value> = ids.iter().map(|id| boxed(id)).collect();
    answer(200, json!({"items": items, "count": 3, "page": {"hasNextPage": true, "endCursor": "x"}}))
}

#[tokio::test]
async fn an_item_that_cannot_be_read_says_nothing_about_the_others() {
    let file = file(
        "collection = \"/boxes\"\nitem = \"/boxes/{id}\"\nid = \"/id\"\n[list]\nitems = \"/items\"\npaging = \"offset\"\nsize = 2\n",
    );
    let nameless = || answer(200, json!({"items": [{"name": "no id"}, boxed("2")]}));
    let (script, client) = vendor(&[("box.toml", &file)], [nameless(), page(&["3"]), nameless()]).await;
    let mut pages = client.pages().unwrap();
    let mut ids = Vec::new();
    while let Some(objects) = pages.next().await.unwrap() {
        ids.extend(objects.into_iter().map(|object| object.id));
    }
    assert_eq!(ids, ["2", "3"]);
    assert_eq!(asked(&script), ["GET /boxes?offset=0", "GET /boxes?offset=2"], "the page was full");
    let error = client.list(|_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(error.to_string().contains("has no id"), "who wants all of them is told: {error}");
}

#[tokio::test]
async fn lists_are_paged_in_every_way() {
    let by_number = "paging = \"number\"\nsize = 2\nsize_parameter = \"per_page\"\n";
    let (asked, ids) = listed(by_number, vec![page(&["1", "2"]), page(&["3"])]).await;
    assert_eq!(ids.unwrap(), ["1", "2", "3"]);
    assert_eq!(asked, ["GET /boxes?page=1&per_page=2", "GET /boxes?page=2&per_page=2"]);

    let by_offset = "paging = \"offset\"\nsize = 2\ncursor = \"start\"\ntotal = \"/count\"\n";
    let (asked, ids) = listed(by_offset, vec![page(&["1", "2"]), page(&["3"])]).await;
    assert_eq!(ids.unwrap(), ["1", "2", "3"]);
    assert_eq!(asked, ["GET /boxes?start=0", "GET /boxes?start=2"]);

    let link = |value| Answer { headers: vec![("link", value)], ..page(&["1"]) };
    let followed = link(
        "<http://x.example/>; rel=\"prev\", <https://x.example/api/boxes?after=a%20b&n=2>; rel=\"next\"",
    );
    let (asked, ids) = listed("paging = \"link\"\n", vec![followed, page(&["2"])]).await;
    assert_eq!(ids.unwrap(), ["1", "2"]);
    assert_eq!(asked, ["GET /boxes", "GET /boxes?after=a+b&n=2"], "neither host nor path come from a link");
    // Or each in a header of its own.
    let headers = vec![
        ("link", "<?after=0>; rel=\"prev\""),
        ("link", "<https://x.example/help>; rel=help"),
        ("link", "<?after=2>; rel=\"next\""),
    ];
    let followed = Answer { headers, ..page(&["1"]) };
    let (asked, ids) = listed("paging = \"link\"\n", vec![followed, page(&["2"])]).await;
    assert_eq!(ids.unwrap(), ["1", "2"]);
    assert_eq!(asked, ["GET /boxes", "GET /boxes?after=2"]);
    let (asked, ids) =
        listed("paging = \"link\"\n", vec![link("<http://x.example/secrets>; rel=next")]).await;
    assert!(ids.unwrap_err().contains("no page of the list"));
    assert_eq!(asked.len(), 1);

    let info = "method = \"POST\"\nbody = { find = { name = \"{name}\" }, after = \"{cursor}\" }\npage_info = \"/page\"\n";
    let last = answer(200, json!({"items": [], "page": {"hasNextPage": false, "endCursor": "y"}}));
    let (asked, ids) = listed(info, vec![page(&["1"]), last]).await;
    assert_eq!(ids.unwrap(), ["1"]);
    assert_eq!(asked, [r#"POST /boxes {"find":{}}"#, r#"POST /boxes {"after":"x","find":{}}"#]);

    // A vendor that does not know the parameter answers the same page for ever.
    let (asked, ids) = listed(by_number, vec![page(&["1", "2"]), page(&["1", "2"])]).await;
    assert!(ids.unwrap_err().contains("the page itself"));
    assert_eq!(asked.len(), 2);
}

const GRAPH: &str = r#"
collection = "/graphql"
id = "/boxId"
[create]
document = "box.add.graphql"
variables = { account = "{account}", input = { name = "{name}", vlan = "{vlan}" } }
id = "/data/box/add/boxId"
[read]
document = "box.get.graphql"
variables = { account = "{account}", id = "{id}" }
object = "/data/box"
gone_when_null = true
[update]
document = "box.set.graphql"
variables = { account = "{account}", id = "{id}", input = { vlan = "{vlan}" } }
read_after = true
[delete]
document = "box.drop.graphql"
variables = { account = "{account}", id = "{id}" }
[errors]
in_success = "/errors"
code = "/errors/0/extensions/code"
message = "/errors/0/message"
[[errors.rules]]
contains = "rate limit"
means = "busy"
wait_seconds = 5
[[errors.rules]]
code = ["NOT_FOUND"]
means = "gone"
[[errors.rules]]
code = ["INTERNAL"]
means = "broken"
[attributes.account]
type = "string"
required = true
replace = true
scope = true
[attributes.name]
type = "string"
required = true
[attributes.vlan]
type = "number"
default = 1
wire = "text"
"#;

#[tokio::test]
async fn graphql_is_documents_and_variables() {
    let documents = [
        ("box.toml", GRAPH),
        ("box.add.graphql", "# adds\nmutation AddBox($account: ID!) { box { add { boxId } } }"),
        ("box.get.graphql", "query GetBox { box }"),
        ("box.set.graphql", "mutation SetBox { box }"),
        ("box.drop.graphql", "mutation DropBox { box }"),
    ];
    let error = |code: &str, message: &str| {
        answer(200, json!({"data": null, "errors": [{"message": message, "extensions": {"code": code}}]}))
    };
    let evil = "\"}) { drop }";
    let found = || answer(200, json!({"data": {"box": {"boxId": 12, "name": evil, "vlan": "7"}}}));
    let (script, client) = vendor(
        &documents,
        [
            answer(200, json!({"data": {"box": {"add": {"boxId": 12}}}})),
            found(),
            answer(200, json!({"data": {"box": {"set": true}}, "errors": []})),
            found(),
            answer(200, json!({"data": {"box": null}})),
            error("X", "Rate limit for operation: box"),
            error("NOT_FOUND", "no"),
            error("INTERNAL", "oops"),
            error("BAD_INPUT", "vlan is wrong"),
        ],
    )
    .await;
    let wanted = map(json!({"account": "acct", "name": evil, "vlan": 7}));
    let client = client.within(&wanted);
    let made = client.create(&wanted, None).await.unwrap().object;
    assert_eq!((made.id.as_str(), &made.attributes["vlan"]), ("12", &json!(7)));
    assert_eq!(client.update("12", &wanted).await.unwrap(), made);
    assert_eq!(client.read("12").await.unwrap(), None, "null is gone");
    let ClientError::Busy { retry_after, .. } = client.read("12").await.unwrap_err() else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(5)));
    assert_eq!(client.delete("12").await.unwrap(), Deleted::Before);
    let broken = client.delete("12").await.unwrap_err();
    assert_eq!((broken.class(), broken.is_passing()), ("VendorBusy", true));
    let refused = client.create(&wanted, None).await.unwrap_err().source;
    assert!(
        matches!(&refused, ClientError::Refused { status: 200, code: Some(code), .. } if code == "BAD_INPUT"),
        "{refused}"
    );
    let sent: Value =
        serde_json::from_str(asked(&script)[0].strip_prefix("POST /graphql ").unwrap()).unwrap();
    assert_eq!(sent["query"], documents[1].1, "the document goes as it is");
    assert_eq!(sent["operationName"], "AddBox");
    assert_eq!(sent["variables"], json!({"account": "acct", "input": {"name": evil, "vlan": "7"}}));
}

#[test]
fn what_makes_no_sense_is_named_by_file_and_field() {
    let plain = "collection = \"/boxes\"\nitem = \"/boxes/{id}\"\nid = \"/id\"\n";
    let refused = |top: &str, names: &str, says: &str| {
        let text = file(&format!("{plain}{top}"));
        let error = load(&[("box.toml", &text)]).unwrap_err().to_string();
        assert!(
            error.contains("box.toml") && error.contains(names) && error.contains(says),
            "{top}: {error}"
        );
    };
    refused("[create]\nbody = { a = \"{vlna}\" }", "`create.body`", "no attribute");
    refused("[read]\npath = \"/boxes/{id}/{vlan}\"", "`read.path`", "scope = true");
    refused("[read]\npath = \"/boxes\"", "`read.path`", "which object");
    refused("[read]\nmethod = \"GET\"\nbody = { a = 1 }", "`read.method`", "GET");
    refused("[update]\nbdoy = 1", "`update.bdoy`", "did you mean `body`?");
    refused("[delete]\njob = true", "`delete.job`", "add [job]");
    refused("[create]\npath = \"//host/x\"", "`create.path`", "no path");
    refused("[create]\npath = \"/a/../b\"", "`create.path`", "no path");
    refused("[create]\nid = \"name\"", "`create.id`", "no id's place");
    refused("[create]\ndocument = \"x.graphql\"", "`create.document`", "add api/x.graphql");
    refused("[create]\nvariables = { a = 1 }", "`create.variables`", "add `document`");
    refused("[create]\nunset = \"no\"", "`create.unset`", "\"null\" or \"omit\"");
    refused("[list]\nitems = \"/i\"\npaging = \"number\"", "`list.size`", "missing");
    refused("[list]\nitems = \"/i\"\npartial = true\nfresh_seconds = 3", "`list.fresh_seconds`", "partial");
    refused("headers = { Authorization = \"x\" }", "`headers.Authorization`", "remove it");
    refused("[[errors.rules]]\nmeans = \"busy\"", "`errors.rules[0]`", "fits every error");
    let job = "[job]\nid = \"/id\"\npath = \"/t/{job}\"\nstate = \"/s\"\nrunning = [\"a\"]\nsucceeded = [\"b\"]\nfailed = [\"c\"]\n";
    load(&[("box.toml", &file(&format!("{plain}{job}")))]).unwrap();
    refused(&job.replace("\"c\"", "\"b\""), "`job.failed`", "a state means one thing");
    refused(&job.replace("/{job}", ""), "`job.path`", "which job");
    refused(&job.replace("[\"b\"]", "[]"), "`job.succeeded`", "a job has to end");
    refused(&format!("{job}give_up_seconds = 599"), "`job.give_up_seconds`", "make it longer");
    refused(&format!("{job}give_up_seconds = 2419201"), "`job.give_up_seconds`", "at most");
    let unused = load(&[("box.toml", &file(plain)), ("x.graphql", "query X { x }")]).unwrap_err();
    assert!(unused.to_string().contains("named by no operation"), "{unused}");
    let unnamed = file(&format!("{plain}[create]\ndocument = \"x.graphql\""));
    let unnamed = load(&[("box.toml", &unnamed), ("x.graphql", "{ x }")]).unwrap_err();
    assert!(unnamed.to_string().contains("no named operation"), "{unnamed}");
    for (attribute, says) in [
        ("normalise = [\"unordered\"]", "\"unordered\", which means nothing for a number"),
        ("normalise = [\"default\"]\nrequired = true", "add `default`"),
        ("wire = \"text\"\nscope = true", "`required`"),
    ] {
        let text = format!("{plain}[attributes.vlan]\ntype = \"number\"\n{attribute}");
        let error = load(&[("box.toml", &text)]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
