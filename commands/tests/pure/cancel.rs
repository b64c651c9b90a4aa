//! Taking back what was asked for and not begun.

use serde_json::json;
use wanwright_commands::cancel::Standing;
use wanwright_schemas::Reason::{
    BeingRemoved, NothingToCancel, OrderRunning, PrefixOverlap, Protected, SiteInUse, SiteMissing,
    UnknownGeneration,
};

use crate::harness::{DEVICE, LAN, TO_HUB, World, applied, done, map};

const CHANGE: &str = r#"{"settings":{"hostname":"ap"}}"#;

fn device(world: &World) -> &wanwright_commands::Object<wanwright_schemas::spec::DeviceSpec> {
    &world.state.devices[&"d1".parse().expect("an id")]
}

#[test]
fn what_waits_is_taken_back_and_nothing_is_ordered() {
    let mut world = World::running();
    let before = device(&world).spec.clone();
    world.refuse("device.d1.cancel", "{}", NothingToCancel, "");
    world.accept("device.d1.change", CHANGE);
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    assert_eq!(world.accept("device.d1.cancel", "{}"), ["d1 DeviceChanged 4", "d1 DeviceCancelled 4"]);
    let now = device(&world);
    assert_eq!((&now.spec, now.generation, now.behind()), (&before, 4, false));
    assert_eq!(world.wanted("device.d1").change, None);
    world.refuse("device.d1.cancel", "", NothingToCancel, "");
    // What came back is what is gone back to the next time.
    world.accept("device.d1.change", CHANGE);
    assert_eq!(world.accept("device.d1.cancel", "{}"), ["d1 DeviceChanged 6", "d1 DeviceCancelled 6"]);
    assert_eq!(device(&world).spec, before);
}

#[test]
fn what_was_tried_is_put_right_by_another_order() {
    let mut world = World::running();
    world.accept("device.d1.change", CHANGE);
    world.standing = Standing::Tried;
    world.accept("device.d1.cancel", "{}");
    assert!(device(&world).behind(), "nobody knows what the vendor has");
    let order = world.wanted("device.d1").change.expect("an order");
    assert_eq!(order.generation(), 3);
    world.standing = Standing::Waiting;
    // The same after a failure, though another change was asked for since.
    let mut world = World::running();
    world.accept("device.d1.change", CHANGE);
    world.fail("device.d1");
    world.refuse("device.d1.cancel", "{}", NothingToCancel, "");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    world.accept("device.d1.cancel", "{}");
    assert!(world.wanted("device.d1").change.is_some());
    world.carry_out("device.d1");
    assert!(!device(&world).behind());
}

#[test]
fn what_came_late_of_an_earlier_change_does_not_hide_that_a_later_one_was_tried() {
    let mut world = World::running();
    world.accept("device.d1.change", CHANGE);
    let earlier = world.change("device.d1");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    world.fail("device.d1");
    world.accept("device.d1.retry", "");
    assert_eq!(world.report(&done(&earlier)), ["d1 DeviceApplied 2"]);
    assert_eq!(world.accept("device.d1.cancel", "{}"), ["d1 DeviceChanged 4", "d1 DeviceCancelled 4"]);
    assert!(world.wanted("device.d1").change.is_some(), "nobody knows what the vendor has");
}

#[test]
fn what_an_executor_has_taken_up_is_not_cancelled() {
    let mut world = World::running();
    world.accept("device.d1.change", CHANGE);
    world.standing = Standing::Running;
    world.refuse("device.d1.cancel", "{}", OrderRunning, "");
}

#[test]
fn what_never_was_is_gone() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    world.refuse("site.oslo.cancel", "{}", SiteInUse, "");
    world.accept("device.d1.protect", "{}");
    world.refuse("device.d1.cancel", "{}", Protected, "");
    world.accept("device.d1.unprotect", "{}");
    assert_eq!(world.accept("device.d1.cancel", "{}"), ["d1 DeviceCancelled 2"]);
    assert_eq!(world.accept("site.oslo.cancel", "{}"), ["oslo SiteCancelled 2"]);
    assert!(world.state.is_empty());
    world.accept("site.oslo.create", LAN);
    world.standing = Standing::Tried;
    assert_eq!(
        world.accept("site.oslo.cancel", "{}"),
        ["oslo SiteDecommissionRequested 2", "oslo SiteCancelled 2"]
    );
    assert!(world.wanted("site.oslo").change.is_some(), "what was begun of it is taken down");
}

#[test]
fn a_decommission_is_taken_back_while_its_site_stays() {
    let mut world = World::running();
    world.accept("device.d1.decommission", "");
    world.accept("device.d1.cancel", "{}");
    assert!(!device(&world).leaving && !device(&world).behind());
    world.accept("site.oslo.decommission", r#"{"cascade":true}"#);
    world.refuse("device.d1.cancel", "{}", SiteMissing, "site");
    world.accept("site.oslo.cancel", "{}");
    world.accept("tunnel.t1.cancel", "{}");
    world.accept("device.d1.cancel", "{}");
    assert_eq!(world.wanted("site.oslo").change, None);
    assert_eq!(world.wanted("device.d1").change, None);
}

#[test]
fn a_decommission_that_an_executor_says_it_applied_is_taken_back_as_any() {
    let mut world = World::running();
    let before = device(&world).spec.clone();
    world.accept("device.d1.decommission", "");
    let odd = world.saying(&world.change("device.d1"), "device.d1", applied(2, map(json!({}))));
    assert_eq!(world.report(&odd), ["d1 DeviceApplied 2"]);
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, BeingRemoved, "");
    assert_eq!(world.accept("device.d1.cancel", "{}"), ["d1 DeviceChanged 3", "d1 DeviceCancelled 3"]);
    assert!(!device(&world).leaving && device(&world).spec == before);
    // Nobody goes back to it otherwise: it had no specification of its own.
    world.refuse("device.d1.revert", r#"{"to_generation":2}"#, UnknownGeneration, "to_generation");
}

#[test]
fn what_others_have_taken_meanwhile_does_not_come_back() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", r#"{"inside":"169.254.0.8/30"}"#);
    world.accept("tunnel.t2.create", TO_HUB);
    world.refuse("tunnel.t1.cancel", "{}", PrefixOverlap, "inside");
}
