//! A vendor's folder changes while its customers have what it offered before.

use wanwright_schemas::Reason::*;

use crate::harness::*;

/// Oslo as it runs, with the vendors' later folders.
fn later() -> World {
    World { vendors: &VENDORS_LATER, ..World::running() }
}

#[test]
fn a_tunnel_to_a_hub_that_was_given_up_stays_as_it_is() {
    let mut world = later();
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let desired = serde_json::to_value(&world.change("site.oslo").desired).unwrap();
    assert_eq!(desired["tunnels"]["t1"]["peer_address"], "198.51.100.1");
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    world.refuse("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#, UnknownHub, "peer.hub");
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelApplied 2"]);
}

#[test]
fn a_change_without_difference_says_nothing_whatever_the_vendor_offers_now() {
    let mut world = later();
    world.nothing("tunnel.t1.change", TO_HUB);
    world.nothing("device.d1.change", DEVICE);
    world.refuse("device.d1.change", r#"{"settings":{"vlan":7}}"#, UnknownModel, "model");
}

#[test]
fn a_hub_that_moved_is_an_input_that_changed() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    world.vendors = &VENDORS_LATER;
    let order = world.change("site.oslo");
    assert_eq!(world.report(&failed(&order)), ["t1 TunnelFailed 2"]);
    world.idle("site.oslo");
    world.accept("tunnel.t1.retry", "");
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelApplied 2"]);
    world.idle("site.oslo");
}

#[test]
fn what_a_vendor_gave_up_can_be_taken_down() {
    let mut world = later();
    world.accept("tunnel.t1.decommission", "");
    world.accept("device.d1.decommission", "");
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
    world.accept("site.oslo.decommission", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved"]);
}
