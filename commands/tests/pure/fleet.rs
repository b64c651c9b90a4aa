//! Histories that were recorded once still fold to the states they had then.

use serde_json::Value;
use wanwright_commands::{Customer, Head};
use wanwright_schemas::Digest;

use crate::harness::*;
use crate::history::messages;

/// Histories of customers as they were stored, each with the digest of the state that it ends in, written in the form of
/// [`plain`]. Never changed; new events, and a new version of one, get new files.
const HISTORIES: [(&str, &str); 2] = [
    (include_str!("frozen/customer.v1.jsonl"), include_str!("frozen/customer.v1.state")),
    (include_str!("frozen/windows.v1.jsonl"), include_str!("frozen/windows.v1.state")),
];

/// What states remember of a history since these were recorded. It makes nothing else another one, so it is left out.
const SINCE: [&str; 1] = ["tried"];

/// A state without what says nothing. A field that is new in the state, and that a history from before it leaves empty,
/// does not make it another state.
fn plain(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(items.iter().map(|item| plain(item).unwrap_or(Value::Null)).collect()),
        Value::Object(fields) => {
            let fields: serde_json::Map<String, Value> = fields
                .iter()
                .filter(|(name, _)| !SINCE.contains(&name.as_str()))
                .filter_map(|(name, value)| Some((name.clone(), plain(value)?)))
                .collect();
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
    let mut types = std::collections::BTreeSet::new();
    for (history, state) in HISTORIES {
        let mut head = Head::default();
        for (sequence, line) in (1..).zip(history.lines()) {
            let envelope = head.fold(sequence, line.as_bytes()).unwrap();
            types.extend(envelope.events.iter().map(wanwright_schemas::Event::type_name));
        }
        assert_eq!(digest(&head.state), state.trim(), "{:#}", serde_json::to_value(&head.state).unwrap());
    }
    assert!(types.len() >= 36, "{types:?}");
}

#[test]
fn another_state_has_another_digest() {
    let mut head = Head::default();
    let mut digests = std::collections::BTreeSet::new();
    for (sequence, line) in (1..).zip(HISTORIES[0].0.lines()) {
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

/// A customer with change windows: what is postponed, let through, due again, gone back to, acknowledged and noted.
fn timed() -> World {
    let mut world = World::running();
    let window = r#"{"windows":{"w":{"zone":"Europe/Oslo","days":["sun"],"from":"02:00","to":"04:00"}}}"#;
    world.accept("customer.acme.change", window);
    for (tail, body) in [
        ("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#),
        ("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#),
        ("device.d1.change", r#"{"settings":{"hostname":"ap"}}"#),
        ("site.oslo.note", r#"{"text":"first line\nsecond line"}"#),
        ("tunnel.t1.note", r#"{"text":"so"}"#),
        ("device.d1.note", r#"{"text":"so"}"#),
        ("customer.acme.note", r#"{"text":"so"}"#),
        ("site.oslo.release", r#"{"reason":"the line is down"}"#),
        ("device.d1.release", r#"{"reason":"the line is down"}"#),
    ] {
        world.accept(tail, body);
    }
    for target in ["site.oslo", "device.d1"] {
        world.fail(target);
    }
    for object in ["site.oslo", "tunnel.t1", "device.d1"] {
        let known = r#"{"reason":"ticket 4711","until":"2026-12-01T00:00:00Z"}"#;
        world.accept(&format!("{object}.acknowledge"), known);
    }
    for object in ["site.oslo", "tunnel.t1"] {
        world.accept(&format!("{object}.revert"), r#"{"to_generation":1}"#);
    }
    world.accept("customer.acme.change", r#"{"windows":null}"#);
    world.accept("device.d1.revert", r#"{"to_generation":1}"#);
    world.carry_out("site.oslo");
    world.carry_out("device.d1");
    world.drift("device.d1");
    world.accept("device.d1.acknowledge", r#"{"reason":"changed by hand"}"#);
    world.accept("customer.acme.change", window);
    world.accept("device.d2.create", &DEVICE.replace("SN-0001", "SN-0002"));
    world
}

#[test]
#[ignore = "writes the files that the tests above read, where there are none"]
fn record() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/frozen");
    for (name, world) in [("customer.v1", busy()), ("windows.v1", timed())] {
        let history: Vec<_> =
            world.history.iter().filter(|(_, events)| !events.is_empty()).cloned().collect();
        let lines: Vec<String> =
            messages(&history).into_iter().map(|bytes| String::from_utf8(bytes).unwrap() + "\n").collect();
        for (end, text) in [("jsonl", lines.concat()), ("state", digest(&world.state) + "\n")] {
            let file = format!("{folder}/{name}.{end}");
            // What is recorded stays, and one that was cut short is no record.
            if std::fs::metadata(&file).is_ok_and(|there| there.len() > 0) {
                continue;
            }
            std::fs::write(file, text).unwrap();
        }
    }
}
