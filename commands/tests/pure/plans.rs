//! Plans: what is planned before it is changed, what a plan is good for, and who approves it.

use serde_json::json;
use wanwright_commands::cancel::Standing;
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::plan::{Plan, Stale};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::spec::SiteSpec;
use wanwright_schemas::{Change, Digest, Event, ObjectRef, Reason, Reason::*, SiteId};

use crate::harness::*;

const POLICY: &str = "customer.acme.change";
const PLAN: &str = r#"{"policy":{"site":"plan"}}"#;
const BERGEN: &str = r#"{"settings":{"location":"Bergen"}}"#;
const PARIS: &str = r#"{"settings":{"location":"Paris"}}"#;
const MTU: &str = r#"{"settings":{"mtu":1300}}"#;
const UPDATE: [u32; 4] = [0, 1, 0, 0];
const DELETE: [u32; 4] = [0, 0, 1, 0];
const NOTHING: [u32; 4] = [0; 4];

/// A running site whose changes are planned under this policy.
fn planning(policy: &str) -> World {
    let mut world = World::running();
    world.accept(POLICY, policy);
    world
}

/// A plan that an executor with the test vendors made: its file, and how much it changes.
pub fn plan(world: &World, file: &str, [create, update, delete, replace]: [u32; 4]) -> Plan {
    let site = &world.state.sites[&oslo()];
    let vendor = world.vendors.get(site.spec.vendor.as_str()).expect("a vendor");
    let version = site.templates.version_at(site.generation);
    let template = &vendor.template(version).expect("a template").effects;
    serde_json::from_value(json!({
        "hash": Digest::of(file.as_bytes()), "template": template, "serial": 3, "lineage": "l",
        "counts": {"create": create, "update": update, "delete": delete, "replace": replace},
    }))
    .expect("a plan")
}

fn oslo() -> SiteId {
    "oslo".parse().expect("an id")
}

fn hash(file: &str) -> Digest {
    Digest::of(file.as_bytes())
}

impl World {
    /// Reports about a site's stack as a whole.
    pub fn report_of_stack(&mut self, order: &Order, finding: Finding) -> Vec<String> {
        let (object, uid) = (ObjectRef::Site(oslo()), self.state.sites[&oslo()].uid);
        let report =
            Report { order: order.id, findings: vec![ObjectFinding { object, uid, finding }], state: None };
        let body = serde_json::to_string(&report).expect("JSON");
        self.accept("site.oslo.report", &body)
    }

    /// The order that plans is carried out: this is the file.
    #[track_caller]
    pub fn planned(&mut self, file: &str, counts: [u32; 4]) -> Vec<String> {
        let order = self.due();
        assert!(matches!(order.intent, Intent::Plan { .. }), "{:?}", order.intent);
        let plan = plan(self, file, counts);
        self.report_of_stack(&order, Finding::Planned { plan })
    }

    /// The order there should be about the site now.
    #[track_caller]
    pub fn due(&self) -> Order {
        self.wanted_now().change.expect("an order")
    }

    pub fn wanted_now(&self) -> wanwright_commands::orders::Wanted {
        let vendor = &self.state.sites[&oslo()].spec.vendor;
        let vendor = self.vendors.get(vendor.as_str()).expect("a vendor");
        let target = target_of("site.oslo");
        wanwright_commands::orders::wanted_at(
            &customer(),
            &self.state,
            vendor,
            &target,
            &position(1),
            self.now,
        )
    }

    pub fn approve_plan(&mut self, who: &str, generation: u64, file: &str) -> Result<Vec<String>, Reason> {
        let body = json!({"generation": generation, "plan": hash(file)}).to_string();
        let events = self.send(who, "site.oslo.approve", &body, None);
        events.map(|events| events.iter().map(short).collect()).map_err(|refusal| refusal.code)
    }

    pub fn reject_plan(&mut self, generation: u64, file: &str) {
        let body = json!({"generation": generation, "plan": hash(file), "reason": "no"}).to_string();
        let rejected = self.send("boss", "site.oslo.reject", &body, None);
        assert_eq!(rejected.expect("a rejection").len(), 1);
        assert!(self.wanted_now().change.is_none());
    }

    /// What Oslo is to be is planned again, and that plan is approved.
    #[track_caller]
    fn planned_again(&mut self, remove: bool, number: u64) {
        assert_eq!(self.due().intent, Intent::Plan { remove, number });
        self.planned("again", UPDATE);
        assert!(self.wanted_now().change.is_none(), "it waits");
        let generation = self.state.sites[&oslo()].generation;
        self.approve_plan("boss", generation, "again").expect("an approval");
        assert_eq!(self.due().plan.expect("a plan").hash, hash("again"));
    }

    fn later(&mut self, seconds: i64) {
        self.now = self.now.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a moment");
    }
}

fn site_change(event: &Event) -> &Change<SiteSpec> {
    match event {
        Event::Site(_, change) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_planned_and_applied_as_planned_once_somebody_else_approves() {
    let mut world = planning(PLAN);
    assert_eq!(world.accept("site.oslo.change", BERGEN), ["oslo SiteChanged 2", "oslo SitePlanRequested 2"]);
    let order = world.due();
    assert_eq!(order.intent, Intent::Plan { remove: false, number: 1 });
    assert!(!order.changes() && order.plan.is_none());
    assert_eq!(world.planned("one", UPDATE), ["oslo SitePlanned 2"]);
    let wanted = world.wanted_now();
    assert!(wanted.change.is_none() && wanted.plan_waits, "{wanted:?}");
    assert_eq!(world.approve_plan("demo", 2, "one"), Err(OwnChange));
    assert_eq!(world.approve_plan("boss", 2, "one").unwrap(), ["oslo SiteApproved 2"]);
    let order = world.due();
    let bound = order.plan.clone().expect("a plan");
    assert_eq!((order.intent.clone(), bound.hash, bound.serial), (Intent::Apply, hash("one"), 3));
    assert_eq!(world.report(&done(&order)), ["oslo SitePlanApplied 2", "oslo SiteApplied 2"]);
    assert!(world.wanted_now().change.is_none());
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(PlanMismatch), "it is used up");
}

#[test]
fn only_the_plan_that_there_is_can_be_approved() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(PlanMismatch), "none is made yet");
    world.planned("one", UPDATE);
    world.refuse("site.oslo.approve", r#"{"generation":2}"#, PlanMismatch, "plan");
    assert_eq!(world.approve_plan("boss", 2, "two"), Err(PlanMismatch));
    assert_eq!(world.approve_plan("boss", 1, "one"), Err(GenerationMismatch));
    world.refuse(
        "tunnel.t1.approve",
        &json!({"generation": 1, "plan": hash("one")}).to_string(),
        PlanMismatch,
        "plan",
    );
    world.refuse(
        "device.d1.approve",
        &json!({"generation": 1, "plan": hash("one")}).to_string(),
        PlanMismatch,
        "plan",
    );
    world.refuse(
        "customer.acme.approve",
        &json!({"generation": 1, "plan": hash("one")}).to_string(),
        PlanMismatch,
        "plan",
    );
    world.approve_plan("boss", 2, "one").unwrap();
    assert_eq!(world.approve_plan("other", 2, "one"), Err(NothingToApprove), "it has what it needs");
}

#[test]
fn any_other_wish_makes_a_plan_void() {
    for (what, tail, body) in [
        ("another generation", "site.oslo.change", PARIS),
        ("another tunnel", "tunnel.t1.change", MTU),
        ("an end", "tunnel.t1.decommission", ""),
        ("an account", POLICY, r#"{"accounts":{"northwan":{"credential":"acme-north","budget":"acme"}}}"#),
    ] {
        let mut world = planning(PLAN);
        world.accept("site.oslo.change", BERGEN);
        world.planned("one", UPDATE);
        world.approve_plan("boss", 2, "one").unwrap();
        assert!(world.due().plan.is_some());
        world.accept(tail, body);
        assert!(matches!(world.due().intent, Intent::Plan { remove: false, number: 2 }), "{what}");
        let code = world.approve_plan("other", 2, "one").unwrap_err();
        assert!([PlanStale, PlanMismatch].contains(&code), "{what}: {code}");
        world.planned("two", UPDATE);
        let generation = world.state.sites[&oslo()].generation;
        assert!(world.approve_plan("boss", generation, "one").is_err(), "{what}");
        world.approve_plan("boss", generation, "two").unwrap();
        assert_eq!(world.due().plan.expect("a plan").hash, hash("two"), "{what}");
    }
}

#[test]
fn a_plan_is_void_under_another_template() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    let order = world.due();
    let made = plan(&world, "one", UPDATE);
    world.report_of_stack(&order, Finding::Planned { plan: made.clone() });
    world.vendors = &VENDORS_LATER;
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(PlanStale));
    let order = world.due();
    assert!(matches!(order.intent, Intent::Plan { number: 2, .. }));
    // A plan of an executor that has the old template still is no news.
    assert!(world.report_of_stack(&order, Finding::Planned { plan: made }).is_empty());
    world.planned("two", UPDATE);
    world.approve_plan("boss", 2, "two").unwrap();
}

#[test]
fn a_plan_is_out_of_date_by_the_time_of_receipt_and_is_made_anew() {
    let mut world = planning(r#"{"policy":{"site":{"plan":{"valid":"1h"}}}}"#);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    world.later(3_599);
    let before = world.clone();
    assert!(world.approve_plan("boss", 2, "one").is_ok());
    let mut world = before;
    world.later(1);
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(PlanExpired));
    assert!(matches!(world.due().intent, Intent::Plan { number: 2, .. }));
    world.planned("two", UPDATE);
    world.approve_plan("boss", 2, "two").unwrap();
    // Approved is not begun: what waits for too long is planned anew as well.
    let order = world.due();
    world.later(3_600);
    assert!(matches!(world.due().intent, Intent::Plan { number: 3, .. }));
    // A run that began in time is heard.
    assert_eq!(world.report(&done(&order)), ["oslo SitePlanApplied 2", "oslo SiteApplied 2"]);
}

#[test]
fn a_stale_plan_is_made_anew_and_needs_its_own_approval() {
    for why in
        [Stale::Missing, Stale::Damaged, Stale::Template, Stale::State, Stale::Expired, Stale::Interrupted]
    {
        let mut world = planning(PLAN);
        world.accept("site.oslo.change", BERGEN);
        world.planned("one", UPDATE);
        world.approve_plan("boss", 2, "one").unwrap();
        let order = world.due();
        let stale = || Finding::PlanStale { plan: hash("one"), why };
        assert_eq!(world.report_of_stack(&order, stale()), ["oslo SitePlanStale 2"]);
        let again = world.due();
        assert!(matches!(again.intent, Intent::Plan { number: 2, .. }));
        assert!(world.report_of_stack(&order, stale()).is_empty(), "it is known");
        assert!(world.report_of_stack(&again, stale()).is_empty(), "no order of a plan says so");
        world.planned("one", UPDATE);
        assert!(world.wanted_now().change.is_none(), "the same file again waits again");
    }
}

#[test]
fn only_the_plan_that_is_wanted_is_heard() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    let old = world.due();
    world.accept("site.oslo.change", PARIS);
    let made = plan(&world, "one", UPDATE);
    assert!(world.report_of_stack(&old, Finding::Planned { plan: made.clone() }).is_empty());
    let order = world.due();
    assert_eq!(
        world.report_of_stack(&order, Finding::Planned { plan: made.clone() }),
        ["oslo SitePlanned 3"]
    );
    let other = plan(&world, "two", UPDATE);
    assert!(
        world.report_of_stack(&order, Finding::Planned { plan: other }).is_empty(),
        "nobody exchanges a plan"
    );
}

#[test]
fn what_needs_no_approval_is_applied_at_once() {
    let mut world = planning(r#"{"policy":{"site":{"plan":{"only":"destroys"}}}}"#);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    assert_eq!(world.due().plan.expect("a plan").hash, hash("one"));
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(NothingToApprove));
    world.accept("site.oslo.change", PARIS);
    for counts in [DELETE, [0, 0, 0, 1]] {
        let mut world = world.clone();
        world.planned("two", counts);
        assert!(world.wanted_now().change.is_none(), "what destroys waits");
    }
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("three", NOTHING);
    assert!(world.due().plan.is_some(), "there is nothing to approve");
}

#[test]
fn the_rule_counts_and_names_a_group() {
    let policy = r#"{"policy":{"site":{"plan":{"by":2,"group":"network"}}},"groups":{"network":["anna","ben","demo"]}}"#;
    let mut world = planning(policy);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(NotApprover));
    assert_eq!(world.approve_plan("demo", 2, "one"), Err(OwnChange));
    world.approve_plan("anna", 2, "one").unwrap();
    assert!(world.approve_plan("anna", 2, "one").unwrap().is_empty(), "once each");
    assert!(world.wanted_now().change.is_none());
    world.approve_plan("ben", 2, "one").unwrap();
    assert!(world.due().plan.is_some());
}

#[test]
fn who_asked_for_a_tunnel_cannot_approve_the_plan_of_its_stack() {
    let mut world = planning(PLAN);
    world.send("other", "tunnel.t1.change", MTU, None).unwrap();
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    for who in ["demo", "other"] {
        assert_eq!(world.approve_plan(who, 2, "one"), Err(OwnChange), "{who}");
    }
    world.approve_plan("boss", 2, "one").unwrap();
    let order = world.due();
    let applied = world.report(&done(&order));
    assert_eq!(applied, ["oslo SitePlanApplied 2", "oslo SiteApplied 2", "t1 TunnelApplied 2"]);
    // What was applied is nobody's request any more.
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1310}}"#);
    world.planned("two", UPDATE);
    world.approve_plan("other", 2, "two").unwrap();
    let order = world.due();
    assert_eq!(world.report(&done(&order)), ["oslo SitePlanApplied 2", "t1 TunnelApplied 3"]);
    assert!(world.state.sites[&oslo()].plan.is_none());
}

#[test]
fn a_rejected_plan_holds_until_something_else_is_asked_for() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    let body = json!({"generation": 2, "plan": hash("two"), "reason": "no"}).to_string();
    world.refuse("site.oslo.reject", &body, PlanMismatch, "plan");
    world.refuse("site.oslo.reject", r#"{"generation":2,"reason":"no"}"#, PlanMismatch, "plan");
    let body = json!({"generation": 2, "plan": hash("one"), "reason": "no"}).to_string();
    assert_eq!(world.send("boss", "site.oslo.reject", &body, None).unwrap().len(), 1);
    assert_eq!(world.approve_plan("boss", 2, "one"), Err(NothingToApprove));
    world.later(40 * 86_400);
    assert!(world.wanted_now().change.is_none(), "a plan that was rejected is not made again by itself");
    world.send("other", "site.oslo.change", PARIS, None).unwrap();
    world.planned("two", UPDATE);
    assert_eq!(world.approve_plan("demo", 3, "two"), Err(OwnChange), "it brings what demo asked for");
    world.approve_plan("boss", 3, "two").unwrap();
}

#[test]
fn an_end_and_a_retry_and_what_a_policy_finds_are_planned_too() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    world.approve_plan("boss", 2, "one").unwrap();
    let order = world.due();
    world.report(&failed(&order));
    assert!(world.wanted_now().change.is_none());
    assert_eq!(world.accept("site.oslo.retry", "")[1], "oslo SitePlanRequested 2");
    assert!(matches!(world.due().intent, Intent::Plan { number: 2, .. }), "what failed is planned anew");
    let mut world = planning(PLAN);
    world.accept("device.d1.decommission", "");
    world.carry_out("device.d1");
    world.accept("site.oslo.decommission", r#"{"cascade":true}"#);
    assert!(matches!(world.due().intent, Intent::Plan { remove: true, .. }));
    world.planned("end", DELETE);
    world.approve_plan("boss", 2, "end").unwrap();
    let order = world.due();
    assert_eq!((order.intent.clone(), order.plan.is_some()), (Intent::Remove, true));
    world.report(&done(&order));
    assert!(world.state.sites.is_empty());
    // What waits to be applied when the rule comes is planned as well.
    let mut world = World::running();
    world.accept("site.oslo.change", BERGEN);
    world.accept(POLICY, PLAN);
    assert!(matches!(world.due().intent, Intent::Plan { .. }));
}

#[test]
fn a_plan_that_cannot_be_made_is_a_failure() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    let order = world.due();
    assert_eq!(world.report(&failed(&order))[0], "oslo SiteFailed 2");
    assert!(world.wanted_now().change.is_none());
}

#[test]
fn a_plan_that_cannot_be_made_anew_fails_as_a_whole() {
    let mut world = planning(r#"{"policy":{"site":{"plan":{"valid":"10m"}}}}"#);
    world.accept("site.oslo.change", BERGEN);
    world.accept("tunnel.t1.change", MTU);
    world.planned("one", UPDATE);
    world.later(600);
    let order = world.due();
    assert!(matches!(order.intent, Intent::Plan { number: 2, .. }));
    let no = Finding::Failed { generation: 2, code: VendorRefused, message: "no".into() };
    // What the run did not speak of has failed with it: its order is over.
    assert_eq!(world.report_of_stack(&order, no), ["oslo SiteFailed 2", "t1 TunnelFailed 2"]);
    assert!(world.wanted_now().change.is_none());
}

#[test]
fn a_rule_that_plans_is_approved_only_while_everything_can_be_planned() {
    let mut world = planning(r#"{"policy":{"site":{"approve":{"by":2}}}}"#);
    assert_eq!(world.accept(POLICY, PLAN), ["acme CustomerApprovalRequested 2"]);
    world.send("boss", "customer.acme.approve", r#"{"generation":2}"#, None).unwrap();
    world.accept("site.rome.create", r#"{"vendor":"barewan","lan":["10.9.0.0/24"]}"#);
    let refused = world.send("chief", "customer.acme.approve", r#"{"generation":2}"#, None);
    assert_eq!(refused.expect_err("rome cannot be planned").code, NotPlannable);
    world.send("demo", "site.rome.cancel", "{}", None).unwrap();
    world.send("chief", "customer.acme.approve", r#"{"generation":2}"#, None).unwrap();
}

#[test]
fn a_rule_that_plans_is_for_what_can_be_planned() {
    for (policy, field) in [
        (r#"{"policy":{"device":"plan"}}"#, "policy.device"),
        (r#"{"policy":{"tunnel":{"plan":{"by":2}}}}"#, "policy.tunnel"),
    ] {
        World::running().refuse(POLICY, policy, NotPlannable, field);
    }
    let bare = r#"{"vendor":"barewan","lan":["10.9.0.0/24"]}"#;
    World::given(&[("site.rome.create", bare)]).refuse(POLICY, PLAN, NotPlannable, "policy.site");
    World::given(&[(POLICY, PLAN)]).refuse("site.rome.create", bare, NotPlannable, "vendor");
    World::running().refuse(
        POLICY,
        r#"{"policy":{"site":{"plan":{"group":"net"}}}}"#,
        InvalidValue,
        "policy.site.plan",
    );
}

#[test]
fn a_rule_that_plans_is_weakened_only_with_its_approval() {
    let strict = r#"{"policy":{"site":{"plan":{"by":2,"valid":"1h"}}}}"#;
    for weaker in [
        r#"{"policy":{"site":"apply"}}"#,
        r#"{"policy":{"site":{"plan":null,"approve":{"by":2}}}}"#,
        r#"{"policy":{"site":{"plan":{"by":1}}}}"#,
        r#"{"policy":{"site":{"plan":{"only":"destroys"}}}}"#,
        r#"{"policy":{"site":{"plan":{"valid":"2h"}}}}"#,
    ] {
        let mut world = planning(strict);
        assert_eq!(world.accept(POLICY, weaker), ["acme CustomerApprovalRequested 2"], "{weaker}");
    }
    for stronger in [
        r#"{"policy":{"site":{"plan":{"by":3}}}}"#,
        r#"{"policy":{"site":{"plan":{"valid":"10m"}}}}"#,
        r#"{"policy":{"site":{"plan":{"group":"net"}}},"groups":{"net":["a","b"]}}"#,
    ] {
        let mut world = planning(strict);
        assert_eq!(world.accept(POLICY, stronger), ["acme CustomerChanged 2"], "{stronger}");
    }
    let mut world = planning(r#"{"policy":{"site":"approve"}}"#);
    assert_eq!(world.accept(POLICY, PLAN), ["acme CustomerChanged 2"], "a plan is approved as well");
    let mut world = planning(r#"{"policy":{"site":"approve"}}"#);
    let fewer = r#"{"policy":{"site":{"plan":{"only":"destroys"}}}}"#;
    assert_eq!(world.accept(POLICY, fewer), ["acme CustomerApprovalRequested 2"]);
    planning(PLAN).refuse("customer.acme.decommission", r#"{"cascade":true}"#, ApprovalsInForce, "");
}

#[test]
fn what_waits_for_a_plan_goes_on_waiting_whatever_the_policy_says_by_then() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    world.accept(POLICY, r#"{"policy":{"site":"apply"}}"#);
    world.send("boss", "customer.acme.approve", r#"{"generation":2}"#, None).unwrap();
    assert!(world.wanted_now().change.is_none());
    world.send("other", "site.oslo.change", PARIS, None).unwrap();
    assert!(matches!(world.due().intent, Intent::Plan { .. }), "it brings what waits");
    world.planned("two", UPDATE);
    for who in ["demo", "other"] {
        assert_eq!(world.approve_plan(who, 3, "two"), Err(OwnChange), "{who}");
    }
    world.approve_plan("boss", 3, "two").unwrap();
    let order = world.due();
    world.report(&done(&order));
    world.accept("site.oslo.change", BERGEN);
    assert_eq!((world.due().intent, world.due().plan), (Intent::Apply, None), "the rule is gone with it");
}

#[test]
fn a_history_with_plans_folds_to_what_was_decided() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    let planned = world.history.last().expect("a message").1.clone();
    assert!(matches!(site_change(&planned[0]), Change::Planned { plan, .. } if plan.hash == hash("one")));
    let frozen = serde_json::to_string(&world.state).expect("JSON");
    let thawed: wanwright_commands::Customer = serde_json::from_str(&frozen).expect("a state");
    assert_eq!(thawed, world.state);
}

#[test]
fn what_is_to_go_is_approved_whatever_its_plan_counts() {
    for policy in [PLAN, r#"{"policy":{"site":{"plan":{"only":"destroys"}}}}"#] {
        let mut site = planning(policy);
        site.accept("device.d1.decommission", "");
        site.carry_out("device.d1");
        site.accept("site.oslo.decommission", r#"{"cascade":true}"#);
        let mut tunnel = planning(policy);
        tunnel.accept("tunnel.t1.decommission", "");
        for mut world in [site, tunnel] {
            // The state of a run that died may hold nothing of what it made.
            world.planned("empty", NOTHING);
            assert!(world.wanted_now().plan_waits, "{policy}");
            let generation = world.state.sites[&oslo()].generation;
            assert_eq!(world.approve_plan("demo", generation, "empty"), Err(OwnChange));
            world.approve_plan("boss", generation, "empty").unwrap();
            assert_eq!(world.due().plan.expect("a plan").hash, hash("empty"));
        }
    }
}

#[test]
fn who_takes_back_what_was_tried_cannot_approve_the_plan_of_that() {
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.standing = Standing::Tried;
    let taken_back = world.send("other", "site.oslo.cancel", "{}", None).unwrap();
    let said: Vec<_> = taken_back.iter().map(short).collect();
    assert_eq!(said, ["oslo SiteChanged 3", "oslo SitePlanRequested 3", "oslo SiteCancelled 3"]);
    world.planned("back", UPDATE);
    for who in ["other", "demo"] {
        assert_eq!(world.approve_plan(who, 3, "back"), Err(OwnChange), "{who}");
    }
    world.approve_plan("boss", 3, "back").unwrap();
    // The same of what never was, and goes.
    let mut world = World::given(&[(POLICY, PLAN), ("site.oslo.create", LAN)]);
    world.standing = Standing::Tried;
    world.send("other", "site.oslo.cancel", "{}", None).unwrap();
    assert!(matches!(world.due().intent, Intent::Plan { remove: true, .. }));
    world.planned("end", NOTHING);
    for who in ["other", "demo"] {
        assert_eq!(world.approve_plan(who, 2, "end"), Err(OwnChange), "{who}");
    }
    world.approve_plan("boss", 2, "end").unwrap();
    // Where nothing was tried, nothing is to be planned.
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    assert_eq!(world.accept("site.oslo.cancel", "{}").len(), 2);
    assert!(world.wanted_now().change.is_none() && world.state.sites[&oslo()].planning.is_none());
}

#[test]
fn who_changes_the_account_asks_for_what_is_planned_with_it() {
    let account = r#"{"accounts":{"northwan":{"credential":"acme-north","budget":"acme"}}}"#;
    let mut world = planning(PLAN);
    assert_eq!(world.send("other", POLICY, account, None).unwrap().len(), 1, "nothing is being planned");
    let mut world = planning(PLAN);
    world.accept("site.oslo.change", BERGEN);
    world.planned("one", UPDATE);
    world.send("other", POLICY, account, None).unwrap();
    world.planned("two", UPDATE);
    for who in ["other", "demo"] {
        assert_eq!(world.approve_plan(who, 2, "two"), Err(OwnChange), "{who}");
    }
    world.approve_plan("boss", 2, "two").unwrap();
}

#[test]
fn a_plan_is_valid_for_as_long_as_it_takes_to_read_it() {
    for short in ["1s", "599s", "9m"] {
        let policy = json!({"policy": {"site": {"plan": {"valid": short}}}}).to_string();
        World::running().refuse(POLICY, &policy, InvalidValue, "policy.site.plan.valid");
    }
    planning(r#"{"policy":{"site":{"plan":{"valid":"600s"}}}}"#);
    // A customer that has had a shorter one goes on with it.
    let mut world = World::running();
    let before = json!({"type": "CustomerChanged", "v": 1, "customer": "acme", "generation": 1,
        "spec": {"policy": {"site": {"plan": {"valid": "90s"}}}}});
    world.state.evolve(&serde_json::from_value(before).expect("an event"), id(1_000));
    world.accept(POLICY, r#"{"groups":{"network":["anna"]}}"#);
    world.refuse(
        POLICY,
        r#"{"policy":{"site":{"plan":{"valid":"80s"}}}}"#,
        InvalidValue,
        "policy.site.plan.valid",
    );
}

#[test]
fn an_end_whose_plan_was_rejected_is_asked_for_again_or_taken_back() {
    let mut world = planning(PLAN);
    world.accept("device.d1.decommission", "");
    world.carry_out("device.d1");
    let end = r#"{"cascade":true}"#;
    world.accept("site.oslo.decommission", end);
    world.nothing("site.oslo.decommission", end);
    world.refuse("site.oslo.revert", r#"{"to_generation":1}"#, BeingRemoved, "");
    world.planned("one", DELETE);
    world.reject_plan(2, "one");
    let mut again = world.clone();
    again.accept("site.oslo.decommission", end);
    again.nothing("site.oslo.decommission", end);
    again.planned_again(true, 2);
    let mut again = world.clone();
    again.accept("site.oslo.retry", "");
    again.planned_again(true, 2);
    let mut all = world.clone();
    all.accept("tunnel.t1.decommission", "");
    assert!(matches!(all.due().intent, Intent::Plan { remove: true, number: 2 }));
    world.accept("site.oslo.revert", r#"{"to_generation":1}"#);
    world.accept("tunnel.t1.cancel", "{}");
    world.planned_again(false, 2);
    let order = world.due();
    world.report(&done(&order));
    assert!(world.wanted_now().change.is_none());
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
}

#[test]
fn a_tunnel_whose_end_was_rejected_as_a_plan_is_asked_for_again_or_taken_back() {
    let mut world = planning(PLAN);
    world.accept("tunnel.t1.decommission", "");
    world.nothing("tunnel.t1.decommission", "");
    world.refuse("tunnel.t1.revert", r#"{"to_generation":1}"#, BeingRemoved, "");
    world.planned("one", DELETE);
    world.reject_plan(1, "one");
    for (verb, body) in [("decommission", ""), ("revert", r#"{"to_generation":1}"#), ("retry", "")] {
        let mut world = world.clone();
        let said = world.accept(&format!("tunnel.t1.{verb}"), body);
        assert!(said.len() == 2 && said[1].starts_with("t1 TunnelPlanRequested"), "{verb}: {said:?}");
        world.planned_again(false, 2);
    }
}

#[test]
fn a_drift_whose_plan_was_rejected_is_planned_anew_by_another_retry() {
    let mut world = planning(PLAN);
    world.drift("site.oslo");
    world.accept("site.oslo.retry", "");
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    world.planned("one", UPDATE);
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    world.reject_plan(1, "one");
    assert_eq!(world.accept("site.oslo.retry", "")[1], "oslo SitePlanRequested 1");
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    world.planned_again(false, 2);
    let order = world.due();
    world.report(&done(&order));
    assert!(world.wanted_now().change.is_none());
}

#[test]
fn a_far_end_whose_plan_was_rejected_is_planned_anew_by_a_retry() {
    let mut world = World::running();
    world.accept("site.bergen.create", r#"{"vendor":"northwan","lan":["10.7.0.0/24"]}"#);
    world.carry_out("site.bergen");
    world.accept("tunnel.t2.create", r#"{"site":"oslo","peer":{"site":"bergen"},"inside":"169.254.7.0/30"}"#);
    world.carry_out("site.oslo");
    world.accept(POLICY, PLAN);
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    let moved = json!({"type": "SiteApplied", "v": 1, "site": "bergen", "generation": 1,
        "order": "44136fa3-55b3-878a-9146-ad16f7e86401", "outputs": {"id": "st-bergen", "address": "203.0.113.99"}});
    world.state.evolve(&serde_json::from_value(moved).expect("an event"), id(1_000));
    world.planned("one", UPDATE);
    world.refuse("site.oslo.retry", "", NothingToRetry, "");
    world.reject_plan(1, "one");
    world.refuse("tunnel.t1.retry", "", NothingToRetry, "");
    for object in ["site.oslo", "tunnel.t2"] {
        let mut world = world.clone();
        world.accept(&format!("{object}.retry"), "");
        world.planned_again(false, 2);
        assert_eq!(world.approve_plan("demo", 1, "again"), Err(NothingToApprove));
        let order = world.due();
        world.report(&done(&order));
        assert!(world.wanted_now().change.is_none());
        assert!(world.state.sites[&oslo()].planning.is_none(), "nobody asks for anything any more");
    }
}
