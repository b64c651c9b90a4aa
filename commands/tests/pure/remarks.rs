//! Notes, and acknowledgements of trouble.

use wanwright_schemas::Reason::*;
use wanwright_schemas::remarks::Trouble;

use crate::harness::*;

fn known(world: &World) -> Option<Trouble> {
    let device = &world.state.devices[&"d1".parse().expect("an id")];
    device.acknowledged.as_ref().map(|known| known.of)
}

#[test]
fn a_note_is_an_event_and_changes_nothing() {
    let mut world = World::running();
    let before = world.state.clone();
    for (tail, event) in [
        ("site.oslo.note", "oslo SiteNoted"),
        ("tunnel.t1.note", "t1 TunnelNoted"),
        ("device.d1.note", "d1 DeviceNoted"),
        ("customer.acme.note", "acme CustomerNoted"),
    ] {
        assert_eq!(world.accept(tail, r#"{"text":"first line\nsecond line"}"#), [event]);
        for wrong in [r#"{"text":" "}"#, r#"{"text":"a\tb"}"#] {
            world.refuse(tail, wrong, InvalidValue, "text");
        }
        let long = format!(r#"{{"text":"{}"}}"#, "å".repeat(2001));
        world.refuse(tail, &long, InvalidValue, "text");
        world.accept(tail, &format!(r#"{{"text":"{}"}}"#, "å".repeat(2000)));
    }
    assert_eq!(world.state, before);
    world.refuse("site.bergen.note", r#"{"text":"x"}"#, NotFound, "");
}

#[test]
fn a_trouble_is_acknowledged_until_it_is_another_one_or_gone() {
    let mut world = World::running();
    let body = r#"{"reason":"ticket 4711","until":"2026-12-01T00:00:00Z"}"#;
    world.refuse("device.d1.acknowledge", body, NothingToAcknowledge, "");
    world.refuse("device.d2.acknowledge", body, NotFound, "");
    world.drift("device.d1");
    world.refuse("device.d1.acknowledge", r#"{"reason":""}"#, InvalidValue, "reason");
    let over = body.replace("2026-12-01", "2026-11-01");
    world.refuse("device.d1.acknowledge", &over, InvalidValue, "until");
    assert_eq!(world.accept("device.d1.acknowledge", body), ["d1 DeviceAcknowledged"]);
    world.nothing("device.d1.acknowledge", body);
    assert_eq!(known(&world), Some(Trouble::Drift));
    // Another look that finds the same is no news; that the drift is gone is.
    world.drift("device.d1");
    assert_eq!(known(&world), Some(Trouble::Drift));
    world.accept("device.d1.check-drift", "");
    let order = world.look("device.d1");
    world.report(&in_sync(&order));
    assert_eq!(known(&world), None);

    world.drift("device.d1");
    world.accept("device.d1.acknowledge", r#"{"reason":"known"}"#);
    world.accept("device.d1.retry", "");
    assert_eq!(known(&world), None, "somebody does something about it");
    world.fail("device.d1");
    world.accept("device.d1.acknowledge", r#"{"reason":"known"}"#);
    assert_eq!(known(&world), Some(Trouble::Failure));
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    assert_eq!(known(&world), None);
    world.fail("device.d1");
    world.accept("device.d1.acknowledge", r#"{"reason":"known"}"#);
    world.accept("device.d1.retry", "");
    world.carry_out("device.d1");
    world.refuse("device.d1.acknowledge", r#"{"reason":"known"}"#, NothingToAcknowledge, "");
}
