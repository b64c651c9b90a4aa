//! The vendors' folders change while the service runs.

use std::fs;
use std::path::Path;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_commands::service::Options;
use wanwright_schemas::{CommandId, Outcome, Reason, headers};
use wanwright_vendors::{Refreshed, Vendors};

use crate::world::*;

fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors/simwan")), &dir.path().join("simwan"));
    dir
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn dry(world: &World, tail: &str, body: &str) -> Outcome {
    let mut head = with(CommandId::mint());
    head.insert(headers::DRY_RUN, "true");
    ask(world, tail, head, body).await
}

async fn ask(world: &World, tail: &str, head: HeaderMap, body: &str) -> Outcome {
    let body = body.to_owned().into();
    let answer = world.nats.client.request_with_headers(format!("wan.do.{tail}"), head, body).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Asks again and again whether a device with this VLAN is refused, until it is or is not.
async fn until_refused(world: &World, refused: bool) {
    let body = json!({"site": "oslo", "serial": "SN-0002", "model": "edge-100", "settings": {"vlan": 77}});
    let judged = async {
        loop {
            let outcome = dry(world, "acme.demo.device.d2.create", &body.to_string()).await;
            if (code(&outcome) == Some(Reason::RuleBroken)) == refused {
                return;
            }
            assert!(
                outcome.refusal().is_none_or(|refusal| refusal.code == Reason::RuleBroken),
                "{outcome:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, judged).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_rule_refuses_without_a_restart_and_a_broken_folder_changes_nothing() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let _watching = vendors.watch(move |found| drop(tell.send(found)));
    let world = World::empty("").await;
    let service = world.serve_vendors(vendors, Options::default()).await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    until_refused(&world, false).await;
    let file = dir.path().join("simwan/schemas/device.v2.json");
    let good = fs::read_to_string(&file).unwrap();
    let stricter = good.replace("self.vlan < 1002", "self.vlan < 70");
    fs::write(&file, &stricter).unwrap();
    until_refused(&world, true).await;
    assert!(matches!(told.recv_timeout(LIMIT).unwrap(), Refreshed::Swapped(_)));
    fs::write(&file, good.replace("self.vlan <", "self.vlna <")).unwrap();
    assert!(matches!(told.recv_timeout(LIMIT).unwrap(), Refreshed::Refused(_)));
    until_refused(&world, true).await;
    fs::write(&file, &good).unwrap();
    until_refused(&world, false).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_says_which_version_a_command_speaks() {
    let world = World::new().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let body =
        json!({"site": "oslo", "serial": "SN-0001", "model": "edge-100", "settings": {"hostname": "ap"}});
    let speaking = |version: &str| {
        let mut head = with(CommandId::mint());
        head.insert(headers::SCHEMA, version);
        head
    };
    let tail = "acme.demo.device.d1.create";
    for (version, reason) in [
        ("v2", Reason::UnknownField),
        ("v3", Reason::UnknownSchemaVersion),
        ("2", Reason::BadHeader),
        ("v02", Reason::BadHeader),
    ] {
        let outcome = ask(&world, tail, speaking(version), &body.to_string()).await;
        assert_eq!(code(&outcome), Some(reason), "{version}");
    }
    let outcome = ask(&world, tail, speaking("v1"), &body.to_string()).await;
    assert_eq!(code(&outcome), None, "{outcome:?}");
    let history = world.history("acme").await;
    let last: Value = serde_json::from_slice(&history.last().unwrap().payload).unwrap();
    let event = &last["events"][0];
    assert_eq!(event["spec"]["settings"], json!({"system_name": "ap", "vlan": 1}));
    assert_eq!(event["schema"]["version"], "v2");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dataschema_of_an_event_says_which_version_its_data_speaks() {
    let world = World::new().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let tail = "acme.demo.device.d1.create";
    let data =
        json!({"site": "oslo", "serial": "SN-0001", "model": "edge-100", "settings": {"hostname": "ap"}});
    let event = |schema: &str| json!({"specversion": "1.0", "id": schema, "source": "erp", "type": "x", "dataschema": schema, "data": data});
    let headers = |schema: &str, own: Option<&str>| {
        let mut head = HeaderMap::new();
        for (name, value) in [("specversion", "1.0"), ("id", schema), ("source", "erp"), ("type", "x")] {
            head.insert(format!("ce-{name}").as_str(), value);
        }
        head.insert("ce-dataschema", schema);
        if let Some(version) = own {
            head.insert(headers::SCHEMA, version);
        }
        head
    };
    let said = |outcome: &Outcome| {
        let refusal = outcome.refusal().unwrap_or_else(|| panic!("{outcome:?}"));
        (refusal.code, refusal.field.clone().unwrap_or_default())
    };
    for (schema, own, reason, field) in [
        ("urn:wanwright:device:v2", None, Reason::UnknownField, "settings.hostname"),
        ("urn:wanwright:device:v3", None, Reason::UnknownSchemaVersion, headers::SCHEMA),
        ("urn:wanwright:device:v99999", None, Reason::BadHeader, "dataschema"),
        ("urn:wanwright:site:v1", None, Reason::InvalidValue, "dataschema"),
        ("urn:wanwright:device:v1", Some("v2"), Reason::BadHeader, "dataschema"),
    ] {
        let outcome = ask(&world, tail, headers(schema, own), &data.to_string()).await;
        assert_eq!(said(&outcome), (reason, field.to_owned()), "{outcome:?}");
    }
    let foreign = "https://erp.example/device.json";
    let outcome = ask(&world, tail, headers(foreign, None), &data.to_string()).await;
    assert_eq!(said(&outcome), (Reason::BadHeader, "ce-dataschema".to_owned()));
    let outcome = ask(&world, tail, HeaderMap::new(), &event(foreign).to_string()).await;
    assert_eq!(said(&outcome), (Reason::InvalidValue, "dataschema".to_owned()));
    assert!(outcome.refusal().unwrap().next.contains("urn:wanwright:device:v1"), "{outcome:?}");
    let first = event("urn:wanwright:device:v1").to_string();
    let outcome = ask(&world, tail, HeaderMap::new(), &first).await;
    assert!(outcome.position().is_some(), "{outcome:?}");
    let second = data.to_string().replace("SN-0001", "SN-0002");
    let head = headers("urn:wanwright:device:v1", Some("v1"));
    let outcome = ask(&world, "acme.demo.device.d2.create", head, &second).await;
    assert!(outcome.position().is_none(), "one id is one command: {outcome:?}");
    assert_eq!(code(&outcome), Some(Reason::CommandIdReused));
    let mut head = headers("urn:wanwright:device:v1", Some("v1"));
    head.insert("ce-id", "another");
    let outcome = ask(&world, "acme.demo.device.d2.create", head, &second).await;
    assert!(outcome.position().is_some(), "{outcome:?}");
    for message in &world.history("acme").await[1..] {
        let last: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(last["events"][0]["spec"]["settings"], json!({"system_name": "ap", "vlan": 1}));
    }
    world.stop().await;
}
