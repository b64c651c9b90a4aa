//! The stand-in: one address that GraphQL documents go to, nodes of two kinds, errors with status 200.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What it has and has seen.
#[derive(Debug, Default)]
struct World {
    nodes: BTreeMap<String, Value>,
    /// Which node a key has made.
    keys: BTreeMap<String, String>,
    /// How often nodes of a label were made.
    made: BTreeMap<String, u32>,
    /// Calls that no client of this vendor makes.
    wrong: Vec<String>,
}

impl World {
    fn answer(&mut self, document: &str, variables: &Value) -> Result<Value> {
        let text = |name: &str| variables[name].as_str().unwrap_or_default().to_owned();
        let (node, input) = (text("ref"), &variables["input"]);
        let operation = document.split(['(', ' ']).nth(1).unwrap_or_default();
        Ok(match operation {
            "AddNode" => {
                ensure!(!text("key").is_empty(), "a node is added under a key");
                if let Some(known) = self.keys.get(&text("key")).and_then(|node| self.nodes.get(node)) {
                    return Ok(json!({ "addNode": known }));
                }
                let node = format!("n-{}", self.keys.len() + 1);
                let added = shown(&node, input);
                *self.made.entry(label(&added).to_owned()).or_default() += 1;
                self.keys.insert(text("key"), node.clone());
                self.nodes.insert(node, added.clone());
                json!({ "addNode": added })
            }
            "ChangeNode" => {
                let known = self.nodes.get_mut(&node).with_context(|| format!("there is no {node}"))?;
                *known = shown(&node, input);
                json!({ "changeNode": known })
            }
            "DropNode" => {
                self.nodes.remove(&node).with_context(|| format!("there is no {node}"))?;
                json!({ "dropNode": { "ref": node } })
            }
            "ShowNode" => json!({ "node": self.nodes.get(&node) }),
            "FindNodes" => {
                // A page has one node, so whoever wants more has to ask again.
                let is_wanted =
                    |node: &&Value| variables["label"].is_null() || variables["label"] == node["label"];
                let after =
                    variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0_usize);
                let found: Vec<&Value> = self.nodes.values().filter(is_wanted).collect();
                let page: Vec<&&Value> = found.iter().skip(after).take(1).collect();
                let more = after + page.len() < found.len();
                let info = json!({ "hasNextPage": more, "endCursor": (after + 1).to_string() });
                json!({ "nodes": { "nodes": page, "pageInfo": info } })
            }
            other => return Err(anyhow!("there is no operation {other}")),
        })
    }
}

fn label(node: &Value) -> &str {
    node["label"].as_str().unwrap_or_default()
}

/// A node as it is shown: what was put in, at other places.
fn shown(node: &str, input: &Value) -> Value {
    let mut detail = input.as_object().cloned().unwrap_or_default();
    let label = detail.remove("label");
    if detail.contains_key("serial") {
        detail.insert("uptime".to_owned(), json!(0));
    }
    json!({ "ref": node, "label": label, "detail": detail })
}

/// The vendor.
pub struct Loom {
    pub url: String,
    world: Arc<Mutex<World>>,
}

impl Loom {
    /// Starts it; whoever calls it has this key.
    pub async fn start(key: &'static str) -> Result<Self> {
        let (listener, world) = (TcpListener::bind(("127.0.0.1", 0)).await?, Arc::<Mutex<World>>::default());
        let (url, kept) = (format!("http://{}", listener.local_addr()?), Arc::clone(&world));
        let answer = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let Ok(mut world) = kept.lock() else {
                return (StatusCode::INTERNAL_SERVER_ERROR, String::new());
            };
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let document = asked["query"].as_str().unwrap_or_default();
            let knows = headers.get("x-loom-key").is_some_and(|given| given == key);
            if method != Method::POST || uri.path() != "/query" || !knows || document.is_empty() {
                world.wrong.push(format!("{method} {uri} {asked}"));
                return (StatusCode::FORBIDDEN, json!({ "errors": [{ "message": "no" }] }).to_string());
            }
            let answered = match world.answer(document, &asked["variables"]) {
                Ok(data) => json!({ "data": data }),
                Err(error) => json!({ "errors": [{ "message": error.to_string(), "extensions": {} }] }),
            };
            (StatusCode::OK, answered.to_string())
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Ok(Self { url, world })
    }

    fn world(&self) -> Result<std::sync::MutexGuard<'_, World>> {
        self.world.lock().map_err(|_| anyhow!("the stand-in panicked"))
    }

    /// The node of a label.
    pub fn node(&self, wanted: &str) -> Result<Value> {
        let world = self.world()?;
        let found = world.nodes.values().find(|node| label(node) == wanted).cloned();
        found.with_context(|| format!("the vendor has no {wanted}"))
    }

    /// Changes a node behind everybody's back.
    pub fn drift(&self, wanted: &str, field: &str, value: &str) -> Result<()> {
        let mut world = self.world()?;
        let node = world.nodes.values_mut().find(|node| label(node) == wanted);
        node.context("the vendor has no such node")?["detail"][field] = json!(value);
        Ok(())
    }

    /// Whether it has nothing.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.world()?.nodes.is_empty())
    }

    /// Fails unless everything was made once, and every call was one that this vendor knows.
    pub fn judge(&self) -> Result<()> {
        let world = self.world()?;
        ensure!(world.made.len() == 2 && world.made.values().all(|times| *times == 1), "{:?}", world.made);
        ensure!(world.wrong.is_empty(), "{:?}", world.wrong);
        Ok(())
    }
}
