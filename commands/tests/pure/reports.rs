//! What an executor says becomes an event only where it is news, and never undoes anything newer.

use serde_json::json;
use wanwright_schemas::order::Order;
use wanwright_schemas::report::{Finding, Report, StateMark};
use wanwright_schemas::{Digest, Reason, Target};

use crate::harness::*;

const VLAN_7: &str = r#"{"settings":{"vlan":7}}"#;

fn none() -> Vec<String> {
    Vec::new()
}

fn device(world: &World) -> wanwright_commands::Object<wanwright_schemas::spec::DeviceSpec> {
    world.state.devices[&"d1".parse().expect("an id")].clone()
}

/// Oslo at the vendor and a device that is not.
fn waiting() -> World {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    world.carry_out("site.oslo");
    world
}

#[test]
fn a_repeated_report_says_nothing() {
    let mut world = waiting();
    let order = world.change("device.d1");
    assert_eq!(world.report(&done(&order)), ["d1 DeviceApplied 1"]);
    assert_eq!(world.report(&done(&order)), none());
    assert_eq!(world.report(&failed(&order)), none());

    world.accept("device.d1.change", VLAN_7);
    let order = world.change("device.d1");
    assert_eq!(world.report(&failed(&order)), ["d1 DeviceFailed 2"]);
    assert_eq!(world.report(&failed(&order)), none());

    world.accept("device.d1.decommission", "");
    let order = world.change("device.d1");
    let removed = done(&order);
    assert_eq!(world.report(&removed), ["d1 DeviceRemoved"]);
    assert_eq!(world.report(&removed), none());
}

#[test]
fn a_repeated_report_of_the_last_generation_says_nothing_while_the_next_has_failed() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.report(&done(&first));
    world.accept("device.d1.change", VLAN_7);
    world.fail("device.d1");
    assert_eq!(world.report(&done(&first)), none());
}

#[test]
fn a_namesake_is_not_meant() {
    let mut world = waiting();
    let old = world.change("device.d1");
    world.accept("device.d1.decommission", "");
    let removal = world.change("device.d1");
    world.report(&done(&removal));
    world.accept("device.d1.create", DEVICE);
    assert_eq!(world.report(&done(&old)), none());
    assert_eq!(world.report(&failed(&old)), none());
    world.accept("device.d1.decommission", "");
    assert_eq!(world.report(&done(&removal)), none());
}

#[test]
fn an_older_generation_than_the_known_one_says_nothing() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.accept("device.d1.change", VLAN_7);
    world.carry_out("device.d1");
    assert_eq!(world.report(&done(&first)), none());
    assert_eq!(device(&world).observed.unwrap().generation, 2);
}

#[test]
fn an_older_generation_than_the_wish_is_still_progress() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.accept("device.d1.change", VLAN_7);
    let second = world.change("device.d1");
    assert_eq!(world.report(&done(&first)), ["d1 DeviceApplied 1"]);
    // What is known of the device goes with its orders, so this is another one, but still a wish.
    assert_ne!(world.change("device.d1").id, second.id);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 2"]);
}

#[test]
fn a_generation_that_was_never_wanted_says_nothing() {
    let mut world = waiting();
    let order = world.change("device.d1");
    let outputs = map(json!({"id": "x"}));
    for finding in [applied(2, outputs.clone()), applied(0, outputs), failure(2), failure(0)] {
        let report = world.saying(&order, "device.d1", finding);
        assert_eq!(world.report(&report), none());
    }
}

#[test]
fn new_outputs_of_the_same_generation_are_news() {
    let mut world = World::running();
    let order = world_order(&world);
    let report = world.saying(&order, "device.d1", applied(1, map(json!({"id": "dv-d1", "firmware": "2"}))));
    assert_eq!(world.report(&report), ["d1 DeviceApplied 1"]);
    assert_eq!(device(&world).observed.unwrap().outputs["firmware"], "2");
}

/// Some order for the device, to report under.
fn world_order(world: &World) -> Order {
    let mut world = world.clone();
    world.accept("device.d1.check-drift", "");
    world.look("device.d1")
}

#[test]
fn only_the_wanted_generation_fails() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.accept("device.d1.change", VLAN_7);
    assert_eq!(world.report(&failed(&first)), none());
    assert_eq!(world.fail("device.d1"), ["d1 DeviceFailed 2"]);
    world.idle("device.d1");
    assert_eq!(device(&world).failure.unwrap().code, Reason::VendorRefused);
}

#[test]
fn what_is_applied_does_not_fail_afterwards() {
    let mut world = World::running();
    let order = world_order(&world);
    let report = world.saying(&order, "device.d1", failure(1));
    assert_eq!(world.report(&report), none());
}

#[test]
fn a_late_success_heals_the_failure() {
    let mut world = waiting();
    let order = world.change("device.d1");
    world.report(&failed(&order));
    assert_eq!(world.report(&done(&order)), ["d1 DeviceApplied 1"]);
    assert_eq!(device(&world).failure, None);
    world.idle("device.d1");
}

#[test]
fn a_run_from_before_does_not_answer_a_retry() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.report(&failed(&first));
    world.accept("device.d1.retry", "");
    let second = world.change("device.d1");
    assert_eq!(world.report(&failed(&first)), none());
    assert_eq!(world.change("device.d1"), second);
    assert_eq!(world.report(&failed(&second)), ["d1 DeviceFailed 1"]);
}

#[test]
fn a_run_from_before_does_not_undo_a_drift_or_its_repair() {
    let mut world = waiting();
    let first = world.change("device.d1");
    world.report(&done(&first));
    world.drift("device.d1");
    assert_eq!(world.report(&done(&first)), none());
    assert_eq!(device(&world).drift, [field()]);

    world.accept("device.d1.retry", "");
    assert_eq!(world.report(&done(&first)), none());
    assert_eq!(world.report(&failed(&first)), none());
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 1"]);
    assert!(device(&world).drift.is_empty());
}

#[test]
fn a_stack_that_is_applied_for_another_reason_heals_its_drift() {
    let mut world = World::running();
    world.drift("site.oslo");
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    let events = world.carry_out("site.oslo");
    assert_eq!(events, ["oslo SiteApplied 1", "t1 TunnelApplied 1", "t2 TunnelApplied 1"]);
    world.refuse("site.oslo.retry", "", Reason::NothingToRetry, "");
}

#[test]
fn only_what_leaves_is_removed() {
    let mut world = World::running();
    let order = world_order(&world);
    for object in ["device.d1", "site.oslo", "tunnel.t1"] {
        let (_, report) = world.saying(&order, object, Finding::Removed);
        let target = if object == "device.d1" { order.target() } else { target_of("site.oslo") };
        assert_eq!(world.report(&(target, report)), none());
    }
}

#[test]
fn a_look_answers_the_check_that_waits() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    let first = world.look("device.d1");
    world.accept("device.d1.check-drift", "");
    let second = world.look("device.d1");
    assert_eq!(world.report(&drifted(&first)), none());
    assert_eq!(world.report(&in_sync(&first)), none());
    assert_eq!(world.report(&drifted(&second)), ["d1 DeviceDriftFound"]);
    assert_eq!(world.report(&drifted(&second)), none());
    world.idle("device.d1");

    world.accept("device.d1.check-drift", "");
    let third = world.look("device.d1");
    assert_eq!(world.report(&in_sync(&third)), ["d1 DeviceDriftNotFound"]);
    assert!(device(&world).drift.is_empty());
    world.idle("device.d1");
}

#[test]
fn a_drift_without_a_field_is_none() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    let look = world.look("device.d1");
    let nothing = Finding::Drifted { check: check_of(&look), fields: Vec::new() };
    let report = world.saying(&look, "device.d1", nothing);
    assert_eq!(world.report(&report), ["d1 DeviceDriftNotFound"]);
}

#[test]
fn a_look_from_before_a_change_answers_nothing() {
    let mut world = World::running();
    world.accept("device.d1.check-drift", "");
    let old = world.look("device.d1");
    world.accept("device.d1.change", VLAN_7);
    assert_eq!(world.report(&drifted(&old)), none());
    world.carry_out("device.d1");
    assert_eq!(world.report(&drifted(&old)), none());
    let new = world.look("device.d1");
    assert_eq!(world.report(&in_sync(&new)), ["d1 DeviceDriftNotFound"]);
}

#[test]
fn a_sites_look_answers_for_its_tunnels() {
    let mut world = World::running();
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    let order = world.change("site.oslo");
    let report = world.saying(&order, "tunnel.t2", failure(1));
    world.report(&report);
    assert_eq!(
        world.drift("site.oslo"),
        ["oslo SiteDriftFound", "t1 TunnelDriftFound"],
        "t2 was never there"
    );
    world.accept("tunnel.t1.retry", "");
    world.refuse("tunnel.t2.check-drift", "", Reason::UnknownVerb, "");
}

#[test]
fn a_report_speaks_for_its_own_target_only() {
    let mut world = World::running();
    world.accept("site.paris.create", LAN_2);
    world.accept("tunnel.t1.decommission", "");
    world.accept("device.d1.decommission", "");
    let order = world.change("site.oslo");
    for (object, target) in [
        ("tunnel.t1", "site.paris"),
        ("site.oslo", "site.paris"),
        ("device.d1", "site.oslo"),
        ("tunnel.t1", "device.d1"),
        ("device.d1", "device.d2"),
        ("site.oslo", "site.rome"),
    ] {
        let (_, report) = world.saying(&order, object, Finding::Removed);
        assert_eq!(world.report(&(target_of(target), report)), none(), "{object} by {target}");
    }
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelRemoved"]);
}

#[test]
fn a_report_says_one_thing_about_each_object() {
    let mut world = waiting();
    let order = world.change("device.d1");
    let (target, mut report): (Target, _) = done(&order);
    report.findings.extend(report.findings.clone());
    report.findings.extend(failed(&order).1.findings);
    assert_eq!(world.report(&(target, report)), ["d1 DeviceApplied 1"]);
}

#[test]
fn a_leaving_tunnel_fails_whatever_generation_the_executor_takes_it_for() {
    let mut world = World::running();
    world.accept("tunnel.t1.decommission", "");
    assert_eq!(world.fail("site.oslo"), ["t1 TunnelFailed 2"]);
    world.idle("site.oslo");
    world.accept("tunnel.t1.retry", "");
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelRemoved"]);
}

#[test]
fn a_report_before_the_decommissioning_does_not_fail_it() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#);
    let change = world.change("site.oslo");
    world.accept("tunnel.t1.decommission", "");
    assert_eq!(world.report(&failed(&change)), none());
    assert_eq!(world.carry_out("site.oslo"), ["t1 TunnelRemoved"]);
}

#[test]
fn reports_about_nobody_say_nothing() {
    let mut world = World::default();
    let mut other = waiting();
    let order = other.change("device.d1");
    assert_eq!(world.report(&done(&order)), none());
    other.accept("device.d1.decommission", "");
    other.carry_out("device.d1");
    assert_eq!(other.report(&done(&order)), none());
}

#[test]
fn a_failure_of_a_superseded_order_counts_while_nobody_asked_again() {
    let mut world = World::running();
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#);
    let superseded = world.change("site.oslo");
    world.accept("tunnel.t2.create", &TO_HUB.replace("0.0/30", "0.8/30"));
    assert_ne!(world.change("site.oslo").id, superseded.id);
    assert_eq!(world.report(&failed(&superseded)), ["t1 TunnelFailed 2"]);
    world.accept("tunnel.t1.retry", "");
    assert_eq!(world.report(&failed(&superseded)), none());
}

#[test]
fn new_outputs_of_an_older_generation_are_news_though_the_next_failed() {
    let mut world = World::running();
    world.accept("device.d1.change", VLAN_7);
    let order = world.change("device.d1");
    world.report(&failed(&order));
    let report = world.saying(&order, "device.d1", applied(1, map(json!({"id": "dv-d1", "firmware": "2"}))));
    assert_eq!(world.report(&report), ["d1 DeviceApplied 1"]);
    assert!(device(&world).failure.is_some());
}

#[test]
fn an_absence_that_is_said_to_be_applied_is_still_to_be_brought_about() {
    let mut world = World::running();
    world.accept("device.d1.decommission", "");
    let order = world.change("device.d1");
    let report = world.saying(&order, "device.d1", applied(2, map(json!({"id": "dv-d1"}))));
    world.report(&report);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceRemoved"]);
}

#[test]
fn a_finding_of_a_look_names_the_check_of_its_order() {
    let mut world = World::running();
    world.accept("site.oslo.check-drift", "");
    let look = world.look("site.oslo");
    for object in ["site.oslo", "tunnel.t1"] {
        let other = Finding::Drifted { check: id(1), fields: vec![field()] };
        let report = world.saying(&look, object, other);
        assert_eq!(world.report(&report), none());
    }
}

#[test]
fn a_name_and_an_identity_that_do_not_belong_together_mean_nobody() {
    let mut world = World::running();
    world.accept("device.d1.decommission", "");
    let order = world.change("device.d1");
    let (target, mut report) = done(&order);
    report.findings[0].object = object_of("device.d2");
    assert_eq!(world.report(&(target, report)), none());
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    let (target, mut report) = done(&world.change("site.oslo"));
    report.findings.truncate(1);
    report.findings[0].object = object_of("site.paris");
    assert_eq!(world.report(&(target, report)), none());
}

fn mark(serial: i64) -> StateMark {
    StateMark { serial, digest: Digest::of(&serial.to_be_bytes()) }
}

fn with_state((target, report): (Target, Report), serial: i64) -> (Target, Report) {
    (target, Report { state: Some(mark(serial)), ..report })
}

#[test]
fn the_newest_state_of_a_stack_is_known_and_goes_with_its_orders() {
    let mut world = World::given(&[("site.oslo.create", LAN)]);
    let first = world.change("site.oslo");
    assert_eq!(first.state, None);
    let early = with_state(failed(&first), 2);
    assert_eq!(world.report(&early), ["oslo SiteStateStored", "oslo SiteFailed 1"]);
    assert_eq!(world.report(&early), none());
    world.accept("site.oslo.retry", "");
    let second = world.change("site.oslo");
    assert_eq!(second.state, Some(mark(2)));
    assert_eq!(second.id, second.clone().of_state(None).id, "it is the same wish");
    let done = with_state(done(&second), 4);
    assert_eq!(world.report(&done), ["oslo SiteStateStored", "oslo SiteApplied 1"]);
    for serial in [1, 4] {
        assert_eq!(world.report(&with_state(early.clone(), serial)), none(), "it is not news");
    }
    // A run before that was not heard of may have stored another one since: that is known as well.
    assert_eq!(world.report(&with_state(early.clone(), 5)), ["oslo SiteStateStored"]);

    world.accept("site.oslo.check-drift", "");
    assert_eq!(world.look("site.oslo").state, Some(mark(5)));
    world.accept("site.oslo.decommission", "");
    let removal = world.change("site.oslo");
    assert_eq!(removal.state, Some(mark(5)));
    assert_eq!(world.report(&with_state(crate::harness::done(&removal), 6)), ["oslo SiteRemoved"]);
    // A namesake has a state of its own.
    world.accept("site.oslo.create", LAN);
    assert_eq!(world.report(&with_state(early, 7)), none());
    assert_eq!(world.change("site.oslo").state, None);
}
