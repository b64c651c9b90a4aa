//! Whom to talk to: no matter of the vendor's, and sealed before it is decided.

use serde_json::json;
use wanwright_schemas::contact::KeyId;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::{Event, Reason, body};

use crate::harness::*;

const KEY: &str = "0192f0c1a2b37c4d8e5f60718293a4b5";

fn contact(secret: &str) -> String {
    json!({ "contact": { "name": format!("sealed:v1:{KEY}:{secret}") } }).to_string()
}

#[test]
fn another_contact_makes_no_generation_and_no_order() {
    let mut world = World::running();
    for (object, said) in [("site.oslo", "oslo SiteContactChanged"), ("device.d1", "d1 DeviceContactChanged")]
    {
        let generation = world.state.generation(&object_of(object));
        let change = format!("{object}.change");
        assert_eq!(world.accept(&change, &contact("AAAA")), [said]);
        world.nothing(&change, &contact("AAAA"));
        world.accept(&change, &contact("BBBB"));
        world.accept(&change, r#"{"contact":null}"#);
        world.nothing(&change, r#"{"contact":{"name":null}}"#);
        assert_eq!(world.state.generation(&object_of(object)), generation);
        world.idle(object);
    }
}

#[test]
fn orders_do_not_tell_of_it() {
    let mut world = World::default();
    let with = |spec: &str| {
        let mut spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        let contact: serde_json::Value = serde_json::from_str(&contact("AAAA")).unwrap();
        body::merge_patch(&mut spec, &contact);
        spec.to_string()
    };
    world.accept("site.oslo.create", &with(LAN));
    let site = serde_json::to_string(&world.change("site.oslo")).unwrap();
    world.carry_out("site.oslo");
    world.accept("device.d1.create", &with(DEVICE));
    let device = serde_json::to_string(&world.change("device.d1")).unwrap();
    for order in [site, device] {
        assert!(!order.contains("sealed") && !order.contains("contact"), "{order}");
    }
    // A change of both is one change, and a generation.
    let both = r#"{"lan":["10.9.0.0/24"],"contact":null}"#;
    world.accept("site.oslo.change", both);
    assert_eq!(world.state.generation(&object_of("site.oslo")), Some(2));
}

#[test]
fn neither_a_freeze_nor_an_approval_is_about_it() {
    let mut world = World::running();
    world.accept("customer.acme.change", r#"{"policy":{"site":"approve","device":"approve"}}"#);
    let freeze = r#"{"name":"f","from":"2026-11-21T00:00:00Z","to":"2026-11-22T00:00:00Z","reason":"nobody is there"}"#;
    world.accept("customer.acme.freeze", freeze);
    assert_eq!(world.accept("site.oslo.change", &contact("AAAA")), ["oslo SiteContactChanged"]);
    assert_eq!(world.accept("device.d1.change", &contact("AAAA")), ["d1 DeviceContactChanged"]);
    world.idle("site.oslo");
    world.idle("device.d1");
    // What comes with another change waits with it, and what changes nothing is refused as any change is.
    let both = r#"{"lan":["10.9.0.0/24"],"contact":null}"#;
    for body in [both, &contact("AAAA")] {
        world.refuse("site.oslo.change", body, Reason::Frozen, "");
    }
    world.accept("customer.acme.unfreeze", r#"{"name":"f"}"#);
    assert_eq!(
        world.accept("site.oslo.change", both),
        ["oslo SiteChanged 2", "oslo SiteApprovalRequested 2"]
    );
}

#[test]
fn what_is_not_sealed_is_never_decided() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    let plain = r#"{"contact":{"name":"Jane Doe"}}"#;
    let refusal = world.refuse("site.oslo.change", plain, Reason::InvalidValue, "contact.name");
    assert!(!refusal.message.contains("Jane"), "{refusal}");
}

#[test]
fn an_erased_key_is_said_once_and_nothing_else_changes() {
    let mut world = World::running();
    world.nothing("customer.acme.erase", "");
    world.accept("site.oslo.change", &contact("AAAA"));
    let before = world.state.clone();
    let key: KeyId = KEY.parse().unwrap();
    world.key = Some(key);
    world.accept("customer.acme.erase", "");
    let (_, events) = world.history.last().unwrap();
    assert_eq!(events, &[Event::Customer(customer(), CustomerChange::Erased { key })]);
    let wire = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(wire, json!({"type":"CustomerErased","v":1,"customer":"acme","key":KEY}));
    world.nothing("customer.acme.erase", "");
    assert_eq!(world.state.sites, before.sites);
    assert!(world.state.erased.contains(&key));
    world.refuse("customer.acme.erase", r#"{"key":"x"}"#, Reason::UnknownField, "key");
    world.idle("site.oslo");
}
