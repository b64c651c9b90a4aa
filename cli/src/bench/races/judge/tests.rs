//! A judge who finds nothing wrong with anything is none: histories that are spoilt in one way each.

use std::path::Path;

use serde_json::{Value, json};
use wanwright_commands::Customer;
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::Kind;
use wanwright_schemas::{Command, ObjectRef};

use super::super::writer::{Accepted, Sent};
use super::*;

/// A history before it is bytes: which command, and its events as they stand on the wire.
type Entries = Vec<(CommandId, Vec<Value>)>;

struct Race {
    vendors: Catalogue,
    record: Record,
    entries: Entries,
}

fn command(kind: Kind, id: &str, verb: &str, body: &Value) -> Command {
    let object = ObjectRef::new(kind, id.parse().expect("an id")).expect("an object");
    let (customer, actor) = ("acme".parse().expect("a customer"), "bench".parse().expect("an actor"));
    Command::parse(customer, actor, &object, verb, body.to_string().as_bytes()).expect("a command")
}

fn envelope(command: CommandId, prev: Option<Digest>, events: &[Value]) -> Vec<u8> {
    let value = json!({
        "v": 1, "command": command, "body_sha256": Digest::of(b""), "actor": "bench", "cause": null,
        "time": "2026-11-21T08:00:00Z", "prev": prev, "key": null, "events": events,
    });
    value.to_string().into_bytes()
}

fn state(entries: &Entries) -> Customer {
    let mut head = Head::default();
    for (number, (command, events)) in (1..).zip(entries) {
        head.fold(number, &envelope(*command, head.digest, events)).expect("a history");
    }
    head.state
}

impl Race {
    /// Six commands, one after the other, as they are decided.
    fn honest() -> Self {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        let vendors = Catalogue::load(&vendors).expect("vendors");
        let mut race = Self { vendors, record: Record::default(), entries: Vec::new() };
        let site = |net: u8| json!({ "vendor": "simwan", "lan": [format!("10.{net}.0.0/24")] });
        let device =
            |site: &str, serial: &str| json!({ "site": site, "model": "edge-100", "serial": serial });
        let tunnel = json!({ "site": "a", "peer": { "site": "b" }, "inside": "169.254.0.0/30" });
        race.send(&command(Kind::Site, "a", "create", &site(0)));
        race.send(&command(Kind::Site, "b", "create", &site(1)));
        race.send(&command(Kind::Tunnel, "t", "create", &tunnel));
        race.send(&command(Kind::Device, "d", "create", &device("a", "SN-0001")));
        race.send(&command(Kind::Device, "e", "create", &device("b", "SN-0002")));
        race.send(&command(Kind::Site, "a", "change", &json!({ "lan": ["10.2.0.0/24"] })));
        race
    }

    fn send(&mut self, command: &Command) {
        let (id, number) = (CommandId::mint(), self.entries.len() as u64);
        let facts = Circumstances {
            former: None,
            standing: wanwright_commands::cancel::Standing::Waiting,
            command: id,
            expected_generation: None,
            received: Default::default(),
            schema: None,
            vendors: &self.vendors,
            key: None,
        };
        let events = decide(&state(&self.entries), command, facts).expect("an accepted command");
        let events = events.iter().map(|event| serde_json::to_value(event).expect("JSON")).collect();
        self.entries.push((id, events));
        let at = |millis| Duration::from_millis(10 * number + millis);
        self.record.sent.insert(id, Sent { command: command.clone(), at: at(0) });
        self.record.accepted.insert(id, Accepted { sequence: number + 1, at: at(5) });
    }

    fn bytes(&self) -> Vec<(u64, Vec<u8>)> {
        let (mut prev, mut all) = (None, Vec::new());
        for (number, (command, events)) in (1..).zip(&self.entries) {
            let bytes = envelope(*command, prev, events);
            prev = Some(Digest::of(&bytes));
            all.push((number, bytes));
        }
        all
    }

    fn judged(&self) -> Verdict {
        let bytes = self.bytes();
        of(bytes.iter().map(|(at, bytes)| (*at, &bytes[..])), &self.record, &self.vendors).expect("a chain")
    }

    fn id(&self, number: usize) -> CommandId {
        self.entries[number].0
    }

    /// Says of each command that it is where it is.
    fn relocate(&mut self) {
        for (number, (id, _)) in (1..).zip(&self.entries) {
            self.record.accepted.get_mut(id).expect("an accepted command").sequence = number;
        }
    }
}

#[test]
fn what_is_as_it_should_be_is_found_good() {
    let race = Race::honest();
    let verdict = race.judged();
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!((verdict.messages, verdict.created, verdict.removed), (6, 5, 0));
}

#[test]
fn commands_that_are_missing_doubled_foreign_or_decided_otherwise_are_named() {
    let named = |race: &Race, number: usize| vec![race.id(number).to_string()];
    let mut race = Race::honest();
    let last = race.entries.pop().expect("an entry");
    assert_eq!(race.judged().lost, [last.0.to_string()]);
    race.entries.extend([last.clone(), last]);
    assert_eq!(race.judged().doubled, named(&race, 5));

    let mut race = Race::honest();
    race.record.accepted.remove(&race.id(3));
    assert_eq!(race.judged().foreign, named(&race, 3));
    let mut race = Race::honest();
    race.record.sent.remove(&race.id(3));
    assert_eq!(race.judged().foreign, named(&race, 3));

    let mut race = Race::honest();
    race.entries[5].1[0]["spec"]["lan"] = json!(["10.3.0.0/24"]);
    let verdict = race.judged();
    assert_eq!((&verdict.unlawful, verdict.broken.len()), (&named(&race, 5), 0));
}

#[test]
fn a_chain_that_is_broken_is_an_error() {
    let race = Race::honest();
    let mut bytes = race.bytes();
    bytes.remove(2);
    assert!(of(bytes.iter().map(|(at, bytes)| (*at, &bytes[..])), &race.record, &race.vendors).is_err());
}

#[test]
fn whoever_had_an_answer_comes_before_who_asked_later() {
    let mut race = Race::honest();
    race.entries.swap(3, 4);
    race.relocate();
    let verdict = race.judged();
    assert_eq!(verdict.before_their_time, [race.id(3).to_string()]);
    assert!(verdict.unlawful.is_empty() && verdict.broken.is_empty(), "{verdict:?}");
    // Had both been on their way at once, either might be first.
    let (early, late) = (race.id(4), race.id(3));
    let sent = race.record.sent[&late].at;
    race.record.accepted.get_mut(&early).expect("an accepted command").at = sent + Duration::from_millis(1);
    assert!(race.judged().is_good());
}

/// Each of these is found by rules alone: what decides has no part in it.
#[test]
fn a_state_that_breaks_a_rule_is_named_with_the_rule() {
    type Spoil = fn(&mut Entries);
    let spoilt: [(&str, Spoil); 9] = [
        ("10.0.0.0/25 of b overlaps 10.0.0.0/24 of a", |all| {
            all[1].1[0]["spec"]["lan"] = json!(["10.0.0.0/25"]);
        }),
        ("10.0.0.0/30 of t overlaps", |all| all[2].1[0]["spec"]["inside"] = json!("10.0.0.0/30")),
        ("tunnel t is at c, which is not there", |all| all[2].1[0]["spec"]["peer"] = json!({ "site": "c" })),
        ("device d is at c, which is not there", |all| all[3].1[0]["spec"]["site"] = json!("c")),
        ("tunnel t leads to where it begins", |all| {
            all[2].1[0]["spec"]["peer"] = json!({ "site": "a" });
        }),
        ("device e has the serial number SN-0001", |all| {
            all[4].1[0]["spec"]["serial"] = json!("SN-0001");
        }),
        ("a leapt from generation 1 to 3", |all| all[5].1[0]["generation"] = json!(3)),
        ("tunnel t stays at b, which goes", |all| {
            let going = json!({ "type": "SiteDecommissionRequested", "v": 1, "site": "b", "generation": 2 });
            all[5].1 = vec![going];
        }),
        ("site a has 5 tunnels of 4", |all| {
            let more = (1..=4).map(|number| {
                let mut made = all[2].1[0].clone();
                made["tunnel"] = json!(format!("t{number}"));
                made["spec"]["peer"] = json!({ "hub": "hub-eu" });
                made["spec"]["inside"] = json!(format!("169.254.1.{}/30", 4 * number));
                made
            });
            all[5].1 = more.collect();
        }),
    ];
    for (wanted, spoil) in spoilt {
        let mut race = Race::honest();
        spoil(&mut race.entries);
        let verdict = race.judged();
        assert!(verdict.broken.iter().any(|rule| rule.contains(wanted)), "{wanted}: {:?}", verdict.broken);
        assert!(!verdict.is_good());
    }
}

#[test]
fn what_goes_does_not_come_back_and_nothing_is_ahead_of_what_was_asked_for() {
    let race = Race::honest();
    let whole = state(&race.entries);
    let (mut going, mut ahead) = (whole.clone(), whole.clone());
    let first = |state: &mut Customer| state.sites.keys().next().expect("a site").clone();
    let id = first(&mut going);
    going.sites.get_mut(&id).expect("a site").leaving = true;
    assert_eq!(rules::leapt(&going, &whole), ["a was going and stays"]);
    assert_eq!(rules::leapt(&whole, &going), Vec::<String>::new());
    let observed = wanwright_commands::Observed { generation: 9, outputs: Default::default() };
    ahead.sites.get_mut(&id).expect("a site").observed = Some(observed);
    assert_eq!(rules::broken(&ahead, 4), ["a was asked for in generation 2 and is in 9"]);
    assert_eq!(rules::broken(&whole, 4), Vec::<String>::new());
}

#[test]
fn the_far_end_of_a_tunnel_may_be_gone_only_where_both_of_its_sites_go() {
    let mut state = state(&Race::honest().entries);
    let ids: Vec<_> = state.sites.keys().cloned().collect();
    let [near, far] = &ids[..] else { panic!("two sites") };
    state.devices.clear();
    state.sites.remove(far);
    let missing = ["tunnel t is at b, which is not there"];
    assert_eq!(rules::broken(&state, 4), missing);
    state.tunnels.values_mut().for_each(|tunnel| tunnel.leaving = true);
    assert_eq!(rules::broken(&state, 4), missing);
    state.sites.get_mut(near).expect("a site").leaving = true;
    assert_eq!(rules::broken(&state, 4), Vec::<String>::new());
    state.sites.remove(near);
    assert_eq!(rules::broken(&state, 4)[0], "tunnel t is at a, which is not there");
}
