//! From desired state to attributes, and what counts as a difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use wanwright_vendors::{ResourceApi, UpdateMethod, Vendor};

fn simwan(kind: &str) -> Arc<ResourceApi> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("simwan");
    Vendor::load(&dir).unwrap().api[kind].clone()
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn attributes_come_from_their_paths_and_defaults() {
    let desired = json!({
        "name": "edge-1", "serial": "S1", "model": "edge-100",
        "settings": { "vlan": 20 }, "inputs": { "site_id": "s-1" }, "status": "never sent",
    });
    assert_eq!(
        simwan("device").desired_attributes(&desired),
        map(json!({
            "name": "edge-1", "serial": "S1", "model": "edge-100", "vlan": 20, "site_id": "s-1", "hostname": "",
        }))
    );
    assert_eq!(simwan("site").desired_attributes(&json!(3)), map(json!({"location": ""})));
}

#[test]
fn only_what_is_compared_and_means_something_else_differs() {
    let site = simwan("site");
    let desired = map(json!({"name": "oslo", "lan": ["10.0.0.0/24", "10.0.1.0/24"], "location": ""}));
    let mut observed = desired.clone();
    observed.insert("address".into(), json!("192.0.2.1"));
    assert_eq!(site.differences(&desired, &observed), []);
    observed.insert("lan".into(), json!(["10.0.1.0/24", "10.0.0.0/24"]));
    let differences = site.differences(&desired, &observed);
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].attribute, "lan");
    observed.remove("lan");
    observed.remove("name");
    assert_eq!(site.differences(&desired, &observed).len(), 2);
    let tunnel = simwan("tunnel");
    let differ = |left: Value, right: Value| {
        !tunnel.differences(&map(json!({"mtu": left})), &map(json!({"mtu": right}))).is_empty()
    };
    assert!(!differ(json!(1400), json!(1400.0)));
    assert!(differ(json!(1400), json!("1400")));
    assert!(differ(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)));
    let empty = map(json!({"lan": []}));
    assert_eq!(site.differences(&empty, &map(json!({}))), []);
}

#[test]
fn json_is_written_and_read_by_pointer() {
    let mut site = (*simwan("site")).clone();
    for (name, pointer) in [("name", "/meta/name"), ("lan", "/spec/lan~1v4"), ("location", "/meta/where")] {
        site.attributes.get_mut(name).unwrap().json = pointer.to_owned();
    }
    let attributes = map(json!({"name": "oslo", "lan": ["a"], "location": null, "status": "up", "other": 1}));
    let body = site.to_json(&attributes);
    assert_eq!(body, json!({"meta": {"name": "oslo"}, "spec": {"lan/v4": ["a"]}}));
    assert_eq!(site.to_update(&attributes), body);
    site.update_method = UpdateMethod::Patch;
    let patch = json!({"meta": {"name": "oslo", "where": null}, "spec": {"lan/v4": ["a"]}});
    assert_eq!(site.to_update(&attributes), patch);
    let read = site.from_json(&body).unwrap();
    assert_eq!(
        read,
        map(json!({"name": "oslo", "lan": ["a"], "location": null, "status": null, "address": null}))
    );
    assert_eq!(site.from_json(&json!({"meta": {"name": 3}})), Err("name".to_owned()));
    assert_eq!(site.attribute_of_field("meta.where"), Some("location"));
    assert_eq!(site.attribute_of_field("/meta/where"), Some("location"));
    assert_eq!(site.attribute_of_field("lan"), Some("lan"));
    assert_eq!(site.attribute_of_field("colour"), None);
}
