use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wanwright_simulator::{Config, Counters, Faults, Limit, Running, Simulator, Stats};

pub const TOKEN: &str = "secret";
pub const ADMIN: &str = "admin";

/// A limit no test reaches by accident.
pub const WIDE: Limit = Limit { per_second: 100_000.0, burst: 100_000 };

/// A folder that is removed with the value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simulator-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("making a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn vendor_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan")
}

pub fn config(data: &Path, limit: Limit) -> Config {
    let listen = ([127, 0, 0, 1], 0).into();
    Config { limit: Some(limit), ..Config::new(listen, data, vendor_folder(), TOKEN, ADMIN) }
}

/// An answer, read completely.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn id(&self) -> String {
        self.body["id"].as_str().expect("an id").to_owned()
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn field(&self) -> &str {
        self.body["error"]["field"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A caller of the API and the back door.
#[derive(Clone)]
pub struct Caller {
    pub base: String,
    client: Client,
}

impl Caller {
    pub fn new(base: String) -> Self {
        Self { base, client: Client::new() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let token = if path.starts_with("/_sim") { ADMIN } else { TOKEN };
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(token)
    }

    /// Fails when no whole answer comes.
    pub async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { status, headers, body })
    }

    pub async fn try_post(&self, path: &str, key: Option<&str>, body: &Value) -> reqwest::Result<Answer> {
        let request = self.request(Method::POST, path).json(body);
        let keyed = key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key));
        self.send(keyed).await
    }

    pub async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Answer {
        self.try_post(path, key, body).await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await.expect("an answer")
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await.expect("an answer")
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await.expect("an answer")
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await.expect("an answer")
    }

    /// Reads a page of the back door.
    pub async fn look<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        serde_json::from_value(answer.body).expect("the documented shape")
    }

    pub async fn stats(&self) -> Stats {
        self.look("/_sim/stats").await
    }

    pub async fn counters(&self, kind: &str, name: &str) -> Counters {
        let stats = self.stats().await;
        stats.kinds[kind].names.get(name).copied().unwrap_or_default()
    }

    pub async fn set_faults(&self, faults: &Faults) {
        let answer = self.put("/_sim/faults", &json!(faults)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }

    /// Makes a site and gives its id.
    pub async fn site(&self, name: &str) -> String {
        let answer = self.post("/v1/sites", None, &site(name)).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.id()
    }
}

/// A simulator in this process with a caller.
pub struct Bench {
    pub caller: Caller,
    pub running: Running,
    pub folder: Folder,
}

impl Bench {
    pub async fn start() -> Self {
        Self::with_limit(WIDE).await
    }

    pub async fn with_limit(limit: Limit) -> Self {
        Self::in_folder(Folder::new(), limit).await
    }

    pub async fn in_folder(folder: Folder, limit: Limit) -> Self {
        let running = Simulator::start(config(folder.path(), limit)).await.expect("a start");
        Self { caller: Caller::new(running.url()), running, folder }
    }

    /// Stops it and starts another one on the same data.
    pub async fn restart(self, limit: Limit) -> Self {
        self.running.stop().await.expect("a stop");
        Self::in_folder(self.folder, limit).await
    }
}

pub fn site(name: &str) -> Value {
    json!({ "name": name, "lan": ["10.0.0.0/24"] })
}

pub fn tunnel(name: &str, site_id: &str) -> Value {
    json!({ "name": name, "site_id": site_id, "peer_address": "198.51.100.1", "inside": "169.254.0.0/30" })
}

pub fn device(name: &str, site_id: &str, serial: &str) -> Value {
    json!({ "name": name, "site_id": site_id, "serial": serial, "model": "edge-100" })
}
