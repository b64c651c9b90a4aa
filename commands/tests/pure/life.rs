//! Decommissioning, retrying and looking for drift.

use wanwright_schemas::Reason::*;

use crate::harness::*;

#[test]
fn a_site_in_use_stays() {
    let mut world = World::given(&[
        ("site.oslo.create", LAN),
        ("site.paris.create", LAN_2),
        ("tunnel.t2.create", TO_PARIS),
        ("device.d1.create", DEVICE),
    ]);
    let refusal = world.refuse("site.oslo.decommission", "", SiteInUse, "");
    assert!(refusal.message.contains("tunnel/t2, device/d1"), "{refusal}");
    world.refuse("site.paris.decommission", "", SiteInUse, "");
    world.carry_out("site.paris");
    world.carry_out("site.oslo");

    // Leaving is still there.
    world.accept("tunnel.t2.decommission", "");
    world.refuse("site.paris.decommission", "", SiteInUse, "");
    world.carry_out("site.oslo");
    world.accept("site.paris.decommission", "");

    let refusal = world.refuse("site.oslo.decommission", "", SiteInUse, "");
    assert!(refusal.message.contains("device/d1"), "{refusal}");
    world.accept("device.d1.decommission", "");
    world.refuse("site.oslo.decommission", "", SiteInUse, "");
    world.carry_out("device.d1");
    world.accept("site.oslo.decommission", "");
}

#[test]
fn a_site_names_five_of_its_users() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    for number in 1..=7 {
        let body = format!(r#"{{"site":"oslo","serial":"SN-000{number}","model":"edge-1"}}"#);
        world.accept(&format!("device.d{number}.create"), &body);
    }
    let refusal = world.refuse("site.oslo.decommission", "", SiteInUse, "");
    assert!(refusal.message.contains("device/d5 and 2 more"), "{refusal}");
}

#[test]
fn decommissioning_twice_says_nothing() {
    let mut world = World::running();
    assert_eq!(world.accept("tunnel.t1.decommission", ""), ["t1 TunnelDecommissionRequested 2"]);
    world.nothing("tunnel.t1.decommission", "");
    assert_eq!(world.accept("device.d1.decommission", ""), ["d1 DeviceDecommissionRequested 2"]);
    world.nothing("device.d1.decommission", "");
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
    assert_eq!(world.accept("site.oslo.decommission", ""), ["oslo SiteDecommissionRequested 2"]);
    world.nothing("site.oslo.decommission", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved"]);
    world.refuse("site.oslo.decommission", "", NotFound, "");
}

#[test]
fn what_comes_again_is_somebody_else() {
    let mut world = World::running();
    let old = world.uid(&object_of("device.d1"));
    world.accept("device.d1.decommission", "");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
    assert_eq!(world.accept("device.d1.create", DEVICE), ["d1 DeviceCreated 1"]);
    assert_ne!(world.uid(&object_of("device.d1")), old);
    assert_eq!(world.state.devices[&"d1".parse().unwrap()].observed, None);
}

#[test]
fn what_neither_failed_nor_drifted_is_not_retried() {
    let mut world = World::given(&[
        ("site.oslo.create", LAN),
        ("tunnel.t1.create", TO_HUB),
        ("device.d1.create", DEVICE),
    ]);
    for object in ["site.oslo", "tunnel.t1", "device.d1"] {
        world.refuse(&format!("{object}.retry"), "", NothingToRetry, "");
    }
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
    for object in ["site.oslo", "tunnel.t1", "device.d1"] {
        world.refuse(&format!("{object}.retry"), "", NothingToRetry, "");
    }
}

#[test]
fn what_failed_is_retried_once() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", TO_HUB)]);
    assert_eq!(world.fail("site.oslo"), ["oslo SiteFailed 1", "t1 TunnelFailed 1"]);
    assert_eq!(world.accept("site.oslo.retry", ""), ["oslo SiteRetryRequested"]);
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    assert_eq!(world.accept("tunnel.t1.retry", ""), ["t1 TunnelRetryRequested"]);
    world.refuse("tunnel.t1.retry", "", NothingToRetry, "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteApplied 1", "t1 TunnelApplied 1"]);
    world.idle("site.oslo");
}

#[test]
fn what_drifted_is_applied_again() {
    let mut world = World::running();
    assert_eq!(world.drift("device.d1"), ["d1 DeviceDriftFound"]);
    world.idle("device.d1");
    world.accept("device.d1.retry", "");
    world.refuse("device.d1.retry", "", NothingToRetry, "");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 1"]);
    world.idle("device.d1");
    world.refuse("device.d1.retry", "", NothingToRetry, "");
}

#[test]
fn what_is_being_changed_or_removed_has_nothing_to_retry_though_it_drifted() {
    let mut world = World::running();
    world.drift("device.d1");
    world.accept("device.d1.change", r#"{"settings":{"vlan":7}}"#);
    world.refuse("device.d1.retry", "", NothingToRetry, "");
    world.accept("device.d1.decommission", "");
    world.refuse("device.d1.retry", "", NothingToRetry, "");
    world.fail("device.d1");
    world.accept("device.d1.retry", "");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
}

#[test]
fn what_is_not_at_the_vendor_is_not_looked_at() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    world.refuse("site.oslo.check-drift", "", NothingToCheck, "");
    world.refuse("device.d1.check-drift", "", NothingToCheck, "");
    world.refuse("customer.acme.check-drift", "", NothingToCheck, "");
    world.carry_out("site.oslo");
    assert_eq!(world.accept("site.oslo.check-drift", ""), ["oslo SiteDriftCheckRequested"]);
    world.refuse("device.d1.check-drift", "", NothingToCheck, "");
}

#[test]
fn a_customer_is_looked_at_where_it_is_at_a_vendor() {
    let mut world = World::running();
    world.accept("site.paris.create", LAN_2);
    world.accept("device.d2.create", r#"{"site":"paris","serial":"SN-0002","model":"edge-1"}"#);
    let asked = world.accept("customer.acme.check-drift", "");
    assert_eq!(asked, ["oslo SiteDriftCheckRequested", "d1 DeviceDriftCheckRequested"]);
    assert_eq!(world.state.sites[&"oslo".parse().unwrap()].check, Some(id(world.sent)));
    world.accept("device.d1.decommission", "");
    assert_eq!(world.accept("customer.acme.check-drift", ""), ["oslo SiteDriftCheckRequested"]);
    world.accept("tunnel.t1.decommission", "");
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
    world.accept("site.oslo.decommission", "");
    world.refuse("customer.acme.check-drift", "", NothingToCheck, "");
}

#[test]
fn another_customers_name_in_the_subject_is_refused() {
    World::running().refuse("customer.globex.check-drift", "", BadSubject, "");
}

#[test]
fn leaving_withdraws_the_look() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    world.accept("device.d1.decommission", "");
    assert_eq!(world.state.devices[&"d1".parse().unwrap()].check, None);
    world.fail("device.d1");
    world.idle("device.d1");
}
