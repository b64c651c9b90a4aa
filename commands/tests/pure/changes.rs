//! What creating and changing have in common, and who may do what.

use serde_json::json;
use wanwright_schemas::Reason::*;

use crate::harness::*;

#[test]
fn a_name_is_taken_once() {
    let mut world = World::running();
    world.refuse("site.oslo.create", LAN_2, AlreadyExists, "");
    world.refuse("tunnel.t1.create", TO_PARIS, AlreadyExists, "");
    world.refuse("device.d1.create", DEVICE, AlreadyExists, "");
}

#[test]
fn what_is_not_there_cannot_be_asked_for_anything() {
    let mut world = World::default();
    for object in ["site.x", "tunnel.x", "device.x"] {
        for verb in ["change", "decommission", "retry"] {
            world.refuse(&format!("{object}.{verb}"), "", NotFound, "");
        }
    }
    world.refuse("site.x.check-drift", "", NotFound, "");
    world.refuse("device.x.check-drift", "", NotFound, "");
}

#[test]
fn what_leaves_cannot_be_changed_or_created() {
    let mut world = World::running();
    for (object, body) in [("device.d1", DEVICE), ("tunnel.t1", TO_HUB)] {
        world.accept(&format!("{object}.decommission"), "");
        world.refuse(&format!("{object}.change"), "", BeingRemoved, "");
        world.refuse(&format!("{object}.create"), body, BeingRemoved, "");
    }
    world.carry_out("device.d1");
    world.carry_out("site.oslo");
    world.accept("site.oslo.decommission", "");
    world.refuse("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#, BeingRemoved, "");
    world.refuse("site.oslo.create", LAN, BeingRemoved, "");
    world.refuse("site.oslo.check-drift", "", BeingRemoved, "");
}

#[test]
fn a_change_merges_and_makes_one_generation() {
    let mut world = World::running();
    let events = world.accept("device.d1.change", r#"{"settings":{"vlan":7}}"#);
    assert_eq!(events, ["d1 DeviceChanged 2"]);
    assert_eq!(world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#), ["d1 DeviceChanged 3"]);
    let settings = world.state.devices[&"d1".parse().unwrap()].spec.settings.clone();
    assert_eq!(serde_json::Value::Object(settings), json!({"hostname": "ap", "vlan": 7}));
}

#[test]
fn a_change_without_difference_says_nothing() {
    let mut world = World::running();
    world.nothing("site.oslo.change", "");
    world.nothing("site.oslo.change", "{}");
    world.nothing("site.oslo.change", LAN);
    world.nothing("tunnel.t1.change", TO_HUB);
    world.nothing("device.d1.change", r#"{"settings":{"vlan":1}}"#);
}

#[test]
fn a_change_that_the_defaults_undo_says_nothing() {
    let mut world = World::running();
    world.nothing("site.oslo.change", r#"{"settings":null}"#);
    world.nothing("tunnel.t1.change", r#"{"settings":{"mtu":null}}"#);
    world.nothing("device.d1.change", r#"{"settings":{"vlan":1.0}}"#);
    world.accept("device.d1.change", r#"{"settings":{"vlan":7}}"#);
    assert_eq!(world.accept("device.d1.change", r#"{"settings":{"vlan":null}}"#), ["d1 DeviceChanged 3"]);
}

#[test]
fn a_change_is_a_whole_specification_afterwards() {
    let mut world = World::running();
    world.refuse("site.oslo.change", r#"{"lan":null}"#, MissingField, "lan");
    world.refuse("site.oslo.change", r#"{"lan":"10.1.0.0/24"}"#, WrongType, "lan");
    world.refuse("site.oslo.change", r#"{"lan":["10.1.0.0/33"]}"#, InvalidValue, "lan[0]");
    world.refuse("site.oslo.change", r#"{"lam":["10.1.0.0/24"]}"#, UnknownField, "lam");
    world.refuse("site.oslo.change", "7", WrongType, "");
    world.refuse("site.oslo.change", "{", BrokenJson, "");
    world.refuse("device.d1.change", r#"{"settings":7}"#, WrongType, "settings");
}

#[test]
fn only_executors_report_and_they_do_nothing_else() {
    let mut world = World::running();
    let report = json!({"order": id(1), "findings": []}).to_string();
    for tail in ["site.oslo.report", "device.d1.report"] {
        let refusal = world.send("demo", tail, &report, None).expect_err("people do not report");
        assert_eq!(refusal.code, NotAllowed);
        assert!(world.send("executor", tail, &report, None).is_ok());
    }
    for (tail, body) in [
        ("site.paris.create", LAN_2),
        ("site.oslo.change", ""),
        ("site.oslo.decommission", ""),
        ("device.d1.retry", ""),
        ("device.d1.check-drift", ""),
        ("customer.acme.check-drift", ""),
        ("tunnel.t1.decommission", ""),
    ] {
        assert_eq!(world.send("executor", tail, body, None).expect_err(tail).code, NotAllowed);
    }
}

#[test]
fn another_generation_than_expected_is_refused() {
    let mut world = World::running();
    world.accept("device.d1.change", r#"{"settings":{"vlan":7}}"#);
    for (tail, body) in [
        ("device.d1.change", r#"{"settings":{"vlan":8}}"#),
        ("device.d1.decommission", ""),
        ("device.d1.retry", ""),
        ("device.d1.check-drift", ""),
    ] {
        for expected in [0, 1, 3] {
            let refusal = world.send("demo", tail, body, Some(expected)).expect_err("stale");
            assert_eq!(refusal.code, GenerationMismatch, "{tail}");
        }
    }
    let changed =
        world.send("demo", "device.d1.change", r#"{"settings":{"vlan":8}}"#, Some(2)).expect("current");
    assert_eq!(short(&changed[0]), "d1 DeviceChanged 3");
}

#[test]
fn who_creates_expects_nothing_to_be_there() {
    let mut world = World::default();
    let gone =
        world.send("demo", "site.oslo.create", LAN, Some(3)).expect_err("the sender saw one that is gone");
    assert_eq!(gone.code, GenerationMismatch);
    assert!(world.send("demo", "site.oslo.create", LAN, Some(0)).is_ok());
    let there = world.send("demo", "site.oslo.create", LAN, Some(0)).expect_err("there is one now");
    assert_eq!(there.code, GenerationMismatch);
    let missing = world.send("demo", "site.x.change", "", Some(3)).expect_err("there is none");
    assert_eq!(missing.code, NotFound);
}
