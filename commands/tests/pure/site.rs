//! What a site may be, and where its networks may lie.

use wanwright_schemas::Reason::*;

use crate::harness::*;

fn lan(prefixes: &[&str]) -> String {
    serde_json::json!({"vendor": "northwan", "lan": prefixes}).to_string()
}

#[test]
fn a_site_is_created_with_its_vendors_defaults() {
    let mut world = World::default();
    assert_eq!(world.accept("site.oslo.create", LAN), ["oslo SiteCreated 1"]);
    let site = &world.state.sites[&"oslo".parse().unwrap()];
    assert_eq!(site.spec.settings["location"], "");
    assert_eq!((site.uid, site.generation, site.leaving), (id(1), 1, false));
}

#[test]
fn the_vendor_must_be_known_and_stay() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    let body = r#"{"vendor":"nowhere","lan":["10.9.0.0/24"]}"#;
    let refusal = world.refuse("site.paris.create", body, UnknownVendor, "vendor");
    assert!(refusal.message.contains("barewan, northwan"), "{refusal}");
    world.refuse("site.oslo.change", r#"{"vendor":"barewan"}"#, CannotChange, "vendor");
}

#[test]
fn a_site_has_one_to_256_networks() {
    let mut world = World::default();
    world.refuse("site.oslo.create", &lan(&[]), InvalidValue, "lan");
    let many: Vec<String> = (0..257).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.refuse("site.oslo.create", &lan(&many), InvalidValue, "lan");
    world.accept("site.oslo.create", &lan(&many[..256]));
    world.refuse("site.oslo.change", r#"{"lan":[]}"#, InvalidValue, "lan");
}

#[test]
fn host_bits_are_a_typing_error() {
    let mut world = World::default();
    let refusal =
        world.refuse("site.oslo.create", &lan(&["10.1.0.0/24", "10.7.0.1/24"]), InvalidValue, "lan[1]");
    assert!(refusal.message.contains("10.7.0.0/24"), "{refusal}");
}

#[test]
fn addresses_that_no_host_can_have_are_refused() {
    let mut world = World::default();
    for never in [
        "0.0.0.0/0",
        "0.1.0.0/16",
        "127.0.0.0/8",
        "127.0.0.1/32",
        "224.0.0.0/24",
        "239.0.0.0/8",
        "240.0.0.0/8",
        "255.255.255.255/32",
    ] {
        world.refuse("site.oslo.create", &lan(&[never]), InvalidValue, "lan[0]");
    }
    world.accept("site.oslo.create", &lan(&["126.0.0.0/8", "128.0.0.0/8", "223.255.255.0/24", "1.0.0.0/8"]));
}

#[test]
fn networks_of_one_list_are_disjoint() {
    let mut world = World::default();
    for (a, b) in
        [("10.1.0.0/16", "10.1.7.0/24"), ("10.1.7.0/24", "10.1.0.0/16"), ("10.1.0.0/16", "10.1.0.0/16")]
    {
        world.refuse("site.oslo.create", &lan(&["10.9.0.0/16", a, b]), PrefixOverlap, "lan[2]");
    }
    world.accept("site.oslo.create", &lan(&["10.1.0.0/25", "10.1.0.128/25"]));
    world.refuse("site.oslo.change", r#"{"lan":["10.2.0.0/16","10.2.3.0/24"]}"#, PrefixOverlap, "lan[1]");
}

#[test]
fn networks_of_two_sites_are_disjoint() {
    let mut world = World::given(&[("site.oslo.create", &lan(&["10.1.0.0/16"]))]);
    for taken in ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "10.1.255.255/32"] {
        let refusal =
            world.refuse("site.paris.create", &lan(&["10.9.0.0/16", taken]), PrefixOverlap, "lan[1]");
        assert!(taken == "10.0.0.0/8" || refusal.message.contains("10.1.0.0/16 of site/oslo"), "{refusal}");
    }
    world.accept("site.paris.create", &lan(&["10.2.0.0/16"]));
    world.refuse("site.paris.change", r#"{"lan":["10.1.4.0/24"]}"#, PrefixOverlap, "lan[0]");
}

#[test]
fn a_network_and_the_inside_of_a_tunnel_are_disjoint() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("tunnel.t1.create", TO_HUB)]);
    let refusal = world.refuse("site.paris.create", &lan(&["169.254.0.0/16"]), PrefixOverlap, "lan[0]");
    assert!(refusal.message.contains("tunnel/t1"), "{refusal}");
    // A site's own tunnel is somebody else's prefix, too.
    world.refuse("site.oslo.change", r#"{"lan":["169.254.0.1/32"]}"#, PrefixOverlap, "lan[0]");
}

#[test]
fn a_site_does_not_collide_with_itself() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    let bigger = world.accept("site.oslo.change", r#"{"lan":["10.1.0.0/16"]}"#);
    assert_eq!(bigger, ["oslo SiteChanged 2"]);
}

#[test]
fn a_leaving_sites_networks_are_taken_until_it_is_gone() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("site.oslo.decommission", "")]);
    world.refuse("site.paris.create", LAN, PrefixOverlap, "lan[0]");
    world.carry_out("site.oslo");
    world.accept("site.paris.create", LAN);
}

#[test]
fn settings_are_checked_against_the_vendors_schema() {
    let mut world = World::default();
    let with =
        |settings: &str| format!(r#"{{"vendor":"northwan","lan":["10.1.0.0/24"],"settings":{settings}}}"#);
    world.refuse("site.oslo.create", &with(r#"{"locaton":"Oslo"}"#), UnknownField, "settings.locaton");
    world.refuse("site.oslo.create", &with(r#"{"location":7}"#), WrongType, "settings.location");
    world.refuse(
        "site.oslo.create",
        &with(r#"{"location":"a place with a long name"}"#),
        InvalidValue,
        "settings.location",
    );
    world.refuse("site.oslo.create", &with("7"), WrongType, "settings");
    world.accept("site.oslo.create", &with(r#"{"location":"Oslo"}"#));
    world.refuse("site.oslo.change", r#"{"settings":{"location":[]}}"#, WrongType, "settings.location");
}

#[test]
fn a_vendor_without_settings_takes_none() {
    let mut world = World::default();
    let body = r#"{"vendor":"barewan","lan":["10.1.0.0/24"],"settings":{"a":1}}"#;
    world.refuse("site.oslo.create", body, UnknownField, "settings");
    world.accept("site.oslo.create", r#"{"vendor":"barewan","lan":["10.1.0.0/24"],"settings":{}}"#);
}
