//! Random lives of one customer: what must hold after every command, whatever came before.

mod counts;
mod invariants;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use wanwright_commands::Object;
use wanwright_commands::cancel::Standing;
use wanwright_commands::orders::{Gate, Wanted};
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::report::Report;
use wanwright_schemas::{Event, ObjectRef, OrderId, Refusal, Target};

use crate::asks::{
    Nonsense, Under, ask, file_of, found, honest, looked, minute_of, nonsense, said, saw, typed,
};
use crate::decisions::Decision;
use crate::harness::{World, check_of, object_of, target_of};
use crate::model::{Ask, End, Kind, Model, Order, Row, Rule, Said, Session};
use counts::called;
use invariants::{invariants, nothing_is_missed, orders_follow};

#[derive(Clone, Debug)]
enum Step {
    /// A person asks for something; there are two. He may say which generation he saw, rightly or not.
    Ask(Ask, bool, Option<i64>),
    /// Somebody approves one of the things that wait, or rejects it, or says another generation.
    Judge(usize, u64, &'static str, bool),
    /// Minutes go by.
    Wait(i64),
    /// An executor carries out a target's change; one bit for each object says whether it succeeded, the next ones at
    /// which address the site is. When something failed, nothing is said of the objects in the second mask.
    Run(usize, u8, u8),
    /// An executor looks at a target, maybe asked to just before; one bit for each object says whether it drifted.
    Look(usize, u8, bool),
    /// An executor says again what it said before.
    Again(usize),
    /// An executor carries out a target's change, and what it says of that is on its way until it is said again.
    Begin(usize, u8, u8),
    /// An executor says something that nobody asked for.
    Nonsense(Nonsense),
}

fn step() -> impl Strategy<Value = Step> {
    // Most runs succeed with everything.
    let bits = prop_oneof![3 => Just(0xff), 2 => any::<u8>()];
    let rarely = prop_oneof![4 => Just(false), 1 => Just(true)];
    prop_oneof![
        12 => (ask(), any::<bool>(), saw()).prop_map(|(ask, other, off)| Step::Ask(ask, other, off)),
        1 => (1..15i64).prop_map(Step::Wait),
        4 => (any::<usize>(), prop_oneof![5 => Just(0), 1 => Just(1)], prop::sample::select(&APPROVERS[..]), rarely)
            .prop_map(|(index, off, who, rejects)| Step::Judge(index, off, who, rejects)),
        6 => (0..6usize, bits.clone(), prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(target, bits, silent)| Step::Run(target, bits, silent)),
        4 => (0..6usize, any::<u8>(), any::<bool>()).prop_map(|(target, bits, asked)| Step::Look(target, bits, asked)),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Again(index.index(64))),
        2 => (0..6usize, bits, any::<u8>())
            .prop_map(|(target, bits, silent)| Step::Begin(target, bits, silent)),
        2 => nonsense().prop_map(Step::Nonsense),
    ]
}

fn target(number: usize) -> String {
    if number < 3 { format!("site.s{number}") } else { format!("device.d{}", number - 3) }
}

/// What the model calls a target.
fn known_as(target: &str) -> (Kind, u8) {
    let kind = if target.starts_with("site") { Kind::Site } else { Kind::Device };
    (kind, target[target.len() - 1..].parse().expect("a number"))
}

#[derive(Default)]
struct Life {
    world: World,
    model: Model,
    minute: i64,
    said: Vec<(Target, Report)>,
    /// Every order there ever was, and what it is to the model.
    issued: Vec<(OrderId, Order)>,
    /// How often something was asked for that changed something, that changed nothing, and that was refused.
    asked: BTreeMap<String, [usize; 3]>,
}

impl Life {
    fn step(&mut self, step: &Step) {
        let before = self.world.clone();
        match step {
            Step::Ask(ask, other, off) => self.ask_who_saw(ask, if *other { "other" } else { "demo" }, *off),
            Step::Wait(minutes) => self.wait(*minutes),
            Step::Judge(index, off, who, rejects) => {
                let waiting = self.model.waiting();
                if let Some((kind, name, is_plan)) = waiting.get(index % waiting.len().max(1)) {
                    let (kind, name, off) = (*kind, *name, *off);
                    let ask = match (is_plan, rejects) {
                        (true, false) => Ask::ApprovePlan(kind, name, off, 0),
                        (true, true) => Ask::RejectPlan(kind, name, off, 0),
                        (false, false) => Ask::Approve(kind, name, off),
                        (false, true) => Ask::Reject(kind, name, off),
                    };
                    self.ask(&ask, who);
                }
            }
            Step::Run(number, bits, silent) => self.run(&target(*number), *bits, *silent),
            Step::Look(number, bits, asked) => {
                let (kind, name) = known_as(&target(*number));
                if *asked {
                    self.ask(&Ask::Check(kind, name), "demo");
                }
                self.look(&target(*number), *bits);
            }
            Step::Again(index) if !self.said.is_empty() => {
                let report = self.said[index % self.said.len()].clone();
                self.report(&report);
            }
            Step::Again(_) => {}
            Step::Begin(number, bits, silent) => drop(self.begin(&target(*number), *bits, *silent)),
            Step::Nonsense(nonsense) => self.nonsense(nonsense),
        }
        self.compare();
        invariants(&self.world);
        orders_follow(&self.world);
        nothing_is_missed(&before, &self.world);
    }

    /// A life that has begun: mostly with three sites that are at their vendor, a tunnel from the first to the second and a
    /// device, where most of what can go wrong begins.
    fn begun(how: u8) -> Self {
        let mut life = Self::default();
        if (1..9).contains(&how) {
            life.found();
        }
        match how {
            2 => life.approving(),
            3 => life.windowed(),
            4 => life.releasing(),
            5 => life.planning(),
            6 => life.planned(),
            7 => life.rolling(&[(1, 2, Some(0x3f)), (2, 1, Some(0)), (1, 2, None)]),
            8 => life.rolling(&[(1, 2, Some(0x3f)), (2, 1, None)]),
            9 => life.loosening(),
            _ => {}
        }
        life
    }

    /// Everything there is at first is asked for and carried out.
    fn found(&mut self) {
        for (site, lan) in [(0, 2), (1, 3), (2, 4)] {
            self.ask(&Ask::CreateSite { site, vendor: 0, lan: vec![lan] }, "demo");
        }
        let session = Session::Silent;
        self.ask(&Ask::CreateTunnel { tunnel: 0, site: 0, end: End::Site(1), inside: 7, session }, "demo");
        self.ask(&Ask::CreateDevice { device: 0, site: 0, serial: 0, model: 0 }, "demo");
        self.settle();
        self.ask(&Ask::ChangeSite { site: 1, lan: vec![6] }, "demo");
        self.ask(&Ask::ChangeDevice { device: 0, hostname: true }, "demo");
        self.settle();
    }

    /// From now on every change waits for approval.
    fn approving(&mut self) {
        for kind in [Kind::Site, Kind::Tunnel, Kind::Device] {
            self.ask(&Ask::Policy(kind, Rule::Approve(1)), "demo");
        }
    }

    /// From now on every change of a stack is planned, and something is.
    fn planning(&mut self) {
        let rule = Rule::Plan { by: 1, any: true, minutes: 10 };
        self.ask(&Ask::Policy(Kind::Site, rule), "demo");
        self.ask(&Ask::ChangeSite { site: 0, lan: vec![5] }, "demo");
        self.run("site.s0", 0x3f, 0);
    }

    /// A plan of a stack was approved, and is out of date.
    fn planned(&mut self) {
        self.planning();
        let session = Session::Both(0, 1);
        self.ask(&Ask::ChangeTunnel { tunnel: 0, end: End::Hub, inside: 7, session }, "other");
        self.run("site.s0", 0x3f, 0);
        self.ask(&Ask::ApprovePlan(Kind::Site, 0, 0, 0), "boss");
        self.wait(12);
    }

    /// A stack is given versions of its template, one after the other, and what was tried of that succeeded or did not.
    fn rolling(&mut self, versions: &[(u32, u32, Option<u8>)]) {
        for (from, to, tried) in versions.iter().copied() {
            self.ask(&Ask::Assign { site: 0, from, to, rollout: 1, as_planned: true, by: "demo" }, "demo");
            if let Some(bits) = tried {
                self.run("site.s0", bits, 0);
            }
        }
    }

    /// That stacks are planned waits for one more approval, and by now there is one that cannot be.
    fn loosening(&mut self) {
        self.ask(&Ask::Policy(Kind::Site, Rule::Approve(2)), "demo");
        self.ask(&Ask::Policy(Kind::Site, Rule::Plan { by: 1, any: true, minutes: 1440 }), "demo");
        self.ask(&Ask::ApprovePolicy(0), "boss");
        self.ask(&Ask::CreateSite { site: 0, vendor: 1, lan: vec![2] }, "demo");
    }

    /// From now on changes begin within the next minutes, or on another day; in half an hour there is a freeze.
    fn windowed(&mut self) {
        self.ask(&Ask::Freeze(0, 30, 60), "demo");
        self.wait(6);
        for kind in [Kind::Site, Kind::Device] {
            self.ask(&Ask::Windows(kind, 1), "demo");
        }
    }

    /// A stack and a device that wait for a window were let through, and were not carried out yet.
    fn releasing(&mut self) {
        for kind in [Kind::Site, Kind::Device] {
            self.ask(&Ask::Windows(kind, 0), "demo");
        }
        self.ask(&Ask::ChangeSite { site: 0, lan: vec![5] }, "demo");
        let session = Session::Both(0, 1);
        self.ask(&Ask::ChangeTunnel { tunnel: 0, end: End::Hub, inside: 7, session }, "demo");
        self.ask(&Ask::ChangeDevice { device: 0, hostname: false }, "demo");
        self.ask(&Ask::Release(Kind::Site, 0), "other");
        self.ask(&Ask::Release(Kind::Device, 0), "other");
    }

    fn wait(&mut self, minutes: i64) {
        self.minute += minutes;
        self.world.now += jiff::SignedDuration::from_mins(minutes);
    }

    fn ask(&mut self, ask: &Ask, who: &'static str) {
        self.ask_who_saw(ask, who, None);
    }

    /// The same by somebody who says which generation he saw: the present one, and so many more.
    fn ask_who_saw(&mut self, ask: &Ask, who: &'static str, off: Option<i64>) {
        let saw = off.map(|off| self.model.seen(ask).unwrap_or_default().saturating_add_signed(off));
        let (tail, body) = typed(ask, &self.model, self.world.now);
        let who = ask.actor().unwrap_or(who);
        let mine = self.model.ask(ask, who, self.minute, saw);
        if let Ask::Cancel(_, _, tried) = ask {
            self.world.standing = if *tried { Standing::Tried } else { Standing::Waiting };
        }
        let real = self.world.send(who, &tail, &body, saw);
        if let (Ask::Confirm(claims), Ok(events)) = (ask, &real) {
            assert_eq!(abandoned(events), self.model.abandoned(claims));
        }
        let became = real.as_ref().map_or(2, |events| usize::from(events.is_empty()));
        self.asked.entry(called(ask)).or_default()[became] += 1;
        let code = |refusal: Refusal| refusal.code;
        assert_eq!(real.map(|_| ()).map_err(code), mine, "{tail} {body} {saw:?}");
    }

    /// The orders of a target. The model knows them as well, and two of them are one to it where they have one id.
    fn wanted(&mut self, target: &str) -> Wanted {
        let wanted = self.world.wanted_by_now(target);
        let (kind, name) = known_as(target);
        let mine = self.model.orders(kind, name, Some(self.minute));
        for (real, mine) in [(&wanted.change, mine.0), (&wanted.look, mine.1)] {
            let real = real.as_ref().map(|order| order.id);
            assert_eq!(real.is_some(), mine.is_some(), "{target}");
            let Some(issued) = real.zip(mine) else { continue };
            let same = self.issued.iter().find(|(id, order)| *id == issued.0 || *order == issued.1);
            match same {
                Some(same) => assert_eq!(*same, issued, "{target}"),
                None => self.issued.push(issued),
            }
        }
        wanted
    }

    /// What is recorded of a report, which is what the model says.
    fn hear(&mut self, report: &(Target, Report)) -> Vec<Said> {
        self.world.report(report);
        let (target, Report { order, findings, .. }) = report;
        let target = known_as(&format!("{}.{}", target.kind(), target.id()));
        let known = self.issued.iter().find(|(id, _)| id == order).map(|(_, order)| order);
        let mine = self.model.report(target, known, &found(findings), self.minute);
        let (_, events) = self.world.history.last().expect("the report");
        let real: Vec<_> = events.iter().map(|event| said(event, *order)).collect();
        assert_eq!(real, mine, "{report:?}");
        real
    }

    /// Reports, twice: the second time says nothing.
    fn report(&mut self, report: &(Target, Report)) {
        self.hear(report);
        assert_eq!(self.hear(report), Vec::<Said>::new(), "a repeat of {report:?}");
    }

    /// An executor carries out a target's change; what it will say of that.
    fn begin(&mut self, target: &str, bits: u8, silent: u8) -> Option<(Target, Report)> {
        // What is only planned waits for no window.
        let order = self.wanted(target).change.filter(|order| !order.changes() || self.may_begin(target))?;
        self.said.push(honest(&order, bits, silent));
        self.said.last().cloned()
    }

    fn run(&mut self, target: &str, bits: u8, silent: u8) {
        let Some(report) = self.begin(target, bits, silent) else { return };
        self.report(&report);
        let after = self.wanted(target).change.map(|after| after.id);
        assert_ne!(after, Some(report.1.order), "a run that ended leaves its order in place");
    }

    /// Whether change windows let a target's change begin now.
    fn may_begin(&self, target: &str) -> bool {
        let is_open = matches!(self.world.gate(target), Gate::Open(_));
        let (kind, name) = known_as(target);
        assert_eq!(is_open, self.model.is_open(kind, name, self.minute), "{target}");
        is_open
    }

    fn look(&mut self, target: &str, bits: u8) {
        let Some(order) = self.wanted(target).look else { return };
        let report = looked(&order, bits);
        self.report(&report);
        self.said.push(report);
        assert_eq!(self.wanted(target).look, None, "a look that ended leaves its order in place");
    }

    fn nonsense(&mut self, nonsense: &Nonsense) {
        let reference = object_of(&nonsense.object());
        if self.world.state.generation(&reference).is_none() {
            return;
        }
        let owner = match &reference {
            ObjectRef::Tunnel(id) => format!("site.{}", self.world.state.tunnels[id].spec.site),
            _ => nonsense.object(),
        };
        let wanted = self.wanted(&owner);
        let order = match nonsense.under {
            Under::Change => wanted.change.map(|order| order.id),
            Under::Look => wanted.look.as_ref().map(|order| order.id),
            Under::Former(index) => self.issued.get(index % self.issued.len().max(1)).map(|(id, _)| *id),
            Under::Invented => None,
        };
        let check = wanted.look.as_ref().map(check_of);
        let findings = nonsense.findings(&reference, self.world.uid(&reference), check);
        let order = order.unwrap_or_else(|| nonsense.invented());
        let owner = nonsense.elsewhere.map_or(owner, target);
        // A repeat of what contradicts itself, or leaves out who asked, may say more.
        let report = (target_of(&owner), Report { order, findings, state: None });
        (0..2).for_each(|_| drop(self.hear(&report)));
    }

    /// The model knows what the customer knows.
    fn compare(&mut self) {
        fn row<S>(kind: &str, name: &str, object: &Object<S>) -> Row {
            let observed = object.observed.as_ref().map_or(0, |observed| observed.generation);
            let flags = [
                object.leaving,
                !object.drift.is_empty(),
                object.suspended.is_some(),
                object.protected,
                object.approval.is_some(),
                object.released,
                object.acknowledged.is_some(),
                object.planning.is_some(),
            ];
            let opens =
                object.postponed.as_ref().map(|until| minute_of(until.until.expect("a window opens")));
            let plan = object
                .plan
                .as_ref()
                .map(|plan| (file_of(plan.bound.hash), plan.approval.approved_by.len(), plan.is_rejected()));
            Row {
                name: format!("{kind} {}", &name[1..]),
                generation: object.generation,
                observed,
                opens,
                failed: object.failure.as_ref().map(|failure| failure.code),
                flags,
                plan,
                plans: object.plans,
                version: object.templates.version_at(object.generation),
            }
        }
        let state = &self.world.state;
        let mut rows: Vec<_> = state.sites.iter().map(|(id, site)| row("site", id.as_str(), site)).collect();
        rows.extend(state.tunnels.iter().map(|(id, tunnel)| row("tunnel", id.as_str(), tunnel)));
        rows.extend(state.devices.iter().map(|(id, device)| row("device", id.as_str(), device)));
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(rows, self.model.summary());
        let own = &state.own;
        let own = (own.suspended.is_some(), own.leaving, own.freezes.len(), own.waiting.is_some());
        assert_eq!(own, self.model.own());
        for target in (0..6).map(target) {
            self.may_begin(&target);
            self.wanted(&target);
        }
    }

    /// Executors do everything there is to do, and it succeeds.
    fn settle(&mut self) {
        for _ in 0..20 {
            let waits: Vec<u8> = (0..3)
                .filter(|site| self.world.wanted_by_now(&target(usize::from(*site))).plan_waits)
                .collect();
            for site in &waits {
                APPROVERS.iter().for_each(|who| self.ask(&Ask::ApprovePlan(Kind::Site, *site, 0, 0), who));
            }
            let is_wanted = |target: &String| self.world.wanted_by_now(target).change.is_some();
            let busy: Vec<String> = (0..6).map(target).filter(is_wanted).collect();
            if busy.is_empty() {
                return;
            }
            for target in &busy {
                let changes = self.wanted(target).change.is_some_and(|change| change.changes());
                if changes && !self.may_begin(target) {
                    let (kind, name) = known_as(target);
                    self.ask(&Ask::Release(kind, name), "demo");
                }
                self.run(target, 0x3f, 0);
            }
        }
        panic!("orders are issued endlessly");
    }

    /// From wherever the customer is, it can get everything done, and then everything undone.
    fn ends_well(&mut self) {
        let every = |kind: Kind| (0..4).map(move |name| (kind, name));
        self.let_go();
        for (kind, name) in [Kind::Site, Kind::Tunnel, Kind::Device].into_iter().flat_map(every) {
            self.ask(&Ask::Retry(kind, name), "demo");
        }
        self.settle();
        for number in 0..6 {
            self.look(&target(number), 0);
        }
        let state = &self.world.state;
        assert!(
            state.sites.values().all(|site| !site.behind() && site.check.is_none() && site.drift.is_empty())
        );
        assert!(state.devices.values().all(|device| !device.behind() && device.check.is_none()));
        assert!(state.tunnels.values().all(|tunnel| !tunnel.behind() && tunnel.failure.is_none()));
        match self.world.history.len() % 3 {
            0 => self.ask(&Ask::DecommissionCustomer { cascade: true }, "demo"),
            1 => (0..3).for_each(|site| self.ask(&Ask::DecommissionAll(site), "demo")),
            _ => {
                for kinds in [&[Kind::Tunnel, Kind::Device][..], &[Kind::Site][..]] {
                    for (kind, name) in kinds.iter().copied().flat_map(every) {
                        self.ask(&Ask::Decommission(kind, name), "demo");
                    }
                    self.settle();
                }
            }
        }
        self.settle();
        self.ask(&Ask::DecommissionCustomer { cascade: false }, "demo");
        assert_eq!(self.world.state, wanwright_commands::Customer::default());
    }

    /// Asks for another generation of what was rejected, for that is the only way it gets on: that it should go.
    fn ask_again(&mut self, kind: Kind, name: u8) {
        match (self.model.is_rejected(kind, name), kind) {
            (false, _) => {}
            (true, Kind::Site) => self.ask(&Ask::DecommissionAll(name), "demo"),
            (true, _) => self.ask(&Ask::Decommission(kind, name), "demo"),
        }
    }

    /// Everything that holds something is lifted.
    fn let_go(&mut self) {
        self.model.freezes().into_iter().for_each(|name| self.ask(&Ask::Unfreeze(name), "demo"));
        self.ask(&Ask::ResumeCustomer, "demo");
        for kind in [Kind::Site, Kind::Tunnel, Kind::Device] {
            if !self.model.own().1 {
                self.ask(&Ask::Policy(kind, Rule::Apply), "demo");
                for who in APPROVERS {
                    if self.model.own().3 {
                        self.ask(&Ask::ApprovePolicy(0), who);
                    }
                }
            }
            if !self.model.own().1 {
                self.ask(&Ask::Windows(kind, 2), "demo");
                for who in APPROVERS {
                    if self.model.own().3 {
                        self.ask(&Ask::ApprovePolicy(0), who);
                    }
                }
            }
            for name in 0..4 {
                self.ask(&Ask::Resume(kind, name), "demo");
                self.ask(&Ask::Protect(kind, name, false), "demo");
            }
        }
        let every = [Kind::Site, Kind::Tunnel, Kind::Device];
        let every = every.into_iter().flat_map(|kind| (0..4).map(move |name| (kind, name)));
        every.clone().for_each(|(kind, name)| self.ask_again(kind, name));
        for (kind, name) in every {
            for who in APPROVERS {
                self.ask(&Ask::Approve(kind, name, 0), who);
            }
        }
    }
}

/// The claims that the customer says it abandons.
fn abandoned(events: &[Event]) -> Vec<(u8, u8)> {
    let number = |text: &str| text[text.len() - 1..].parse().expect("a number");
    let claim = |event: &Event| match event {
        Event::Customer(_, CustomerChange::ClaimAbandoned { device, serial, .. }) => {
            (number(device.as_str()), number(serial))
        }
        other => panic!("no claim: {other:?}"),
    };
    events.iter().map(claim).collect()
}

/// Enough people that whoever asked for something, two others can approve it.
const APPROVERS: [&str; 4] = ["boss", "chief", "other", "demo"];

/// The decisions of so many random lives, at least so many commands of each; always the same ones.
pub fn lives(count: usize, commands: usize) -> Vec<Vec<Decision>> {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 2 * commands);
    let life = |number: usize| {
        let mut life = Life::default();
        life.world.decisions = Some(Vec::new());
        if !number.is_multiple_of(3) {
            life.found();
        }
        if number % 3 == 2 {
            life.approving();
        }
        for step in steps.new_tree(&mut runner).expect("steps").current() {
            life.step(&step);
            if life.world.decisions.as_ref().is_some_and(|decisions| decisions.len() >= commands) {
                break;
            }
        }
        life.world.decisions.unwrap_or_default()
    };
    (0..count).map(life).collect()
}

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4096, ..default }
}

proptest! {
    #![proptest_config(config(1200))]

    #[test]
    fn any_life_keeps_the_rules_and_ends_well(
        begun in 0..10u8,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut life = Life::begun(begun);
        for step in &steps {
            life.step(step);
        }
        let mut replayed = World::default();
        for (by, events) in &life.world.history {
            events.iter().for_each(|event| replayed.state.evolve(event, *by));
        }
        prop_assert_eq!(&replayed.state, &life.world.state);
        life.ends_well();
    }

    #[test]
    fn folding_is_total(steps in prop::collection::vec(step(), 1..40), holes in any::<u64>()) {
        let mut life = Life::default();
        steps.iter().for_each(|step| life.step(step));
        // A history with holes is never folded, but if it were, nothing would break.
        let mut state = wanwright_commands::Customer::default();
        for (at, (by, events)) in life.world.history.iter().enumerate() {
            if holes >> (at % 64) & 1 == 0 {
                events.iter().for_each(|event| state.evolve(event, *by));
            }
        }
    }
}
