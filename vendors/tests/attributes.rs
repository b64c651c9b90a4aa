//! From desired state to attributes, and what counts as a difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use wanwright_vendors::{Normal, ResourceApi, Vendor, Wire};

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
    let body = site.sent(&attributes, false)["attributes"].clone();
    assert_eq!(body, json!({"meta": {"name": "oslo"}, "spec": {"lan/v4": ["a"]}}));
    let patch = json!({"meta": {"name": "oslo", "where": null}, "spec": {"lan/v4": ["a"]}});
    assert_eq!(site.sent(&attributes, true)["attributes"], patch);
    let nowhere = serde_json::Map::new();
    let read = site.from_json(&body, &nowhere).unwrap();
    assert_eq!(
        read,
        map(json!({"name": "oslo", "lan": ["a"], "location": null, "status": null, "address": null}))
    );
    assert_eq!(site.from_json(&json!({"meta": {"name": 3}}), &nowhere), Err("name".to_owned()));
    assert_eq!(site.attribute_of_field("meta.where").as_deref(), Some("location"));
    assert_eq!(site.attribute_of_field("/meta/where").as_deref(), Some("location"));
    assert_eq!(site.attribute_of_field("lan").as_deref(), Some("lan"));
    assert_eq!(site.attribute_of_field("colour"), None);
}

#[test]
fn what_is_normalised_is_no_difference() {
    let mut site = (*simwan("site")).clone();
    let mut same = |name: &str, normalise: &[Normal], left: Value, right: Value| {
        let attribute = site.attributes.get_mut(name).unwrap();
        attribute.normalise = normalise.to_vec();
        attribute.same(&left, &right)
    };
    for (name, normalise, left, right, other) in [
        ("location", &[Normal::Case][..], json!("Oslo"), json!("OSLO"), json!("Osl")),
        ("address", &[Normal::Ip], json!("2001:DB8:0::1"), json!("2001:db8::1"), json!("2001:db8::2")),
        ("address", &[Normal::Cidr], json!("10.1.2.3/24"), json!("10.1.2.0/24"), json!("10.1.2.0/25")),
        ("address", &[Normal::Cidr], json!("10.1.2.3"), json!("10.1.2.3/32"), json!("10.1.2.3/33")),
        ("address", &[Normal::Cidr], json!("1.2.3.4/0"), json!("0.0.0.0/0"), json!("::/0")),
        ("address", &[Normal::Cidr], json!("2001:DB8::1/32"), json!("2001:db8::/32"), json!("2001:db9::/32")),
        ("lan", &[Normal::Unordered], json!(["b", "a", "a"]), json!(["a", "b", "a"]), json!(["a", "b", "b"])),
        (
            "lan",
            &[Normal::Cidr, Normal::Unordered],
            json!(["10.2.0.1/16", "10.1.0.0/16"]),
            json!(["10.1.0.9/16", "10.2.0.0/16"]),
            json!(["10.1.0.0/16"]),
        ),
        ("address", &[Normal::Empty], json!(""), Value::Null, json!(" ")),
        // The default of `location` is an empty text.
        ("location", &[Normal::Default], Value::Null, json!(""), json!("Oslo")),
    ] {
        assert!(same(name, normalise, left.clone(), right.clone()), "{left} is {right}");
        assert!(same(name, normalise, right.clone(), left.clone()), "{right} is {left}");
        assert!(!same(name, &[], left.clone(), right.clone()), "{left} is {right} without {normalise:?}");
        assert!(!same(name, normalise, left.clone(), other.clone()), "{left} is not {other}");
    }
}

#[test]
fn numbers_may_travel_as_text() {
    let mut tunnel = (*simwan("tunnel")).clone();
    for name in ["mtu", "name"] {
        tunnel.attributes.get_mut(name).unwrap().wire = Wire::Text;
    }
    let sent = tunnel.sent(&map(json!({"mtu": 1400})), false);
    assert_eq!((&sent["mtu"], &sent["attributes"]), (&json!("1400"), &json!({"mtu": "1400"})));
    let nowhere = serde_json::Map::new();
    for mtu in [json!("1400"), json!(1400)] {
        let read = tunnel.from_json(&json!({"mtu": mtu, "name": 7}), &nowhere).unwrap();
        assert_eq!((&read["mtu"], &read["name"]), (&json!(1400), &json!("7")));
    }
    assert_eq!(tunnel.from_json(&json!({"mtu": "much"}), &nowhere), Err("mtu".to_owned()));
}
