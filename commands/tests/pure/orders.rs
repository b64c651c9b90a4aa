//! A change order exists exactly while something is behind and has not failed; a look, while nothing is.

use serde_json::json;
use wanwright_commands::orders::{self, Wanted};
use wanwright_schemas::order::{Desired, Intent, Order};

use crate::harness::*;

const VLAN_7: &str = r#"{"settings":{"vlan":7}}"#;

#[test]
fn an_order_carries_everything() {
    let mut world = World::given(&[
        ("site.oslo.create", LAN),
        ("tunnel.t1.create", TO_HUB),
        ("device.d1.create", DEVICE),
    ]);
    let order = world.change("site.oslo");
    assert_eq!((order.intent.clone(), order.retries, order.position.sequence), (Intent::Apply, 0, 1));
    let desired = serde_json::to_value(&order.desired).unwrap();
    assert_eq!(
        desired,
        json!({
            "target": "site",
            "site": {
                "id": "oslo", "uid": id(1), "generation": 1, "name": "acme.oslo", "lan": ["10.1.0.0/24"],
                "settings": {"location": ""},
            },
            "tunnels": {"t1": {
                "uid": id(2), "generation": 1, "name": "acme.t1", "inside": "169.254.0.0/30",
                "peer_address": "198.51.100.1", "local_asn": 0, "peer_asn": 0, "settings": {"mtu": 1400},
            }},
            "leaving": {},
        })
    );
    world.carry_out("site.oslo");
    let desired = world.change("device.d1").desired_json().unwrap();
    assert_eq!(desired["inputs"], json!({"site_id": "st-oslo"}));
    assert_eq!(desired["known"], json!({}));
}

#[test]
fn bgp_numbers_are_in_the_order() {
    let body = r#"{"site":"oslo","peer":{"hub":"hub-b"},"inside":"169.254.0.0/31","bgp":{"local_asn":65010,"peer_asn":65000}}"#;
    let world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", body)]);
    let Desired::Site { tunnels, .. } = world.change("site.oslo").desired else { panic!("a stack") };
    let tunnel = tunnels.values().next().unwrap();
    assert_eq!(
        (tunnel.local_asn, tunnel.peer_asn, tunnel.peer_address.as_str()),
        (65010, 65000, "198.51.100.2")
    );
}

#[test]
fn an_order_exists_while_its_target_is_behind_and_has_not_failed() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    world.change("site.oslo");
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.fail("site.oslo");
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Bergen"}}"#);
    assert_eq!(world.change("site.oslo").generation(), 3);
    world.accept("site.oslo.decommission", "");
    assert_eq!(world.change("site.oslo").intent, Intent::Remove);
    world.fail("site.oslo");
    world.idle("site.oslo");
    world.accept("site.oslo.retry", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved"]);
    world.idle("site.oslo");
}

#[test]
fn a_device_waits_for_its_site() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    world.idle("device.d1");
    world.fail("site.oslo");
    world.idle("device.d1");
    world.accept("site.oslo.retry", "");
    world.carry_out("site.oslo");
    assert_eq!(world.change("device.d1").intent, Intent::Apply);
}

#[test]
fn a_device_leaves_without_waiting_for_its_site() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    world.fail("site.oslo");
    world.accept("device.d1.decommission", "");
    assert_eq!(world.change("device.d1").intent, Intent::Remove);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
    world.accept("site.oslo.decommission", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteRemoved"]);
}

#[test]
fn a_device_is_applied_again_when_its_site_is_another_one() {
    let mut world = World::running();
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let order = world.change("site.oslo");
    let report =
        world.saying(&order, "site.oslo", applied(2, map(json!({"id": "st-2", "address": "203.0.113.9"}))));
    world.report(&report);
    let order = world.change("device.d1");
    assert_eq!(order.desired_json().unwrap()["inputs"]["site_id"], "st-2");

    // It can fail, and be asked for again, though its own generation is there.
    assert_eq!(world.report(&failed(&order)), ["d1 DeviceFailed 1"]);
    world.idle("device.d1");
    world.accept("device.d1.retry", "");
    assert_ne!(world.change("device.d1").id, order.id);
    world.carry_out("device.d1");
    world.idle("device.d1");
}

#[test]
fn what_is_known_of_a_device_goes_with_its_order() {
    let mut world = World::running();
    world.accept("device.d1.change", VLAN_7);
    assert_eq!(world.change("device.d1").desired_json().unwrap()["known"]["id"], "dv-d1");
}

#[test]
fn a_look_waits_while_a_change_is_wanted() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    assert_eq!(world.look("device.d1").intent, Intent::Observe { check: id(world.sent) });
    world.accept("device.d1.change", VLAN_7);
    assert_eq!(world.wanted("device.d1").look, None);
    world.fail("device.d1");
    world.look("device.d1");
    world.accept("device.d1.retry", "");
    assert_eq!(world.wanted("device.d1").look, None);
    world.carry_out("device.d1");
    let look = world.look("device.d1");
    world.report(&in_sync(&look));
    world.idle("device.d1");
}

#[test]
fn a_retry_is_another_order() {
    let mut world = World::running();
    world.accept("device.d1.change", VLAN_7);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let order = world.change("device.d1");
        assert!(!seen.contains(&order.id));
        seen.push(order.id);
        world.fail("device.d1");
        world.accept("device.d1.retry", "");
    }
}

#[test]
fn a_change_is_another_order_even_when_it_is_changed_back() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    let first = world.change("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let second = world.change("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":""}}"#);
    let third = world.change("site.oslo");
    assert!(first.id != second.id && second.id != third.id && first.id != third.id);
}

#[test]
fn the_same_wish_is_the_same_order_wherever_it_is_computed() {
    let mut world = World::running();
    world.accept("device.d1.change", VLAN_7);
    for target in ["site.oslo", "device.d1"] {
        let (here, there) =
            (world.wanted_at(&target_of(target), 3), world.wanted_at(&target_of(target), 400));
        assert_eq!(here.change.map(|order| order.id), there.change.map(|order| order.id));
    }
    let here = world.change("device.d1");
    let bytes = serde_json::to_vec(&world.state).unwrap();
    let copy = World { state: serde_json::from_slice(&bytes).unwrap(), ..World::default() };
    assert_eq!(copy.state, world.state);
    assert_eq!(copy.change("device.d1"), here);
}

#[test]
fn the_order_of_a_bodys_fields_makes_no_other_order() {
    let order = |settings: &str| {
        let body = format!(r#"{{"site":"oslo","serial":"SN-0001","model":"edge-1","settings":{settings}}}"#);
        let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", &body)]);
        world.carry_out("site.oslo");
        world.change("device.d1").id
    };
    assert_eq!(order(r#"{"vlan":7,"hostname":"a"}"#), order(r#"{"hostname":"a","vlan":7.0}"#));
}

/// The orders that would follow what was sent last, as `target intent generation`.
fn would_follow(world: &World) -> Vec<String> {
    let (_, events) = world.history.last().expect("a command");
    let orders = orders::that_would_follow(&customer(), &world.state, events, world.vendors, world.now);
    let said = |order: &Order| {
        let intent = match order.intent {
            Intent::Apply => "apply",
            Intent::Remove => "remove",
            Intent::Observe { .. } => "observe",
            Intent::Plan { .. } => "plan",
        };
        // It is the order that the dispatcher would make.
        let Wanted { change, look, .. } = world.wanted(&order.target().to_string().replace('/', "."));
        assert!(change.into_iter().chain(look).any(|wanted| wanted.id == order.id));
        format!("{} {intent} {}", order.target(), order.generation())
    };
    orders.iter().map(said).collect()
}

#[test]
fn what_would_be_ordered_is_what_the_dispatcher_would_order() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    assert_eq!(would_follow(&world), ["site/oslo apply 1"]);
    // It waits for its site; nothing is ordered that is not wanted.
    world.accept("device.d1.create", DEVICE);
    assert_eq!(would_follow(&world), [""; 0]);
    world.carry_out("site.oslo");
    assert_eq!(would_follow(&world), ["device/d1 apply 1"]);
    world.carry_out("device.d1");
    world.accept("device.d1.change", VLAN_7);
    assert_eq!(would_follow(&world), ["device/d1 apply 2"]);
    world.carry_out("device.d1");
    world.accept("customer.acme.check-drift", "");
    assert_eq!(would_follow(&world), ["site/oslo observe 1", "device/d1 observe 2"]);
    // A cascade: the site waits for its device.
    world.accept("site.oslo.decommission", r#"{"cascade":true}"#);
    assert_eq!(would_follow(&world), ["device/d1 remove 3"]);
    world.carry_out("device.d1");
    assert_eq!(would_follow(&world), ["site/oslo remove 2"]);
    world.accept("customer.acme.suspend", r#"{"reason":"r"}"#);
    assert_eq!(would_follow(&world), [""; 0]);
}
