//! A history that was recorded once still folds to the state it had then.

use serde_json::Value;
use wanwright_commands::{Customer, Head};
use wanwright_schemas::Digest;

use crate::harness::*;
use crate::history::messages;

/// A customer's history of some 200 messages, as it was stored. Never changed; a new version of an event gets a new file.
const HISTORY: &str = include_str!("frozen/customer.v1.jsonl");

/// The digest of the state that history ends in, written in the form of [`plain`].
const STATE: &str = include_str!("frozen/customer.v1.state");

/// A state without what says nothing. A field that is new in the state, and that a history from before it leaves empty,
/// does not make it another state.
fn plain(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(items.iter().map(|item| plain(item).unwrap_or(Value::Null)).collect()),
        Value::Object(fields) => {
            let fields: serde_json::Map<String, Value> =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(other.clone()),
    }
}

fn digest(state: &Customer) -> String {
    let state = plain(&serde_json::to_value(state).expect("a state")).unwrap_or_default();
    Digest::of(state.to_string().as_bytes()).to_string()
}

#[test]
fn a_recorded_history_folds_to_the_recorded_state() {
    let mut head = Head::default();
    let mut types = std::collections::BTreeSet::new();
    for (sequence, line) in (1..).zip(HISTORY.lines()) {
        let envelope = head.fold(sequence, line.as_bytes()).unwrap();
        types.extend(envelope.events.iter().map(wanwright_schemas::Event::type_name));
    }
    assert!(head.sequence >= 200 && types.len() >= 25, "{} messages with {types:?}", head.sequence);
    assert_eq!(digest(&head.state), STATE.trim(), "{:#}", serde_json::to_value(&head.state).unwrap());
}

#[test]
fn another_state_has_another_digest() {
    let mut head = Head::default();
    let mut digests = std::collections::BTreeSet::new();
    for (sequence, line) in (1..).zip(HISTORY.lines()) {
        let before = head.state.clone();
        head.fold(sequence, line.as_bytes()).unwrap();
        let now = digest(&head.state);
        assert_eq!(digest(&before) == now, before == head.state, "message {sequence}");
        digests.insert(now);
    }
    assert!(digests.len() > 150, "{}", digests.len());
}

/// A customer with a dozen sites to whom much happens. Some of what is asked is refused; that leaves no trace.
fn busy() -> World {
    let mut world = World::default();
    let ask = |world: &mut World, tail: String, body: String| {
        let _ = world.send("demo", &tail, &body, None);
    };
    for n in 0..12 {
        let lan = format!(r#"{{"vendor":"northwan","lan":["10.{n}.0.0/24","10.{n}.1.0/24"]}}"#);
        ask(&mut world, format!("site.s{n}.create"), lan);
        let peer =
            if n % 3 == 2 { format!(r#"{{"site":"s{}"}}"#, n - 1) } else { r#"{"hub":"hub-a"}"#.into() };
        let bgp = if n % 2 == 0 { r#","bgp":{"local_asn":65010,"peer_asn":65000}"# } else { "" };
        let tunnel = format!(r#"{{"site":"s{n}","peer":{peer},"inside":"169.254.{n}.0/30"{bgp}}}"#);
        ask(&mut world, format!("tunnel.t{n}.create"), tunnel);
        for d in 0..2 {
            let device = format!(r#"{{"site":"s{n}","serial":"SN-{n:02}{d:02}","model":"edge-1"}}"#);
            ask(&mut world, format!("device.d{n}-{d}.create"), device);
        }
    }
    for round in 0..4 {
        for n in 0..12 {
            let names = [format!("site.s{n}"), format!("device.d{n}-0"), format!("device.d{n}-1")];
            for (at, name) in names.iter().enumerate() {
                let Some(order) = world.wanted(name).change else { continue };
                // Every seventh change fails for good, every other one is carried out.
                let (target, report) = if (n + at + round) % 7 == 6 { failed(&order) } else { done(&order) };
                let body = serde_json::to_string(&report).expect("a report");
                let tail = format!("{}.{}.report", target.kind(), target.id());
                world.send("executor", &tail, &body, None).expect("a report is taken");
            }
            match (n + round) % 6 {
                0 => ask(
                    &mut world,
                    format!("site.s{n}.change"),
                    format!(r#"{{"lan":["10.{n}.{round}.0/24"]}}"#),
                ),
                1 => ask(
                    &mut world,
                    format!("tunnel.t{n}.change"),
                    r#"{"peer":{"hub":"hub-b","site":null}}"#.into(),
                ),
                2 => ask(
                    &mut world,
                    format!("device.d{n}-0.change"),
                    format!(r#"{{"settings":{{"vlan":{}}}}}"#, round + 2),
                ),
                3 => ask(&mut world, format!("device.d{n}-1.decommission"), String::new()),
                4 => ask(&mut world, format!("tunnel.t{n}.decommission"), String::new()),
                _ => {}
            }
            for name in &names {
                ask(&mut world, format!("{name}.retry"), String::new());
                ask(&mut world, format!("{name}.check-drift"), String::new());
                let Some(order) = world.wanted(name).look else { continue };
                let (target, report) = if n % 2 == 0 { drifted(&order) } else { in_sync(&order) };
                let body = serde_json::to_string(&report).expect("a report");
                world
                    .send("executor", &format!("{}.{}.report", target.kind(), target.id()), &body, None)
                    .expect("a report is taken");
            }
        }
        ask(&mut world, format!("tunnel.t{}.retry", round + 6), String::new());
        ask(&mut world, format!("site.s{}.decommission", round + 3), String::new());
    }
    world
}

#[test]
#[ignore = "writes the files that the tests above read, where there are none"]
fn record() {
    let world = busy();
    let history: Vec<_> = world.history.iter().filter(|(_, events)| !events.is_empty()).cloned().collect();
    let lines: Vec<String> =
        messages(&history).into_iter().map(|bytes| String::from_utf8(bytes).unwrap() + "\n").collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/frozen");
    let write = |name: &str, text: String| {
        use std::io::Write;
        let file = format!("{folder}/{name}");
        std::fs::File::create_new(file).expect("what is recorded stays").write_all(text.as_bytes()).unwrap();
    };
    write("customer.v1.jsonl", lines.concat());
    write("customer.v1.state", digest(&world.state) + "\n");
}
