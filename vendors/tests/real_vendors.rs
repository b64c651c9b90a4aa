//! The folders of real vendors against stand-ins that keep what they are told and answer in the documented shapes.
#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Map, Value, json};
use wanwright_vendors::{ClientError, ClientOptions, Deleted, ResourceClient, Vendor, VendorHttp};

/// What a stand-in keeps: objects by id, tasks, what it was asked.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    /// How many looks a task still takes, and whether it fails.
    tasks: Vec<(u32, bool)>,
    tasks_fail: bool,
    /// How many calls are turned away from now on.
    busy: u32,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Kept>>;
type Answering = fn(&mut Kept, &str, &str, &Value) -> Response<Body>;

async fn serve(answering: Answering) -> (Shared, String) {
    let kept = Shared::default();
    let handle = move |State(kept): State<Shared>,
                       method: Method,
                       uri: Uri,
                       headers: HeaderMap,
                       body: Bytes| async move {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut kept = kept.lock().unwrap();
        let accepts = headers.get("accept").map_or("*/*", |value| value.to_str().unwrap());
        kept.asked.push(format!("{method} {uri} {accepts}"));
        answering(&mut kept, method.as_str(), &uri.to_string(), &body)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(Arc::clone(&kept));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (kept, base_url)
}

fn client(vendor: &str, kind: &str, base_url: &str) -> ResourceClient {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(vendor);
    let mut api = (*Vendor::load(&dir).unwrap().api[kind]).clone();
    if let Some(job) = &mut api.job {
        job.interval = Duration::ZERO;
    }
    let http = VendorHttp::new(&ClientOptions {
        base_url: base_url.to_owned(),
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(5),
        headers: Vec::new(),
    });
    ResourceClient::new(http.unwrap(), Arc::new(api))
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    Response::builder().status(status).body(body).unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn names(client: &ResourceClient) -> Vec<String> {
    let mut names = Vec::new();
    let listed = client.list(|page| {
        names.extend(page.into_iter().map(|object| object.attributes["name"].as_str().unwrap().to_owned()));
        ControlFlow::Continue(())
    });
    listed.await.unwrap();
    names
}

const WORKFLOW: &str = "versanms.sdwan-device-workflow";

fn director(kept: &mut Kept, method: &str, uri: &str, body: &Value) -> Response<Body> {
    if kept.busy > 0 {
        kept.busy -= 1;
        let busy = Response::builder().status(429).header("retry-after", "4");
        return busy
            .body(Body::from(json!({"code": 429, "message": "too many requests"}).to_string()))
            .unwrap();
    }
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let rest = path.strip_prefix("/vnms/").unwrap();
    let begin = |kept: &mut Kept| {
        kept.tasks.push((2, kept.tasks_fail));
        answer(202, &json!({"TaskResponse": {"task-id": kept.tasks.len(), "link": {"rel": "task"}}}))
    };
    let none = answer(404, &json!({"code": 4404, "error": "NotFound", "message": "there is no such device"}));
    let parts: Vec<&str> = rest.split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["sdwan", "workflow", "devices", "device"]) => {
            let device = body[WORKFLOW].clone();
            let name = device["deviceName"].as_str().unwrap().to_owned();
            if kept.objects.contains_key(&name) {
                let message = format!("device {name} already exists");
                return answer(400, &json!({"code": 4001, "error": "BadRequest", "message": message}));
            }
            kept.objects.insert(name, device);
            answer(200, &Value::Null)
        }
        ("POST", ["sdwan", "workflow", "devices", "device", "deploy", name])
            if kept.objects.contains_key(*name) =>
        {
            begin(kept)
        }
        ("GET", ["sdwan", "workflow", "devices", "device", name]) => {
            kept.objects.get(*name).map_or(none, |device| answer(200, &json!({WORKFLOW: device})))
        }
        ("PUT", ["sdwan", "workflow", "devices", "device", name]) if kept.objects.contains_key(*name) => {
            kept.objects.insert((*name).to_owned(), body[WORKFLOW].clone());
            answer(200, &Value::Null)
        }
        ("DELETE", ["sdwan", "workflow", "devices", name]) => match kept.objects.remove(*name) {
            Some(_) => begin(kept),
            None => none,
        },
        ("GET", ["sdwan", "workflow", "devices"]) => {
            let number = |name: &str| -> usize {
                let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                found.unwrap().parse().unwrap()
            };
            let page = kept.objects.values().skip(number("offset")).take(number("limit"));
            let items: Vec<Value> = page
                .map(|device| json!({"deviceName": device["deviceName"], "siteId": device["siteId"], "workflowStatus": "deployed"}))
                .collect();
            answer(200, &json!({"totalCount": kept.objects.len(), "versanms.sdwan-device-list": items}))
        }
        ("GET", ["tasks", "task", number]) => {
            let number: usize = number.parse().unwrap();
            let (looks, fails) = &mut kept.tasks[number - 1];
            let state = match (*looks, *fails) {
                (0, true) => "FAILED",
                (0, false) => "COMPLETED",
                _ => "PENDING",
            };
            *looks = looks.saturating_sub(1);
            let mut task = json!({"versa-tasks.id": number, "versa-tasks.task-status": state});
            if state == "FAILED" {
                task["versa-tasks.errormessages"] =
                    json!({"versa-tasks.errormessage": {"versa-tasks.error-message": "no such template"}});
            }
            answer(200, &json!({"versa-tasks.task": task}))
        }
        _ => none,
    }
}

fn branch(name: &str, serial: &str) -> Map<String, Value> {
    map(json!({
        "name": name, "organization": "Tenant1", "site_id": "acme.oslo", "branch_id": 143, "serial": serial,
        "city": "Oslo", "state": "", "country": "NO",
    }))
}

#[tokio::test]
async fn a_director_saves_deploys_and_follows_its_tasks() {
    let (kept, base_url) = serve(director).await;
    let client = client("versa", "device", &base_url);
    let wanted = branch("acme.edge-01", "SN1");
    let made = client.create(&wanted, None).await.unwrap().object;
    assert_eq!((made.id.as_str(), &made.attributes["branch_id"]), ("acme.edge-01", &json!(143)));
    assert_eq!(kept.lock().unwrap().objects["acme.edge-01"]["siteId"], json!("143"), "a number as text");
    let asked = kept.lock().unwrap().asked.clone();
    assert!(asked.iter().all(|line| line.ends_with(" application/json")), "{asked:?}");
    assert_eq!(asked.iter().filter(|line| line.starts_with("GET /vnms/tasks/task/1 ")).count(), 3);

    let changed = client.update("acme.edge-01", &branch("acme.edge-01", "SN2")).await.unwrap();
    assert_eq!(changed.attributes["serial"], "SN2");
    assert_eq!(kept.lock().unwrap().tasks.len(), 2, "a change is deployed too");
    let error = client.create(&wanted, None).await.unwrap_err().source;
    assert!(
        matches!(&error, ClientError::Refused { status: 400, code: Some(code), .. } if code == "4001"),
        "{error}"
    );

    for number in 2..=150 {
        let name = format!("acme.edge-{number:03}");
        let device = json!({"deviceName": name, "siteId": number.to_string()});
        kept.lock().unwrap().objects.insert(name, device);
    }
    assert_eq!(names(&client).await.len(), 150, "over two pages");
    let found = client.find_by_name("acme.edge-01").await.unwrap().unwrap();
    assert_eq!(found.attributes["serial"], "SN2", "a list has no serial numbers, so it is read");

    kept.lock().unwrap().busy = 1;
    let ClientError::Busy { retry_after, .. } = client.read("acme.edge-01").await.unwrap_err() else {
        panic!()
    };
    assert_eq!(retry_after, Some(Duration::from_secs(4)));
    // Tasks are followed although a look at one was turned away.
    kept.lock().unwrap().busy = 0;
    assert_eq!(client.delete("acme.edge-01").await.unwrap(), Deleted::Now);
    assert_eq!(client.delete("acme.edge-01").await.unwrap(), Deleted::Before);
    assert_eq!(client.read("acme.edge-01").await.unwrap(), None);

    kept.lock().unwrap().tasks_fail = true;
    let error = client.create(&wanted, None).await.unwrap_err();
    assert_eq!(error.known.unwrap().id, "acme.edge-01", "it is saved, and not deployed");
    assert!(error.source.to_string().contains("no such template"), "{}", error.source);
}

fn graphql(kept: &mut Kept, method: &str, uri: &str, body: &Value) -> Response<Body> {
    assert_eq!((method, uri), ("POST", "/api/v1/graphql2"));
    let failure = |message: &str, code: &str| {
        answer(200, &json!({"data": null, "errors": [{"message": message, "extensions": {"code": code}}]}))
    };
    if kept.busy > 0 {
        kept.busy -= 1;
        return failure("rate limit for operation: entityLookup", "RATE_LIMIT");
    }
    let (name, variables) = (body["operationName"].as_str().unwrap(), &body["variables"]);
    assert!(body["query"].as_str().unwrap().contains(&format!(" {name}(")), "the document has the operation");
    kept.asked.push(name.to_owned());
    if variables["accountId"] != "1941" {
        return failure("no access to this account", "FORBIDDEN");
    }
    let of_site = |field: &str, value: Value| answer(200, &json!({"data": {"site": {field: value}}}));
    let input = &variables["input"];
    let details = |id: &str, name: &Value, input: &Value, city: &str| {
        json!({
            "site": {"id": id, "name": name}, "siteType": input["siteType"], "description": input["description"],
            "siteLocation": {
                "countryCode": input["siteLocation"]["countryCode"], "cityName": input["siteLocation"][city],
                "stateCode": null, "timezone": input["siteLocation"]["timezone"],
            },
        })
    };
    match name {
        "AddSite" => {
            let id = (135 + kept.objects.len()).to_string();
            kept.objects.insert(id.clone(), details(&id, &input["name"], input, "city"));
            of_site("addSocketSite", json!({"siteId": id}))
        }
        "SiteDetails" => {
            let id = variables["site"]["input"].as_str().unwrap();
            of_site("siteGeneralDetails", kept.objects.get(id).cloned().unwrap_or_default())
        }
        "UpdateSite" => {
            let id = variables["siteId"].as_str().unwrap().to_owned();
            kept.objects.insert(id.clone(), details(&id, &input["name"], input, "cityName"));
            of_site("updateSiteGeneralDetails", json!({"siteId": id}))
        }
        "RemoveSite" => {
            kept.objects.remove(variables["siteId"].as_str().unwrap());
            of_site("removeSite", json!({"siteId": variables["siteId"]}))
        }
        "SiteLookup" => {
            let search = variables["search"].as_str().unwrap_or_default();
            let all =
                kept.objects.values().filter(|site| site["site"]["name"].as_str().unwrap().contains(search));
            let all: Vec<Value> = all.map(|site| json!({"site": site["site"]})).collect();
            let number = |name: &str| usize::try_from(variables[name].as_u64().unwrap()).unwrap();
            let page: Vec<&Value> = all.iter().skip(number("from")).take(number("limit")).collect();
            answer(200, &json!({"data": {"entityLookup": {"items": page, "total": all.len()}}}))
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn cato_is_documents_an_account_and_errors_in_successes() {
    let (kept, base_url) = serve(graphql).await;
    let wanted = map(json!({
        "account_id": "1941", "name": "acme.oslo", "native_range": "10.7.0.0/24", "connection_type": "SOCKET_X1500",
        "site_type": "BRANCH", "description": "", "country": "NO", "city": "Oslo", "timezone": "Europe/Oslo",
    }));
    let client = client("cato", "site", &base_url).within(&wanted);
    let made = client.create(&wanted, None).await.unwrap();
    assert_eq!((made.object.id.as_str(), made.adopted), ("135", false));
    let mut headquarters = wanted.clone();
    headquarters.insert("site_type".to_owned(), json!("HEADQUARTERS"));
    assert_eq!(client.update("135", &headquarters).await.unwrap().attributes["site_type"], "HEADQUARTERS");

    for number in 0..60 {
        let id = (200 + number).to_string();
        let site = json!({"site": {"id": id, "name": format!("acme.oslo-{number}")}});
        kept.lock().unwrap().objects.insert(id, site);
    }
    assert_eq!(names(&client).await.len(), 61);
    assert_eq!(client.find_by_name("acme.oslo").await.unwrap().unwrap().id, "135", "the search answers many");

    kept.lock().unwrap().busy = 1;
    let ClientError::Busy { retry_after, status: 200, .. } = client.read("135").await.unwrap_err() else {
        panic!()
    };
    assert_eq!(retry_after, Some(Duration::from_secs(5)));
    assert_eq!(client.delete("135").await.unwrap(), Deleted::Now);
    assert_eq!(client.read("135").await.unwrap(), None);

    let mut foreign = wanted.clone();
    foreign.insert("account_id".to_owned(), json!("7"));
    let error = client.create(&foreign, None).await.unwrap_err().source;
    assert!(
        matches!(&error, ClientError::Refused { code: Some(code), .. } if code == "FORBIDDEN"),
        "{error}"
    );
}
