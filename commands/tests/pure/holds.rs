//! What keeps an object as it is: suspension and protection.

use wanwright_commands::orders::{self, Held};
use wanwright_schemas::Reason::*;

use crate::harness::*;

const WHY: &str = r#"{"reason":"works at the site"}"#;
const VLAN: &str = r#"{"settings":{"vlan":7}}"#;

#[test]
fn nothing_is_done_about_what_is_suspended() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    assert_eq!(world.accept("device.d1.suspend", WHY), ["d1 DeviceSuspended"]);
    world.idle("device.d1");
    assert_eq!(world.accept("device.d1.change", VLAN), ["d1 DeviceChanged 2"]);
    world.idle("device.d1");
    assert_eq!(orders::held(&world.state, &target_of("device.d1")), Some(Held::Suspended));
    let refusal = world.refuse("device.d1.check-drift", "", Suspended, "");
    assert!(refusal.message.contains("works at the site"), "{refusal}");
    assert_eq!(world.accept("device.d1.resume", ""), ["d1 DeviceResumed"]);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 2"]);
    assert_eq!(world.report(&in_sync(&world.look("device.d1"))), ["d1 DeviceDriftNotFound"]);
}

#[test]
fn a_suspended_site_takes_its_stack_and_its_devices_with_it() {
    let mut world = World::running();
    world.accept("site.oslo.suspend", WHY);
    let concerned = orders::affected(&world.state, &world.history.last().unwrap().1);
    assert_eq!(concerned.iter().map(ToString::to_string).collect::<Vec<_>>(), ["site/oslo", "device/d1"]);
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#);
    world.accept("device.d1.change", VLAN);
    world.idle("site.oslo");
    world.idle("device.d1");
    for object in ["site.oslo", "device.d1"] {
        world.refuse(&format!("{object}.check-drift"), "", Suspended, "");
    }
    world.refuse("customer.acme.check-drift", "", NothingToCheck, "");
    world.refuse("tunnel.t1.suspend", WHY, UnknownVerb, "");
    world.accept("site.oslo.resume", "");
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
}

#[test]
fn a_suspended_customer_rests_as_a_whole() {
    let mut world = World::running();
    world.accept("customer.acme.suspend", WHY);
    assert_eq!(orders::affected(&world.state, &world.history.last().unwrap().1).len(), 2);
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.accept("device.d1.decommission", "");
    world.idle("site.oslo");
    world.idle("device.d1");
    world.refuse("customer.acme.check-drift", "", Suspended, "");
    world.accept("customer.acme.resume", "");
    world.nothing("customer.acme.resume", "");
    world.carry_out("site.oslo");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
}

#[test]
fn a_run_that_was_on_its_way_still_counts() {
    let mut world = World::running();
    world.accept("device.d1.change", VLAN);
    let order = world.change("device.d1");
    world.accept("device.d1.suspend", WHY);
    assert_eq!(world.report(&done(&order)), ["d1 DeviceApplied 2"]);
    world.accept("device.d1.resume", "");
    world.idle("device.d1");
}

#[test]
fn a_suspension_says_why_and_is_asked_for_once() {
    let mut world = World::running();
    world.refuse("site.oslo.suspend", "", MissingField, "reason");
    for reason in ["", "  ", r"a\u0007b", &"x".repeat(501)] {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        world.refuse("site.oslo.suspend", &body, InvalidValue, "reason");
        world.refuse("customer.acme.suspend", &body, InvalidValue, "reason");
    }
    world.nothing("site.oslo.resume", "");
    world.accept("site.oslo.suspend", WHY);
    world.nothing("site.oslo.suspend", WHY);
    world.accept("site.oslo.suspend", r#"{"reason":"other works"}"#);
    world.refuse("site.rome.suspend", WHY, NotFound, "");
    world.refuse("site.rome.resume", "", NotFound, "");
}

#[test]
fn a_suspended_object_is_taken_down_when_it_is_resumed() {
    let mut world = World::running();
    world.accept("device.d1.decommission", "");
    world.accept("device.d1.suspend", WHY);
    world.idle("device.d1");
    world.accept("device.d1.resume", "");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
}

#[test]
fn what_is_protected_is_not_taken_down() {
    let mut world = World::running();
    for (object, kind) in [("tunnel.t1", "Tunnel"), ("device.d1", "Device"), ("site.oslo", "Site")] {
        let name = object.split_once('.').unwrap().1;
        assert_eq!(world.accept(&format!("{object}.protect"), ""), [format!("{name} {kind}Protected")]);
        world.nothing(&format!("{object}.protect"), "");
        let refusal = world.refuse(&format!("{object}.decommission"), "", Protected, "");
        assert!(refusal.next.contains("unprotect"));
    }
    world.accept("device.d1.change", VLAN);
    world.accept("device.d1.unprotect", "");
    world.nothing("device.d1.unprotect", "");
    world.accept("device.d1.decommission", "");
    world.refuse("device.d1.protect", "", BeingRemoved, "");
    // It is no part of what an object should be.
    world.refuse("site.oslo.change", r#"{"protected":false}"#, UnknownField, "protected");
}
