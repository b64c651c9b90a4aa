//! A device of a real vendor's folder, all the way: its order, the engine, the gateway with its login, the vendor's task.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use axum::response::Response;
use serde_json::{Map, Value, json};
use wanwright_executors::engine::Outcome;
use wanwright_schemas::CommandId;
use wanwright_schemas::effect::Phase;
use wanwright_schemas::order::{DesiredDevice, Intent};
use wanwright_schemas::report::Finding;

use crate::api;
use crate::oauth::Versa;
use crate::standin::{Heard, answer};
use crate::world::World;

const WORKFLOW: &str = "versanms.sdwan-device-workflow";

/// The device workflows of a Director, and the looks that each of its tasks still takes.
#[derive(Default)]
pub struct Workflows {
    kept: Mutex<(BTreeMap<String, Value>, Vec<u32>)>,
}

impl Workflows {
    fn device(&self, name: &str) -> Option<Value> {
        self.kept.lock().unwrap().0.get(name).cloned()
    }

    fn tasks(&self) -> usize {
        self.kept.lock().unwrap().1.len()
    }

    /// What is answered to a call below `/vnms/`.
    pub fn answer(&self, heard: &Heard) -> Response {
        let mut kept = self.kept.lock().unwrap();
        let (devices, tasks) = &mut *kept;
        let path = heard.path.split('?').next().unwrap().trim_start_matches("/vnms/").to_owned();
        let body: Value = serde_json::from_str(&heard.body).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let none = || answer(404, json!({"code": 4404, "message": "there is no such device"}).to_string());
        let begin = |tasks: &mut Vec<u32>| {
            tasks.push(2);
            answer(202, json!({"TaskResponse": {"task-id": tasks.len()}}).to_string())
        };
        match (heard.method.as_str(), parts.as_slice()) {
            ("POST", ["sdwan", "workflow", "devices", "device"]) => {
                let device = body[WORKFLOW].clone();
                devices.insert(device["deviceName"].as_str().unwrap().to_owned(), device);
                answer(200, "")
            }
            ("POST", ["sdwan", "workflow", "devices", "device", "deploy", name])
                if devices.contains_key(*name) =>
            {
                begin(tasks)
            }
            ("GET", ["sdwan", "workflow", "devices", "device", name]) => match devices.get(*name) {
                Some(device) => answer(200, json!({ WORKFLOW: device }).to_string()),
                None => none(),
            },
            ("PUT", ["sdwan", "workflow", "devices", "device", name]) if devices.contains_key(*name) => {
                devices.insert((*name).to_owned(), body[WORKFLOW].clone());
                answer(200, "")
            }
            ("DELETE", ["sdwan", "workflow", "devices", name]) => match devices.remove(*name) {
                Some(_) => begin(tasks),
                None => none(),
            },
            ("GET", ["sdwan", "workflow", "devices"]) => {
                let items: Vec<_> =
                    devices.values().map(|device| json!({"deviceName": device["deviceName"]})).collect();
                let list = json!({"totalCount": items.len(), "versanms.sdwan-device-list": items});
                answer(200, list.to_string())
            }
            ("GET", ["tasks", "task", number]) => {
                let looks = &mut tasks[number.parse::<usize>().unwrap() - 1];
                let state = if *looks == 0 { "COMPLETED" } else { "IN_PROGRESS" };
                *looks = looks.saturating_sub(1);
                let task = json!({"versa-tasks.task": {"versa-tasks.task-status": state}});
                answer(200, task.to_string())
            }
            _ => none(),
        }
    }
}

fn device(uid: CommandId, serial: &str, known: Option<&str>) -> DesiredDevice {
    let settings = json!({
        "organization": "Tenant1", "branch_id": 143, "location": {"city": "Oslo", "state": "", "country": "NO"},
    });
    DesiredDevice {
        serial: serial.to_owned(),
        model: "csg300".to_owned(),
        settings: settings.as_object().unwrap().clone().into_iter().collect(),
        inputs: Map::from_iter([("site_id".to_owned(), json!("acme.oslo"))]),
        ..api::device(uid, &Value::Null, known)
    }
}

async fn outcome(versa: &Versa, intent: Intent, device: DesiredDevice) -> Outcome {
    let (nats, vendor) = (&versa.world.nats, versa.catalogue.get("versa").unwrap());
    let run = api::Way { nats, gateway: &versa.gateway, vendor, context: Versa::context(), died: false };
    api::outcome_of(&run, intent, device).await
}

async fn carry_out(versa: &Versa, intent: Intent, device: DesiredDevice) -> Finding {
    match outcome(versa, intent, device).await {
        Outcome::Done(mut findings) => findings.remove(0).finding,
        Outcome::Passing { message, .. } => panic!("{message}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_saved_deployed_changed_and_removed_with_tokens_that_end() {
    let versa = Versa::new(900).await;
    let uid = CommandId::mint();
    let made = carry_out(&versa, Intent::Apply, device(uid, "SN1", None)).await;
    let Finding::Applied { outputs, .. } = &made else { panic!("{made:?}") };
    assert_eq!(outputs["id"], "acme.edge-01");
    let workflows = &versa.director.workflows;
    let kept = workflows.device("acme.edge-01").unwrap();
    assert_eq!(
        (&kept["serialNumber"], &kept["siteId"], &kept["deviceGroup"]),
        (&json!("SN1"), &json!("143"), &json!("acme.oslo"))
    );
    assert_eq!(workflows.tasks(), 1, "it is deployed");

    // The token ends between two orders, and another one is fetched in the middle of the next.
    versa.director.ended.store(1, Ordering::SeqCst);
    let changed = carry_out(&versa, Intent::Apply, device(uid, "SN2", Some("acme.edge-01"))).await;
    assert!(matches!(changed, Finding::Applied { .. }), "{changed:?}");
    assert_eq!(workflows.device("acme.edge-01").unwrap()["serialNumber"], "SN2");
    assert_eq!((versa.given(), workflows.tasks()), (2, 2));

    let check = CommandId::mint();
    let look = carry_out(&versa, Intent::Observe { check }, device(uid, "SN2", Some("acme.edge-01"))).await;
    assert_eq!(look, Finding::InSync { check });
    let gone = carry_out(&versa, Intent::Remove, device(uid, "SN2", Some("acme.edge-01"))).await;
    assert_eq!((gone, workflows.device("acme.edge-01")), (Finding::Removed, None));
    assert_eq!(workflows.tasks(), 3, "its removal is a task, which was waited for");

    let heard = versa.standin.heard();
    let of = |method: &str, path: &str| {
        heard.iter().filter(|heard| heard.method.as_str() == method && heard.path.starts_with(path)).count()
    };
    assert_eq!(of("POST", "/auth/token"), 2);
    assert_eq!(of("GET", "/vnms/tasks/task/"), 9, "each task is looked at until it has ended");
    // Each change is in the journal, before and after, and nothing is left open.
    let phases = versa.world.journal(&Versa::context()).await;
    let before = phases.iter().filter(|phase| **phase == Phase::Before).count();
    let after = phases.iter().filter(|phase| matches!(phase, Phase::After { .. })).count();
    assert_eq!(before, after, "{phases:?}");
    assert_eq!(phases.last(), Some(&Phase::Settled), "{phases:?}");
    let secrets = ["token-number", "cl1ent/secret", "pa\"ss"];
    let records = format!("{:?}", World::stored(&versa.world, &Versa::context()).await);
    assert!(secrets.iter().all(|secret| !records.contains(secret)), "{records}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_slower_than_a_run_is_followed_by_the_next_and_not_begun_again() {
    let versa = Versa::following(900, "0.03").await;
    let uid = CommandId::mint();
    for (serial, known) in [("SN1", None), ("SN2", Some("acme.edge-01"))] {
        let device = device(uid, serial, known);
        let mut runs = 1;
        let done = loop {
            match outcome(&versa, Intent::Apply, device.clone()).await {
                Outcome::Passing { ours: true, .. } if runs < 10 => runs += 1,
                other => break other,
            }
        };
        let Outcome::Done(findings) = &done else { panic!("{done:?}") };
        assert!(matches!(findings[0].finding, Finding::Applied { .. }), "{done:?}");
        assert!(runs >= 2, "one run has followed it to its end");
    }
    assert_eq!(versa.director.workflows.tasks(), 2, "each was deployed once");
    let heard = versa.standin.heard();
    let saved = heard.iter().filter(|heard| {
        heard.path.starts_with("/vnms/sdwan/workflow/devices/device")
            && !heard.path.contains("deploy")
            && heard.method != "GET"
    });
    assert_eq!(saved.count(), 2, "and saved once");
}
