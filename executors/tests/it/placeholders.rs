//! Secrets that settings name are put into requests and taken out of answers by the gateway, and are nowhere else.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wanwright_executors::gateway::{NoLane, RunContext};
use wanwright_schemas::Reason;

use crate::standin::{Heard, StandIn, answer};
use crate::world::{Process, World};

const KEY: &str = "Canary/\"pre\\shared\" kéy<1>&";

/// A folder whose secrets are in this one.
async fn world(dir: &Path) -> World {
    std::fs::create_dir_all(dir.join("acme")).unwrap();
    std::fs::write(dir.join("acme/oslo"), format!("{KEY}\n")).unwrap();
    let mut world = World::with("per_second = 50\nburst = 5\n", 50, 5).await;
    world.replace_in_folder("env = \"WANWRIGHT_SIMWAN_SECRETS\"", &format!("dir = \"{}\"", dir.display()));
    world
}

fn context(customer: &str, secrets: &[&str]) -> RunContext {
    let secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
    RunContext { customer: customer.parse().unwrap(), secrets, ..World::context("edge-01") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnels_key_is_there_for_the_vendor_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    // Keeps a tunnel, and quotes what it does not like.
    let kept: Arc<Mutex<Value>> = Arc::default();
    let keeping = Arc::clone(&kept);
    let vendor = StandIn::start(move |heard: &Heard| {
        let mut kept = keeping.lock().unwrap();
        match (heard.method.as_str(), heard.path.as_str()) {
            ("GET", _) => answer(200, kept.to_string().replace('/', "\\/")),
            (_, "/v1/tunnels") => {
                *kept = serde_json::from_str(&heard.body).unwrap();
                kept["id"] = json!("tn-1");
                answer(201, kept.to_string())
            }
            (_, "/v1/quoted") => answer(500, format!("cannot read {}", heard.body)),
            _ => answer(422, json!({"error": {"message": format!("not this: {}", heard.body)}}).to_string()),
        }
    })
    .await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    let opened = gateway.open(context("acme", &["oslo"]));
    let call = async |method: &str, path: &str, body: Value| {
        let url = format!("{}{path}", opened.base_url());
        let call = world.http.request(method.parse().unwrap(), url).json(&body).send().await.unwrap();
        (call.status().as_u16(), call.text().await.unwrap())
    };
    let wanted = json!({"name": "acme.t1", "mtu": 1400, "psk": "secret:oslo", "note": "secret:oslo"});
    let (status, body) = call("POST", "/v1/tunnels", wanted.clone()).await;
    assert_eq!(status, 201);
    assert_eq!(kept.lock().unwrap()["psk"], KEY, "the vendor has it");
    assert_eq!(kept.lock().unwrap()["note"], "secret:oslo", "in its field alone");
    let mut seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(seen["id"], "tn-1");
    seen.as_object_mut().unwrap().remove("id");
    assert_eq!(seen, wanted, "so nothing seems to have drifted");
    let (_, body) = call("GET", "/v1/tunnels/tn-1", Value::Null).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["psk"], "secret:oslo");
    for path in ["/v1/quoted", "/v1/refused"] {
        let (_, body) = call("POST", path, wanted.clone()).await;
        assert!(!body.contains("Canary") && !body.contains("kéy"), "{body}");
    }
    // Somebody at the vendor has changed it: that is drift, and no secret in a report.
    kept.lock().unwrap()["psk"] = json!("somebody-elses");
    let (_, body) = call("GET", "/v1/tunnels/tn-1", Value::Null).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["psk"], "***");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_missing_fails_its_own_orders_and_is_read_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let vendor = StandIn::start(|heard: &Heard| answer(201, heard.body.clone())).await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    assert!(gateway.reaches(&context("acme", &["oslo"])).is_ok());
    for other in [context("acme", &["oslo", "rome"]), context("globex", &["oslo"])] {
        let Err(NoLane::Refused(refusal)) = gateway.reaches(&other) else { panic!("{other:?}") };
        assert_eq!(refusal.code, Reason::SecretMissing);
        assert!(refusal.message.contains(&dir.path().display().to_string()), "{refusal}");
    }
    std::fs::write(dir.path().join("acme/rome"), "second-canary").unwrap();
    assert!(gateway.reaches(&context("acme", &["oslo", "rome"])).is_ok());
    let opened = gateway.open(context("acme", &["rome"]));
    let body = json!({"psk": "secret:rome"});
    let call = world.http.post(format!("{}/v1/tunnels", opened.base_url())).json(&body).send().await.unwrap();
    assert_eq!(call.json::<Value>().await.unwrap(), body);
    assert_eq!(vendor.heard()[0].body, r#"{"psk":"second-canary"}"#);
    stop.cancel();
}
