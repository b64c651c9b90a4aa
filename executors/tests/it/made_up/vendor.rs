//! The stand-in for some made-up vendors and their folders. One pages by number, wraps everything in `result`, changes by
//! PATCH and works in jobs, which are followed for longer or shorter times; one answers a create with nothing but a location, and lists nothing; one creates at once, takes
//! no key, and lists.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use serde_json::{Value, json};
use tokio::sync::watch;

const TASKWAN: &str = r#"
collection = "/api/edges"
item = "/api/edges/{id}"
id = "/uid"
update_method = "PATCH"

[create]
body = { edge = "{attributes}", notify = false }

[read]
object = "/result"

[update]
body = { edge = { net = { vlan = "{vlan}" } } }
object = "/result"

[list]
items = "/result"
paging = "number"
size = 2
size_parameter = "per_page"
total = "/total"

[job]
id = "header:Location"
path = "/api/jobs/{job}"
state = "/result/phase"
running = ["queued", "working"]
succeeded = ["ended"]
failed = ["broken"]
message = "/result/reason"
object_id = "/result/edge"
interval_seconds = 0.01
limit_seconds = 20

[[errors.rules]]
contains = "try later"
means = "busy"

[attributes.name]
type = "string"
required = true
replace = true
json = "/label"

[attributes.serial]
type = "string"
required = true
json = "/sn"
normalise = ["case"]

[attributes.vlan]
type = "number"
default = 1
from = "settings.vlan"
json = "/net/vlan"
wire = "text"
"#;

const LINKWAN: &str = r#"
collection = "/link/edges"
item = "/api/edges/{id}"
id = "/uid"

[create]
id = "header:Location"

[read]
object = "/result"

[delete]
path = "/link/edges/{id}"

[attributes.serial]
type = "string"
required = true
json = "/sn"
"#;

/// Creates at once, so that nothing finds what it made again, and publishes in jobs.
const POSTWAN: &str = r#"
collection = "/link/edges"
item = "/api/edges/{id}"
id = "/uid"
update_method = "PATCH"

[create]
id = "header:Location"
job = false

[read]
object = "/result"

[update]
job = false
body = { edge = { net = {} } }
object = "/result"

[publish]
path = "/api/edges/{id}/publish"
deletes = true

[job]
id = "header:Location"
path = "/api/jobs/{job}"
state = "/result/phase"
running = ["queued", "working"]
succeeded = ["ended"]
failed = ["broken"]
message = "/result/reason"
interval_seconds = 0.01
limit_seconds = 0.03

[[errors.rules]]
contains = "try later"
means = "busy"

[attributes.serial]
type = "string"
required = true
json = "/sn"
"#;

const NAMEWAN: &str = r#"
collection = "/name/edges"
item = "/name/edges/{id}"
id = "/uid"

[create]
object = "/result"

[read]
object = "/result"

[list]
items = "/result"
paging = "number"
size = 2
size_parameter = "per_page"
total = "/total"

[attributes.name]
type = "string"
required = true
replace = true
json = "/label"

[attributes.serial]
type = "string"
required = true
json = "/sn"
"#;

/// All vendors.
pub const NAMES: [&str; 7] =
    ["taskwan", "slowwan", "stuckwan", "linkwan", "postwan", "namewan", "keylesswan"];

fn api(name: &str) -> String {
    let jobs = |limits: &str| TASKWAN.replace("limit_seconds = 20", limits);
    match name {
        "slowwan" => jobs("limit_seconds = 0.03"),
        "stuckwan" => jobs("limit_seconds = 0.03\ngive_up_seconds = 0.2"),
        "linkwan" => LINKWAN.to_owned(),
        "postwan" => POSTWAN.to_owned(),
        "namewan" => NAMEWAN.to_owned(),
        _ => TASKWAN.to_owned(),
    }
}

/// Writes all folders.
pub fn write_folders(dir: &Path) {
    for name in NAMES {
        let folder = dir.join(name);
        std::fs::create_dir_all(folder.join("api")).unwrap();
        let credential = dir.parent().unwrap().join(format!("credential-of-{name}"));
        if name != "keylesswan" {
            std::fs::write(&credential, "a-token-of-the-vendor").unwrap();
        }
        let text = format!(
            "name = \"{name}\"\ntitle = \"Made up\"\nbase_url = \"http://127.0.0.1:9\"\nmodels = [\"m1\"]\n\
             [credential]\nfile = \"{}\"\nheader = \"X-Token\"\n[budget]\nper_second = 500\nburst = 100\n\
             [engines]\ndevice = \"api\"\n[limits]\ntunnels_per_site = 1\n",
            credential.display()
        );
        std::fs::write(folder.join("vendor.toml"), text).unwrap();
        std::fs::write(folder.join("api/device.toml"), api(name)).unwrap();
    }
}

/// How the vendor behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mode {
    /// Jobs end at the second look.
    #[default]
    JobsEnd,
    JobsStand,
    /// Jobs end at the twelfth look.
    JobsSlow,
    JobsFail,
    /// Jobs fail because the vendor has no time.
    JobsBusy,
    /// Nobody knows of any job.
    JobsForgotten,
    /// Jobs end and say nothing of what they made, which is not there yet.
    JobsMute,
    /// What is asked for is done, and the answer breaks off.
    AnswersLost,
}

pub struct Vendor {
    pub mode: Mode,
    pub asked: Vec<String>,
    pub edges: BTreeMap<String, Value>,
    /// How often somebody looked at a job.
    pub looked: watch::Receiver<u32>,
    look: watch::Sender<u32>,
    /// What each job does when it ends, and the looks at it.
    jobs: Vec<(Job, u32)>,
    made: u32,
}

#[derive(Clone)]
enum Job {
    Make(Value),
    Drop(String),
    Publish(String),
}

pub type Shared = Arc<Mutex<Vendor>>;

impl Vendor {
    /// Makes an edge of this name behind everybody's back.
    pub fn make(&mut self, name: &str) -> String {
        self.store(json!({"label": name, "sn": name, "net": {"vlan": "1"}}))
    }

    fn store(&mut self, mut edge: Value) -> String {
        self.made += 1;
        let id = format!("e-{}", self.made);
        edge["uid"] = json!(id);
        self.edges.insert(id.clone(), edge);
        id
    }

    fn begin(&mut self, job: Job) -> Response<Body> {
        self.jobs.push((job, 0));
        let location = format!("/api/jobs/j-{}", self.jobs.len());
        Response::builder().status(202).header("location", location).body(Body::empty()).unwrap()
    }

    /// Ends every job, whoever looks.
    pub fn end_jobs(&mut self) {
        for number in 1..=self.jobs.len() {
            self.jobs[number - 1].1 = 2;
            self.look(number);
        }
    }

    fn look(&mut self, number: usize) -> Response<Body> {
        self.look.send_modify(|looks| *looks += 1);
        let mode = self.mode;
        let Some((job, looks)) = self.jobs.get_mut(number - 1) else { return answer(404, json!({})) };
        *looks += 1;
        let broken = |reason| answer(200, json!({"result": {"phase": "broken", "reason": reason}}));
        let phase = match mode {
            Mode::JobsFail => return broken("no power at the site"),
            Mode::JobsBusy => return broken("try later"),
            Mode::JobsMute => return answer(200, json!({"result": {"phase": "ended"}})),
            Mode::JobsForgotten => return answer(404, json!({})),
            Mode::JobsStand => "working",
            Mode::JobsSlow if *looks < 12 => "working",
            _ if *looks < 2 => "queued",
            _ => "ended",
        };
        if phase != "ended" {
            return answer(200, json!({"result": {"phase": phase}}));
        }
        let edge = match job.clone() {
            Job::Make(edge) => self.store(edge),
            Job::Drop(id) => {
                self.edges.remove(&id);
                id
            }
            Job::Publish(id) => id,
        };
        answer(200, json!({"result": {"phase": phase, "edge": edge}}))
    }

    fn handle(&mut self, method: &Method, uri: &Uri, body: &Value) -> Response<Body> {
        self.asked.push(format!("{method} {uri}"));
        let parts: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["api", "edges"]) => {
                let begun = self.begin(Job::Make(body["edge"].clone()));
                if self.mode == Mode::AnswersLost { cut() } else { begun }
            }
            ("POST", [_, "edges"]) => {
                let id = self.store(body.clone());
                if self.mode == Mode::AnswersLost {
                    return cut();
                }
                if parts[0] == "name" {
                    return answer(201, json!({"result": self.edges[&id]}));
                }
                let located = Response::builder().status(201).header("location", format!("/link/edges/{id}"));
                located.body(Body::empty()).unwrap()
            }
            ("GET", ["api", "jobs", job]) => self.look(job.trim_start_matches("j-").parse().unwrap()),
            ("GET", ["api" | "name", "edges"]) => self.page(uri.query().unwrap_or_default()),
            (_, [_, "edges", id]) if !self.edges.contains_key(*id) => answer(404, json!({"why": "none"})),
            ("GET", [_, "edges", id]) => answer(200, json!({"result": self.edges[*id]})),
            ("PATCH", ["api", "edges", id]) => {
                let edge = self.edges.get_mut(*id).unwrap();
                edge["net"] = body["edge"]["net"].clone();
                answer(200, json!({"result": edge}))
            }
            ("PUT", ["name", "edges", id]) => {
                let mut edge = body.clone();
                edge["uid"] = json!(id);
                self.edges.insert((*id).to_owned(), edge.clone());
                answer(200, json!(edge))
            }
            ("POST", ["api", "edges", id, "publish"]) => self.begin(Job::Publish((*id).to_owned())),
            ("DELETE", ["api", "edges", id]) => self.begin(Job::Drop((*id).to_owned())),
            ("DELETE", ["link" | "name", "edges", id]) => {
                self.edges.remove(*id);
                answer(204, Value::Null)
            }
            _ => answer(405, json!({})),
        }
    }

    fn page(&self, query: &str) -> Response<Body> {
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.unwrap().parse::<usize>().unwrap()
        };
        let (page, size) = (parameter("page"), parameter("per_page"));
        let items: Vec<&Value> = self.edges.values().skip((page - 1) * size).take(size).collect();
        answer(200, json!({"result": items, "total": self.edges.len()}))
    }
}

/// An answer that breaks off.
fn cut() -> Response<Body> {
    let cut = futures::stream::iter([Ok("{"), Err(std::io::Error::other("cut"))]);
    Response::new(Body::from_stream(cut))
}

fn answer(status: u16, body: Value) -> Response<Body> {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    Response::builder().status(status).body(body).unwrap()
}

async fn handle(State(vendor): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    vendor.lock().unwrap().handle(&method, &uri, &body)
}

/// Serves all of them on one loopback port.
pub async fn serve() -> (Shared, String) {
    let (look, looked) = watch::channel(0);
    let vendor = Vendor {
        mode: Mode::default(),
        asked: Vec::new(),
        edges: BTreeMap::new(),
        looked,
        look,
        jobs: Vec::new(),
        made: 0,
    };
    let vendor = Arc::new(Mutex::new(vendor));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(Arc::clone(&vendor));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (vendor, url)
}
