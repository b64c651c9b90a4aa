//! Rollouts: what operators may ask of one, how a customer's stacks count, and how waves follow each other whatever dies.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wanwright_commands::rollouts::{Reading, Tally, judge, last_wave, stacks_to_plan, step, tally, wave_of};
use wanwright_schemas::Reason::{
    self, InvalidValue, MissingField, NoSuchRollout, RolloutUnderWay, UnknownTemplate,
};
use wanwright_schemas::ids::{CustomerId, SiteId};
use wanwright_schemas::rollout::{Rollout, RolloutRequest, RolloutState, RolloutVerb, WhenHeld};

use crate::harness::{World, customer};
use crate::templates::{VERSIONS, assign, running};

pub fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a moment")
}

pub fn ask(
    present: Option<&Rollout>,
    verb: RolloutVerb,
    request: &RolloutRequest,
) -> Result<Rollout, (Reason, String)> {
    let vendor = VERSIONS.get("simwan").expect("simwan");
    let asked = judge(present, verb, request, vendor, &"olga".parse().expect("an actor"), now());
    asked.map_err(|refusal| (refusal.code, refusal.field.unwrap_or_default()))
}

pub fn to(version: u32) -> RolloutRequest {
    RolloutRequest { to: Some(version), ..RolloutRequest::default() }
}

fn because(reason: &str) -> RolloutRequest {
    RolloutRequest { reason: reason.to_owned(), ..RolloutRequest::default() }
}

pub fn started(request: &RolloutRequest) -> Rollout {
    ask(None, RolloutVerb::Start, request).expect("a rollout")
}

#[test]
fn what_an_operator_may_ask_follows_from_how_the_rollout_is() {
    let (usual, why) = (RolloutRequest::default(), because("a test"));
    let no = |code: Reason| Err((code, String::new()));
    for verb in [RolloutVerb::Status, RolloutVerb::Resume, RolloutVerb::Rollback] {
        assert_eq!(ask(None, verb, &usual), no(NoSuchRollout));
    }
    let running = started(&to(2));
    assert_eq!((running.number, running.from, running.to, running.state), (1, 1, 2, RolloutState::Running));
    assert_eq!((running.waves.steps.clone(), running.waves.max_failures), (vec![5, 25, 100], Some(1)));
    for verb in [RolloutVerb::Start, RolloutVerb::Plan] {
        assert_eq!(ask(Some(&running), verb, &to(3)), no(RolloutUnderWay));
    }
    assert_eq!(ask(Some(&running), RolloutVerb::Resume, &usual), no(NoSuchRollout));
    let paused = ask(Some(&running), RolloutVerb::Pause, &why).expect("paused");
    assert_eq!((paused.state, paused.why.as_deref()), (RolloutState::Paused, Some("olga: a test")));
    let more = RolloutRequest { max_failures: Some(3), ..usual.clone() };
    let resumed = ask(Some(&paused), RolloutVerb::Resume, &more).expect("resumed");
    assert_eq!(
        (resumed.state, resumed.why.clone(), resumed.waves.max_failures),
        (RolloutState::Running, None, Some(3))
    );
    let stopped = ask(Some(&resumed), RolloutVerb::Stop, &why).expect("stopped");
    let back = ask(Some(&stopped), RolloutVerb::Rollback, &usual).expect("back");
    assert_eq!((back.number, back.from, back.to, back.rolls_back), (2, 2, 1, Some(1)));
    assert_eq!((back.waves.max_failures, back.waves.when_held), (None, WhenHeld::Skip));
    let again = ask(Some(&Rollout { state: RolloutState::Done, ..back }), RolloutVerb::Rollback, &usual);
    assert_eq!(again, no(NoSuchRollout));
    assert_eq!(ask(Some(&stopped), RolloutVerb::Start, &to(3)).expect("the next").number, 2);
}

#[test]
fn what_is_planned_is_started_and_what_only_was_planned_cannot_go_on() {
    let planning = ask(None, RolloutVerb::Plan, &to(2)).expect("planning");
    assert_eq!(
        (planning.state, planning.summary.clone().expect("a summary").sample),
        (RolloutState::Planning, 20)
    );
    let planned = Rollout { state: RolloutState::Planned, ..planning.clone() };
    let running = ask(Some(&planned), RolloutVerb::Start, &RolloutRequest::default()).expect("running");
    assert_eq!((running.number, running.to, running.summary.is_some()), (1, 2, true));
    // Another way to the same version is not what was planned.
    let other = ask(Some(&planned), RolloutVerb::Start, &RolloutRequest { from: Some(3), ..to(2) });
    let other = other.expect("running");
    assert_eq!((other.number, other.from, other.to, other.summary), (2, 3, 2, None));
    let same = ask(Some(&planned), RolloutVerb::Start, &RolloutRequest { from: Some(1), ..to(2) });
    assert_eq!(same.expect("running"), running);
    let stopped = ask(Some(&planning), RolloutVerb::Stop, &because("too slow")).expect("stopped");
    for verb in [RolloutVerb::Resume, RolloutVerb::Rollback] {
        assert_eq!(
            ask(Some(&stopped), verb, &RolloutRequest::default()),
            Err((NoSuchRollout, String::new()))
        );
    }
    let edited = Rollout { digest: "another".to_owned(), ..planned };
    let refused = ask(Some(&edited), RolloutVerb::Start, &RolloutRequest::default());
    assert_eq!(refused, Err((Reason::TemplateChanged, "to".to_owned())));
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    let refused = |request: RolloutRequest| ask(None, RolloutVerb::Start, &request).expect_err("refused");
    let invalid = |field: &str| (InvalidValue, field.to_owned());
    assert_eq!(refused(RolloutRequest::default()), (MissingField, "to".to_owned()));
    assert_eq!(refused(to(9)), (UnknownTemplate, "to".to_owned()));
    assert_eq!(refused(to(1)), invalid("from"));
    assert_eq!(refused(RolloutRequest { from: Some(9), ..to(2) }), (UnknownTemplate, "from".to_owned()));
    for steps in [vec![], vec![0, 100], vec![50], vec![50, 50, 100], vec![50, 20, 100], vec![10, 101]] {
        assert_eq!(refused(RolloutRequest { steps: Some(steps), ..to(2) }), invalid("steps"));
    }
    assert_eq!(refused(RolloutRequest { at_once: Some(0), ..to(2) }), invalid("at_once"));
    assert_eq!(refused(RolloutRequest { pause_seconds: Some(u32::MAX), ..to(2) }), invalid("pause_seconds"));
    let share = RolloutRequest { max_failures_percent: Some(101), ..to(2) };
    assert_eq!(refused(share), invalid("max_failures_percent"));
    let running = started(&to(2));
    assert_eq!(ask(Some(&running), RolloutVerb::Stop, &because("")), Err(invalid("reason")));
}

fn tallied(world: &World, rollout: &Rollout) -> Tally {
    tally(rollout, &world.state, world.now)
}

#[test]
fn a_stack_counts_as_what_its_history_says_it_is() {
    let mut world = running();
    let rollout = started(&to(2));
    let oslo: SiteId = "oslo".parse().expect("an id");
    assert_eq!(tallied(&world, &rollout), Tally { waiting: vec![oslo], ..Tally::default() });
    let vendor = VERSIONS.get("simwan").expect("simwan");
    let template = wanwright_commands::templates::of_vendor(vendor, 2).expect("version 2");
    let planned = stacks_to_plan(&rollout, &customer(), &world.state, vendor, &template);
    assert_eq!(planned.len(), 1);
    let mut frozen = world.clone();
    let freeze = r#"{"name":"f","from":"2026-11-20T00:00:00Z","to":"2026-11-25T00:00:00Z","reason":"fair"}"#;
    frozen.accept("customer.acme.freeze", freeze);
    assert_eq!(tallied(&frozen, &rollout), Tally { frozen: 1, ..Tally::default() });

    assign(&mut world, 1, 2, 1);
    assert_eq!(tallied(&world, &rollout), Tally { progressing: 1, ..Tally::default() });
    assert_eq!(world.change("site.oslo").desired, planned[0].desired.clone().into_generation(2));
    let mut held = world.clone();
    held.accept("site.oslo.suspend", r#"{"reason":"works"}"#);
    assert_eq!(tallied(&held, &rollout), Tally { held: 1, ..Tally::default() });
    let mut cancelled = world.clone();
    cancelled.accept("site.oslo.cancel", "");
    assert_eq!(tallied(&cancelled, &rollout), Tally { taken_back: 1, ..Tally::default() });
    let mut failed = world.clone();
    failed.fail("site.oslo");
    assert_eq!(tallied(&failed, &rollout), Tally { failed: 1, ..Tally::default() });
    failed.accept("site.oslo.retry", "");
    assert_eq!(tallied(&failed, &rollout), Tally { progressing: 1, ..Tally::default() });
    world.carry_out("site.oslo");
    assert_eq!(tallied(&world, &rollout), Tally { applied: 1, ..Tally::default() });
    // What has it is what a rollback is about.
    let back = back(&rollout);
    assert_eq!(tallied(&world, &back).waiting.len(), 1);
}

fn back(rollout: &Rollout) -> Rollout {
    ask(Some(rollout), RolloutVerb::Rollback, &RolloutRequest::default()).expect("back")
}

#[test]
fn a_rollback_leaves_alone_what_the_rollout_did_not_give() {
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.carry_out("site.oslo");
    // The second rollout to the same version finds it there.
    let second = ask(Some(&started(&to(2))), RolloutVerb::Stop, &because("a test")).expect("stopped");
    let second = ask(Some(&second), RolloutVerb::Start, &to(2)).expect("the second");
    assert_eq!(second.number, 2);
    assert_eq!(tallied(&world, &second), Tally::default());
    assert_eq!(tallied(&world, &back(&second)), Tally::default());
    assert_eq!(tallied(&world, &back(&started(&to(2)))).waiting.len(), 1);
}

#[test]
fn trouble_that_is_not_the_versions_does_not_count_as_its_failure() {
    let oslo: SiteId = "oslo".parse().expect("an id");
    let rollout = started(&to(2));
    let left_alone = Tally { failed_before: 1, ..Tally::default() };
    let vendor = VERSIONS.get("simwan").expect("simwan");
    let template = wanwright_commands::templates::of_vendor(vendor, 2).expect("version 2");

    // What had failed before is not tried again in its name: neither a site nor a tunnel.
    for (object, change) in [
        ("site.oslo", r#"{"settings":{"location":"Bergen"}}"#),
        ("tunnel.t1", r#"{"settings":{"mtu":1300}}"#),
    ] {
        let mut world = running();
        world.accept(&format!("{object}.change"), change);
        world.fail("site.oslo");
        assert_eq!(tallied(&world, &rollout), left_alone, "{object}");
        assert!(stacks_to_plan(&rollout, &customer(), &world.state, vendor, &template).is_empty());
        world.accept(&format!("{object}.retry"), "");
        assert_eq!(tallied(&world, &rollout).waiting, std::slice::from_ref(&oslo), "{object}");
    }

    // Nor is what fails once the version is there.
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.carry_out("site.oslo");
    world.accept("site.oslo.change", r#"{"settings":{"location":"Bergen"}}"#);
    let applied = Tally { applied: 1, ..Tally::default() };
    assert_eq!(tallied(&world, &rollout), applied);
    world.fail("site.oslo");
    assert_eq!(tallied(&world, &rollout), applied);

    // A failure that may be the version's is what the next version and the way back are for.
    let mut world = running();
    assign(&mut world, 1, 2, 1);
    world.fail("site.oslo");
    let third = RolloutRequest { from: Some(2), ..to(3) };
    let stopped = Rollout { state: RolloutState::Stopped, ..rollout };
    let third = ask(Some(&stopped), RolloutVerb::Start, &third).expect("the third version");
    assert_eq!(tallied(&world, &third).waiting, std::slice::from_ref(&oslo));
    let back = back(&stopped);
    assert_eq!(tallied(&world, &back).waiting, [oslo]);
    // What it had before is brought about again before it counts as there.
    assign(&mut world, 2, 1, 2);
    assert_eq!(tallied(&world, &back), Tally { progressing: 1, ..Tally::default() });
    world.carry_out("site.oslo");
    assert_eq!(tallied(&world, &back), Tally { applied: 1, ..Tally::default() });
}

trait IntoGeneration {
    fn into_generation(self, generation: u64) -> Self;
}

impl IntoGeneration for wanwright_schemas::order::Desired {
    fn into_generation(mut self, generation: u64) -> Self {
        if let Self::Site { site, .. } = &mut self {
            site.generation = generation;
        }
        self
    }
}

pub fn names(count: usize) -> Vec<CustomerId> {
    (0..count).map(|number| format!("c{number}").parse().expect("an id")).collect()
}

#[test]
fn shares_are_those_of_the_steps_and_the_canaries_come_first() {
    let canaries = BTreeSet::from(["c7".parse().expect("an id")]);
    let rollout = started(&RolloutRequest { canaries, steps: Some(vec![10, 50, 100]), ..to(2) });
    let all = names(10_000);
    let in_wave = |wave: u32| all.iter().filter(|name| wave_of(&rollout, name) == wave).count();
    assert_eq!(in_wave(0), 1);
    let shares = [in_wave(1), in_wave(2), in_wave(3)];
    for (is, wanted) in shares.into_iter().zip([1000, 4000, 5000]) {
        assert!(is.abs_diff(wanted) < 200, "{shares:?}");
    }
    let next = Rollout { to: 3, ..rollout.clone() };
    let both = all.iter().filter(|name| wave_of(&rollout, name) == 1 && wave_of(&next, name) == 1).count();
    assert!(both < 200, "other customers go first with the next version: {both}");
    let back = Rollout { from: 2, to: 1, ..rollout.clone() };
    assert!(all[..50].iter().all(|name| wave_of(&back, name) == wave_of(&rollout, name)));
}

fn read(tallies: &BTreeMap<CustomerId, Tally>) -> Reading {
    Reading { tallies: tallies.clone(), ..Reading::default() }
}

fn fleet(all: &[(&str, Tally)]) -> BTreeMap<CustomerId, Tally> {
    all.iter().map(|(name, tally)| (name.parse().expect("an id"), tally.clone())).collect()
}

fn waits() -> Tally {
    Tally { waiting: vec!["s0".parse().expect("an id")], ..Tally::default() }
}

fn with_canaries(canaries: &[&str], request: RolloutRequest) -> Rollout {
    let canaries = canaries.iter().map(|name| name.parse().expect("an id")).collect();
    started(&RolloutRequest { canaries, steps: Some(vec![100]), ..request })
}

#[test]
fn a_stack_that_is_held_is_waited_for_left_out_or_counted_as_the_policy_says() {
    let waiting = || vec!["s0".parse().expect("an id")];
    let held = Tally { held: 1, ..Tally::default() };
    let fleet = BTreeMap::from([
        ("c0".parse().expect("an id"), held),
        ("c1".parse().expect("an id"), Tally { waiting: waiting(), ..Tally::default() }),
    ]);
    let of = |when_held| {
        let canaries = BTreeSet::from(["c0".parse().expect("an id")]);
        let request =
            RolloutRequest { canaries, steps: Some(vec![100]), when_held: Some(when_held), ..to(2) };
        let step = step(&started(&request), &read(&fleet), now());
        (step.rollout.state, step.rollout.wave, step.give.len())
    };
    assert_eq!(of(WhenHeld::Wait), (RolloutState::Running, 0, 0));
    assert_eq!(of(WhenHeld::Skip), (RolloutState::Running, 1, 1));
    assert_eq!(of(WhenHeld::Fail), (RolloutState::Stopped, 0, 0));
}

#[test]
fn whoever_cannot_be_read_holds_up_its_wave_and_nobody_in_it() {
    let rollout = with_canaries(&["c0", "c1"], to(2));
    let applied = Tally { applied: 1, ..Tally::default() };
    let all = fleet(&[("c1", waits()), ("c2", waits())]);
    // It was never read: the other canary gets it, and nobody else.
    let unread = BTreeSet::from(["c0".parse().expect("an id")]);
    let reading = Reading { unread: unread.clone(), ..read(&all) };
    let next = step(&rollout, &reading, now());
    assert_eq!((next.rollout.wave, next.rollout.counts.unread), (0, 1));
    assert_eq!(next.give, ["c1".parse().expect("an id")]);
    let done = fleet(&[("c1", applied.clone()), ("c2", waits())]);
    let next = step(&rollout, &Reading { unread: unread.clone(), ..read(&done) }, now());
    assert_eq!((next.rollout.state, next.rollout.wave, next.give), (RolloutState::Running, 0, Vec::new()));
    // So does a part of the fleet of which it is not known who is in it.
    let next = step(&rollout, &Reading { is_partial: true, ..read(&done) }, now());
    assert_eq!((next.rollout.state, next.rollout.wave, next.give), (RolloutState::Running, 0, Vec::new()));
    // What was read before counts, and what waited then is not given now.
    let before = fleet(&[("c0", waits()), ("c1", applied.clone())]);
    let next = step(&rollout, &Reading { unread: unread.clone(), ..read(&before) }, now());
    assert_eq!((next.rollout.counts.waiting, next.give), (1, Vec::new()));
    let failed = fleet(&[("c0", Tally { failed: 1, ..Tally::default() })]);
    let next = step(&rollout, &Reading { unread: unread.clone(), ..read(&failed) }, now());
    assert_eq!(next.rollout.state, RolloutState::Stopped);
    // One of a later wave holds up only that, and a way back does not end without it either.
    let last = BTreeSet::from(["c2".parse().expect("an id")]);
    let next = step(&rollout, &Reading { unread: last.clone(), ..read(&done) }, now());
    assert_eq!((next.rollout.state, next.rollout.wave, next.give), (RolloutState::Running, 1, Vec::new()));
    let back = back(&rollout);
    let taken = fleet(&[("c1", applied)]);
    let next = step(&back, &Reading { unread: last, ..read(&taken) }, now());
    assert_eq!(next.rollout.state, RolloutState::Running);
    assert_eq!(step(&back, &read(&taken), now()).rollout.state, RolloutState::Done);
}

#[test]
fn whoever_is_frozen_in_the_last_wave_is_come_back_for() {
    let frozen = fleet(&[("c0", Tally { frozen: 1, ..Tally::default() })]);
    let thawed = fleet(&[("c0", waits())]);
    let skip = RolloutRequest { when_held: Some(WhenHeld::Skip), ..to(2) };
    let fail = RolloutRequest { when_held: Some(WhenHeld::Fail), max_failures: Some(0), ..to(2) };
    for rollout in [started(&skip), started(&fail), back(&started(&to(2)))] {
        let next = step(&rollout, &read(&frozen), now()).rollout;
        assert_eq!((next.state, next.wave), (RolloutState::Running, last_wave(&rollout)));
        assert_eq!(step(&next, &read(&thawed), now()).give.len(), 1);
    }
}

#[test]
fn a_share_of_failures_is_one_of_the_stacks_that_it_came_to() {
    let of = |failed: u32, applied: u32| Tally { failed, applied, ..Tally::default() };
    let rollout = started(&RolloutRequest { max_failures_percent: Some(10), ..to(2) });
    assert_eq!(rollout.waves.max_failures, None);
    let state =
        |rollout: &Rollout, all: &[(&str, Tally)]| step(rollout, &read(&fleet(all)), now()).rollout.state;
    assert_eq!(state(&rollout, &[("c0", of(1, 19))]), RolloutState::Done);
    assert_eq!(state(&rollout, &[("c0", of(2, 18))]), RolloutState::Stopped);
    // The canaries are few beside everybody, and all that is known of the version.
    let many = Tally { waiting: vec!["s".parse().expect("an id"); 10_000], ..Tally::default() };
    let rollout = with_canaries(&["c0"], RolloutRequest { max_failures_percent: Some(40), ..to(2) });
    assert_eq!(state(&rollout, &[("c0", of(2, 3)), ("c1", many.clone())]), RolloutState::Stopped);
    assert_eq!(state(&rollout, &[("c0", of(1, 4)), ("c1", many.clone())]), RolloutState::Running);
    // What it leaves alone is no part of it.
    let beside = Tally { failed_before: 90, ..of(2, 3) };
    assert_eq!(state(&rollout, &[("c0", beside), ("c1", many)]), RolloutState::Stopped);
    // A wave that failed as a whole stops it, however many went before.
    let at_last = Rollout { wave: 1, ..rollout };
    assert_eq!(state(&at_last, &[("c0", of(0, 50)), ("c1", of(2, 0))]), RolloutState::Stopped);
    assert_eq!(state(&at_last, &[("c0", of(0, 50)), ("c1", of(2, 1))]), RolloutState::Done);
}
