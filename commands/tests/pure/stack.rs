//! A site's stack: the site and the tunnels it owns, with what they need of others.

use serde_json::json;
use wanwright_commands::orders;
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::{Event, Target};

use crate::harness::*;

const OTHER_HUB: &str = r#"{"peer":{"hub":"hub-b"}}"#;
const TO_PARIS_INSTEAD: &str = r#"{"peer":{"hub":null,"site":"paris"}}"#;

/// The tunnels an order wants, with where they go, and those that it takes down.
fn tunnels(order: &Order) -> (Vec<(String, u64, String)>, Vec<String>) {
    let Desired::Site { tunnels, leaving, .. } = &order.desired else { panic!("a stack") };
    let wanted =
        tunnels.iter().map(|(id, tunnel)| (id.to_string(), tunnel.generation, tunnel.peer_address.clone()));
    (wanted.collect(), leaving.keys().map(ToString::to_string).collect())
}

fn tunnel(name: &str, generation: u64, address: &str) -> (String, u64, String) {
    (name.to_owned(), generation, address.to_owned())
}

/// Oslo with a tunnel to Paris; neither is at the vendor.
fn to_paris() -> World {
    World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2), ("tunnel.t2.create", TO_PARIS)])
}

/// The targets concerned by the last command.
fn affected(world: &World) -> Vec<String> {
    let (_, events) = world.history.last().expect("a command");
    orders::affected(&world.state, events).iter().map(ToString::to_string).collect()
}

#[test]
fn a_tunnel_waits_for_its_peers_address() {
    let mut world = to_paris();
    assert_eq!(tunnels(&world.change("site.oslo")), (vec![], vec![]));
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    world.carry_out("site.paris");
    assert!(affected(&world).contains(&"site/oslo".to_owned()));
    assert_eq!(tunnels(&world.change("site.oslo")).0, [tunnel("t2", 1, "203.0.113.5")]);
    assert_eq!(world.carry_out("site.oslo"), ["t2 TunnelApplied 1"]);
    world.idle("site.oslo");
}

#[test]
fn tunnels_in_both_directions_do_not_wait_for_each_other_for_ever() {
    let mut world = to_paris();
    let back = r#"{"site":"paris","peer":{"site":"oslo"},"inside":"169.254.0.8/30"}"#;
    world.accept("tunnel.t3.create", back);
    for target in ["site.oslo", "site.paris", "site.oslo"] {
        world.carry_out(target);
    }
    world.idle("site.oslo");
    world.idle("site.paris");
    assert!(world.state.tunnels.values().all(|tunnel| !tunnel.behind()));
}

#[test]
fn a_tunnel_is_applied_again_when_its_peer_moves() {
    let mut world = to_paris();
    world.carry_out("site.paris");
    world.carry_out("site.oslo");
    world.accept("site.paris.change", r#"{"settings":{"location":"Paris"}}"#);
    let order = world.change("site.paris");
    let moved =
        world.saying(&order, "site.paris", applied(2, map(json!({"id": "st", "address": "203.0.113.77"}))));
    world.report(&moved);
    assert!(affected(&world).contains(&"site/oslo".to_owned()));
    let order = world.change("site.oslo");
    assert_eq!(tunnels(&order).0, [tunnel("t2", 1, "203.0.113.77")]);

    assert_eq!(
        world.report(&failed(&order)),
        ["t2 TunnelFailed 1"],
        "its generation is there, its inputs are not"
    );
    world.idle("site.oslo");
    world.accept("tunnel.t2.retry", "");
    assert_eq!(world.carry_out("site.oslo"), ["t2 TunnelApplied 1"]);
    world.idle("site.oslo");
}

#[test]
fn a_tunnel_that_is_there_stays_while_its_next_peer_has_no_address() {
    let mut world = World::running();
    world.accept("site.paris.create", LAN_2);
    world.accept("tunnel.t1.change", TO_PARIS_INSTEAD);
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let order = world.change("site.oslo");
    assert_eq!(tunnels(&order).0, [tunnel("t1", 1, "198.51.100.1")], "as it was, and not taken down");
    assert_eq!(world.report(&done(&order)), ["oslo SiteApplied 2"]);
    world.idle("site.oslo");
    world.carry_out("site.paris");
    assert_eq!(tunnels(&world.change("site.oslo")).0, [tunnel("t1", 2, "203.0.113.5")]);
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelApplied 2"]);
}

#[test]
fn a_look_does_not_call_a_waiting_change_drift() {
    let mut world = World::running();
    world.accept("site.paris.create", LAN_2);
    world.accept("tunnel.t1.change", TO_PARIS_INSTEAD);
    assert_eq!(world.drift("site.oslo"), ["oslo SiteDriftFound"]);
}

#[test]
fn a_tunnel_that_is_there_stays_while_its_peer_lost_its_address() {
    let mut world = to_paris();
    world.carry_out("site.paris");
    world.carry_out("site.oslo");
    world.accept("site.paris.change", r#"{"settings":{"location":"Paris"}}"#);
    let order = world.change("site.paris");
    let lost = world.saying(&order, "site.paris", applied(2, map(json!({"id": "st"}))));
    world.report(&lost);
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    assert_eq!(tunnels(&world.change("site.oslo")).0, [tunnel("t2", 1, "203.0.113.5")]);
}

#[test]
fn a_leaving_tunnel_is_in_the_order_until_it_is_gone() {
    let mut world = World::running();
    world.accept("tunnel.t1.decommission", "");
    assert_eq!(tunnels(&world.change("site.oslo")), (vec![], vec!["t1".to_owned()]));
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelRemoved"]);
    world.idle("site.oslo");
}

#[test]
fn a_leaving_tunnel_is_taken_down_though_its_site_failed() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", TO_HUB)]);
    world.fail("site.oslo");
    world.accept("tunnel.t1.decommission", "");
    let order = world.change("site.oslo");
    let gone = world.saying(&order, "tunnel.t1", wanwright_schemas::report::Finding::Removed);
    assert_eq!(world.report(&gone), ["t1 TunnelRemoved"]);
    world.accept("site.oslo.decommission", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved"]);
}

#[test]
fn a_failed_tunnel_keeps_nothing_waiting() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", OTHER_HUB);
    world.fail("site.oslo");
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let order = world.change("site.oslo");
    let half = world.saying(
        &order,
        "site.oslo",
        applied(2, map(json!({"id": "st-oslo", "address": "203.0.113.4"}))),
    );
    world.report(&half);
    world.idle("site.oslo");
    world.accept("tunnel.t1.retry", "");
    assert_ne!(world.change("site.oslo").id, order.id);
    world.carry_out("site.oslo");
    world.idle("site.oslo");
}

#[test]
fn a_retried_tunnel_that_is_gone_brings_no_old_order_back() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2)]);
    world.carry_out("site.oslo");
    world.accept("tunnel.t1.create", TO_HUB);
    world.fail("site.oslo");
    world.accept("tunnel.t1.retry", "");
    // Now it waits, is in no order, and takes its retries with it when it goes.
    world.accept("tunnel.t1.change", TO_PARIS_INSTEAD);
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let old = world.change("site.oslo");
    world.fail("site.oslo");
    world.accept("tunnel.t1.decommission", "");
    let order = world.change("site.oslo");
    let gone = world.saying(&order, "tunnel.t1", wanwright_schemas::report::Finding::Removed);
    world.report(&gone);
    world.accept("site.oslo.retry", "");
    assert_ne!(world.change("site.oslo").id, old.id);
}

#[test]
fn a_look_that_waited_for_a_removal_is_found() {
    let mut world = World::running();
    world.accept("tunnel.t1.decommission", "");
    world.accept("site.oslo.check-drift", "");
    assert_eq!(world.wanted("site.oslo").look, None);
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelRemoved"]);
    world.look("site.oslo");
    assert!(affected(&world).contains(&"site/oslo".to_owned()));
}

#[test]
fn what_concerns_whom() {
    let mut world = to_paris();
    assert_eq!(affected(&world), ["site/oslo"]);
    world.accept("device.d2.create", r#"{"site":"paris","serial":"SN-0002","model":"edge-1"}"#);
    assert_eq!(affected(&world), ["device/d2"]);
    world.carry_out("site.paris");
    assert_eq!(affected(&world), ["site/oslo", "site/paris", "device/d2"]);
    world.accept("site.paris.change", r#"{"settings":{"location":"Paris"}}"#);
    assert_eq!(affected(&world), ["site/paris"]);
    world.accept("tunnel.t2.decommission", "");
    assert_eq!(affected(&world), ["site/oslo"]);
    let every: Vec<Target> = orders::targets(&world.state).collect();
    assert_eq!(every, [target_of("site.oslo"), target_of("site.paris"), target_of("device.d2")]);
    let all: Vec<Event> = world.history.iter().flat_map(|(_, events)| events.clone()).collect();
    assert_eq!(orders::affected(&world.state, &all).len(), 3);
}

#[test]
fn a_target_that_is_gone_has_no_vendor_and_no_orders() {
    let world = World::default();
    for target in ["site.oslo", "device.d1"] {
        assert_eq!(orders::vendor_of(&world.state, &target_of(target)), None);
        let vendor = VENDORS.get("northwan").unwrap();
        let wanted = orders::wanted(&customer(), &world.state, vendor, &target_of(target), &position(1));
        assert_eq!(wanted, orders::Wanted::default());
    }
}

#[test]
fn what_a_failed_run_says_nothing_of_has_failed_with_it() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", TO_HUB)]);
    world.carry_out("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.accept("tunnel.t1.decommission", "");
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    let order = world.change("site.oslo");
    let site_only = world.saying(&order, "site.oslo", failure(2));
    let events = world.report(&site_only);
    assert_eq!(events, ["oslo SiteFailed 2", "t2 TunnelFailed 1", "t1 TunnelFailed 2"]);
    world.idle("site.oslo");
    assert_eq!(world.report(&site_only), Vec::<String>::new());
    world.accept("tunnel.t1.retry", "");
    world.carry_out("site.oslo");
    world.idle("site.oslo");
}

#[test]
fn what_a_failed_run_did_has_not_failed_with_it() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2)]);
    world.accept("tunnel.t1.create", TO_HUB);
    world.carry_out("site.oslo");
    // It waits for Paris, and a run that knows nothing of that does not fail it.
    world.accept("tunnel.t1.change", TO_PARIS_INSTEAD);
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    let order = world.change("site.oslo");
    let one = world.saying(&order, "tunnel.t2", failure(1));
    assert_eq!(world.report(&one), ["t2 TunnelFailed 1"]);
    world.idle("site.oslo");
    world.carry_out("site.paris");
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelApplied 2", "t2 TunnelApplied 1"]);
}

#[test]
fn a_run_of_a_superseded_order_fails_nothing_it_does_not_name() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", TO_HUB)]);
    let superseded = world.change("site.oslo");
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    let site_only = world.saying(&superseded, "site.oslo", failure(1));
    assert_eq!(world.report(&site_only), ["oslo SiteFailed 1"]);
    assert_eq!(tunnels(&world.change("site.oslo")).0.len(), 2);
}

#[test]
fn a_move_that_a_failed_run_says_nothing_of_has_failed_with_it() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", OTHER_HUB);
    world.carry_out("site.oslo");
    world.vendors = &VENDORS_LATER;
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let order = world.change("site.oslo");
    let site_only = world.saying(&order, "site.oslo", failure(2));
    assert_eq!(world.report(&site_only), ["oslo SiteFailed 2", "t1 TunnelFailed 2"]);
    world.idle("site.oslo");
}
