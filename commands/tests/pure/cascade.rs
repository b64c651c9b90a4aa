//! Taking down a site with what uses it, and a customer with everything.

use wanwright_schemas::Reason::*;
use wanwright_schemas::report::Finding;

use crate::harness::*;

const ALL: &str = r#"{"cascade":true}"#;
const TO_OSLO: &str = r#"{"site":"paris","peer":{"site":"oslo"},"inside":"169.254.0.8/30"}"#;

/// Oslo with a tunnel to a hub and a device; Paris with a tunnel to Oslo; all of it at the vendor.
fn used() -> World {
    let mut world = World::running();
    world.accept("site.paris.create", LAN_2);
    world.accept("tunnel.t3.create", TO_OSLO);
    world.carry_out("site.paris");
    world
}

#[test]
fn a_site_goes_after_everything_that_uses_it() {
    let mut world = used();
    assert_eq!(
        world.accept("site.oslo.decommission", ALL),
        [
            "d1 DeviceDecommissionRequested 2",
            "t1 TunnelDecommissionRequested 2",
            "t3 TunnelDecommissionRequested 2",
            "oslo SiteDecommissionRequested 2"
        ]
    );
    assert_eq!(world.history.len(), 9, "one command, one message");
    world.idle("site.oslo");
    let held = wanwright_commands::orders::held(&world.state, &target_of("site.oslo"));
    assert_eq!(held, Some(wanwright_commands::orders::Held::InUse), "an earlier order is withdrawn");
    assert_eq!(world.carry_out("site.paris"), ["t3 TunnelRemoved"]);
    world.idle("site.oslo");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
    // Its own tunnel goes with it, in one stack.
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved", "t1 TunnelRemoved"]);
    world.refuse("site.oslo.decommission", ALL, NotFound, "");
    world.idle("site.paris");
}

#[test]
fn without_cascade_a_used_site_stays() {
    let mut world = used();
    let refusal = world.refuse("site.oslo.decommission", r#"{"cascade":false}"#, SiteInUse, "");
    assert!(refusal.message.contains("tunnel/t1, tunnel/t3, device/d1"), "{refusal}");
    assert!(refusal.next.contains("cascade"), "{}", refusal.next);
    world.refuse("device.d1.decommission", ALL, UnknownField, "cascade");
    world.refuse("site.oslo.decommission", r#"{"cascad":true}"#, UnknownField, "cascad");
}

#[test]
fn asked_twice_it_says_nothing_and_what_leaves_already_is_not_asked_again() {
    let mut world = used();
    world.accept("device.d1.decommission", "");
    let asked = world.accept("site.oslo.decommission", ALL);
    assert_eq!(asked.len(), 3, "{asked:?}");
    world.nothing("site.oslo.decommission", ALL);
    world.nothing("site.oslo.decommission", "");
}

#[test]
fn a_failed_device_keeps_its_site() {
    let mut world = used();
    world.accept("site.oslo.decommission", ALL);
    world.carry_out("site.paris");
    world.fail("device.d1");
    world.idle("site.oslo");
    world.accept("device.d1.retry", "");
    world.carry_out("device.d1");
    world.carry_out("site.oslo");
    assert!(world.state.devices.is_empty());
}

#[test]
fn sites_with_tunnels_in_both_directions_do_not_wait_for_each_other() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2)]);
    world.accept("tunnel.t2.create", TO_PARIS);
    world.accept("tunnel.t3.create", TO_OSLO);
    for site in ["site.oslo", "site.paris", "site.oslo"] {
        world.carry_out(site);
    }
    world.accept("site.oslo.decommission", ALL);
    world.idle("site.oslo");
    // Now Paris goes as well, with its tunnel: nobody is left to wait for.
    world.accept("site.paris.decommission", ALL);
    let events = &world.history.last().expect("the command").1;
    let concerned = wanwright_commands::orders::affected(&world.state, events);
    assert!(concerned.contains(&target_of("site.oslo")), "it does not wait any more");
    // If Paris stays after all, somebody is to wait for again.
    let change = |world: &World| world.wanted("site.oslo").change.map(|order| order.id);
    let removal = change(&world).expect("it goes");
    world.accept("site.paris.cancel", "");
    assert_eq!(change(&world), None, "a tunnel of Paris ends there");
    let events = &world.history.last().expect("the command").1;
    let concerned = wanwright_commands::orders::affected(&world.state, events);
    assert!(concerned.contains(&target_of("site.oslo")), "its removal would not be withdrawn");
    world.accept("site.paris.decommission", ALL);
    assert_eq!(change(&world), Some(removal), "it goes again");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved", "t2 TunnelRemoved"]);
    assert_eq!(world.carry_out("site.paris"), ["paris SiteRemoved", "t3 TunnelRemoved"]);
}

#[test]
fn a_site_is_not_gone_before_what_it_would_leave_behind() {
    let mut world = used();
    world.accept("site.oslo.decommission", ALL);
    world.carry_out("site.paris");
    let site =
        |world: &World, order: &wanwright_schemas::Order| world.saying(order, "site.oslo", Finding::Removed);
    let order = world.change("device.d1");
    let (_, report) = site(&world, &order);
    assert_eq!(world.report(&(target_of("site.oslo"), report)), Vec::<String>::new(), "a device is there");
    world.carry_out("device.d1");
    let order = world.change("site.oslo");
    let early = site(&world, &order);
    assert_eq!(world.report(&early), Vec::<String>::new(), "a tunnel is there");
    assert_eq!(world.change("site.oslo").id, order.id);
    world.carry_out("site.oslo");
    assert!(world.state.tunnels.is_empty());
}

#[test]
fn what_is_protected_keeps_everything() {
    let mut world = used();
    world.accept("tunnel.t3.protect", "");
    world.accept("device.d1.protect", "");
    for command in ["site.oslo.decommission", "customer.acme.decommission"] {
        let refusal = world.refuse(command, ALL, Protected, "");
        assert!(refusal.message.contains("device/d1, tunnel/t3"), "{refusal}");
        assert!(refusal.next.contains("unprotect"), "{}", refusal.next);
    }
    world.accept("tunnel.t3.unprotect", "");
    world.accept("device.d1.unprotect", "");
    world.accept("site.oslo.decommission", ALL);
}

#[test]
fn a_customer_goes_with_the_last_of_what_it_has() {
    let mut world = used();
    world
        .accept("customer.acme.change", r#"{"accounts":{"northwan":{"credential":"acme","budget":"acme"}}}"#);
    let refusal = world.refuse("customer.acme.decommission", "", CustomerInUse, "");
    assert!(refusal.message.contains("site/oslo, site/paris, tunnel/t1, tunnel/t3, device/d1"), "{refusal}");
    let asked = world.accept("customer.acme.decommission", ALL);
    assert_eq!((asked.len(), asked[5].as_str()), (6, "acme CustomerDecommissionRequested"));
    world.nothing("customer.acme.decommission", ALL);
    world.refuse("site.rome.create", LAN, BeingRemoved, "");
    world.refuse("customer.acme.change", r#"{"accounts":null}"#, BeingRemoved, "");
    world.carry_out("device.d1");
    world.carry_out("site.paris");
    assert_eq!(
        world.carry_out("site.oslo"),
        ["oslo SiteRemoved", "t1 TunnelRemoved", "acme CustomerRemoved"]
    );
    assert_eq!(world.state, wanwright_commands::Customer::default());
    // Whoever comes again under the name begins anew.
    world.accept("site.oslo.create", LAN);
}

#[test]
fn an_empty_customer_goes_at_once() {
    let mut world = World::default();
    world.accept("customer.acme.suspend", r#"{"reason":"unpaid"}"#);
    let asked = world.accept("customer.acme.decommission", "");
    assert_eq!(asked, ["acme CustomerDecommissionRequested", "acme CustomerRemoved"]);
    assert_eq!(world.state, wanwright_commands::Customer::default());
}
