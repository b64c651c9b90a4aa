//! A vendor and a state store in one small HTTP server, the provider beside them, and a real Terraform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::process::Command;
use wanwright_provider::{Listening, ServeOptions};

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
    /// or only those with this method.
    pub refused_method: Option<&'static str>,
    /// Nobody who asks for a change is answered; they are counted here.
    pub held: Option<Arc<AtomicUsize>>,
    made: u32,
}

pub type Shared = Arc<Mutex<World>>;

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
        return answer(world.objects.get(&path));
    }
    world.changes.push(format!("{method} {path}"));
    let refused = world.refused_method.is_none_or(|refused| refused == method.as_str());
    if let (true, Some((status, body))) = (refused, &world.refusal) {
        return (StatusCode::from_u16(*status).unwrap(), body.to_string()).into_response();
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    match method.as_str() {
        "POST" => world.create(&path, sent, key),
        "PUT" => {
            let Some(object) = world.objects.get_mut(&path) else { return answer(None) };
            let ours =
                [("id", object["id"].clone()), ("status", json!("up")), ("address", json!("192.0.2.1"))];
            *object = sent;
            for (name, value) in ours {
                object[name] = value;
            }
            answer(Some(object))
        }
        _ => match world.objects.remove(&path) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => answer(None),
        },
    }
}

impl World {
    pub fn create(&mut self, collection: &str, mut object: Value, key: Option<String>) -> Response {
        if let Some(path) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return match self.objects.get(path) {
                Some(object) => answer(Some(object)),
                None => StatusCode::GONE.into_response(),
            };
        }
        self.made += 1;
        object["id"] = json!(format!("o-{}", self.made));
        object["status"] = json!("up");
        object["address"] = json!("192.0.2.1");
        let path = format!("{collection}/o-{}", self.made);
        self.keys.extend(key.map(|key| (key, path.clone())));
        self.objects.insert(path, object.clone());
        (StatusCode::CREATED, object.to_string()).into_response()
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

fn answer(object: Option<&Value>) -> Response {
    match object {
        Some(object) => object.to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The server, and where it is.
pub async fn vendor() -> (Shared, String) {
    let world = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (world, url)
}

/// While this is there, who asks the vendor for a change gets no answer.
pub struct Held(Arc<AtomicUsize>);

impl Held {
    /// How many have asked.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn hold(world: &Shared) -> Held {
    let held = Arc::new(AtomicUsize::new(0));
    world.lock().unwrap().held = Some(Arc::clone(&held));
    Held(held)
}

/// One stack, the way wanwright runs it: an initialised template that is only read, and a private folder for the run.
pub struct Stack {
    pub world: Shared,
    pub dir: tempfile::TempDir,
    url: String,
    reattach: String,
}

impl Stack {
    pub async fn new() -> Self {
        let (world, url) = vendor().await;
        Self::with(world, url.clone(), url).await
    }

    /// A stack whose vendor is somewhere else than its state.
    pub async fn with(world: Shared, url: String, gateway: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ServeOptions::new(dir.path().join("socket/p"), vendors(), Some(gateway));
        let listening = Listening::start(&options).await.unwrap();
        let reattach = listening.reattach_providers();
        tokio::spawn(listening.serve(std::future::pending()));
        let stack = Self { world, dir, url, reattach };
        for folder in ["template", "run"] {
            std::fs::create_dir(stack.path(folder)).unwrap();
            std::fs::copy(main_tf(), stack.path(folder).join("main.tf")).unwrap();
        }
        let init = stack.terraform_in("template", &["init", "-input=false", "-no-color"]).await;
        assert_eq!(init.status.code(), Some(0), "{init:?}");
        read_only(&stack.path("data"));
        stack
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs Terraform in a folder with nothing in its environment but what is needed.
    pub async fn terraform_in(&self, folder: &str, args: &[&str]) -> Output {
        let state = format!("{}/state/{folder}", self.url);
        Command::new("terraform")
            .args(args)
            .current_dir(self.path(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_DATA_DIR", self.path("data"))
            .env("TF_REATTACH_PROVIDERS", &self.reattach)
            .env("TF_HTTP_ADDRESS", &state)
            .env("TF_HTTP_LOCK_ADDRESS", &state)
            .env("TF_HTTP_UNLOCK_ADDRESS", &state)
            .output()
            .await
            .unwrap()
    }

    /// Runs a Terraform command with these variables, in the run's folder: exit code and messages.
    pub async fn run(&self, command: &[&str], variables: &Value) -> (i32, Vec<Value>) {
        let file = self.path("run/variables.json");
        std::fs::write(&file, variables.to_string()).unwrap();
        let file = format!("-var-file={}", file.display());
        let mut args = vec![command[0], "-input=false", &file];
        args.extend(&command[1..]);
        let output = self.terraform_in("run", &args).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), messages)
    }

    /// Applies and expects it to work: how many were added, changed and removed.
    pub async fn apply(&self, variables: &Value) -> [u64; 3] {
        let (code, messages) = self.run(&["apply", "-json", "-auto-approve"], variables).await;
        assert_eq!(code, 0, "{messages:#?}");
        let summary = messages.iter().rfind(|message| message["type"] == "change_summary").unwrap();
        ["add", "change", "remove"].map(|key| summary["changes"][key].as_u64().unwrap())
    }
}

/// The errors among Terraform's messages.
pub fn errors(messages: &[Value]) -> Vec<&Value> {
    let diagnostics = messages.iter().filter(|message| message["@level"] == "error");
    diagnostics.map(|message| &message["diagnostic"]).collect()
}

pub fn vendors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors")
}

pub fn main_tf() -> PathBuf {
    vendors().join("simwan/terraform/main.tf")
}

/// A site with one tunnel.
pub fn oslo() -> Value {
    json!({
        "site": { "name": "oslo", "uid": "uid-site", "lan": ["10.7.0.0/24"], "settings": { "location": "" } },
        "tunnels": { "t1": {
            "name": "oslo-hub", "uid": "uid-t1", "inside": "169.254.7.0/30", "peer_address": "198.51.100.1",
            "local_asn": 65001, "peer_asn": 65002, "settings": { "mtu": 1400 },
        } },
    })
}

fn read_only(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o500)).unwrap();
}
