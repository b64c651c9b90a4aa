//! Real Terraform and the real simulator: every resource and data source of `vendors/simwan`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use support::{Shared, Stack, vendors, world};
use wanwright_simulator::{Config, Running, Simulator};

const TEMPLATE: &str = r#"
terraform {
  required_providers {
    wanwright = { source = "wanwright/wanwright" }
  }
  backend "http" {}
}

variable "location" { default = "quay" }
variable "site_name" { default = "oslo" }
variable "lan" { default = ["10.7.0.0/24"] }
variable "mtu" { default = 1300 }
variable "hostname" { default = "edge-1" }

resource "wanwright_simwan_site" "site" {
  name     = var.site_name
  lan      = var.lan
  location = var.location
  timeouts {
    create = "30s"
    delete = "30s"
  }
}

resource "wanwright_simwan_tunnel" "tunnel" {
  name         = "oslo-hub"
  site_id      = wanwright_simwan_site.site.id
  inside       = "169.254.7.0/30"
  peer_address = "198.51.100.1"
  local_asn    = 65001
  peer_asn     = 65002
  mtu          = var.mtu
  psk          = "secret:hub"
}

resource "wanwright_simwan_device" "device" {
  name     = "oslo-1"
  site_id  = wanwright_simwan_site.site.id
  serial   = "SN-1"
  model    = "edge-100"
  hostname = var.hostname
  vlan     = 7
}

data "wanwright_simwan_site" "site" {
  id = wanwright_simwan_site.site.id
}

data "wanwright_simwan_tunnel" "tunnel" {
  name = wanwright_simwan_tunnel.tunnel.name
}

data "wanwright_simwan_devices" "all" {
  depends_on = [wanwright_simwan_device.device]
}

output "found" {
  value = [
    data.wanwright_simwan_site.site.name,
    data.wanwright_simwan_tunnel.tunnel.mtu,
    data.wanwright_simwan_devices.all.items[*].serial,
    length(data.wanwright_simwan_devices.all.ids),
  ]
}
"#;

/// A simulated vendor and a door to it that adds the credential, as the gateway does.
struct Vendor {
    simulator: Running,
    client: reqwest::Client,
    _data: tempfile::TempDir,
}

async fn forward(
    State((client, url)): State<(reqwest::Client, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut call = client.request(method, format!("{url}{uri}")).bearer_auth("token").body(body);
    for name in ["content-type", "idempotency-key"] {
        if let Some(value) = headers.get(name) {
            call = call.header(name, value);
        }
    }
    let answer = call.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}

impl Vendor {
    /// The vendor and the door's URL.
    async fn start() -> (Self, String) {
        let data = tempfile::tempdir().unwrap();
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config::new(listen, data.path(), vendors().join("simwan"), "token", "admin");
        let simulator = Simulator::start(config).await.unwrap();
        let client = reqwest::Client::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(forward).with_state((client.clone(), simulator.url()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (Self { simulator, client, _data: data }, url)
    }

    async fn behind(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.simulator.url());
        let call = self.client.request(method, url).bearer_auth("admin");
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.send().await.unwrap().error_for_status().unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
    }

    async fn count(&self, kind: &str) -> usize {
        let objects = self.behind(Method::GET, &format!("objects/{kind}"), Value::Null).await;
        objects["items"].as_array().map_or_else(|| panic!("{objects}"), Vec::len)
    }
}

fn instance(state: &Value, kind: &str) -> Value {
    let resources = state["resources"].as_array().unwrap();
    let r#type = format!("wanwright_simwan_{kind}");
    let is = |found: &&Value| found["mode"] == "managed" && found["type"] == r#type;
    resources.iter().find(is).unwrap()["instances"][0]["attributes"].clone()
}

async fn is_settled(stack: &Stack, variables: &Value) -> bool {
    let (code, messages) = stack.run(&["plan", "-json", "-detailed-exitcode"], variables).await;
    assert_ne!(code, 1, "{messages:#?}");
    code == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_of_the_simulated_vendor_passes_terraforms_checks() {
    let (vendor, door) = Vendor::start().await;
    let world = Shared::default();
    let states = world::serve(world.clone()).await;
    let stack = Stack::of(world, (states, door), &vendors(), ("main.tf", TEMPLATE)).await;
    let nothing = json!({});
    assert_eq!(stack.apply(&nothing).await, [3, 0, 0]);
    assert!(is_settled(&stack, &nothing).await, "a plan after an apply is empty");
    let created = stack.state();
    assert_eq!(created["outputs"]["found"]["value"], json!(["oslo", 1300, ["SN-1"], 1]));

    // A refresh after a change at the vendor shows exactly the change.
    for (kind, field, value) in [
        ("site", "location", json!("elsewhere")),
        ("site", "lan", json!(["10.9.0.0/24"])),
        ("site", "status", json!("down")),
        ("tunnel", "mtu", json!(1400)),
        ("tunnel", "peer_asn", json!(65_100)),
        ("device", "hostname", json!("renamed")),
        ("device", "vlan", json!(8)),
    ] {
        let before = instance(&created, kind);
        let path = format!("objects/{kind}/{}", before["id"].as_str().unwrap());
        vendor.behind(Method::PATCH, &path, json!({field: value})).await;
        let (code, _) = stack.run(&["plan", "-refresh-only", "-out=drift"], &nothing).await;
        assert_eq!(code, 0);
        let shown = stack.terraform_in("run", &["show", "-json", "drift"]).await;
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let drift = shown["resource_drift"].as_array().unwrap();
        assert_eq!(drift.len(), 1, "{kind}.{field}");
        let mut expected = drift[0]["change"]["before"].clone();
        expected[field] = value;
        assert_eq!(drift[0]["change"]["after"], expected, "{kind}.{field}");
        vendor.behind(Method::PATCH, &path, json!({field: before[field]})).await;
    }
    assert!(is_settled(&stack, &nothing).await);

    // An import gives what the create gave.
    let ids: Vec<(&str, Value)> =
        ["site", "tunnel", "device"].map(|kind| (kind, instance(&created, kind))).into();
    stack.world.lock().unwrap().states.clear();
    for (kind, before) in &ids {
        let address = format!("wanwright_simwan_{kind}.{kind}");
        let by_name = format!("name={}", before["name"].as_str().unwrap());
        let id = if *kind == "site" { before["id"].as_str().unwrap() } else { &by_name };
        let (code, messages) = stack.run(&["import", &address, id], &nothing).await;
        assert_eq!(code, 0, "{messages:#?}");
        let mut expected = before.clone();
        expected["timeouts"] = Value::Null;
        assert_eq!(instance(&stack.state(), kind), expected, "{kind}");
    }
    assert_eq!(stack.apply(&nothing).await, [0, 1, 0], "the timeouts are noted");

    // A change of what can be changed, a replacement of what cannot, and the end.
    let mut variables = json!({"mtu": 1350, "hostname": "edge-2", "location": "pier"});
    assert_eq!(stack.apply(&variables).await, [0, 3, 0]);
    assert!(is_settled(&stack, &variables).await);
    variables["site_name"] = json!("bergen");
    assert_eq!(stack.apply(&variables).await, [3, 0, 3], "what is at a site goes with it");
    assert!(is_settled(&stack, &variables).await);
    // The vendor's own rules, before it is asked.
    for (name, value, says) in [
        ("mtu", json!(575), "Invalid: `mtu` is 575, less than 576"),
        ("mtu", json!(1600), "Invalid: `mtu` breaks a rule: a tunnel carries ordinary packets"),
        ("location", json!(" pier"), "Invalid: `location` breaks a rule"),
        ("hostname", json!("-edge"), "Invalid: `hostname` breaks a rule"),
    ] {
        let mut wrong = variables.clone();
        wrong[name] = value;
        let (code, messages) = stack.run(&["plan", "-json"], &wrong).await;
        let found = support::errors(&messages);
        assert!(code == 1 && found[0]["summary"].as_str().unwrap().starts_with(says), "{found:#?}");
        assert!(found[0]["snippet"]["code"].as_str().unwrap().contains(&format!("var.{name}")), "{found:#?}");
    }
    let (code, _) = stack.run(&["destroy", "-json", "-auto-approve"], &variables).await;
    assert_eq!(code, 0);
    for kind in ["site", "tunnel", "device"] {
        assert_eq!(vendor.count(kind).await, 0, "a destroy leaves no {kind}");
    }
    vendor.simulator.stop().await.unwrap();
}
