//! Change windows of a customer: when they open, what waits for them, and what does not.

use jiff::Timestamp;
use serde_json::{Value, json};
use wanwright_commands::orders::Gate;
use wanwright_schemas::Reason::*;

use crate::harness::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// A customer with one window, in Oslo.
fn with_window(days: &[&str], from: &str, to: &str) -> World {
    let mut world = World::running();
    let mut window = json!({"zone": "Europe/Oslo", "from": from, "to": to});
    if !days.is_empty() {
        window["days"] = json!(days);
    }
    world.accept("customer.acme.change", &json!({"windows": {"w": window}}).to_string());
    world
}

fn gate(world: &mut World, now: &str) -> Gate {
    world.now = at(now);
    world.gate("device.d1")
}

fn open(until: &str) -> Gate {
    Gate::Open(Some(at(until)))
}

fn shut(until: &str) -> Gate {
    Gate::Shut(Some(at(until)))
}

#[test]
fn what_is_asked_for_outside_of_a_window_is_accepted_and_waits_for_it() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    let changed = world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    assert_eq!(changed, ["d1 DeviceChanged 2", "d1 DevicePostponed 2"]);
    let device = &world.state.devices[&"d1".parse().expect("an id")];
    let postponed = device.postponed.as_ref().expect("a postponement");
    assert_eq!(postponed.until, Some(at("2026-11-22T01:00:00Z")));
    assert_eq!(postponed.window.as_ref().map(|name| name.as_str()), Some("w"));
    assert_eq!(world.gate("device.d1"), shut("2026-11-22T01:00:00Z"));

    assert_eq!(gate(&mut world, "2026-11-22T00:59:59.999Z"), shut("2026-11-22T01:00:00Z"));
    assert_eq!(gate(&mut world, "2026-11-22T01:00:00Z"), open("2026-11-22T03:00:00Z"));
    assert_eq!(gate(&mut world, "2026-11-22T02:59:59Z"), open("2026-11-22T03:00:00Z"));
    // Whoever missed it waits for the next one, and nobody has to decide that.
    assert_eq!(gate(&mut world, "2026-11-22T03:00:00Z"), shut("2026-11-29T01:00:00Z"));

    // What is asked for while it is open is done at once, and what is done waits for nothing.
    world.now = at("2026-11-22T01:30:00Z");
    let changed = world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    assert_eq!(changed, ["d1 DeviceChanged 3"]);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 3"]);
    assert_eq!(world.state.devices[&"d1".parse().expect("an id")].postponed, None);
}

#[test]
fn a_window_follows_the_clock_on_the_wall() {
    let mut world = with_window(&[], "02:15", "02:45");
    // Clocks are set forward from 02:00 to 03:00 on 29 March 2026: no clock shows 02:15 on that day.
    assert_eq!(gate(&mut world, "2026-03-28T01:44:59Z"), open("2026-03-28T01:45:00Z"));
    assert_eq!(gate(&mut world, "2026-03-28T01:45:00Z"), shut("2026-03-30T00:15:00Z"));
    // They are set back from 03:00 to 02:00 on 25 October: every clock shows it twice.
    assert_eq!(gate(&mut world, "2026-10-24T23:00:00Z"), shut("2026-10-25T00:15:00Z"));
    assert_eq!(gate(&mut world, "2026-10-25T00:20:00Z"), open("2026-10-25T00:45:00Z"));
    assert_eq!(gate(&mut world, "2026-10-25T00:50:00Z"), shut("2026-10-25T01:15:00Z"));
    assert_eq!(gate(&mut world, "2026-10-25T01:44:00Z"), open("2026-10-25T01:45:00Z"));

    // One that begins in the hour that is left out opens with the first time that a clock shows.
    let mut world = with_window(&["sun"], "02:30", "04:00");
    assert_eq!(gate(&mut world, "2026-03-29T00:59:59Z"), shut("2026-03-29T01:00:00Z"));
    assert_eq!(gate(&mut world, "2026-03-29T01:00:00Z"), open("2026-03-29T02:00:00Z"));
    // One that ends in the hour that comes twice opens again when it comes for the second time.
    let mut world = with_window(&["sun"], "01:30", "02:30");
    assert_eq!(gate(&mut world, "2026-10-25T00:29:00Z"), open("2026-10-25T00:30:00Z"));
    assert_eq!(gate(&mut world, "2026-10-25T00:30:00Z"), shut("2026-10-25T01:00:00Z"));
    assert_eq!(gate(&mut world, "2026-10-25T01:00:00Z"), open("2026-10-25T01:30:00Z"));
}

#[test]
fn a_window_may_go_over_midnight_and_last_a_whole_day() {
    let mut world = with_window(&["sat"], "22:00", "04:00");
    assert_eq!(gate(&mut world, "2026-11-21T20:59:00Z"), shut("2026-11-21T21:00:00Z"));
    assert_eq!(gate(&mut world, "2026-11-22T00:00:00Z"), open("2026-11-22T03:00:00Z"));
    // Saturday's early hours belong to Friday, which has none.
    assert_eq!(gate(&mut world, "2026-11-28T01:00:00Z"), shut("2026-11-28T21:00:00Z"));

    let mut world = with_window(&["sat", "sun"], "06:00", "06:00");
    assert_eq!(gate(&mut world, "2026-11-21T05:00:00Z"), open("2026-11-23T05:00:00Z"));
    assert_eq!(gate(&mut world, "2026-11-23T05:00:00Z"), shut("2026-11-28T05:00:00Z"));
    let mut always = with_window(&[], "06:00", "06:00");
    assert_eq!(gate(&mut always, "2026-11-23T05:00:00Z"), Gate::Open(None));
}

#[test]
fn a_window_is_about_stacks_or_devices_or_both() {
    let mut world = World::running();
    let sites = r#"{"windows":{"nights":{"zone":"UTC","from":"01:00","to":"02:00","kinds":["site"]}}}"#;
    world.accept("customer.acme.change", sites);
    assert_eq!(world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#), ["d1 DeviceChanged 2"]);
    let events = world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    assert_eq!(events, ["t1 TunnelChanged 2", "t1 TunnelPostponed 2"]);
    assert_eq!(world.gate("site.oslo"), shut("2026-11-22T01:00:00Z"));
    assert_eq!(world.gate("device.d1"), Gate::Open(None));
    let tunnels = sites.replace(r#"["site"]"#, r#"["tunnel"]"#);
    world.refuse("customer.acme.change", &tunnels, InvalidValue, "windows.nights.kinds[0]");
}

#[test]
fn windows_that_never_open_are_refused() {
    let mut world = World::default();
    let mut refuse = |window: Value, code, field: &str| {
        let body = json!({"windows": {"w": window}}).to_string();
        world.refuse("customer.acme.change", &body, code, field);
    };
    let zone = json!({"zone": "Europe/Olso", "from": "01:00", "to": "02:00"});
    refuse(zone, InvalidValue, "windows.w.zone");
    let days = json!({"zone": "UTC", "from": "01:00", "to": "02:00", "days": []});
    refuse(days, InvalidValue, "windows.w.days");
    let kinds = json!({"zone": "UTC", "from": "01:00", "to": "02:00", "kinds": []});
    refuse(kinds, InvalidValue, "windows.w.kinds");
    refuse(json!({"zone": "UTC", "from": "25:00", "to": "02:00"}), InvalidValue, "windows.w.from");
    let many: Value = (0..17)
        .map(|number| (format!("w{number}"), json!({"zone": "UTC", "from": "01:00", "to": "02:00"})))
        .collect();
    world.refuse("customer.acme.change", &json!({"windows": many}).to_string(), TooMany, "windows");
}

#[test]
fn whoever_may_lets_one_change_through() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    let now = r#"{"reason":"the line is down"}"#;
    world.refuse("site.oslo.release", now, NothingToRelease, "");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    world.refuse("site.oslo.release", r#"{"reason":" "}"#, InvalidValue, "reason");
    world.refuse("site.bergen.release", now, NotFound, "");
    // A stack is brought about as a whole, so it is let through as one.
    assert_eq!(world.accept("site.oslo.release", now), ["oslo SiteReleased 2", "t1 TunnelReleased 2"]);
    assert_eq!(world.gate("site.oslo"), Gate::Open(None));
    world.refuse("site.oslo.release", now, NothingToRelease, "");
    // It was about what waited then.
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-a"}}"#);
    assert_eq!(world.gate("site.oslo"), shut("2026-11-22T01:00:00Z"));
    assert_eq!(world.accept("site.oslo.release", now), ["t1 TunnelReleased 3"]);
    world.carry_out("site.oslo");
    let settled = ["oslo".parse().map(|id| world.state.sites[&id].released).expect("an id")];
    assert_eq!(settled, [false]);

    // One that failed is to be let through again.
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    assert_eq!(world.accept("device.d1.release", now), ["d1 DeviceReleased 2"]);
    world.fail("device.d1");
    let again = world.accept("device.d1.retry", "");
    assert_eq!(again, ["d1 DeviceRetryRequested", "d1 DevicePostponed 2"]);
    assert_eq!(world.gate("device.d1"), shut("2026-11-22T01:00:00Z"));
    // While a window is open there is nothing to let through.
    world.now = at("2026-11-22T01:30:00Z");
    world.refuse("device.d1.release", now, NothingToRelease, "");
}

#[test]
fn what_is_released_waits_for_its_approval_all_the_same() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    world.accept("customer.acme.change", r#"{"policy":{"device":"approve"}}"#);
    let asked = world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    assert_eq!(asked, ["d1 DeviceChanged 2", "d1 DeviceApprovalRequested 2"]);
    world.accept("device.d1.release", r#"{"reason":"now"}"#);
    world.idle("device.d1");
    let approved = world.send("boss", "device.d1.approve", r#"{"generation":2}"#, None).expect("approved");
    assert_eq!(approved.iter().map(short).collect::<Vec<_>>(), ["d1 DeviceApproved 2"]);
    assert_eq!(world.gate("device.d1"), Gate::Open(None));
    world.carry_out("device.d1");

    // What is approved outside of a window waits for one from then on.
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    let approved = world.send("boss", "device.d1.approve", r#"{"generation":3}"#, None).expect("approved");
    assert_eq!(
        approved.iter().map(short).collect::<Vec<_>>(),
        ["d1 DeviceApproved 3", "d1 DevicePostponed 3"]
    );
}

#[test]
fn other_windows_and_freezes_are_judged_anew_for_what_waits() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    let wednesday = r#"{"windows":{"w":{"days":["wed"]}}}"#;
    assert_eq!(
        world.accept("customer.acme.change", wednesday),
        ["acme CustomerChanged 2", "d1 DevicePostponed 2"]
    );
    assert_eq!(world.gate("device.d1"), shut("2026-11-25T01:00:00Z"));

    // No window opens in a freeze, however long it is.
    let freeze = r#"{"name":"f","from":"2026-11-24T00:00:00Z","to":"2027-01-06T01:30:00Z","reason":"r"}"#;
    assert_eq!(world.accept("customer.acme.freeze", freeze), ["acme CustomerFrozen", "d1 DevicePostponed 2"]);
    assert_eq!(world.gate("device.d1"), shut("2027-01-06T01:30:00Z"));
    world.now = at("2026-11-25T01:00:00Z");
    assert_eq!(world.gate("device.d1"), shut("2027-01-06T01:30:00Z"));
    world.refuse("device.d1.release", r#"{"reason":"now"}"#, Frozen, "");
    assert_eq!(
        world.accept("customer.acme.unfreeze", r#"{"name":"f"}"#),
        ["acme CustomerUnfrozen", "d1 DeviceDue 2"]
    );
    assert_eq!(world.gate("device.d1"), open("2026-11-25T03:00:00Z"));

    world.now = at("2026-11-26T00:00:00Z");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap-2"}}"#);
    let none = world.accept("customer.acme.change", r#"{"windows":null}"#);
    assert_eq!(none, ["acme CustomerChanged 3", "d1 DeviceDue 3"]);
    assert_eq!(world.gate("device.d1"), Gate::Open(None));
}

#[test]
fn whoever_missed_a_window_is_told_of_the_next_one_with_what_is_decided_next() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    world.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    let until = |world: &World| {
        let state = &world.state;
        let of_device = state.devices[&"d1".parse().expect("an id")].postponed.clone();
        let of_site = state.sites[&"oslo".parse().expect("an id")].postponed.clone();
        [of_device, of_site].map(|postponed| postponed.expect("a postponement").until)
    };
    let note = |world: &mut World, tail: &str| world.accept(tail, r#"{"text":"n"}"#);
    let [first, second] = ["2026-11-22T01:00:00Z", "2026-11-29T01:00:00Z"].map(|text| Some(at(text)));
    assert_eq!(until(&world), [first, first]);
    // In the window it may begin at any moment.
    world.now = at("2026-11-22T02:00:00Z");
    assert_eq!(note(&mut world, "tunnel.t1.note"), ["t1 TunnelNoted"]);
    assert_eq!(until(&world), [first, first]);

    world.now = at("2026-11-22T04:00:00Z");
    let said = note(&mut world, "tunnel.t1.note");
    assert_eq!(said, ["t1 TunnelNoted", "oslo SitePostponed 2", "d1 DevicePostponed 2"]);
    assert_eq!(until(&world), [second, second]);
    assert_eq!(note(&mut world, "tunnel.t1.note"), ["t1 TunnelNoted"], "it is told once");

    // What is reported behind a window tells of it as well, and what is let through has missed nothing.
    world.now = at("2026-11-28T00:00:00Z");
    world.accept("site.oslo.release", r#"{"reason":"now"}"#);
    world.now = at("2026-11-29T03:00:00Z");
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteApplied 2", "d1 DevicePostponed 2"]);
    assert_eq!(gate(&mut world, "2026-11-29T03:00:00Z"), shut("2026-12-06T01:00:00Z"));
}

#[test]
fn a_command_does_not_grow_with_all_that_missed_a_window_beside_it() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    for number in 2..100 {
        let device = DEVICE.replace("SN", &format!("SN{number}"));
        world.accept(&format!("device.d{number}.create"), &device);
    }
    world.now = at("2026-11-22T04:00:00Z");
    let renewed = [(); 3].map(|()| world.accept("tunnel.t1.note", r#"{"text":"n"}"#).len() - 1);
    assert_eq!(renewed, [64, 34, 0]);
}

#[test]
fn wider_windows_are_approved_where_changes_are() {
    let mut world = with_window(&["sat", "sun"], "01:00", "05:00");
    world.accept("customer.acme.change", r#"{"policy":{"device":{"approve":{"by":2}}}}"#);
    // Narrower ones make nothing easier.
    let narrower = r#"{"windows":{"w":{"days":["sun"],"from":"02:00","to":"04:00"}}}"#;
    assert_eq!(world.accept("customer.acme.change", narrower), ["acme CustomerChanged 3"]);
    for wider in [
        r#"{"windows":null}"#,
        r#"{"windows":{"w":{"kinds":["site"]}}}"#,
        r#"{"windows":{"w":{"days":["sat"]}}}"#,
        r#"{"windows":{"w":{"to":"04:01"}}}"#,
        r#"{"windows":{"w":{"to":"02:00"}}}"#,
        r#"{"windows":{"w":{"zone":"UTC"}}}"#,
        r#"{"windows":{"v":{"zone":"Europe/Oslo","from":"12:00","to":"13:00"}}}"#,
    ] {
        let mut asked = world.clone();
        assert_eq!(
            asked.accept("customer.acme.change", wider),
            ["acme CustomerApprovalRequested 4"],
            "{wider}"
        );
        assert_eq!(asked.state.own.spec, world.state.own.spec);
    }
    // What is about sites alone needs no approval here.
    let sites = r#"{"windows":{"v":{"zone":"Europe/Oslo","from":"12:00","to":"13:00","kinds":["site"]}}}"#;
    assert_eq!(world.accept("customer.acme.change", sites), ["acme CustomerChanged 4"]);
    world.accept("customer.acme.change", r#"{"windows":{"w":null}}"#);
    for boss in ["boss", "chief"] {
        world.send(boss, "customer.acme.approve", r#"{"generation":5}"#, None).expect("approved");
    }
    assert_eq!(world.state.own.spec.windows.len(), 1);
}

#[test]
fn what_comes_of_a_run_that_began_in_a_window_is_heard_after_it() {
    let mut world = with_window(&["sun"], "02:00", "04:00");
    world.now = at("2026-11-22T02:59:00Z");
    world.accept("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#);
    let order = world.change("device.d1");
    world.now = at("2026-11-22T03:10:00Z");
    assert_eq!(world.report(&failed(&order)), ["d1 DeviceFailed 2"]);
    world.accept("device.d1.retry", "");
    let order = world.change("device.d1");
    assert_eq!(world.report(&failed(&order)), ["d1 DeviceFailed 2"], "a retry's failure is heard as well");
}

#[test]
fn a_dry_run_orders_nothing_that_would_wait_for_a_window() {
    let world = with_window(&["sun"], "02:00", "04:00");
    let orders = |now: &str| {
        let mut world = World { now: at(now), ..world.clone() };
        let body = r#"{"settings":{"hostname":"ap"}}"#;
        let events = world.send("demo", "device.d1.change", body, None).expect("accepted");
        let (state, now) = (&world.state, world.now);
        wanwright_commands::orders::that_would_follow(&customer(), state, &events, world.vendors, now).len()
    };
    assert_eq!((orders("2026-11-21T08:00:00Z"), orders("2026-11-22T01:00:00Z")), (0, 1));
}
