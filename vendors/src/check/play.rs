//! Plays an example: the real client against a stand-in on a loopback port that knows one script.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Map, Value, json};

use super::Problem;
use super::example::{Answer, Example, Exchange, Expected, Failure, Item, Object, Request, Wanted};
use super::lint;
use crate::client::{
    BulkAnswer, BulkChange, BulkItem, ClientError, ClientOptions, RemoteObject, ResourceClient, VendorHttp,
};
use crate::resource::ResourceApi;
use crate::vendor::Vendor;

/// Longest time one example may take in a call; it waits for nobody but itself.
const LIMIT: Duration = Duration::from_secs(10);

/// What the stand-in still expects, and what it did not get.
#[derive(Default)]
struct Script {
    left: VecDeque<Exchange>,
    played: usize,
    /// Key and message.
    wrong: Vec<(String, String)>,
    /// Query documents by file.
    documents: BTreeMap<String, String>,
}

type Shared = Arc<Mutex<Script>>;

/// Plays an example and says what did not come out as recorded.
pub(super) async fn play(dir: &Path, vendor: &Vendor, file: &Path, example: &Example) -> Vec<Problem> {
    let Some(api) = vendor.api.get(example.kind.as_str()) else {
        let message = format!("is `{}`, and there is no api/{}.toml", example.kind, example.kind);
        return vec![Problem::error(file, Some("kind"), message)];
    };
    let mut api = ResourceApi::clone(api);
    if let Some(job) = &mut api.job {
        job.interval = Duration::ZERO;
    }
    let script = Script {
        left: example.exchanges.iter().cloned().collect(),
        documents: documents(dir),
        ..Script::default()
    };
    let script = Arc::new(Mutex::new(script));
    let (client, server) = match start(&script, api).await {
        Ok(started) => started,
        Err(message) => return vec![Problem::error(file, None, message)],
    };
    let came = match example.operation.bulk() {
        None => perform(&client, example).await.map(Came::One),
        Some(change) => many(&client, change, example).await.map(Came::Many),
    };
    server.abort();
    let script = std::mem::take(&mut *script.lock().unwrap_or_else(PoisonError::into_inner));
    let mut found: Vec<Problem> =
        script.wrong.iter().map(|(key, message)| Problem::error(file, Some(key), message.clone())).collect();
    if let Some(next) = script.left.front() {
        let key = format!("exchanges[{}]", script.played);
        let message = format!("was never asked for: {} {}", next.request.method, next.request.path);
        found.push(Problem::error(file, Some(&key), message));
    }
    found
        .extend(compare(&example.result, &came).map(|message| Problem::error(file, Some("result"), message)));
    found
}

fn documents(dir: &Path) -> BTreeMap<String, String> {
    let files = crate::folder::entries(&dir.join("api")).unwrap_or_default();
    let read = |(name, path): (String, std::path::PathBuf)| Some((name, std::fs::read_to_string(path).ok()?));
    files.into_iter().filter(|(name, _)| name.ends_with(".graphql")).filter_map(read).collect()
}

async fn start(
    script: &Shared,
    api: ResourceApi,
) -> Result<(ResourceClient, tokio::task::JoinHandle<()>), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot be played: {error}");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(&error))?;
    let base_url = format!("http://{}", listener.local_addr().map_err(|error| failed(&error))?);
    let app = Router::new().fallback(serve).with_state(Arc::clone(script));
    let server = tokio::spawn(async move {
        // It ends when it is told to; whoever calls notices anything else.
        let _ = axum::serve(listener, app).await;
    });
    let options =
        ClientOptions { base_url, connect_timeout: LIMIT, call_timeout: LIMIT, headers: Vec::new() };
    let http = VendorHttp::new(&options).map_err(|error| failed(&error))?;
    Ok((ResourceClient::new(http, Arc::new(api)), server))
}

/// What came out.
enum Came {
    One(Vec<RemoteObject>),
    Many(Vec<Result<BulkAnswer, ClientError>>),
}

async fn many(
    client: &ResourceClient,
    change: BulkChange,
    example: &Example,
) -> Result<Vec<Result<BulkAnswer, ClientError>>, ClientError> {
    let item = |item: &Item| BulkItem {
        id: item.id.clone(),
        attributes: match (&item.attributes, &item.desired) {
            (Some(attributes), _) => attributes.clone(),
            (None, Some(desired)) => client.api().desired_attributes(desired),
            (None, None) => Map::new(),
        },
        key: item.key.clone(),
        notes: None,
    };
    let items: Vec<BulkItem> = example.items.iter().map(item).collect();
    let client =
        client.clone().within(&items.first().map(|item| item.attributes.clone()).unwrap_or_default());
    client.bulk(change, &items).await
}

async fn perform(client: &ResourceClient, example: &Example) -> Result<Vec<RemoteObject>, ClientError> {
    let attributes: Map<String, Value> = match (&example.attributes, &example.desired) {
        (Some(attributes), _) => attributes.clone(),
        (None, Some(desired)) => client.api().desired_attributes(desired),
        (None, None) => Map::new(),
    };
    let client = client.clone().within(&attributes);
    let (id, name) = (example.id.as_deref().unwrap_or_default(), example.name.as_deref().unwrap_or_default());
    let one = |object| vec![object];
    match example.operation {
        Wanted::Create => {
            let created = client.create(&attributes, example.key.as_deref()).await;
            created.map(|created| one(created.object)).map_err(|error| error.source)
        }
        Wanted::Read => client.read(id).await.map(Vec::from_iter),
        Wanted::Update => client.update(id, &attributes).await.map(one),
        Wanted::Delete => client.delete(id).await.map(|_| Vec::new()),
        Wanted::Find => client.find_by_name(name).await.map(Vec::from_iter),
        Wanted::List => {
            let mut all = Vec::new();
            let listed = client.list(|page| {
                all.extend(page);
                ControlFlow::Continue(())
            });
            listed.await.map(|()| all)
        }
        Wanted::BulkCreate | Wanted::BulkUpdate | Wanted::BulkDelete => Ok(Vec::new()),
    }
}

async fn serve(
    State(script): State<Shared>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
    let number = script.played;
    let Some(exchange) = script.left.pop_front() else {
        let message = format!("the client asks for more than is recorded: {method} {uri}");
        script.wrong.push(("exchanges".to_owned(), message));
        return answer(&Answer { status: 400, headers: BTreeMap::new(), body: None });
    };
    script.played += 1;
    let body = if body.is_empty() { None } else { serde_json::from_slice(&body).ok() };
    let wrong =
        differences(&script, &exchange.request, (&method, uri.path(), &query), &headers, body.as_ref());
    for (key, message) in wrong {
        script.wrong.push((format!("exchanges[{number}].request.{key}"), message));
    }
    answer(&exchange.answer)
}

fn answer(answer: &Answer) -> Response<Body> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = answer.body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()));
    response.body(body).unwrap_or_default()
}

fn differences(
    script: &Script,
    wanted: &Request,
    (method, path, query): (&Method, &str, &BTreeMap<String, String>),
    headers: &HeaderMap,
    body: Option<&Value>,
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut same = |key: &'static str, wanted: &dyn std::fmt::Display, sent: &dyn std::fmt::Display| {
        let (wanted, sent) = (wanted.to_string(), sent.to_string());
        if wanted != sent {
            found.push((key, format!("is recorded as {wanted}, and the client sends {sent}")));
        }
    };
    same("method", &wanted.method, method);
    same("path", &wanted.path, &path);
    same("query", &json!(wanted.query), &json!(query));
    for (name, value) in &wanted.headers {
        let sent = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("nothing");
        same("headers", &format!("{name}: {value}"), &format!("{name}: {sent}"));
    }
    let nothing = Value::Null;
    let body = body.unwrap_or(&nothing);
    match &wanted.document {
        None => same("body", wanted.body.as_ref().unwrap_or(&nothing), body),
        Some(file) => {
            let text = script.documents.get(file).map_or(Value::Null, |text| json!(text));
            if body.get("query") != Some(&text) {
                same("document", file, &"another document");
            }
            let empty = json!({});
            same(
                "variables",
                wanted.variables.as_ref().unwrap_or(&empty),
                body.get("variables").unwrap_or(&nothing),
            );
        }
    }
    found
}

fn compare(wanted: &Expected, came: &Result<Came, ClientError>) -> Option<String> {
    let objects = match (wanted, came) {
        (Expected::Items(items), Ok(Came::Many(many))) => return compare_each(items, many),
        (_, Ok(Came::Many(_))) => return Some("is not of the form `{\"items\": […]}`".to_owned()),
        (Expected::Items(_), Ok(Came::One(_))) => {
            return Some("is of one object, and names items".to_owned());
        }
        (Expected::Error(failure), Err(error)) => return fails(failure, error),
        (Expected::Error(failure), Ok(_)) => {
            return Some(format!("is recorded as {}, and it succeeds", failure.class));
        }
        (_, Err(error)) => return Some(format!("is an error ({}): {}", error.class(), chain(error))),
        (_, Ok(Came::One(objects))) => objects,
    };
    let came: Vec<Object> = objects
        .iter()
        .map(|object| Object { id: object.id.clone(), attributes: lint::set(&object.attributes) })
        .collect();
    let wanted = match wanted {
        Expected::Object(object) => vec![object.clone()],
        Expected::Objects(objects) => objects.clone(),
        Expected::Nothing | Expected::Deleted | Expected::Error(_) | Expected::Items(_) => Vec::new(),
    };
    let show = |objects: &[Object]| {
        let all = objects
            .iter()
            .map(|object| json!({"id": object.id, "attributes": object.attributes}).to_string());
        if objects.is_empty() { "nothing".to_owned() } else { all.collect::<Vec<_>>().join(", ") }
    };
    (wanted != came).then(|| format!("is recorded as {}, and it is {}", show(&wanted), show(&came)))
}

fn compare_each(wanted: &[Expected], came: &[Result<BulkAnswer, ClientError>]) -> Option<String> {
    if wanted.len() != came.len() {
        return Some(format!("has {} items, and {} are asked for", wanted.len(), came.len()));
    }
    let each = wanted.iter().zip(came).enumerate().map(|(at, (wanted, came))| {
        let wrong = match (wanted, came) {
            (Expected::Error(failure), Err(error)) => fails(failure, error)?,
            (Expected::Error(failure), Ok(_)) => {
                format!("is recorded as {}, and it succeeds", failure.class)
            }
            (_, Err(error)) => format!("is an error ({}): {}", error.class(), chain(error)),
            (Expected::Deleted, Ok(_)) => return None,
            (Expected::Object(wanted), Ok(answer)) => {
                let came = answer.object.as_ref().map(|object| Object {
                    id: object.id.clone(),
                    attributes: lint::set(&object.attributes),
                });
                if came.as_ref() == Some(wanted) {
                    return None;
                }
                format!("is recorded as {wanted:?}, and it is {came:?}")
            }
            _ => "is none of an object, `\"deleted\"` and an error".to_owned(),
        };
        Some(format!("[{at}] {wrong}"))
    });
    each.flatten().next()
}

fn fails(wanted: &Failure, came: &ClientError) -> Option<String> {
    let (code, field) = match came {
        ClientError::Refused { code, field, .. } => (code.as_deref(), field.as_deref()),
        _ => (None, None),
    };
    let wait = match came {
        ClientError::Busy { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
        _ => None,
    };
    let fits = wanted.class == came.class()
        && (wanted.code.is_none() || wanted.code.as_deref() == code)
        && (wanted.field.is_none() || wanted.field.as_deref() == field)
        && (wanted.retry_after_seconds.is_none() || wanted.retry_after_seconds == wait)
        && wanted.says.as_deref().is_none_or(|piece| came.to_string().contains(piece));
    (!fits).then(|| {
        format!(
            "is recorded as {wanted:?}, and it is {} (code {code:?}, field {field:?}, wait {wait:?}): {}",
            came.class(),
            chain(came)
        )
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
