//! A customer with 10,000 devices: what one command says about all of them fits into one message, or is refused.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::history::messages;

const DEVICES: usize = 10_000;
/// What a server takes, less what the service keeps for headers.
const ROOM: usize = 4 * 1024 * 1024 - 4 * 1024;
const ALL: &str = r#"{"cascade":true}"#;
const FREEZE: &str = r#"{"name":"f","from":"2026-11-20T00:00:00Z","to":"2027-01-02T00:00:00Z","reason":"r"}"#;
const WHY: &str = r#"{"reason":"works at the site"}"#;
/// A window that is shut now, and a rule that holds what devices ask for.
const WINDOW: &str = r#"{"windows":{"nights":{"zone":"Europe/Oslo","from":"01:00","to":"04:00"}}}"#;
const RULE: &str = r#"{"policy":{"device":{"approve":{"by":2,"group":"netops"}},"site":"approve","tunnel":"approve"},
    "groups":{"netops":["anna","ben"]}}"#;

/// Oslo with a tunnel and 10,000 devices, all of it at the vendor. Each id begins with `name`.
fn large(name: &str) -> World {
    let mut world = World::running();
    let (_, one) = world.state.devices.pop_first().expect("a device");
    for number in 0..DEVICES {
        let mut device = one.clone();
        device.spec.serial = format!("SN-{number:08}");
        world.state.devices.insert(format!("{name}{number:05}").parse().expect("an id"), device);
    }
    world
}

/// How many events a command has, and how many bytes they take as they are stored.
fn said(world: &mut World, tail: &str, body: &str) -> (usize, usize) {
    let began = Instant::now();
    let before = world.history.len();
    world.accept(tail, body);
    let events = world.history[before].1.len();
    let bytes = messages(&world.history[before..]).remove(0).len();
    let took = began.elapsed();
    // What is looked up for each object among all of them takes minutes.
    assert!(took < Duration::from_secs(30), "{tail} took {took:?}");
    (events, bytes)
}

#[test]
fn what_one_command_says_of_10_000_devices_fits_into_one_message() {
    let mut events = BTreeMap::new();
    for (tail, body) in [
        ("customer.acme.check-drift", ""),
        ("site.oslo.decommission", ALL),
        ("customer.acme.decommission", ALL),
        ("customer.acme.suspend", WHY),
        ("site.oslo.suspend", WHY),
        ("customer.acme.change", WINDOW),
        ("customer.acme.change", RULE),
    ] {
        let mut world = large("device-");
        let (count, bytes) = said(&mut world, tail, body);
        assert!(bytes <= ROOM, "{tail} takes {bytes} bytes");
        events.insert((tail, body), count);
    }
    assert_eq!(events[&("customer.acme.check-drift", "")], DEVICES + 1);
    assert_eq!(events[&("site.oslo.decommission", ALL)], DEVICES + 2);
    assert_eq!(events[&("customer.acme.decommission", ALL)], DEVICES + 3);
}

#[test]
fn what_10_000_devices_wait_for_fits_as_well() {
    let mut world = large("device-");
    said(&mut world, "customer.acme.change", WINDOW);
    let (events, bytes) = said(&mut world, "site.oslo.decommission", ALL);
    assert!(events == 2 * (DEVICES + 2) && bytes <= ROOM, "{events} events, {bytes} bytes");
    // Everything that waits for a window is judged anew.
    for (tail, body) in [("customer.acme.freeze", FREEZE), ("customer.acme.unfreeze", r#"{"name":"f"}"#)] {
        let (events, bytes) = said(&mut world, tail, body);
        assert!(events == DEVICES + 3 && bytes <= ROOM, "{tail}: {events} events, {bytes} bytes");
    }

    // All of them have missed their window, and only some of them get another one by the next command.
    let mut world = large("device-");
    for device in world.state.devices.values_mut() {
        device.generation += 1;
    }
    said(&mut world, "customer.acme.change", WINDOW);
    said(&mut world, "customer.acme.freeze", FREEZE);
    said(&mut world, "customer.acme.unfreeze", r#"{"name":"f"}"#);
    world.now += jiff::SignedDuration::from_hours(60 * 24);
    let (events, _) = said(&mut world, "site.oslo.protect", "");
    assert_eq!(events, 1 + 64);
    said(&mut world, "site.oslo.unprotect", "");
    let (_, bytes) = said(&mut world, "site.oslo.decommission", ALL);
    assert!(bytes <= ROOM, "{bytes}");
}

#[test]
fn the_longest_names_and_the_strictest_rules_fit_too() {
    let mut world = large(&"x".repeat(58));
    said(&mut world, "customer.acme.change", WINDOW);
    let before = world.clone();
    for rule in ["apply", "approve"] {
        let mut world = before.clone();
        let policy = format!(r#"{{"policy":{{"device":"{rule}","site":"plan","tunnel":"{rule}"}}}}"#);
        said(&mut world, "customer.acme.change", &policy);
        let (events, bytes) = said(&mut world, "site.oslo.decommission", ALL);
        assert!(events > 2 * DEVICES && bytes <= ROOM, "{rule}: {events} events, {bytes} bytes");
    }
    let mut world = before;
    let (_, bytes) = said(&mut world, "customer.acme.check-drift", "");
    assert!(bytes <= ROOM, "{bytes}");
}
