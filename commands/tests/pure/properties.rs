//! Random lives of one customer: what must hold after every command, whatever came before.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use wanwright_commands::cancel::Standing;
use wanwright_commands::orders::{Gate, Wanted};
use wanwright_commands::{Object, orders};
use wanwright_schemas::report::Report;
use wanwright_schemas::spec::Peer;
use wanwright_schemas::{ObjectRef, OrderId, Refusal, Target};

use crate::asks::{Nonsense, Under, ask, found, honest, looked, minute_of, nonsense, said, saw, typed};
use crate::decisions::Decision;
use crate::harness::{World, check_of, object_of, target_of};
use crate::model::{Ask, End, Kind, Model, Order, Row, Said};

#[derive(Clone, Debug)]
enum Step {
    /// A person asks for something; there are two. He may say which generation he saw, rightly or not.
    Ask(Ask, bool, Option<i64>),
    /// Somebody approves one of the things that wait, or says another generation.
    Approve(usize, u64, &'static str),
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
    prop_oneof![
        12 => (ask(), any::<bool>(), saw()).prop_map(|(ask, other, off)| Step::Ask(ask, other, off)),
        1 => (1..15i64).prop_map(Step::Wait),
        3 => (any::<usize>(), prop_oneof![5 => Just(0), 1 => Just(1)], prop::sample::select(&["demo", "other", "boss", "chief"][..]))
            .prop_map(|(index, off, who)| Step::Approve(index, off, who)),
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
}

impl Life {
    fn step(&mut self, step: &Step) {
        let before = self.world.clone();
        match step {
            Step::Ask(ask, other, off) => self.ask_who_saw(ask, if *other { "other" } else { "demo" }, *off),
            Step::Wait(minutes) => self.wait(*minutes),
            Step::Approve(index, off, who) => {
                let waiting = self.model.waiting();
                if let Some((kind, name)) = waiting.get(index % waiting.len().max(1)) {
                    self.ask(&Ask::Approve(*kind, *name, *off), who);
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

    /// Three sites that are at their vendor, with a tunnel from the first to the second and a device: where most of what
    /// can go wrong begins.
    fn settled() -> Self {
        let mut life = Self::default();
        life.found();
        life
    }

    /// Everything there is at first is asked for and carried out.
    fn found(&mut self) {
        for (site, lan) in [(0, 2), (1, 3), (2, 4)] {
            self.ask(&Ask::CreateSite { site, vendor: 0, lan: vec![lan] }, "demo");
        }
        self.ask(&Ask::CreateTunnel { tunnel: 0, site: 0, end: End::Site(1), inside: 7 }, "demo");
        self.ask(&Ask::CreateDevice { device: 0, site: 0, serial: 0, model: 0 }, "demo");
        self.settle();
    }

    /// From now on every change waits for approval.
    fn approving(&mut self) {
        for kind in [Kind::Site, Kind::Tunnel, Kind::Device] {
            self.ask(&Ask::Policy(kind, 1), "demo");
        }
    }

    /// From now on changes begin within the next minutes, or on another day.
    fn windowed(&mut self) {
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
        self.ask(&Ask::ChangeTunnel { tunnel: 0, end: End::Hub, inside: 7 }, "demo");
        self.ask(&Ask::ChangeDevice { device: 0, hostname: true }, "demo");
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
        let mine = self.model.ask(ask, who, self.minute, saw);
        if let Ask::Cancel(_, _, tried) = ask {
            self.world.standing = if *tried { Standing::Tried } else { Standing::Waiting };
        }
        let real = self.world.send(who, &tail, &body, saw);
        let code = |refusal: Refusal| refusal.code;
        assert_eq!(real.map(|_| ()).map_err(code), mine, "{tail} {body} {saw:?}");
    }

    /// The orders of a target. The model knows them as well, and two of them are one to it where they have one id.
    fn wanted(&mut self, target: &str) -> Wanted {
        let wanted = self.world.wanted(target);
        let (kind, name) = known_as(target);
        let mine = self.model.orders(kind, name);
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
        let (target, Report { order, findings }) = report;
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
        let order = self.wanted(target).change.filter(|_| self.may_begin(target))?;
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
        let report = (target_of(&owner), Report { order, findings });
        (0..2).for_each(|_| drop(self.hear(&report)));
    }

    /// The model knows what the customer knows.
    fn compare(&mut self) {
        fn row<S>(kind: &str, name: &str, object: &Object<S>) -> Row {
            let observed = object.observed.as_ref().map_or(0, |observed| observed.generation);
            let flags = [
                object.leaving,
                object.failure.is_some(),
                !object.drift.is_empty(),
                object.suspended.is_some(),
                object.protected,
                object.approval.is_some(),
                object.released,
                object.acknowledged.is_some(),
            ];
            let opens =
                object.postponed.as_ref().map(|until| minute_of(until.until.expect("a window opens")));
            (format!("{kind} {}", &name[1..]), object.generation, observed, opens, flags)
        }
        let state = &self.world.state;
        let mut rows: Vec<_> = state.sites.iter().map(|(id, site)| row("site", id.as_str(), site)).collect();
        rows.extend(state.tunnels.iter().map(|(id, tunnel)| row("tunnel", id.as_str(), tunnel)));
        rows.extend(state.devices.iter().map(|(id, device)| row("device", id.as_str(), device)));
        rows.sort();
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
            let busy: Vec<String> =
                (0..6).map(target).filter(|target| self.world.wanted(target).change.is_some()).collect();
            if busy.is_empty() {
                return;
            }
            for target in &busy {
                if !self.may_begin(target) {
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
                self.ask(&Ask::Policy(kind, 0), "demo");
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

/// Enough people that whoever asked for something, two others can approve it.
const APPROVERS: [&str; 4] = ["boss", "chief", "other", "demo"];

/// What must be true of a customer at any time.
fn invariants(world: &World) {
    let state = &world.state;
    let mut prefixes: Vec<_> = state.sites.values().flat_map(|site| site.spec.lan.clone()).collect();
    prefixes.extend(state.tunnels.values().map(|tunnel| tunnel.spec.inside));
    prefixes.sort_by_key(|prefix| (prefix.network(), prefix.broadcast()));
    for pair in prefixes.windows(2) {
        assert!(pair[0].broadcast() < pair[1].network(), "{} overlaps {}", pair[0], pair[1]);
    }
    for tunnel in state.tunnels.values() {
        let site = &state.sites[&tunnel.spec.site];
        assert!(tunnel.leaving || !site.leaving);
        if let Peer::Site(peer) = &tunnel.spec.peer {
            assert!(tunnel.leaving || !state.sites[peer].leaving);
        }
    }
    for device in state.devices.values() {
        assert!(device.leaving || !state.sites[&device.spec.site].leaving);
    }
    for (id, site) in &state.sites {
        let limit = if site.spec.vendor.as_str() == "northwan" { 2 } else { 1 };
        let ends = |tunnel: &wanwright_schemas::spec::TunnelSpec| {
            let same = state.sites[&tunnel.site].spec.vendor == site.spec.vendor;
            &tunnel.site == id || (same && tunnel.peer == Peer::Site(id.clone()))
        };
        assert!(state.tunnels.values().filter(|tunnel| ends(&tunnel.spec)).count() <= limit, "site {id}");
    }
    fn held_well<S>(object: &Object<S>) {
        assert!(!(object.protected && object.leaving), "what is protected does not go");
        assert!(object.approval.as_ref().is_none_or(|waiting| waiting.generation == object.generation));
    }
    state.sites.values().for_each(held_well);
    state.tunnels.values().for_each(held_well);
    state.devices.values().for_each(held_well);
    if state.own.leaving {
        assert!(!state.is_empty(), "a customer that goes is gone with the last of what it has");
        assert!(state.sites.values().all(|site| site.leaving));
        assert!(state.tunnels.values().all(|tunnel| tunnel.leaving));
        assert!(state.devices.values().all(|device| device.leaving));
    }
    let serials: BTreeSet<&str> = state.devices.values().map(|device| device.spec.serial.as_str()).collect();
    assert_eq!(serials.len(), state.devices.len());
}

/// A change order exists exactly while something is behind, has not failed, is not held and waits for nobody.
fn orders_follow(world: &World) {
    fn due<S>(object: &Object<S>) -> bool {
        let done = object.observed.as_ref().is_some_and(|observed| observed.generation == object.generation);
        object.failure.is_none() && (object.leaving || object.reapply || !done)
    }
    let state = &world.state;
    let inputs = |outputs: Option<&serde_json::Map<String, serde_json::Value>>, name: &str| {
        outputs.and_then(|outputs| outputs.get("inputs")?.get(name).cloned())
    };
    let address = |peer: &Peer| match peer {
        Peer::Hub(_) => Some(json!("198.51.100.1")),
        Peer::Site(site) => {
            state.sites.get(site)?.observed.as_ref().and_then(|seen| seen.outputs.get("address").cloned())
        }
    };
    for (id, site) in &state.sites {
        let tunnels = state.tunnels.values().filter(|tunnel| &tunnel.spec.site == id).any(|tunnel| {
            let now = address(&tunnel.spec.peer);
            let then = inputs(tunnel.observed.as_ref().map(|seen| &seen.outputs), "peer_address");
            let moved = tunnel.failure.is_none() && then.is_some() && now != then;
            (tunnel.leaving && due(tunnel)) || (now.is_some() && (due(tunnel) || moved))
        });
        let unapproved = site.approval.is_some()
            || state.tunnels.values().any(|tunnel| &tunnel.spec.site == id && tunnel.approval.is_some());
        let held = state.own.suspended.is_some() || site.suspended.is_some() || unapproved;
        // A site goes after its devices and after the tunnels that stacks which stay have to it.
        let used = state.devices.values().any(|device| &device.spec.site == id)
            || state.tunnels.values().any(|tunnel| {
                tunnel.spec.peer == Peer::Site(id.clone()) && !state.sites[&tunnel.spec.site].leaving
            });
        let wanted = world.wanted(&format!("site.{id}"));
        let expected = !held && (due(site) || tunnels) && !(site.leaving && used);
        assert_eq!(wanted.change.is_some(), expected, "site {id}");
        let look = !held && site.check.is_some() && wanted.change.is_none();
        assert_eq!(wanted.look.is_some(), look, "site {id}");
    }
    for (id, device) in &state.devices {
        let now =
            state.sites[&device.spec.site].observed.as_ref().and_then(|seen| seen.outputs.get("id").cloned());
        let then = inputs(device.observed.as_ref().map(|seen| &seen.outputs), "site_id");
        let moved = device.failure.is_none() && then.is_some() && now != then;
        let wanted = world.wanted(&format!("device.{id}"));
        let held = state.own.suspended.is_some()
            || state.sites[&device.spec.site].suspended.is_some()
            || device.suspended.is_some()
            || device.approval.is_some();
        let expected = if device.leaving { due(device) } else { now.is_some() && (due(device) || moved) };
        assert_eq!(wanted.change.is_some(), !held && expected, "device {id}");
        let look = !held && device.check.is_some() && wanted.change.is_none() && now.is_some();
        assert_eq!(wanted.look.is_some(), look, "device {id}");
    }
}

/// Whatever changed in the table of orders is among the targets that were said to be affected, and a generation
/// grows by one.
fn nothing_is_missed(before: &World, after: &World) {
    let news = &after.history[before.history.len()..];
    let events: Vec<_> = news.iter().flat_map(|(_, events)| events.clone()).collect();
    let affected = orders::affected(&after.state, &events);
    for number in 0..6 {
        let name = target(number);
        let ids = |world: &World| {
            let wanted = world.wanted(&name);
            let gate = orders::gate(&world.state, &target_of(&name), after.now);
            let is_open = wanted.change.as_ref().map(|_| matches!(gate, Gate::Open(_)));
            (wanted.change.map(|order| order.id), wanted.look.map(|order| order.id), is_open)
        };
        let target = target_of(&name);
        let gone = orders::vendor_of(&after.state, &target).is_none();
        assert!(gone || ids(before) == ids(after) || affected.contains(&target), "{target} was missed");
    }
    for (id, site) in &after.state.sites {
        let old =
            before.state.sites.get(id).filter(|old| old.uid == site.uid).map_or(0, |old| old.generation);
        assert!((old..=old + 1).contains(&site.generation));
    }
}

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
        begun in 0..5u8,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut life = if begun == 0 { Life::default() } else { Life::settled() };
        match begun {
            2 => life.approving(),
            3 => life.windowed(),
            4 => life.releasing(),
            _ => {}
        }
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
