//! What a device may be.

use serde_json::{Value, json};
use wanwright_schemas::Reason::*;
use wanwright_schemas::body::merge_patch;

use crate::harness::*;

/// A device in Oslo, with these differences.
fn device(differences: Value) -> String {
    let mut body: Value = serde_json::from_str(DEVICE).expect("JSON");
    merge_patch(&mut body, &differences);
    body.to_string()
}

fn sites() -> World {
    World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2)])
}

#[test]
fn a_device_is_created_with_its_vendors_defaults() {
    let mut world = sites();
    assert_eq!(world.accept("device.d1.create", DEVICE), ["d1 DeviceCreated 1"]);
    let settings = &world.state.devices[&"d1".parse().unwrap()].spec.settings;
    assert_eq!(Value::Object(settings.clone()), json!({"hostname": "", "vlan": 1}));
}

#[test]
fn the_site_must_be_there_and_stay() {
    let mut world = sites();
    world.refuse("device.d1.create", &device(json!({"site": "rome"})), SiteMissing, "site");
    world.accept("site.paris.decommission", "");
    world.refuse("device.d1.create", &device(json!({"site": "paris"})), SiteMissing, "site");
}

#[test]
fn the_model_must_be_one_of_the_sites_vendor() {
    let mut world = sites();
    let refusal =
        world.refuse("device.d1.create", &device(json!({"model": "bare-1"})), UnknownModel, "model");
    assert!(refusal.message.contains("edge-1, edge-2"), "{refusal}");
    world.accept("site.bare.create", r#"{"vendor":"barewan","lan":["10.3.0.0/24"]}"#);
    world.refuse("device.d1.create", &device(json!({"site": "bare"})), UnknownModel, "model");
    world.accept("device.d1.create", &device(json!({"site": "bare", "model": "bare-1"})));
}

#[test]
fn a_serial_number_has_its_form() {
    let mut world = sites();
    let long = "A".repeat(41);
    for serial in ["", "ABC", "abcd", "SN 01", "SN_01", "SN-01\n", "ÅÄÖ1", long.as_str()] {
        world.refuse("device.d1.create", &device(json!({"serial": serial})), InvalidValue, "serial");
    }
    world.accept("device.d1.create", &device(json!({"serial": "A-01"})));
    world.accept("device.d2.create", &device(json!({"serial": "A".repeat(40)})));
}

#[test]
fn a_serial_number_belongs_to_one_device() {
    let mut world = sites();
    world.accept("device.d1.create", DEVICE);
    let other = device(json!({"site": "paris"}));
    let refusal = world.refuse("device.d2.create", &other, SerialTaken, "serial");
    assert!(refusal.message.contains("device/d1"), "{refusal}");
    world.accept("device.d1.decommission", "");
    world.refuse("device.d2.create", &other, SerialTaken, "serial");
    world.carry_out("device.d1");
    world.accept("device.d2.create", &other);
}

#[test]
fn site_serial_and_model_stay() {
    let mut world = sites();
    world.accept("device.d1.create", DEVICE);
    world.refuse("device.d1.change", r#"{"site":"paris"}"#, CannotChange, "site");
    world.refuse("device.d1.change", r#"{"serial":"SN-0002"}"#, CannotChange, "serial");
    world.refuse("device.d1.change", r#"{"model":"edge-2"}"#, CannotChange, "model");
    // A change does not collide with the device's own serial number.
    assert_eq!(world.accept("device.d1.change", r#"{"settings":{"vlan":7}}"#), ["d1 DeviceChanged 2"]);
}

#[test]
fn settings_are_checked_against_the_vendors_schema() {
    let mut world = sites();
    for (settings, reason, at) in [
        (json!({"vlam": 1}), UnknownField, "settings.vlam"),
        (json!({"vlan": "1"}), WrongType, "settings.vlan"),
        (json!({"vlan": 1.5}), WrongType, "settings.vlan"),
        (json!({"vlan": 4095}), InvalidValue, "settings.vlan"),
        (json!({"hostname": false}), WrongType, "settings.hostname"),
    ] {
        world.refuse("device.d1.create", &device(json!({"settings": settings})), reason, at);
    }
    world.accept("device.d1.create", &device(json!({"settings": {"vlan": 4094, "hostname": "ap"}})));
}
