//! Changes that wait for approval, and what must not get round it.

use wanwright_commands::orders::{self, Held};
use wanwright_schemas::Reason::{self, *};

use crate::harness::*;

const VLAN: &str = r#"{"settings":{"vlan":7}}"#;
const VLAN_8: &str = r#"{"settings":{"vlan":8}}"#;
const POLICY: &str = "customer.acme.change";
const APPLY: &str = r#"{"policy":{"device":"apply"}}"#;

/// A customer whose changes of this kind wait for approval.
fn approving(kind: &str) -> World {
    let mut world = World::running();
    world.accept(POLICY, &format!(r#"{{"policy":{{"{kind}":"approve"}}}}"#));
    world
}

/// A customer whose changes of devices need two approvals of a group.
fn counted() -> World {
    let mut world = World::running();
    let policy = r#"{"policy":{"device":{"approve":{"by":2,"group":"network"}}},
        "groups":{"network":["anna","ben","demo"]}}"#;
    world.accept(POLICY, policy);
    world
}

impl World {
    /// Somebody approves a generation; answers the events in short.
    #[track_caller]
    fn approve(&mut self, who: &str, object: &str, generation: u64) -> Vec<String> {
        let body = format!(r#"{{"generation":{generation}}}"#);
        let events = self.send(who, &format!("{object}.approve"), &body, None);
        events.unwrap_or_else(|refusal| panic!("{who}: {refusal}")).iter().map(short).collect()
    }

    #[track_caller]
    fn may_not_approve(&mut self, who: &str, object: &str, generation: u64, code: Reason) {
        let body = format!(r#"{{"generation":{generation}}}"#);
        let refusal = self.send(who, &format!("{object}.approve"), &body, None).expect_err(who);
        assert_eq!(refusal.code, code, "{refusal}");
    }

    fn reject(&mut self, who: &str, object: &str, generation: u64) -> Result<Vec<String>, Reason> {
        let body = format!(r#"{{"generation":{generation},"reason":"not before Monday"}}"#);
        let events = self.send(who, &format!("{object}.reject"), &body, None);
        events.map(|events| events.iter().map(short).collect()).map_err(|refusal| refusal.code)
    }
}

#[test]
fn a_change_waits_until_somebody_else_approves_it() {
    let mut world = approving("device");
    world.accept("device.d1.check-drift", "");
    let asked = world.accept("device.d1.change", VLAN);
    assert_eq!(asked, ["d1 DeviceChanged 2", "d1 DeviceApprovalRequested 2"]);
    world.idle("device.d1");
    assert_eq!(orders::held(&world.state, &target_of("device.d1")), Some(Held::Unapproved));
    world.refuse("device.d1.approve", r#"{"generation":2}"#, OwnChange, "");
    world.refuse("device.d1.approve", r#"{"generation":1}"#, GenerationMismatch, "generation");
    world.refuse("device.d1.approve", "", MissingField, "generation");
    assert_eq!(world.approve("boss", "device.d1", 2), ["d1 DeviceApproved 2"]);
    world.refuse("device.d1.approve", r#"{"generation":2}"#, NothingToApprove, "");
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 2"]);
}

#[test]
fn nobody_gets_his_own_change_approved_by_changing_it_through_another() {
    let mut world = approving("device");
    world.accept("device.d1.change", VLAN);
    world.send("other", "device.d1.change", r#"{"settings":{"hostname":"ap"}}"#, None).unwrap();
    world.refuse("device.d1.approve", r#"{"generation":3}"#, OwnChange, "");
    world.may_not_approve("other", "device.d1", 3, OwnChange);
    world.approve("boss", "device.d1", 3);
    world.accept("device.d1.change", VLAN_8);
    // What was approved is nobody's request any more.
    world.approve("other", "device.d1", 4);
}

#[test]
fn a_stack_waits_for_each_of_its_tunnels() {
    let mut world = approving("tunnel");
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#);
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.idle("site.oslo");
    world.approve("boss", "tunnel.t1", 2);
    assert_eq!(world.carry_out("site.oslo"), ["oslo SiteApplied 2", "t1 TunnelApplied 2"]);
}

#[test]
fn each_object_of_a_cascade_waits_for_approval() {
    let mut world = approving("device");
    let asked = world.accept("site.oslo.decommission", r#"{"cascade":true}"#);
    assert_eq!(asked[1], "d1 DeviceApprovalRequested 2");
    world.idle("device.d1");
    world.idle("site.oslo");
    world.approve("boss", "device.d1", 2);
    world.carry_out("device.d1");
    world.carry_out("site.oslo");
}

#[test]
fn what_waits_goes_on_waiting_whatever_the_policy_says_by_then() {
    let mut world = approving("device");
    world.accept("device.d1.change", VLAN);
    world.accept(POLICY, APPLY);
    world.approve("boss", "customer.acme", 2);
    world.idle("device.d1");
    // The next generation brings what waited, so it waits too, for somebody who asked for neither.
    let asked = world.send("other", "device.d1.change", VLAN_8, None).unwrap();
    assert_eq!(
        asked.iter().map(short).collect::<Vec<_>>(),
        ["d1 DeviceChanged 3", "d1 DeviceApprovalRequested 3"]
    );
    world.idle("device.d1");
    world.may_not_approve("demo", "device.d1", 3, OwnChange);
    world.may_not_approve("other", "device.d1", 3, OwnChange);
    world.approve("boss", "device.d1", 3);
    world.carry_out("device.d1");
    // What comes after it is under the policy of now.
    assert_eq!(world.accept("device.d1.change", VLAN), ["d1 DeviceChanged 4"]);
}

#[test]
fn nobody_takes_the_rule_away_by_himself() {
    let mut world = approving("device");
    assert_eq!(world.accept(POLICY, APPLY), ["acme CustomerApprovalRequested 2"]);
    world.nothing(POLICY, APPLY);
    let asked = world.accept("device.d1.change", VLAN);
    assert_eq!(asked[1], "d1 DeviceApprovalRequested 2", "the rule is in force still");
    world.refuse("customer.acme.approve", r#"{"generation":2}"#, OwnChange, "");
    world.refuse("customer.acme.approve", r#"{"generation":1}"#, GenerationMismatch, "generation");
    assert_eq!(
        world.approve("boss", "customer.acme", 2),
        ["acme CustomerApproved 2", "acme CustomerChanged 2"]
    );
    world.refuse("customer.acme.approve", r#"{"generation":2}"#, NothingToApprove, "");
    assert_eq!(world.state.own.spec.policy, wanwright_schemas::policy::Policy::default());
}

#[test]
fn who_approves_a_policy_approves_what_he_saw() {
    let mut world = approving("device");
    let account = r#"{"policy":{"device":"apply"},"accounts":{"northwan":{"credential":"a","budget":"b"}}}"#;
    world.accept(POLICY, APPLY);
    // Another wish has another generation.
    assert_eq!(world.accept(POLICY, account), ["acme CustomerApprovalRequested 3"]);
    world.may_not_approve("boss", "customer.acme", 2, GenerationMismatch);
    // What loosens nothing is in force at once, and what waited was about settings that are no more.
    let stricter = r#"{"policy":{"site":"approve"}}"#;
    assert_eq!(world.accept(POLICY, stricter), ["acme CustomerChanged 4"]);
    world.may_not_approve("boss", "customer.acme", 3, NothingToApprove);
    world.accept(POLICY, APPLY);
    world.approve("boss", "customer.acme", 5);
}

#[test]
fn a_customer_does_not_forget_its_policy_by_going() {
    let mut world = World::default();
    world.accept(POLICY, r#"{"policy":{"device":"approve"}}"#);
    world.refuse("customer.acme.decommission", "", ApprovalsInForce, "");
    world.accept(POLICY, APPLY);
    world.refuse("customer.acme.decommission", "", ApprovalsInForce, "");
    world.approve("boss", "customer.acme", 2);
    world.accept("customer.acme.decommission", "");
}

#[test]
fn two_of_a_group_approve_and_no_requester() {
    let mut world = counted();
    world.accept("device.d1.change", VLAN);
    // In the group, but he asked; not in the group.
    world.refuse("device.d1.approve", r#"{"generation":2}"#, OwnChange, "");
    world.may_not_approve("boss", "device.d1", 2, NotApprover);
    assert_eq!(world.approve("anna", "device.d1", 2), ["d1 DeviceApproved 2"]);
    // The same person does not count twice.
    assert_eq!(world.approve("anna", "device.d1", 2), Vec::<String>::new());
    world.idle("device.d1");
    assert_eq!(world.approve("ben", "device.d1", 2), ["d1 DeviceApproved 2"]);
    world.carry_out("device.d1");
}

#[test]
fn an_approval_is_of_one_generation() {
    let mut world = counted();
    world.accept("device.d1.change", VLAN);
    world.approve("anna", "device.d1", 2);
    world.accept("device.d1.change", VLAN_8);
    world.approve("ben", "device.d1", 3);
    world.idle("device.d1");
    world.approve("anna", "device.d1", 3);
    world.carry_out("device.d1");
}

#[test]
fn whoever_was_taken_out_of_the_group_approves_no_more() {
    let mut world = counted();
    world.accept("device.d1.change", VLAN);
    assert_eq!(world.accept(POLICY, r#"{"groups":{"network":["ben","demo"]}}"#), ["acme CustomerChanged 2"]);
    world.may_not_approve("anna", "device.d1", 2, NotApprover);
}

#[test]
fn every_way_to_make_a_rule_weaker_is_approved_by_the_rule() {
    for weaker in [
        APPLY,
        r#"{"policy":{"device":null}}"#,
        r#"{"policy":{"device":"approve"}}"#,
        r#"{"policy":{"device":{"approve":{"by":1}}}}"#,
        r#"{"policy":{"device":{"approve":{"group":null}}}}"#,
        r#"{"policy":{"device":{"approve":{"by":2,"group":"friends"}}},"groups":{"friends":["demo","mate"]}}"#,
        r#"{"groups":{"network":["anna","ben","demo","mate"]}}"#,
        r#"{"groups":{"network":["demo","mate"]}}"#,
    ] {
        let mut world = counted();
        assert_eq!(world.accept(POLICY, weaker), ["acme CustomerApprovalRequested 2"], "{weaker}");
        world.may_not_approve("mate", "customer.acme", 2, NotApprover);
        world.may_not_approve("demo", "customer.acme", 2, OwnChange);
        assert_eq!(world.approve("anna", "customer.acme", 2), ["acme CustomerApproved 2"]);
        let last = world.approve("ben", "customer.acme", 2);
        assert_eq!(last, ["acme CustomerApproved 2", "acme CustomerChanged 2"]);
    }
    for not_weaker in [
        r#"{"policy":{"device":{"approve":{"by":3}}}}"#,
        r#"{"policy":{"site":"approve"}}"#,
        r#"{"groups":{"network":["anna","ben"]}}"#,
        r#"{"groups":{"friends":["mate"]}}"#,
    ] {
        assert_eq!(counted().accept(POLICY, not_weaker), ["acme CustomerChanged 2"], "{not_weaker}");
    }
}

#[test]
fn a_group_that_something_waits_for_gets_no_member_by_the_back_door() {
    let mut world = counted();
    world.accept("device.d1.change", VLAN);
    world.accept(POLICY, APPLY);
    world.approve("anna", "customer.acme", 2);
    world.approve("ben", "customer.acme", 2);
    // No rule names the group any more, but what waits does.
    let mates = r#"{"groups":{"network":["demo","mate","friend"]}}"#;
    assert_eq!(world.accept(POLICY, mates), ["acme CustomerApprovalRequested 3"]);
    assert_eq!(world.accept(POLICY, r#"{"groups":null}"#), ["acme CustomerChanged 4"]);
    assert_eq!(world.accept(POLICY, mates), ["acme CustomerApprovalRequested 5"]);
}

#[test]
fn rules_with_different_approvals_are_loosened_one_by_one() {
    let mut world = counted();
    world.accept(POLICY, r#"{"policy":{"site":"approve"}}"#);
    world.refuse(POLICY, r#"{"policy":{"site":"apply","device":"apply"}}"#, InvalidValue, "policy");
    world.accept(POLICY, r#"{"policy":{"site":"apply"}}"#);
    world.approve("boss", "customer.acme", 3);
}

#[test]
fn a_rule_that_nobody_could_follow_is_refused() {
    let mut world = World::default();
    let refuse = |world: &mut World, rule: &str, code, field| {
        let body = format!(r#"{{"policy":{{"device":{rule}}},"groups":{{"network":["anna"]}}}}"#);
        world.refuse(POLICY, &body, code, field);
    };
    let field = "policy.device.approve";
    refuse(&mut world, r#"{"approve":{"by":2,"group":"network"}}"#, InvalidValue, field);
    refuse(&mut world, r#"{"approve":{"group":"friends"}}"#, InvalidValue, field);
    refuse(&mut world, r#"{"approve":{"by":0}}"#, InvalidValue, "policy.device.approve.by");
    refuse(&mut world, r#"{"approve":{"of":1}}"#, UnknownField, "policy.device.approve.of");
    refuse(&mut world, r#"{"approve":[2]}"#, WrongType, field);
    refuse(&mut world, r#""ask""#, InvalidValue, "policy.device");
    world.refuse(POLICY, r#"{"groups":{"network":["No Name"]}}"#, InvalidValue, "groups.network[0]");
}

#[test]
fn what_is_rejected_waits_for_another_generation() {
    let mut world = approving("device");
    world.accept("device.d1.change", VLAN);
    world.refuse("device.d1.reject", r#"{"generation":2}"#, MissingField, "reason");
    world.refuse("device.d1.reject", r#"{"generation":2,"reason":""}"#, InvalidValue, "reason");
    assert_eq!(world.reject("boss", "device.d1", 1), Err(GenerationMismatch));
    assert_eq!(world.reject("boss", "device.d1", 2), Ok(vec!["d1 DeviceRejected 2".to_owned()]));
    assert_eq!(world.reject("boss", "device.d1", 2), Err(NothingToApprove));
    world.may_not_approve("chief", "device.d1", 2, NothingToApprove);
    world.idle("device.d1");
    world.accept("device.d1.change", VLAN_8);
    world.approve("boss", "device.d1", 3);
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 3"]);
}

#[test]
fn whoever_asked_may_take_it_back_and_who_cannot_approve_cannot_reject() {
    let mut world = counted();
    world.accept("device.d1.change", VLAN);
    assert_eq!(world.reject("boss", "device.d1", 2), Err(NotApprover));
    assert!(world.reject("demo", "device.d1", 2).is_ok());
    world.accept(POLICY, APPLY);
    assert_eq!(world.reject("boss", "customer.acme", 2), Err(NotApprover));
    assert_eq!(world.reject("anna", "customer.acme", 2), Ok(vec!["acme CustomerRejected 2".to_owned()]));
    world.may_not_approve("ben", "customer.acme", 2, NothingToApprove);
    // Even the rejected generation's content waits, whatever the rule is by then.
    world.accept(POLICY, APPLY);
    world.approve("anna", "customer.acme", 3);
    world.approve("ben", "customer.acme", 3);
    assert_eq!(world.accept("device.d1.change", VLAN_8)[1], "d1 DeviceApprovalRequested 3");
}

#[test]
fn an_end_that_was_rejected_can_be_asked_for_again() {
    let mut world = approving("device");
    world.accept("site.oslo.decommission", r#"{"cascade":true}"#);
    world.nothing("device.d1.decommission", "");
    world.reject("boss", "device.d1", 2).unwrap();
    world.idle("device.d1");
    let again = world.accept("device.d1.decommission", "");
    assert_eq!(again, ["d1 DeviceDecommissionRequested 3", "d1 DeviceApprovalRequested 3"]);
    world.approve("boss", "device.d1", 3);
    world.carry_out("device.d1");
    world.carry_out("site.oslo");
}

#[test]
fn a_freeze_stops_approvals_and_no_rejection() {
    let mut world = approving("device");
    world.accept("device.d1.change", VLAN);
    world.accept(POLICY, APPLY);
    let freeze = r#"{"name":"f","from":"2026-01-01T00:00:00Z","to":"2027-01-02T00:00:00Z","reason":"r"}"#;
    world.accept("customer.acme.freeze", freeze);
    world.may_not_approve("boss", "device.d1", 2, Frozen);
    world.may_not_approve("boss", "customer.acme", 2, Frozen);
    assert!(world.reject("boss", "device.d1", 2).is_ok());
    assert!(world.reject("boss", "customer.acme", 2).is_ok());
}
