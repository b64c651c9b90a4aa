//! Change freezes of a customer.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use wanwright_commands::cancel::Standing;
use wanwright_schemas::Reason::*;

use crate::harness::*;

const CHRISTMAS: &str = r#"{"name":"christmas","from":"2026-12-20T00:00","to":"2027-01-02T00:00","zone":"Europe/Oslo",
    "reason":"nobody is there"}"#;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

fn freeze(world: &World, name: &str) -> wanwright_schemas::policy::Freeze {
    world.state.own.freezes.values().find(|freeze| freeze.name.as_str() == name).expect("the freeze").clone()
}

#[test]
fn what_says_how_something_should_be_is_refused_while_a_freeze_is_in_force() {
    let mut world = World::running();
    world.drift("device.d1");
    assert_eq!(world.accept("customer.acme.freeze", CHRISTMAS), ["acme CustomerFrozen"]);
    world.nothing("customer.acme.freeze", CHRISTMAS);
    assert_eq!(freeze(&world, "christmas").from, at("2026-12-19T23:00:00Z"));
    world.now = at("2026-12-19T22:59:59Z");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);

    world.now = at("2026-12-19T23:00:00Z");
    for (tail, body) in [
        ("site.paris.create", LAN_2),
        ("site.oslo.change", r#"{"settings":{"location":"Bergen"}}"#),
        ("device.d1.decommission", ""),
        ("site.oslo.decommission", r#"{"cascade":true}"#),
        ("device.d1.approve", r#"{"generation":1}"#),
        ("customer.acme.change", r#"{"policy":{"site":"approve"}}"#),
        ("customer.acme.decommission", r#"{"cascade":true}"#),
    ] {
        let refusal = world.refuse(tail, body, Frozen, "");
        for part in
            ["christmas", "2027-01-01T23:00:00Z", "2027-01-02T00:00:00 in Europe/Oslo", "nobody is there"]
        {
            assert!(refusal.message.contains(part), "{refusal}");
        }
        assert!(refusal.next.contains(r#"`unfreeze` for customer/acme with {"name":"christmas"}"#));
    }

    // What was decided before goes on, and looking changes nothing.
    world.accept("device.d1.retry", "");
    world.accept("site.oslo.check-drift", "");
    world.accept("site.oslo.suspend", r#"{"reason":"holidays"}"#);
    world.accept("site.oslo.resume", "");
    world.accept("site.oslo.protect", "");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteApplied 2"]);

    world.now = at("2027-01-01T23:00:00Z");
    world.accept("device.d1.decommission", "");
}

#[test]
fn what_nobody_has_begun_is_taken_back_in_a_freeze_and_what_was_tried_is_not() {
    const AP: &str = r#"{"settings":{"hostname":"ap"}}"#;
    let mut world = World::running();
    world.accept("device.d1.change", AP);
    world.accept("device.d2.create", &DEVICE.replace("0001", "0002"));
    world.accept("customer.acme.freeze", CHRISTMAS);
    world.now = at("2026-12-24T12:00:00Z");
    // Another change at the vendor, whether it is called `revert` or `cancel`; a device that is half there would go.
    world.standing = Standing::Tried;
    world.refuse("device.d1.revert", r#"{"to_generation":1}"#, Frozen, "");
    for device in ["d1", "d2"] {
        let refusal = world.refuse(&format!("device.{device}.cancel"), "", Frozen, "");
        assert!(refusal.message.contains("christmas"), "{refusal}");
    }
    // Whether it can be cancelled at all comes first.
    world.refuse("site.oslo.cancel", "", NothingToCancel, "");
    world.standing = Standing::Running;
    world.refuse("device.d1.cancel", "", OrderRunning, "");
    world.standing = Standing::Waiting;
    assert_eq!(world.accept("device.d1.cancel", ""), ["d1 DeviceChanged 3", "d1 DeviceCancelled 3"]);
    assert_eq!(world.accept("device.d2.cancel", ""), ["d2 DeviceCancelled 2"]);
    world.idle("device.d1");
    // A try that failed before counts as one, whatever is in the table now.
    let mut world = World::running();
    world.accept("device.d1.change", AP);
    world.fail("device.d1");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    world.accept("customer.acme.freeze", CHRISTMAS);
    world.now = at("2026-12-24T12:00:00Z");
    world.refuse("device.d1.cancel", "", Frozen, "");
    world.accept("customer.acme.unfreeze", r#"{"name":"christmas"}"#);
    world.accept("device.d1.cancel", "");
}

#[test]
fn a_freeze_is_ended_before_its_time_by_name() {
    let mut world = World::running();
    world.accept("customer.acme.freeze", CHRISTMAS);
    world.now = at("2026-12-24T12:00:00Z");
    world.refuse("customer.acme.freeze", &CHRISTMAS.replace("2027-01-02", "2026-12-22"), InvalidValue, "to");
    world.refuse("customer.acme.freeze", &CHRISTMAS.replace("2027", "2028"), AlreadyExists, "name");
    let refusal = world.refuse("customer.acme.unfreeze", r#"{"name":"easter"}"#, NotFound, "name");
    assert!(refusal.message.contains("christmas"), "{refusal}");
    assert_eq!(world.accept("customer.acme.unfreeze", r#"{"name":"christmas"}"#), ["acme CustomerUnfrozen"]);
    world.accept("device.d1.decommission", "");
}

#[test]
fn times_are_moments_or_local_times_with_a_zone() {
    let mut world = World::default();
    let typed = |from: &str, to: &str, zone: serde_json::Value| {
        json!({"name": "f", "from": from, "to": to, "zone": zone, "reason": "r"}).to_string()
    };
    let none = json!(null);
    let mut refuse = |body: String, field: &str| {
        world.refuse("customer.acme.freeze", &body, InvalidValue, field);
    };
    refuse(typed("2026-12-20T00:00", "2027-01-02T00:00", none.clone()), "from");
    refuse(typed("2026-12-20T00:00:00Z", "2027-01-02T00:00", none.clone()), "to");
    refuse(typed("2026-12-20T00:00:00Z", "2027-01-02T00:00:00Z", json!("Europe/Oslo")), "from");
    refuse(typed("2026-12-20T00:00", "2027-01-02T00:00", json!("Europe/Olso")), "zone");
    refuse(typed("2026-12-20T00:00", "christmas", json!("Europe/Oslo")), "to");
    refuse(typed("2026-12-20T00:00:00Z", "2026-12-20T00:00:00Z", none.clone()), "to");
    refuse(typed("2026-01-01T00:00:00Z", "2026-11-21T08:00:00Z", none.clone()), "to");
    refuse(
        json!({"name": "f", "from": "2026-12-20T00:00:00Z", "to": "2026-12-21T00:00:00Z", "reason": " "})
            .to_string(),
        "reason",
    );
    world.accept("customer.acme.freeze", &typed("2026-12-20T00:00:00+01:00", "2027-01-02T00:00:00Z", none));
    assert_eq!(freeze(&world, "f").from, at("2026-12-19T23:00:00Z"));
}

#[test]
fn a_freeze_is_never_shorter_than_it_was_typed() {
    let mut world = World { now: at("2026-01-01T00:00:00Z"), ..World::default() };
    // In Oslo 02:30 comes twice on 25 October, and not at all on 29 March.
    let twice =
        r#"{"name":"a","from":"2026-10-25T02:30","to":"2026-10-25T02:30","zone":"Europe/Oslo","reason":"r"}"#;
    world.accept("customer.acme.freeze", twice);
    let frozen = freeze(&world, "a");
    assert_eq!((frozen.from, frozen.to), (at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")));
    let never =
        r#"{"name":"b","from":"2026-03-29T02:30","to":"2026-03-29T02:30","zone":"Europe/Oslo","reason":"r"}"#;
    world.accept("customer.acme.freeze", never);
    let frozen = freeze(&world, "b");
    assert_eq!((frozen.from, frozen.to), (at("2026-03-29T00:30:00Z"), at("2026-03-29T01:30:00Z")));
}

#[test]
fn a_customer_has_32_freezes_and_those_that_are_over_make_room() {
    let mut world = World::default();
    let body = |number: i64, now: Timestamp| {
        let to = now + SignedDuration::from_hours(number + 1);
        json!({"name": format!("f{number}"), "from": now, "to": to, "reason": "r"}).to_string()
    };
    for number in 0..32 {
        world.accept("customer.acme.freeze", &body(number, world.now));
    }
    world.refuse("customer.acme.freeze", &body(32, world.now), TooMany, "");
    world.now += SignedDuration::from_hours(2);
    let events = world.accept("customer.acme.freeze", &body(32, world.now));
    assert_eq!(events, ["acme CustomerUnfrozen", "acme CustomerUnfrozen", "acme CustomerFrozen"]);
    assert_eq!(world.state.own.freezes.len(), 31);
}
