//! Random lives of one customer: what must hold after every command, whatever came before.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use wanwright_commands::{Object, orders};
use wanwright_schemas::order::Order;
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::spec::Peer;
use wanwright_schemas::{ObjectRef, Refusal, Target};

use crate::harness::{World, applied, check_of, failure, field, id, map, object_of, objects, target_of};
use crate::model::{Ask, End, HOST_BITS, Kind, MODELS, Model, PREFIXES, VENDORS};

#[derive(Clone, Debug)]
enum Step {
    Ask(Ask),
    /// An executor carries out a target's change; one bit for each object says whether it succeeded, the next ones at
    /// which address the site is. When something failed, nothing is said of the objects in the second mask.
    Run(usize, u8, u8),
    /// An executor looks at a target; one bit for each object says whether it drifted.
    Look(usize, u8),
    /// An executor says again what it said before.
    Again(usize),
    /// An executor says something about an object under an order of its own invention.
    Nonsense(usize, u8),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Site), Just(Kind::Tunnel), Just(Kind::Device)]
}

fn lan() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![6 => prop::collection::vec(0..8usize, 1), 2 => prop::collection::vec(0..=HOST_BITS, 0..4)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![4 => (0..3u8).prop_map(End::Site), 3 => Just(End::Hub), 1 => Just(End::NoHub)]
}

fn inside() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 6..11usize, 1 => 0..=HOST_BITS]
}

fn ask() -> impl Strategy<Value = Ask> {
    let (site, tunnel, device) = (0..3u8, 0..4u8, 0..3u8);
    let vendor = prop_oneof![4 => Just(0), 1 => Just(1)];
    prop_oneof![
        4 => (site.clone(), vendor, lan()).prop_map(|(site, vendor, lan)| Ask::CreateSite { site, vendor, lan }),
        2 => (site.clone(), lan()).prop_map(|(site, lan)| Ask::ChangeSite { site, lan }),
        5 => (tunnel.clone(), site.clone(), end(), inside())
            .prop_map(|(tunnel, site, end, inside)| Ask::CreateTunnel { tunnel, site, end, inside }),
        3 => (tunnel, end(), inside()).prop_map(|(tunnel, end, inside)| Ask::ChangeTunnel { tunnel, end, inside }),
        3 => (device.clone(), site, 0..3u8, 0..3usize)
            .prop_map(|(device, site, serial, model)| Ask::CreateDevice { device, site, serial, model }),
        2 => (device, any::<bool>()).prop_map(|(device, hostname)| Ask::ChangeDevice { device, hostname }),
        3 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Decommission(kind, name)),
        3 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Retry(kind, name)),
        2 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Check(kind, name)),
        1 => Just(Ask::CheckAll),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Most runs succeed with everything.
    let bits = prop_oneof![3 => Just(0xff), 2 => any::<u8>()];
    prop_oneof![
        8 => ask().prop_map(Step::Ask),
        6 => (0..6usize, bits.clone(), prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(target, bits, silent)| Step::Run(target, bits, silent)),
        2 => (0..6usize, bits).prop_map(|(target, bits)| Step::Look(target, bits)),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Again(index.index(64))),
        1 => (0..10usize, any::<u8>()).prop_map(|(object, bits)| Step::Nonsense(object, bits)),
    ]
}

/// The subject and the body a person would type.
fn typed(ask: &Ask) -> (String, String) {
    let prefix = |at: &usize| PREFIXES[*at].0;
    let peer = |end: &End| match end {
        End::Site(site) => json!({"site": format!("s{site}")}),
        End::Hub => json!({"hub": "hub-a"}),
        End::NoHub => json!({"hub": "hub-x"}),
    };
    match ask {
        Ask::CreateSite { site, vendor, lan } => {
            let lan: Vec<&str> = lan.iter().map(prefix).collect();
            (format!("site.s{site}.create"), json!({"vendor": VENDORS[*vendor], "lan": lan}).to_string())
        }
        Ask::ChangeSite { site, lan } => {
            let lan: Vec<&str> = lan.iter().map(prefix).collect();
            (format!("site.s{site}.change"), json!({"lan": lan}).to_string())
        }
        Ask::CreateTunnel { tunnel, site, end, inside } => (
            format!("tunnel.t{tunnel}.create"),
            json!({"site": format!("s{site}"), "peer": peer(end), "inside": prefix(inside)}).to_string(),
        ),
        Ask::ChangeTunnel { tunnel, end, inside } => {
            let mut peer = peer(end);
            let other = if matches!(end, End::Site(_)) { "hub" } else { "site" };
            peer[other] = json!(null);
            (format!("tunnel.t{tunnel}.change"), json!({"peer": peer, "inside": prefix(inside)}).to_string())
        }
        Ask::CreateDevice { device, site, serial, model } => (
            format!("device.d{device}.create"),
            json!({"site": format!("s{site}"), "serial": format!("SN-{serial}"), "model": MODELS[*model]})
                .to_string(),
        ),
        Ask::ChangeDevice { device, hostname } => {
            // Taking the setting away is the same wish as never having had it.
            let hostname = if *hostname { json!("ap") } else { json!(null) };
            (format!("device.d{device}.change"), json!({"settings": {"hostname": hostname}}).to_string())
        }
        Ask::Decommission(kind, name) => (format!("{}.decommission", named(*kind, *name)), String::new()),
        Ask::Retry(kind, name) => (format!("{}.retry", named(*kind, *name)), String::new()),
        Ask::Check(kind, name) => (format!("{}.check-drift", named(*kind, *name)), String::new()),
        Ask::CheckAll => ("customer.acme.check-drift".into(), String::new()),
    }
}

fn named(kind: Kind, name: u8) -> String {
    match kind {
        Kind::Site => format!("site.s{name}"),
        Kind::Tunnel => format!("tunnel.t{name}"),
        Kind::Device => format!("device.d{name}"),
    }
}

fn target(number: usize) -> String {
    if number < 3 { format!("site.s{number}") } else { format!("device.d{}", number - 3) }
}

/// What an honest executor says about an order: something about each of its objects, unless one failed.
fn honest(order: &Order, bits: u8, silent: u8) -> (Target, Report) {
    let mut report = Report { order: order.id, findings: Vec::new() };
    for (at, (object, uid, generation, mut outputs)) in objects(order).into_iter().enumerate() {
        if matches!(object, ObjectRef::Site(_)) {
            outputs.insert("address".into(), json!(format!("203.0.113.{}", bits >> 6)));
        }
        let finding = match (bits >> at & 1 == 1, generation) {
            (true, Some(generation)) => applied(generation, outputs),
            (true, None) => Finding::Removed,
            (false, generation) => failure(generation.unwrap_or_default()),
        };
        report.findings.push(ObjectFinding { object, uid, finding });
    }
    let fails = |found: &ObjectFinding| matches!(found.finding, Finding::Failed { .. });
    let said = |(at, found)| (silent >> at & 1 == 0).then_some(found);
    let rest: Vec<_> = report.findings.iter().cloned().enumerate().filter_map(said).collect();
    if rest.iter().any(fails) {
        report.findings = rest;
    }
    (order.target(), report)
}

fn looked(order: &Order, bits: u8) -> (Target, Report) {
    let check = check_of(order);
    let mut report = Report { order: order.id, findings: Vec::new() };
    for (at, (object, uid, _, _)) in objects(order).into_iter().enumerate() {
        let drifted = bits >> at & 1 == 1;
        let finding = if drifted {
            Finding::Drifted { check, fields: vec![field()] }
        } else {
            Finding::InSync { check }
        };
        report.findings.push(ObjectFinding { object, uid, finding });
    }
    (order.target(), report)
}

#[derive(Default)]
struct Life {
    world: World,
    model: Model,
    said: Vec<(Target, Report)>,
}

impl Life {
    fn step(&mut self, step: &Step) {
        let before = self.world.clone();
        match step {
            Step::Ask(ask) => self.ask(ask),
            Step::Run(number, bits, silent) => self.run(&target(*number), *bits, *silent),
            Step::Look(number, bits) => self.look(&target(*number), *bits),
            Step::Again(index) if !self.said.is_empty() => {
                let report = self.said[index % self.said.len()].clone();
                self.report(&report);
            }
            Step::Again(_) => {}
            Step::Nonsense(object, bits) => self.nonsense(*object, *bits),
        }
        self.compare();
        invariants(&self.world);
        orders_follow(&self.world);
        nothing_is_missed(&before, &self.world);
    }

    fn ask(&mut self, ask: &Ask) {
        let (tail, body) = typed(ask);
        let mine = self.model.ask(ask);
        let real = self.world.send("demo", &tail, &body, None);
        let code = |refusal: Refusal| refusal.code;
        assert_eq!(real.map(|_| ()).map_err(code), mine, "{tail} {body}");
    }

    /// Reports, twice: the second time says nothing.
    fn report(&mut self, report: &(Target, Report)) {
        self.world.report(report);
        let (_, events) = self.world.history.last().expect("the report");
        events.clone().iter().for_each(|event| self.model.learn(event));
        assert_eq!(self.world.report(report), Vec::<String>::new(), "a repeat");
    }

    fn run(&mut self, target: &str, bits: u8, silent: u8) {
        let Some(order) = self.world.wanted(target).change else { return };
        let report = honest(&order, bits, silent);
        self.report(&report);
        self.said.push(report);
        let after = self.world.wanted(target).change;
        assert_ne!(after.map(|after| after.id), Some(order.id), "a run that ended leaves its order in place");
    }

    fn look(&mut self, target: &str, bits: u8) {
        let Some(order) = self.world.wanted(target).look else { return };
        let report = looked(&order, bits);
        self.report(&report);
        self.said.push(report);
        assert_eq!(self.world.wanted(target).look, None, "a look that ended leaves its order in place");
    }

    fn nonsense(&mut self, object: usize, bits: u8) {
        let object = match object {
            0..3 => format!("site.s{object}"),
            3..7 => format!("tunnel.t{}", object - 3),
            _ => format!("device.d{}", object - 7),
        };
        let reference = object_of(&object);
        if self.world.state.generation(&reference).is_none() {
            return;
        }
        let generation = u64::from(bits >> 4);
        let finding = match bits % 5 {
            0 => applied(generation, map(json!({"id": "x", "address": "203.0.113.200"}))),
            1 => failure(generation),
            2 => Finding::Removed,
            3 => Finding::InSync { check: id(u64::from(bits)) },
            _ => Finding::Drifted { check: id(u64::from(bits)), fields: vec![field()] },
        };
        let order = serde_json::from_value(json!(uuid_of(bits))).expect("an order's id");
        let owner = match &reference {
            ObjectRef::Tunnel(id) => Target::Site(self.world.state.tunnels[id].spec.site.clone()),
            _ => target_of(&object),
        };
        let uid = self.world.uid(&reference);
        let finding = ObjectFinding { object: reference, uid, finding };
        self.report(&(owner, Report { order, findings: vec![finding] }));
    }

    /// The model knows what the customer knows.
    fn compare(&self) {
        fn row<S>(kind: &str, name: &str, object: &Object<S>) -> (String, u64, u64, bool, bool, bool) {
            let observed = object.observed.as_ref().map_or(0, |observed| observed.generation);
            let (failed, drifted) = (object.failure.is_some(), !object.drift.is_empty());
            (format!("{kind} {}", &name[1..]), object.generation, observed, object.leaving, failed, drifted)
        }
        let state = &self.world.state;
        let mut rows: Vec<_> = state.sites.iter().map(|(id, site)| row("site", id.as_str(), site)).collect();
        rows.extend(state.tunnels.iter().map(|(id, tunnel)| row("tunnel", id.as_str(), tunnel)));
        rows.extend(state.devices.iter().map(|(id, device)| row("device", id.as_str(), device)));
        rows.sort();
        assert_eq!(rows, self.model.summary());
    }

    /// Executors do everything there is to do, and it succeeds.
    fn settle(&mut self) {
        for _ in 0..20 {
            let busy: Vec<String> =
                (0..6).map(target).filter(|target| self.world.wanted(target).change.is_some()).collect();
            if busy.is_empty() {
                return;
            }
            busy.iter().for_each(|target| self.run(target, 0x3f, 0));
        }
        panic!("orders are issued endlessly");
    }

    /// From wherever the customer is, it can get everything done, and then everything undone.
    fn ends_well(&mut self) {
        let every = |kind: Kind| (0..4).map(move |name| (kind, name));
        for (kind, name) in [Kind::Site, Kind::Tunnel, Kind::Device].into_iter().flat_map(every) {
            self.ask(&Ask::Retry(kind, name));
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
        for kinds in [&[Kind::Tunnel, Kind::Device][..], &[Kind::Site][..]] {
            for (kind, name) in kinds.iter().copied().flat_map(every) {
                self.ask(&Ask::Decommission(kind, name));
            }
            self.settle();
        }
        assert_eq!(self.world.state, wanwright_commands::Customer::default());
    }
}

fn uuid_of(bits: u8) -> String {
    format!("44136fa3-55b3-878a-9146-ad16f7e864{bits:02x}")
}

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
            assert!(!state.sites[peer].leaving);
        }
    }
    for device in state.devices.values() {
        assert!(!state.sites[&device.spec.site].leaving);
    }
    for (id, site) in &state.sites {
        let limit = if site.spec.vendor.as_str() == "northwan" { 2 } else { 1 };
        assert!(state.tunnels.values().filter(|tunnel| &tunnel.spec.site == id).count() <= limit);
    }
    let serials: BTreeSet<&str> = state.devices.values().map(|device| device.spec.serial.as_str()).collect();
    assert_eq!(serials.len(), state.devices.len());
}

/// A change order exists exactly while something is behind, has not failed and waits for nobody.
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
            state.sites[site].observed.as_ref().and_then(|seen| seen.outputs.get("address").cloned())
        }
    };
    for (id, site) in &state.sites {
        let tunnels = state.tunnels.values().filter(|tunnel| &tunnel.spec.site == id).any(|tunnel| {
            let now = address(&tunnel.spec.peer);
            let then = inputs(tunnel.observed.as_ref().map(|seen| &seen.outputs), "peer_address");
            let moved = tunnel.failure.is_none() && then.is_some() && now != then;
            (tunnel.leaving && due(tunnel)) || (now.is_some() && (due(tunnel) || moved))
        });
        let wanted = world.wanted(&format!("site.{id}"));
        assert_eq!(wanted.change.is_some(), due(site) || tunnels, "site {id}");
        assert_eq!(wanted.look.is_some(), site.check.is_some() && wanted.change.is_none(), "site {id}");
    }
    for (id, device) in &state.devices {
        let now =
            state.sites[&device.spec.site].observed.as_ref().and_then(|seen| seen.outputs.get("id").cloned());
        let then = inputs(device.observed.as_ref().map(|seen| &seen.outputs), "site_id");
        let moved = device.failure.is_none() && then.is_some() && now != then;
        let wanted = world.wanted(&format!("device.{id}"));
        let expected = if device.leaving { due(device) } else { now.is_some() && (due(device) || moved) };
        assert_eq!(wanted.change.is_some(), expected, "device {id}");
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
            (wanted.change.map(|order| order.id), wanted.look.map(|order| order.id))
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

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4096, ..default }
}

proptest! {
    #![proptest_config(config(1024))]

    #[test]
    fn any_life_keeps_the_rules_and_ends_well(steps in prop::collection::vec(step(), 1..60)) {
        let mut life = Life::default();
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
