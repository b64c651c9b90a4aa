//! Versions of a vendor's template: which of them a stack has, and how it gets another one.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::json;
use wanwright_commands::cancel::Standing;
use wanwright_commands::orders::Gate;
use wanwright_commands::rollouts::{Tally, tally};
use wanwright_schemas::Digest;
use wanwright_schemas::Kind;
use wanwright_schemas::Reason::{
    BeingRemoved, Frozen, MissingField, NotAllowed, NotFound, OwnChange, PlanMismatch, TemplateChanged,
    UnknownTemplate, VendorRefused,
};
use wanwright_schemas::Template;
use wanwright_schemas::order::Intent;
use wanwright_schemas::report::Finding;
use wanwright_schemas::rollout::Rollout;
use wanwright_vendors::Catalogue;

use crate::harness::{World, done, short};
use crate::plans::plan;

const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;
const TUNNEL: &str = r#"{"site":"oslo","peer":{"hub":"hub-eu"},"inside":"169.254.0.0/30"}"#;

/// simwan with three versions of its template, of which new stacks get this one.
fn vendors(default: u32) -> Catalogue {
    let dir = tempfile::tempdir().expect("a folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
    let folder = dir.path().join("simwan");
    for (part, to) in [
        ("api", "api"),
        ("schemas", "schemas"),
        ("terraform", "terraform"),
        ("terraform", "terraform@2"),
        ("terraform", "terraform@3"),
    ] {
        fs::create_dir_all(folder.join(to)).expect("a folder");
        for entry in fs::read_dir(from.join(part)).expect("a folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), folder.join(to).join(entry.file_name())).expect("a file");
        }
    }
    let text = fs::read_to_string(from.join("vendor.toml")).expect("a file");
    fs::write(folder.join("vendor.toml"), format!("{text}\n[terraform]\ndefault = {default}\n"))
        .expect("a file");
    Catalogue::load(dir.path()).expect("the vendors")
}

pub static VERSIONS: LazyLock<Catalogue> = LazyLock::new(|| vendors(1));
static BEGINS_WITH_2: LazyLock<Catalogue> = LazyLock::new(|| vendors(2));

/// Oslo with a tunnel, all of it at the vendor.
pub fn running() -> World {
    let mut world = World { vendors: &VERSIONS, ..World::default() };
    world.accept("site.oslo.create", SITE);
    world.accept("tunnel.t1.create", TUNNEL);
    world.carry_out("site.oslo");
    world
}

/// What a rollout asks, with the digest that the folder has; none where it has no such version.
fn body(from: u32, to: u32, rollout: u64) -> String {
    let found = VERSIONS.get("simwan").and_then(|simwan| simwan.template(to));
    body_with(found.map_or("", |template| &template.digest), from, to, rollout)
}

fn body_with(digest: &str, from: u32, to: u32, rollout: u64) -> String {
    format!(r#"{{"version":{to},"digest":"{digest}","from":{from},"rollout":{rollout},"by":"olga"}}"#)
}

/// What a rollout is answered.
pub fn assign(world: &mut World, from: u32, to: u32, rollout: u64) -> Vec<String> {
    let sent = world.send("rollout", "site.oslo.assign-template", &body(from, to, rollout), None);
    sent.unwrap_or_else(|refusal| panic!("{refusal}")).iter().map(short).collect()
}

/// The version that an order of the stack would have.
fn given_to(world: &World) -> Option<u32> {
    let site = &world.state.sites[&"oslo".parse().expect("an id")];
    site.templates.at(site.generation).map(|template| template.version)
}

fn ordered(world: &World) -> Option<u32> {
    world.change("site.oslo").template.map(|template| template.version)
}

#[test]
fn another_version_is_a_generation_with_an_order_of_its_own() {
    let mut world = running();
    world.idle("site.oslo");
    assert_eq!(assign(&mut world, 1, 2, 1), ["oslo SiteTemplateAssigned 2"]);
    let order = world.change("site.oslo");
    let digest =
        VERSIONS.get("simwan").and_then(|simwan| simwan.template(2)).expect("version 2").digest.clone();
    assert_eq!(
        (order.intent.clone(), order.template),
        (Intent::Apply, Some(Template { version: 2, digest }))
    );
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    // Everything that follows is brought about by it: changes, looks and the end.
    world.accept("tunnel.t1.change", r#"{"settings":{"mtu":1300}}"#);
    assert_eq!(ordered(&world), Some(2));
    world.carry_out("site.oslo");
    world.accept("site.oslo.check-drift", "");
    assert_eq!(world.look("site.oslo").template.map(|template| template.version), Some(2));
    world.accept("tunnel.t1.decommission", "");
    world.carry_out("site.oslo");
    world.accept("site.oslo.decommission", "");
    let end = world.change("site.oslo");
    assert_eq!(
        (end.intent.clone(), end.template.map(|template| template.version)),
        (Intent::Remove, Some(2))
    );
    let refused = world.send("rollout", "site.oslo.assign-template", &body(2, 3, 9), None);
    assert_eq!(refused.expect_err("it goes").code, BeingRemoved);
}

#[test]
fn a_version_is_brought_about_as_a_whole() {
    let of_tunnel = |world: &World, order: &wanwright_schemas::Order| {
        let (target, mut report) = done(order);
        let found = report.findings.iter_mut().find(|found| found.object.kind() == Kind::Tunnel);
        let (code, message) = (VendorRefused, "mtu is too small".to_owned());
        found.expect("a tunnel").finding = Finding::Failed { generation: 1, code, message };
        assert_eq!(target, order.target(), "{:?}", world.sent);
        (target, report)
    };
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    let order = world.change("site.oslo");
    let mut newer = world.clone();
    assert_eq!(world.report(&of_tunnel(&world, &order)), ["oslo SiteFailed 2"]);
    let site = &world.state.sites[&"oslo".parse().expect("an id")];
    let failure = site.failure.as_ref().expect("a failure");
    assert_eq!((failure.code, failure.message.as_str()), (VendorRefused, "tunnel/t1: mtu is too small"));
    // The version before is given back like any other one.
    assert_eq!(assign(&mut world, 2, 1, 2), ["oslo SiteTemplateAssigned 3"]);
    assert_eq!(ordered(&world), Some(1));
    world.carry_out("site.oslo");
    world.idle("site.oslo");
    // What is asked for meanwhile brings it, and fails if it does.
    newer.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    assert!(newer.report(&of_tunnel(&newer, &order)).is_empty());
    let order = newer.change("site.oslo");
    assert_eq!(newer.report(&of_tunnel(&newer, &order)), ["oslo SiteFailed 3"]);
    // Without another version a part that nobody asked anything of is as it was.
    let mut other = running();
    other.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    let order = other.change("site.oslo");
    assert_eq!(other.report(&of_tunnel(&other, &order)), ["oslo SiteApplied 2"]);
}

#[test]
fn a_version_that_comes_back_after_another_was_tried_is_brought_about_as_a_whole_too() {
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.carry_out("site.oslo");
    assign(&mut world, 2, 1, 2);
    world.fail("site.oslo");
    // What the tunnel has of the version that failed is not known.
    assign(&mut world, 1, 2, 3);
    assert_eq!(but_its_tunnel(&mut world), ["oslo SiteFailed 4"]);
}

/// What becomes of Oslo when all of its order is done but its tunnel, of which nobody asked anything.
fn but_its_tunnel(world: &mut World) -> Vec<String> {
    let (target, mut report) = done(&world.change("site.oslo"));
    let (code, message) = (VendorRefused, "mtu is too small".to_owned());
    report.findings[1].finding = Finding::Failed { generation: 1, code, message };
    world.report(&(target, report))
}

#[test]
fn a_version_that_is_brought_back_by_a_cancel_is_brought_about_as_a_whole_where_another_was_tried() {
    // A stack that was never given one, and one that was.
    for given in [false, true] {
        let (mut world, mut at) = (running(), 1);
        if given {
            assign(&mut world, 1, 2, 1);
            world.carry_out("site.oslo");
            at = 2;
        }
        let had = given_to(&world);
        assign(&mut world, if given { 2 } else { 1 }, 3, 2);
        let mut waiting = world.clone();
        world.standing = Standing::Tried;
        let cancelled = [format!("oslo SiteChanged {}", at + 2), format!("oslo SiteCancelled {}", at + 2)];
        assert_eq!(world.accept("site.oslo.cancel", ""), cancelled);
        assert_eq!(ordered(&world), had);
        let mut whole = world.clone();
        assert_eq!(but_its_tunnel(&mut world), [format!("oslo SiteFailed {}", at + 2)]);
        // So it is by a retry as well, and when what comes back is changed.
        world.accept("site.oslo.retry", "");
        assert_eq!(but_its_tunnel(&mut world), [format!("oslo SiteFailed {}", at + 2)]);
        world.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
        assert_eq!(but_its_tunnel(&mut world), [format!("oslo SiteFailed {}", at + 3)]);
        // Once all of it was there, nothing of that is left.
        whole.carry_out("site.oslo");
        whole.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
        assert_eq!(ordered(&whole), had);
        assert_eq!(but_its_tunnel(&mut whole), [format!("oslo SiteApplied {}", at + 3)]);
        // What nobody began left nothing.
        waiting.accept("site.oslo.cancel", "");
        waiting.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
        assert_eq!(but_its_tunnel(&mut waiting), [format!("oslo SiteApplied {}", at + 3)]);
    }
}

#[test]
fn a_stack_that_was_never_given_one_has_the_orders_it_always_had() {
    let world = running();
    let mut plain = world.clone();
    plain.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    assert_eq!(plain.change("site.oslo").template, None);
}

#[test]
fn a_rollout_is_listened_to_once_and_an_older_one_never_again() {
    let mut world = running();
    assert!(assign(&mut world, 2, 3, 1).is_empty(), "it has version 1");
    assert_eq!(assign(&mut world, 1, 2, 5).len(), 1);
    assert!(assign(&mut world, 1, 2, 5).is_empty(), "the same again");
    assert!(assign(&mut world, 2, 3, 4).is_empty(), "one from before");
    world.accept("site.oslo.cancel", "");
    assert!(assign(&mut world, 1, 2, 5).is_empty(), "it was taken back");
    assert_eq!(assign(&mut world, 1, 2, 6).len(), 1);
}

#[test]
fn what_is_taken_back_has_the_version_that_was_applied_last() {
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.carry_out("site.oslo");
    assign(&mut world, 2, 3, 2);
    assert_eq!(world.accept("site.oslo.cancel", ""), ["oslo SiteChanged 4", "oslo SiteCancelled 4"]);
    world.idle("site.oslo");
    world.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    assert_eq!(ordered(&world), Some(2));
    world.carry_out("site.oslo");
    // Where something was tried, the vendor is put right by the version before.
    assign(&mut world, 2, 3, 3);
    world.standing = Standing::Tried;
    world.accept("site.oslo.cancel", "");
    assert_eq!(ordered(&world), Some(2));
}

#[test]
fn a_generation_that_brought_a_version_can_be_gone_back_to_by_its_specification() {
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.carry_out("site.oslo");
    world.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    assert_eq!(world.accept("site.oslo.revert", r#"{"to_generation":2}"#), ["oslo SiteChanged 4"]);
    let site = &world.state.sites[&"oslo".parse().expect("an id")];
    assert_eq!(site.spec.lan[0].to_string(), "10.1.0.0/24");
    assert_eq!(ordered(&world), Some(2), "which template brings it about is no matter of the specification");
}

#[test]
fn only_rollouts_may_and_only_versions_that_are_there() {
    let mut world = running();
    world.refuse("site.oslo.assign-template", &body(1, 2, 1), NotAllowed, "");
    let mut send = |tail: &str, body: &str| {
        let refusal = world.send("rollout", tail, body, None).expect_err(tail);
        (refusal.code, refusal.field.unwrap_or_default())
    };
    assert_eq!(send("site.oslo.assign-template", &body(1, 4, 1)), (UnknownTemplate, "version".to_owned()));
    assert_eq!(send("site.bergen.assign-template", &body(1, 2, 1)), (NotFound, String::new()));
    assert_eq!(send("site.oslo.change", "{}"), (NotAllowed, String::new()));
    // What is under the number here may be another content than whoever gives it out has, and was planned with.
    let changed = send("site.oslo.assign-template", &body_with("5f", 1, 2, 1));
    assert_eq!(changed, (TemplateChanged, "digest".to_owned()));
    let without = r#"{"version":2,"from":1,"rollout":1,"by":"olga"}"#;
    assert_eq!(send("site.oslo.assign-template", without), (MissingField, "digest".to_owned()));
    world.idle("site.oslo");
    assert_eq!(assign(&mut world, 1, 2, 1), ["oslo SiteTemplateAssigned 2"]);
    // Whoever was given it hears nothing more of it.
    let again = world.send("rollout", "site.oslo.assign-template", &body_with("5f", 1, 2, 1), None);
    assert!(again.expect("nothing to change").is_empty());
}

#[test]
fn approvals_freezes_and_windows_are_what_they_are_for_any_change() {
    let mut world = running();
    let mut approved = world.clone();
    approved.accept("customer.acme.change", r#"{"policy":{"site":"approve"}}"#);
    assert_eq!(
        assign(&mut approved, 1, 2, 1),
        ["oslo SiteTemplateAssigned 2", "oslo SiteApprovalRequested 2"]
    );
    approved.idle("site.oslo");
    let own = approved.send("olga", "site.oslo.approve", r#"{"generation":2}"#, None);
    assert_eq!(own.expect_err("it is her rollout").code, OwnChange);
    approved.accept("site.oslo.approve", r#"{"generation":2}"#);
    assert_eq!(ordered(&approved), Some(2));

    let mut windows = world.clone();
    let window = r#"{"windows":{"w":{"zone":"UTC","from":"02:00","to":"04:00"}}}"#;
    windows.accept("customer.acme.change", window);
    assert_eq!(assign(&mut windows, 1, 2, 1), ["oslo SiteTemplateAssigned 2", "oslo SitePostponed 2"]);
    assert!(matches!(windows.gate("site.oslo"), Gate::Shut(Some(_))));

    let freeze = r#"{"name":"f","from":"2026-11-20T00:00:00Z","to":"2026-11-25T00:00:00Z","reason":"fair"}"#;
    world.accept("customer.acme.freeze", freeze);
    let frozen = world.send("rollout", "site.oslo.assign-template", &body(1, 2, 1), None);
    assert_eq!(frozen.expect_err("frozen").code, Frozen);
}

/// How the stacks of the customer count for the rollout that gave Oslo version 2.
fn tallied(world: &World) -> Tally {
    let rollout = json!({
        "v": 1, "vendor": "simwan", "number": 1, "from": 1, "to": 2, "digest": "", "state": "running", "wave": 0,
        "waves": {"steps": [100], "at_once": 1}, "by": "olga", "began": world.now, "time": world.now,
    });
    tally(&serde_json::from_value::<Rollout>(rollout).expect("a rollout"), &world.state, world.now)
}

#[test]
fn a_plan_is_of_the_version_that_its_stack_has() {
    let mut world = running();
    world.accept("customer.acme.change", r#"{"policy":{"site":"plan"}}"#);
    world.accept("site.oslo.change", r#"{"lan":["10.9.0.0/24"]}"#);
    assert_eq!((world.due().intent, ordered(&world)), (Intent::Plan { remove: false, number: 1 }, None));
    let by_the_first = plan(&world, "one", [0, 1, 0, 0]);
    world.planned("one", [0, 1, 0, 0]);
    let mut other = world.clone();
    other.approve_plan("boss", 2, "one").expect("an approval");

    // Neither the plan that waits nor the one that is approved is good for a stack with another version.
    for world in [&mut world, &mut other] {
        let given = assign(world, 1, 2, 1);
        assert_eq!(given, ["oslo SiteTemplateAssigned 3", "oslo SitePlanRequested 3"]);
        assert_eq!(
            (world.due().intent, ordered(world)),
            (Intent::Plan { remove: false, number: 2 }, Some(2))
        );
        assert_eq!(world.approve_plan("boss", 2, "one"), Err(PlanMismatch));
    }
    assert_eq!((tallied(&world).progressing, tallied(&world).held), (1, 0), "it is being planned");
    let order = world.due();
    let heard = world.report_of_stack(&order, Finding::Planned { plan: by_the_first });
    assert!(heard.is_empty(), "it was made with version 1");
    world.planned("two", [0, 1, 0, 0]);
    assert_eq!((tallied(&world).progressing, tallied(&world).held), (0, 1), "it waits for approvals");
    // Who started the rollout has asked for it, and who asked for what goes with it.
    for own in ["olga", "demo"] {
        assert_eq!(world.approve_plan(own, 3, "two"), Err(OwnChange), "{own}");
    }
    let mut rejected = world.clone();
    rejected.reject_plan(3, "two");
    assert_eq!(tallied(&rejected).held, 1);
    world.approve_plan("boss", 3, "two").expect("an approval");
    assert_eq!((tallied(&world).progressing, tallied(&world).held), (1, 0), "it is being applied");
    let order = world.due();
    assert_eq!(order.intent, Intent::Apply);
    assert_eq!(order.plan.as_ref().map(|plan| plan.hash), Some(Digest::of(b"two")));
    assert_eq!(world.report(&done(&order)), ["oslo SitePlanApplied 3", "oslo SiteApplied 3"]);
    assert_eq!(tallied(&world).applied, 1);
}

#[test]
fn a_new_stack_begins_with_the_version_that_the_folder_names() {
    let mut world = World { vendors: &BEGINS_WITH_2, ..World::default() };
    assert_eq!(world.accept("site.oslo.create", SITE), ["oslo SiteCreated 1", "oslo SiteTemplateAssigned 1"]);
    assert_eq!(ordered(&world), Some(2));
    world.accept("customer.acme.change", r#"{"policy":{"site":"approve"}}"#);
    let bergen = SITE.replace("10.1", "10.2");
    assert_eq!(
        world.accept("site.bergen.create", &bergen),
        ["bergen SiteCreated 1", "bergen SiteApprovalRequested 1", "bergen SiteTemplateAssigned 1"]
    );
    world.idle("site.bergen");
    // And is planned once.
    let mut planned = World { vendors: &BEGINS_WITH_2, ..World::default() };
    planned.accept("customer.acme.change", r#"{"policy":{"site":"plan"}}"#);
    assert_eq!(
        planned.accept("site.oslo.create", SITE),
        ["oslo SiteCreated 1", "oslo SitePlanRequested 1", "oslo SiteTemplateAssigned 1"]
    );
    assert_eq!(ordered(&planned), Some(2));
    assert_eq!(planned.planned("one", [1, 0, 0, 0]), ["oslo SitePlanned 1"]);
}
