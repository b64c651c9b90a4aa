//! What a tunnel may be, and where it may end.

use serde_json::{Value, json};
use wanwright_schemas::Reason::*;
use wanwright_schemas::body::merge_patch;

use crate::harness::*;

/// A tunnel from Oslo to a hub, with these differences.
fn tunnel(differences: Value) -> String {
    let mut body: Value = serde_json::from_str(TO_HUB).expect("JSON");
    merge_patch(&mut body, &differences);
    body.to_string()
}

fn two_sites() -> World {
    World::given(&[("site.oslo.create", LAN), ("site.paris.create", LAN_2)])
}

#[test]
fn a_tunnel_is_created_with_its_vendors_defaults() {
    let mut world = two_sites();
    assert_eq!(world.accept("tunnel.t1.create", TO_HUB), ["t1 TunnelCreated 1"]);
    assert_eq!(world.state.tunnels[&"t1".parse().unwrap()].spec.settings["mtu"], 1400);
}

#[test]
fn the_site_must_be_there_and_stay() {
    let mut world = two_sites();
    world.refuse("tunnel.t1.create", &tunnel(json!({"site": "rome"})), SiteMissing, "site");
    world.accept("site.paris.decommission", "");
    world.refuse("tunnel.t1.create", &tunnel(json!({"site": "paris"})), SiteMissing, "site");
    world.accept("tunnel.t1.create", TO_HUB);
    world.refuse("tunnel.t1.change", r#"{"site":"paris"}"#, CannotChange, "site");
}

#[test]
fn a_peer_site_must_be_there_and_stay() {
    let mut world = two_sites();
    world.refuse("tunnel.t2.create", &TO_PARIS.replace("paris", "rome"), SiteMissing, "peer.site");
    world.accept("tunnel.t1.create", TO_HUB);
    world.accept("site.paris.decommission", "");
    world.refuse("tunnel.t2.create", TO_PARIS, SiteMissing, "peer.site");
    world.refuse("tunnel.t1.change", r#"{"peer":{"hub":null,"site":"paris"}}"#, SiteMissing, "peer.site");
}

#[test]
fn a_tunnel_does_not_end_where_it_starts() {
    let mut world = two_sites();
    world.refuse("tunnel.t2.create", &TO_PARIS.replace("paris", "oslo"), InvalidValue, "peer.site");
    world.accept("tunnel.t2.create", TO_PARIS);
    world.refuse("tunnel.t2.change", r#"{"peer":{"site":"oslo"}}"#, InvalidValue, "peer.site");
}

#[test]
fn a_hub_must_be_one_of_the_vendors() {
    let mut world = two_sites();
    let refusal =
        world.refuse("tunnel.t1.create", &tunnel(json!({"peer": {"hub": "hub-x"}})), UnknownHub, "peer.hub");
    assert!(refusal.message.contains("hub-a, hub-b"), "{refusal}");
    world.accept("site.bare.create", r#"{"vendor":"barewan","lan":["10.3.0.0/24"]}"#);
    world.refuse("tunnel.t1.create", &tunnel(json!({"site": "bare"})), UnknownHub, "peer.hub");
    world.accept("tunnel.t1.create", TO_HUB);
    world.refuse("tunnel.t1.change", r#"{"peer":{"hub":"hub-x"}}"#, UnknownHub, "peer.hub");
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
}

#[test]
fn another_kind_of_peer_needs_the_old_one_to_be_taken_away() {
    let mut world = two_sites();
    world.accept("tunnel.t1.create", TO_HUB);
    world.refuse("tunnel.t1.change", r#"{"peer":{"site":"paris"}}"#, InvalidValue, "peer");
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":null,"site":"paris"}}"#);
}

#[test]
fn the_limit_counts_leaving_tunnels() {
    let mut world = two_sites();
    world.accept("tunnel.t1.create", TO_HUB);
    world.accept("tunnel.t2.create", TO_PARIS);
    let third = tunnel(json!({"inside": "169.254.0.8/30"}));
    world.refuse("tunnel.t3.create", &third, TunnelLimitReached, "site");
    world.accept("tunnel.t1.decommission", "");
    world.refuse("tunnel.t3.create", &third, TunnelLimitReached, "site");
    world.carry_out("site.paris");
    world.carry_out("site.oslo");
    world.accept("tunnel.t3.create", &third);
}

#[test]
fn the_limit_is_of_both_ends() {
    let mut world = two_sites();
    world.accept("site.rome.create", r#"{"vendor":"northwan","lan":["10.3.0.0/24"]}"#);
    let to = |from: &str, peer: serde_json::Value, inside: u8| {
        json!({"site": from, "peer": peer, "inside": format!("169.254.0.{inside}/30")}).to_string()
    };
    let paris = json!({"site": "paris"});
    world.accept("tunnel.a.create", &to("oslo", paris.clone(), 0));
    world.accept("tunnel.b.create", &to("rome", paris.clone(), 4));
    world.refuse("tunnel.c.create", &to("rome", paris.clone(), 8), TunnelLimitReached, "peer.site");
    world.refuse("tunnel.c.create", &to("paris", json!({"hub": "hub-a"}), 8), TunnelLimitReached, "site");
    world.accept("tunnel.c.create", &to("rome", json!({"hub": "hub-a"}), 8));
    let moved = r#"{"peer":{"hub":null,"site":"paris"}}"#;
    world.refuse("tunnel.c.change", moved, TunnelLimitReached, "peer.site");
    // Who is there may change in other ways, and may be moved away.
    world.accept("tunnel.b.change", r#"{"settings":{"mtu":1300}}"#);
    world.accept("tunnel.b.change", r#"{"peer":{"site":null,"hub":"hub-a"}}"#);
    world.accept("tunnel.c.change", moved);
}

#[test]
fn two_vendors_count_each_their_own_end() {
    let mut world = two_sites();
    world.accept("site.bare.create", r#"{"vendor":"barewan","lan":["10.3.0.0/24"]}"#);
    for (name, site, inside) in [("a", "oslo", 0), ("b", "paris", 4)] {
        let inside = format!("169.254.0.{inside}/30");
        let body = json!({"site": site, "peer": {"site": "bare"}, "inside": inside}).to_string();
        world.accept(&format!("tunnel.{name}.create"), &body);
    }
    let back = json!({"site": "bare", "peer": {"site": "oslo"}, "inside": "169.254.0.8/30"}).to_string();
    world.accept("tunnel.c.create", &back);
    world.accept("tunnel.d.create", &tunnel(json!({"inside": "169.254.0.12/30"})));
}

#[test]
fn the_inside_is_a_30_or_a_31() {
    let mut world = two_sites();
    for inside in ["169.254.0.0/29", "169.254.0.0/32", "169.254.0.0/24", "0.0.0.0/0"] {
        world.refuse("tunnel.t1.create", &tunnel(json!({"inside": inside})), InvalidValue, "inside");
    }
    for inside in ["169.254.0.1/30", "169.254.0.3/31", "127.0.0.0/30", "224.0.0.0/31"] {
        world.refuse("tunnel.t1.create", &tunnel(json!({"inside": inside})), InvalidValue, "inside");
    }
    world.accept("tunnel.t1.create", &tunnel(json!({"inside": "169.254.0.2/31"})));
    world.refuse("tunnel.t1.change", r#"{"inside":"169.254.0.0/29"}"#, InvalidValue, "inside");
}

#[test]
fn insides_and_networks_are_disjoint() {
    let mut world = two_sites();
    world.accept("tunnel.t1.create", TO_HUB);
    for inside in ["169.254.0.0/30", "169.254.0.0/31", "169.254.0.2/31", "10.1.0.4/30", "10.2.0.0/31"] {
        world.refuse("tunnel.t2.create", &tunnel(json!({"inside": inside})), PrefixOverlap, "inside");
    }
    world.accept("tunnel.t2.create", TO_PARIS);
    world.refuse("tunnel.t2.change", r#"{"inside":"169.254.0.2/31"}"#, PrefixOverlap, "inside");
    // Its own old place is free for itself.
    world.accept("tunnel.t2.change", r#"{"inside":"169.254.0.6/31"}"#);
}

#[test]
fn a_leaving_tunnels_inside_is_taken() {
    let mut world = two_sites();
    world.accept("tunnel.t1.create", TO_HUB);
    world.accept("tunnel.t1.decommission", "");
    world.refuse("tunnel.t2.create", &tunnel(json!({})), PrefixOverlap, "inside");
}

#[test]
fn reserved_autonomous_system_numbers_are_refused() {
    let mut world = two_sites();
    for asn in [0, 23456, 64496, 64511, 65535, 65536, 65551, u32::MAX] {
        let local = json!({"bgp": {"local_asn": asn, "peer_asn": 65000}});
        world.refuse("tunnel.t1.create", &tunnel(local), InvalidValue, "bgp.local_asn");
        let peer = json!({"bgp": {"local_asn": 65000, "peer_asn": asn}});
        world.refuse("tunnel.t1.create", &tunnel(peer), InvalidValue, "bgp.peer_asn");
    }
    for (number, asn) in [1, 23455, 64495, 64512, 65534, 65552, u32::MAX - 1].into_iter().enumerate() {
        let mut world = world.clone();
        let bgp = json!({"bgp": {"local_asn": asn, "peer_asn": asn}});
        assert_eq!(world.accept("tunnel.t1.create", &tunnel(bgp)).len(), 1, "{number}: {asn}");
    }
}

#[test]
fn a_bgp_session_is_whole_or_absent() {
    let mut world = two_sites();
    world.accept("tunnel.t1.create", TO_HUB);
    world.refuse("tunnel.t1.change", r#"{"bgp":{"local_asn":65010}}"#, MissingField, "bgp.peer_asn");
    world.refuse(
        "tunnel.t1.change",
        r#"{"bgp":{"local_asn":-1,"peer_asn":1}}"#,
        InvalidValue,
        "bgp.local_asn",
    );
    world.refuse("tunnel.t1.change", r#"{"bgp":{"local_asn":1,"peer_asn":0}}"#, InvalidValue, "bgp.peer_asn");
    world.accept("tunnel.t1.change", r#"{"bgp":{"local_asn":65010,"peer_asn":65000}}"#);
    world.accept("tunnel.t1.change", r#"{"bgp":{"peer_asn":65001}}"#);
    assert_eq!(world.accept("tunnel.t1.change", r#"{"bgp":null}"#), ["t1 TunnelChanged 4"]);
}

#[test]
fn settings_are_checked_against_the_vendors_schema() {
    let mut world = two_sites();
    world.refuse("tunnel.t1.create", &tunnel(json!({"settings": {"mut": 1}})), UnknownField, "settings.mut");
    world.refuse("tunnel.t1.create", &tunnel(json!({"settings": {"mtu": "1"}})), WrongType, "settings.mtu");
    world.refuse(
        "tunnel.t1.create",
        &tunnel(json!({"settings": {"mtu": 575}})),
        InvalidValue,
        "settings.mtu",
    );
    world.accept("tunnel.t1.create", &tunnel(json!({"settings": {"mtu": 576}})));
}

#[test]
fn a_tunnel_is_looked_at_and_reported_about_with_its_site() {
    let mut world = World::running();
    world.refuse("tunnel.t1.check-drift", "", UnknownVerb, "");
    world.refuse("tunnel.t1.report", "", UnknownVerb, "");
}
