//! Going back to an earlier generation, by the rules of today.

use wanwright_schemas::Reason::*;
use wanwright_schemas::{Change, Event};

use crate::harness::*;

fn lan(world: &World, site: &str) -> Vec<String> {
    let site = &world.state.sites[&site.parse().expect("an id")];
    site.spec.lan.iter().map(ToString::to_string).collect()
}

#[test]
fn a_revert_makes_a_new_generation_with_the_old_specification() {
    let mut world = World::running();
    world.accept("site.oslo.change", r#"{"lan":["10.5.0.0/24"],"settings":{"location":"Oslo"}}"#);
    world.accept("site.oslo.change", r#"{"lan":["10.6.0.0/24"]}"#);
    let events = world.send("demo", "site.oslo.revert", r#"{"to_generation":2}"#, None).expect("accepted");
    let [Event::Site(_, Change::Changed { generation, spec, reverted_to, .. })] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*generation, *reverted_to), (4, Some(2)));
    assert_eq!(spec.settings["location"], "Oslo");
    assert_eq!(lan(&world, "oslo"), ["10.5.0.0/24"]);
    // To what it is already, by other generations, says nothing.
    world.nothing("site.oslo.revert", r#"{"to_generation":2}"#);
    assert_eq!(world.accept("site.oslo.revert", r#"{"to_generation":1}"#), ["oslo SiteChanged 5"]);
    assert_eq!(lan(&world, "oslo"), ["10.1.0.0/24"]);
    world.carry_out("site.oslo");

    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    assert_eq!(world.accept("tunnel.t1.revert", r#"{"to_generation":1}"#), ["t1 TunnelChanged 3"]);
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    assert_eq!(world.accept("device.d1.revert", r#"{"to_generation":1}"#), ["d1 DeviceChanged 3"]);
}

#[test]
fn a_generation_that_cannot_be_gone_back_to_is_named() {
    let mut world = World::running();
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    let field = "to_generation";
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, PresentGeneration, field);
    world.refuse("device.d1.revert", r#"{"to_generation":3}"#, UnknownGeneration, field);
    world.refuse("device.d1.revert", r#"{"to_generation":0}"#, UnknownGeneration, field);
    world.refuse("device.d2.revert", r#"{"to_generation":1}"#, NotFound, "");
    world.refuse("device.d1.revert", "{}", MissingField, field);
    world.accept("device.d1.decommission", "");
    world.refuse("device.d1.revert", r#"{"to_generation":1}"#, BeingRemoved, "");
    world.carry_out("device.d1");
    world.accept("device.d1.create", DEVICE);
    // Generation 2 was one of the device that had the name before.
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, FormerObject, field);
    world.refuse("device.d1.revert", r#"{"to_generation":3}"#, UnknownGeneration, field);
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    world.accept("device.d1.revert", r#"{"to_generation":1}"#);
    let device = &world.state.devices[&"d1".parse().expect("an id")];
    assert!(!device.spec.settings.contains_key("hostname") || device.spec.settings["hostname"] != "ap");
}

#[test]
fn what_was_right_then_is_judged_by_the_rules_of_today() {
    let mut world = World::running();
    world.accept("site.oslo.change", r#"{"lan":["10.5.0.0/24"]}"#);
    world.accept("site.paris.create", r#"{"vendor":"northwan","lan":["10.1.0.0/24"]}"#);
    world.refuse("site.oslo.revert", r#"{"to_generation":1}"#, PrefixOverlap, "lan[0]");
    world.accept("tunnel.t2.create", TO_PARIS);
    world.accept("tunnel.t2.change", r#"{"peer":{"hub":"hub-b","site":null}}"#);
    world.accept("site.paris.decommission", "");
    world.refuse("tunnel.t2.revert", r#"{"to_generation":1}"#, SiteMissing, "peer.site");
    // The vendor gave a hub up meanwhile.
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-a"}}"#);
    let mut later = World { vendors: &VENDORS_LATER, ..world.clone() };
    let gone = if VENDORS_LATER.get("northwan").expect("north").hubs.contains_key("hub-a") { 2 } else { 1 };
    later.refuse("tunnel.t1.revert", &format!(r#"{{"to_generation":{gone}}}"#), UnknownHub, "peer.hub");
    // Nobody reverts in a freeze.
    let freeze = r#"{"name":"f","from":"2026-11-21T00:00:00Z","to":"2026-11-30T00:00:00Z","reason":"r"}"#;
    world.accept("customer.acme.freeze", freeze);
    world.refuse("tunnel.t1.revert", r#"{"to_generation":2}"#, Frozen, "");
}

#[test]
fn a_revert_waits_for_approvals_and_windows_like_any_change() {
    let mut world = World::running();
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    let body = r#"{"policy":{"device":"approve"},"windows":{"w":{"zone":"UTC","from":"01:00","to":"02:00","kinds":["site"]}}}"#;
    world.accept("customer.acme.change", body);
    let events = world.accept("device.d1.revert", r#"{"to_generation":1}"#);
    assert_eq!(events, ["d1 DeviceChanged 3", "d1 DeviceApprovalRequested 3"]);
    world.accept("site.oslo.change", r#"{"lan":["10.5.0.0/24"]}"#);
    let events = world.accept("site.oslo.revert", r#"{"to_generation":1}"#);
    assert_eq!(events, ["oslo SiteChanged 3", "oslo SitePostponed 3"]);
}

#[test]
fn an_end_that_was_rejected_is_taken_back_by_a_revert() {
    let mut world = World::running();
    world.accept("customer.acme.change", r#"{"policy":{"device":"approve"}}"#);
    world.accept("device.d1.decommission", "");
    world.refuse("device.d1.revert", r#"{"to_generation":1}"#, BeingRemoved, "");
    world.send("boss", "device.d1.reject", r#"{"generation":2,"reason":"no"}"#, None).expect("rejected");
    // Generation 2 was its absence, and never a specification.
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, PresentGeneration, "to_generation");
    let events = world.accept("device.d1.revert", r#"{"to_generation":1}"#);
    assert_eq!(events, ["d1 DeviceChanged 3", "d1 DeviceApprovalRequested 3"]);
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, UnknownGeneration, "to_generation");
    assert!(!world.state.devices[&"d1".parse().expect("an id")].leaving);
    world.send("boss", "device.d1.approve", r#"{"generation":3}"#, None).expect("approved");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 3"]);
}
