//! A vendor that pages by offset and by name, in front of the simulated one: what is inserted or deleted meanwhile moves
//! everything behind it. Pages fail as they are told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::World;

/// Objects on a page.
pub const SIZE: usize = 50;

/// What happens to the call for a page.
#[derive(Debug, Clone)]
pub enum Fate {
    /// 429 and a second to wait.
    Busy,
    Broken,
    /// The answer breaks off.
    Cut,
    /// 400, and that does not pass.
    Refused,
    /// It is read, said to be, and answered when it is told to.
    Held(Arc<Hold>),
    /// It is answered, and then this device is lost behind everybody's back.
    ThenLose(String),
    /// It is answered, and then there is another device, whose name comes first.
    ThenInsert(Value),
}

/// What holds a page back.
#[derive(Debug, Default)]
pub struct Hold {
    pub is_read: Notify,
    pub go: Notify,
}

#[derive(Debug, Default)]
pub struct Told {
    /// Whether every page has something besides that is no device.
    pub oddities: bool,
    /// What happens to the calls for pages, by the page's number from 0 and one after the other.
    pub fates: BTreeMap<usize, Vec<Fate>>,
    /// The pages that were asked for.
    pub pages: Vec<usize>,
    /// How many devices were read alone.
    pub reads: usize,
}

/// The vendor in front.
#[derive(Clone)]
pub struct Pager {
    pub told: Arc<Mutex<Told>>,
    behind: String,
    http: reqwest::Client,
    admin: &'static str,
}

/// Puts one in front of the world's vendor, and says so in the vendor's folder.
pub async fn before(world: &mut World, admin: &'static str) -> Pager {
    let file = "api/device.toml";
    let text = world.folder(file);
    let paged =
        format!("items = \"/items\"\npaging = \"offset\"\nsize = {SIZE}\nsize_parameter = \"limit\"\n");
    let by_cursor = "items = \"/items\"\nnext = \"/next\"\ncursor = \"cursor\"\n";
    assert!(text.contains(by_cursor), "the folder has changed: {text}");
    world.write_folder(file, &text.replace(by_cursor, &paged));
    let (told, http) = (Arc::default(), reqwest::Client::builder().no_proxy().build().unwrap());
    let pager = Pager { told, behind: world.url(), http, admin };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.go_via(format!("http://{}", listener.local_addr().unwrap()));
    let app = Router::new().fallback(handle).with_state(pager.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    pager
}

async fn handle(
    State(pager): State<Pager>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    let offset = query.split('&').find_map(|pair| pair.strip_prefix("offset=")?.parse::<usize>().ok());
    match offset {
        Some(offset) if method == Method::GET && uri.path() == "/v1/devices" && !query.contains("name=") => {
            pager.page(offset).await
        }
        _ => pager.pass(method, &uri, headers, body).await,
    }
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let head = Response::builder().status(status).header("content-type", "application/json");
    head.header("retry-after", "1").body(Body::from(body.to_string())).unwrap()
}

impl Pager {
    async fn devices(&self) -> Vec<Value> {
        let url = format!("{}/_sim/objects/device", self.behind);
        let listed = self.http.get(url).bearer_auth(self.admin).send().await.unwrap();
        let listed: Value = listed.json().await.unwrap();
        let mut devices = listed["items"].as_array().unwrap().clone();
        devices.sort_by_key(|device| device["name"].as_str().unwrap().to_owned());
        devices
    }

    async fn page(&self, offset: usize) -> Response<Body> {
        let page = offset / SIZE;
        let (fate, oddities) = {
            let mut told = self.told.lock().unwrap();
            told.pages.push(page);
            let fates = told.fates.get_mut(&page).filter(|fates| !fates.is_empty());
            (fates.map(|fates| fates.remove(0)), told.oddities)
        };
        let mut items: Vec<Value> = self.devices().await.into_iter().skip(offset).take(SIZE).collect();
        if oddities {
            items.insert(0, json!({"name": "no-id"}));
            items.insert(0, json!({"id": "odd", "name": ["of", "another", "type"], "vlan": {}}));
        }
        match fate {
            None => {}
            Some(Fate::Busy) => return answer(429, &json!({"error": {"code": "busy", "message": "later"}})),
            Some(Fate::Broken) => return answer(500, &json!({"error": {"code": "broken", "message": "oh"}})),
            Some(Fate::Refused) => return answer(400, &json!({"error": {"code": "no", "message": "no"}})),
            Some(Fate::Held(hold)) => {
                hold.is_read.notify_one();
                hold.go.notified().await;
            }
            Some(Fate::Cut) => {
                let begin = json!({ "items": items }).to_string().split_off(0)[..40].to_owned();
                let cut = futures::stream::iter([Ok(begin), Err(std::io::Error::other("cut"))]);
                return Response::new(Body::from_stream(cut));
            }
            Some(Fate::ThenLose(name)) => {
                let device = self.devices().await.into_iter().find(|device| device["name"] == name).unwrap();
                let id = device["id"].as_str().unwrap();
                let url = format!("{}/_sim/objects/device/{id}", self.behind);
                let lost = self.http.delete(url).bearer_auth(self.admin).send().await.unwrap();
                assert!(lost.status().is_success());
            }
            Some(Fate::ThenInsert(device)) => {
                let url = format!("{}/v1/devices", self.behind);
                let made = self.http.post(url).bearer_auth(crate::world::TOKEN).json(&device).send().await;
                assert!(made.unwrap().status().is_success());
            }
        }
        answer(200, &json!({ "items": items }))
    }

    async fn pass(&self, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
        if method == Method::GET && uri.path().starts_with("/v1/devices/") {
            self.told.lock().unwrap().reads += 1;
        }
        let url = format!("{}{uri}", self.behind);
        let mut call = self.http.request(method, url).body(body);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            call = call.header(name, value);
        }
        let answered = call.send().await.unwrap();
        let head = Response::builder().status(answered.status()).header("content-type", "application/json");
        head.body(Body::from(answered.bytes().await.unwrap())).unwrap()
    }
}
