//! A vendor and a state store in one small HTTP server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What the vendor and the state store hold.
#[derive(Default)]
pub struct World {
    /// The vendor's objects by path, `/v1/sites/o-1`.
    pub objects: BTreeMap<String, Value>,
    /// The path that a create with a key made.
    pub keys: BTreeMap<String, String>,
    /// Terraform's states by path.
    pub states: BTreeMap<String, Bytes>,
    /// Calls that were not reads, `POST /v1/sites`.
    pub changes: Vec<String>,
    /// Answer every change like this,
    pub refusal: Option<(u16, Value)>,
    /// or so many of them with 429 and this `Retry-After`,
    pub busy: (u32, &'static str),
    /// or only those with this method.
    pub refused_method: Option<&'static str>,
    /// Nobody who asks for a change is answered; they are counted here.
    pub held: Option<Arc<AtomicUsize>>,
    made: u32,
}

pub type Shared = Arc<Mutex<World>>;

/// Serves it on a free port and answers its URL.
pub async fn serve(world: Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(world);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// While this is there, who asks the vendor for a change gets no answer.
pub struct Held(Arc<AtomicUsize>);

impl Held {
    /// How many have asked.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Has everybody wait who asks for a change from now on.
pub fn hold(world: &Shared) -> Held {
    let held = Arc::new(AtomicUsize::new(0));
    world.lock().unwrap().held = Some(Arc::clone(&held));
    Held(held)
}

async fn handle(
    State(world): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let held = world.lock().unwrap().held.clone().filter(|_| method != Method::GET);
    if let Some(held) = held {
        held.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    let mut world = world.lock().unwrap();
    let path = uri.path().to_owned();
    if path.starts_with("/state/") {
        return world.state(method.as_str(), path, body);
    }
    if method == Method::GET {
        return world.look(&path, uri.query().unwrap_or_default());
    }
    world.changes.push(format!("{method} {path}"));
    if world.busy.0 > 0 {
        world.busy.0 -= 1;
        let retry_after = [("retry-after", world.busy.1)];
        return (StatusCode::TOO_MANY_REQUESTS, retry_after, "{}").into_response();
    }
    let refused = world.refused_method.is_none_or(|refused| refused == method.as_str());
    if let (true, Some((status, body))) = (refused, &world.refusal) {
        return (StatusCode::from_u16(*status).unwrap(), body.to_string()).into_response();
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    match method.as_str() {
        "POST" => world.create(&path, sent, key),
        "PUT" => {
            let Some(object) = world.objects.get_mut(&path) else { return shown(None) };
            let id = object["id"].clone();
            *object = kept(sent);
            object["id"] = id;
            shown(Some(object))
        }
        _ => match world.objects.remove(&path) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => shown(None),
        },
    }
}

impl World {
    pub fn create(&mut self, collection: &str, mut object: Value, key: Option<String>) -> Response {
        if let Some(path) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return match self.objects.get(path) {
                Some(object) => shown(Some(object)),
                None => StatusCode::GONE.into_response(),
            };
        }
        self.made += 1;
        object = kept(object);
        object["id"] = json!(format!("o-{}", self.made));
        let path = format!("{collection}/o-{}", self.made);
        self.keys.extend(key.map(|key| (key, path.clone())));
        let answer = (StatusCode::CREATED, open(&object).to_string()).into_response();
        self.objects.insert(path, object);
        answer
    }

    /// One object, or all of a collection, perhaps of one name.
    fn look(&self, path: &str, query: &str) -> Response {
        if path.matches('/').count() > 2 {
            return shown(self.objects.get(path));
        }
        let named = query.split('&').find_map(|part| part.strip_prefix("name="));
        let inside = format!("{path}/");
        let objects = self.objects.iter().filter(|(path, _)| path.starts_with(&inside));
        let objects = objects.filter(|(_, object)| named.is_none_or(|name| object["name"] == name));
        let items: Vec<Value> = objects.map(|(_, object)| open(object)).collect();
        json!({"items": items, "next": null}).to_string().into_response()
    }

    fn state(&mut self, method: &str, path: String, body: Bytes) -> Response {
        match method {
            "GET" => match self.states.get(&path) {
                Some(state) => state.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            "POST" => {
                self.states.insert(path, body);
                StatusCode::OK.into_response()
            }
            _ => StatusCode::OK.into_response(),
        }
    }

    /// The only object of a collection.
    pub fn only(&self, collection: &str) -> &Value {
        let mut found = self.objects.iter().filter(|(path, _)| path.starts_with(collection));
        let (_, object) = found.next().expect("no object");
        assert!(found.next().is_none(), "more than one object in {collection}");
        object
    }

    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }
}

fn shown(object: Option<&Value>) -> Response {
    match object {
        Some(object) => open(object).to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What the vendor shows of an object: never a secret.
fn open(object: &Value) -> Value {
    let mut object = object.clone();
    hide(&mut object);
    object
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("secret");
            fields.values_mut().for_each(hide);
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// What the vendor makes of an object that it is sent: it writes values in its own way, leaves out what is empty, and
/// says how the things in it are.
fn kept(mut object: Value) -> Value {
    object["status"] = json!("up");
    object["address"] = json!("192.0.2.1");
    if let Some(mac) = object["mac"].as_str() {
        object["mac"] = mac.to_uppercase().into();
    }
    if let Some(tags) = object["tags"].as_array_mut() {
        tags.sort_by_key(ToString::to_string);
        tags.reverse();
    }
    for name in ["tags", "ports", "labels", "routes", "rules"] {
        let value = &object[name];
        let is_empty = value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(|map| map.is_empty());
        if is_empty {
            object[name] = Value::Null;
        }
    }
    if object["bgp"].is_object() {
        object["bgp"]["state"] = json!("idle");
    }
    for name in ["routes", "peers"] {
        match &mut object[name] {
            Value::Array(items) => items.iter_mut().for_each(|item| item["state"] = json!("seen")),
            Value::Object(items) => items.values_mut().for_each(|item| item["state"] = json!("seen")),
            _ => {}
        }
    }
    object["inventory"] = json!([{"slot": 1, "serial": "a-1"}, {"slot": 2, "serial": "a-2"}]);
    object
}
