//! The head of a history: what does not fit its chain is not folded.

use wanwright_commands::{BrokenHistory, Head, Loading, Regressed, STATE_VERSION};
use wanwright_schemas::envelope::{Digest, Envelope, command_digest};
use wanwright_schemas::{CommandId, Event};

use crate::harness::*;

/// The messages of a customer's history.
pub fn messages(history: &[(CommandId, Vec<Event>)]) -> Vec<Vec<u8>> {
    let mut prev = None;
    let mut all = Vec::new();
    for (command, events) in history {
        let envelope = Envelope {
            v: 1,
            command: *command,
            body_sha256: command_digest("site/oslo", "create", command.to_string().as_bytes()),
            actor: "demo".parse().expect("an actor"),
            cause: None,
            correlation: None,
            time: "2026-11-21T08:00:00Z".parse().expect("a time"),
            prev,
            key: None,
            events: events.clone(),
        };
        let bytes = envelope.encode().expect("bytes");
        prev = Some(Digest::of(&bytes));
        all.push(bytes);
    }
    all
}

/// A customer's life, as messages, and what it ends in.
fn life() -> (Vec<Vec<u8>>, World) {
    let mut world = World::running();
    world.drift("device.d1");
    world.accept("device.d1.retry", "");
    world.fail("device.d1");
    world.accept("device.d1.decommission", "");
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-b"}}"#);
    world.accept("site.oslo.check-drift", "");
    (messages(&world.history), world)
}

#[test]
fn folding_ends_where_deciding_was() {
    let (messages, world) = life();
    let mut head = Head::default();
    for (sequence, bytes) in (10..).zip(&messages) {
        let envelope = head.fold(sequence, bytes).unwrap();
        let recent = head.recent.get(envelope.command).expect("a recent command");
        let millis = u64::try_from(envelope.time.as_millisecond()).unwrap();
        assert_eq!((recent.sequence, recent.millis), (sequence, millis));
    }
    assert_eq!(head.state, world.state);
    assert_eq!(head.sequence, 9 + messages.len() as u64);
    assert_eq!(head.digest, messages.last().map(|bytes| Digest::of(bytes)));
}

#[test]
fn a_replay_wants_the_same_orders_and_no_others() {
    let (messages, world) = life();
    let orders = |head: &Head| {
        let replayed = World { state: head.state.clone(), ..World::default() };
        ["site.oslo", "device.d1"].map(|target| replayed.wanted_at(&target_of(target), head.sequence))
    };
    let fold = |shift: u64| {
        let mut head = Head::default();
        for (sequence, bytes) in (1 + shift..).zip(&messages) {
            head.fold(sequence, bytes).unwrap();
        }
        head
    };
    assert_eq!(orders(&fold(0)), orders(&fold(0)));
    let ids = |head: &Head| {
        orders(head).map(|wanted| (wanted.change.map(|order| order.id), wanted.look.map(|order| order.id)))
    };
    assert_eq!(ids(&fold(0)), ids(&fold(1000)));
    let live = ["site.oslo", "device.d1"].map(|target| world.wanted(target));
    let live = live.map(|wanted| (wanted.change.map(|order| order.id), wanted.look.map(|order| order.id)));
    assert_eq!(ids(&fold(0)), live);
}

#[test]
fn a_hole_a_repeat_and_another_order_break_the_chain() {
    let (messages, _) = life();
    let mut head = Head::default();
    for wrong in [&messages[1], &messages[2]] {
        let error = head.fold(1, wrong).expect_err("not the first");
        assert!(matches!(error, BrokenHistory::Chain { sequence: 1, .. }), "{error}");
        assert!(error.to_string().contains("should be none"), "{error}");
    }
    head.fold(1, &messages[0]).unwrap();
    head.fold(2, &messages[1]).unwrap();
    for wrong in [&messages[0], &messages[1], &messages[3]] {
        assert!(matches!(head.fold(3, wrong), Err(BrokenHistory::Chain { sequence: 3, .. })));
    }
    head.fold(3, &messages[2]).unwrap();
}

#[test]
fn a_message_that_was_tampered_with_breaks_the_chain_after_it() {
    let (mut messages, _) = life();
    let text = String::from_utf8(messages[0].clone()).unwrap().replace("10.1.0.0/24", "10.9.0.0/24");
    messages[0] = text.into_bytes();
    let mut head = Head::default();
    head.fold(1, &messages[0]).unwrap();
    assert!(matches!(head.fold(2, &messages[1]), Err(BrokenHistory::Chain { .. })));
}

#[test]
fn an_unreadable_message_is_named_and_changes_nothing() {
    let (messages, _) = life();
    let mut head = Head::default();
    head.fold(1, &messages[0]).unwrap();
    let before = head.clone();
    let newer = String::from_utf8(messages[1].clone()).unwrap().replace("\"v\":1", "\"v\":2");
    let unknown = String::from_utf8(messages[1].clone()).unwrap().replace("TunnelCreated", "TunnelPainted");
    for bytes in [&b""[..], b"{", b"{}", b"[]", newer.as_bytes(), unknown.as_bytes()] {
        let error = head.fold(2, bytes).expect_err("unreadable");
        assert!(matches!(error, BrokenHistory::Unreadable { sequence: 2, .. }), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    assert!(head.fold(2, &messages[2]).is_err());
    assert_eq!((head.state, head.sequence, head.digest), (before.state, before.sequence, before.digest));
    assert_eq!(head.recent, before.recent);
}

#[test]
fn a_frozen_state_goes_on_as_if_it_had_been_folded() {
    let (messages, world) = life();
    let mut folded = Head::default();
    for (sequence, bytes) in (1..).zip(&messages) {
        let mut thawed = Head::thaw(&folded.freeze().unwrap()).unwrap();
        folded.fold(sequence, bytes).unwrap();
        thawed.fold(sequence, bytes).unwrap();
        assert_eq!(thawed.state, folded.state);
        assert_eq!((thawed.sequence, thawed.digest), (folded.sequence, folded.digest));
        assert_eq!(thawed.recent, folded.recent);
    }
    assert_eq!(folded.state, world.state);
    let whole = folded.freeze().unwrap();
    for bytes in [&b""[..], b"{}", b"null", &[0; 8], &[0xff; 8], &whole[..whole.len() - 1], &whole[..9]] {
        assert!(Head::thaw(bytes).is_err());
    }
}

#[test]
fn a_load_goes_on_from_wherever_the_state_was_frozen() {
    let (messages, world) = life();
    let mut folded = Head::default();
    for (at, bytes) in (1..).zip(&messages) {
        folded.fold(at, bytes).unwrap();
        let mut loading = Loading::thaw(at, &folded.freeze().unwrap()).unwrap();
        assert_eq!((loading.after(), loading.passed()), (at - 1, (0, None)));
        assert!(loading.ends_at(at).is_ok());
        let end = messages.len() as u64;
        assert!(loading.reached(at).is_none(), "the message it was frozen at has not been passed");
        for sequence in loading.after() + 1..=end {
            let message = &messages[usize::try_from(sequence).unwrap() - 1];
            let passed = loading.pass(sequence, message).unwrap();
            assert_eq!(passed.is_some(), sequence > at, "what the state has already is not answered");
            assert_eq!(loading.passed(), (sequence, Some(Digest::of(message))));
        }
        assert!(loading.reached(end + 1).is_none(), "there is no such message");
        let head = loading.reached(end).expect("the end");
        assert_eq!((head.state, head.sequence), (world.state.clone(), end));
    }
}

#[test]
fn a_state_weighs_what_it_takes_and_not_what_it_was_made_of() {
    const CHANGES: usize = 5000;
    let mut world = World::running();
    for number in 0..CHANGES {
        world.accept("device.d1.change", &format!(r#"{{"settings":{{"hostname":"ap-{}"}}}}"#, number % 2));
    }
    let (mut head, mut made_of) = (Head::default(), 0);
    for (sequence, bytes) in (1..).zip(messages(&world.history)) {
        head.fold(sequence, &bytes).unwrap();
        made_of += bytes.len();
    }
    assert_eq!((head.weight(), head.unfrozen), (made_of, world.history.len()), "nothing better is known yet");
    let copy = head.to_freeze();
    let begun = head.clone();
    head.weigh();
    assert_eq!((head.weight(), head.unfrozen), (made_of, 0), "it is not frozen yet");
    let (more, rest) = messages_behind(&mut world, &head);
    for (sequence, bytes) in &more {
        head.fold(*sequence, bytes).unwrap();
    }
    let frozen = copy.freeze().unwrap();
    head.weigh();
    assert_eq!(head.weight(), frozen.len() + rest, "what came meanwhile is added");
    assert!(frozen.len() < 8192 + 64 * head.recent.len() && frozen.len() * 5 < made_of, "{}", frozen.len());
    // Whoever reads it weighs the same as who wrote it.
    let mut begun = begun;
    begun.weigh();
    assert_eq!(Head::thaw(&frozen).unwrap().weight(), begun.weight());
}

/// One more change, as a message behind this head, and how many bytes that is.
fn messages_behind(world: &mut World, head: &Head) -> (Vec<(u64, Vec<u8>)>, usize) {
    world.accept("device.d1.change", r#"{"settings":{"hostname":"last"}}"#);
    let all = messages(&world.history);
    let last = all.into_iter().next_back().expect("a message");
    let bytes = last.len();
    (vec![(head.sequence + 1, last)], bytes)
}

#[test]
fn a_history_that_does_not_go_through_the_frozen_state_is_damaged() {
    let (messages, _) = life();
    let mut folded = Head::default();
    for (sequence, bytes) in (1..=3).zip(&messages) {
        folded.fold(sequence, bytes).unwrap();
    }
    let frozen = folded.freeze().unwrap();
    let load = || Loading::thaw(3, &frozen).unwrap();
    assert!(matches!(load().ends_at(2), Err(Regressed::Shorter { end: 2, seen: 3 })));
    // Another message in its place; the message in another place; what comes behind it.
    for (sequence, bytes) in [(3, &messages[1]), (4, &messages[2]), (4, &messages[3])] {
        let error = load().pass(sequence, bytes).expect_err("another history");
        assert!(matches!(error, BrokenHistory::Regressed(Regressed::Rewritten { seen: 3 })), "{error}");
    }
    // Whatever is said of how many messages it was made of, that many can be counted on from.
    let mut counted = load().made_of(u64::MAX);
    counted.pass(3, &messages[2]).unwrap();
    counted.pass(4, &messages[3]).unwrap();
    assert_eq!(counted.messages(), u64::MAX);
    assert!(Loading::thaw(4, &frozen).is_err() && Loading::thaw(0, &frozen).is_err());
    assert!(Loading::thaw(0, &Head::default().freeze().unwrap()).is_err());
}

/// Whoever changes what a state looks like reads snapshots of the old look as the new one, unless the version says so.
#[test]
fn the_look_of_a_frozen_state_belongs_to_its_version() {
    let (_, mut world) = life();
    let account =
        r#"{"accounts":{"northwan":{"credential":"a","budget":"b"}},"policy":{"tunnel":"approve"}}"#;
    world.accept("customer.acme.change", account);
    let window =
        r#"{"windows":{"w":{"zone":"UTC","days":["mon"],"from":"22:00","to":"23:00","kinds":["device"]}}}"#;
    world.accept("customer.acme.change", window);
    world.accept("tunnel.t1.change", r#"{"peer":{"hub":"hub-a"}}"#);
    let counted = r#"{"policy":{"site":{"approve":{"by":2,"group":"g"}}},"groups":{"g":["a","b"]}}"#;
    world.accept("customer.acme.change", counted);
    world.accept("site.oslo.change", r#"{"settings":{"location":"Oslo"}}"#);
    world.send("a", "site.oslo.approve", r#"{"generation":2}"#, None).unwrap();
    world.send("b", "site.oslo.reject", r#"{"generation":2,"reason":"r"}"#, None).unwrap();
    world.accept("customer.acme.change", r#"{"policy":{"site":"apply"}}"#);
    world.send("a", "customer.acme.approve", r#"{"generation":4}"#, None).unwrap();
    let freeze =
        r#"{"name":"f","from":"2026-12-20T00:00","to":"2027-01-02T00:00","zone":"Europe/Oslo","reason":"r"}"#;
    for device in ["d2", "d3", "d4"] {
        let body = DEVICE.replace("SN-0001", &format!("SN-{device}").to_uppercase());
        world.accept(&format!("device.{device}.create"), &body);
    }
    world.accept("device.d2.release", r#"{"reason":"r"}"#);
    world.fail("device.d3");
    world.accept("device.d3.acknowledge", r#"{"reason":"r","until":"2026-12-01T00:00:00Z"}"#);
    world.accept("customer.acme.suspend", r#"{"reason":"r"}"#);
    world.accept("site.oslo.suspend", r#"{"reason":"r"}"#);
    world.accept("customer.acme.freeze", freeze);
    let mut head = Head::default();
    for (sequence, bytes) in (1..).zip(&messages(&world.history)) {
        head.fold(sequence, bytes).unwrap();
    }
    let frozen = head.freeze().unwrap();
    let length = usize::try_from(u64::from_le_bytes(frozen[..8].try_into().unwrap())).unwrap();
    let (state, packed) = frozen[8..].split_at(length);
    let state: serde_json::Value = serde_json::from_slice(state).unwrap();
    let look = format!("{} and {packed:?}", look(&state));
    let look = (STATE_VERSION, Digest::of(look.as_bytes()).to_string());
    let expected = "sha256:7c1f90244795e45ee13bce4d74e51ce4410a56896bac14fafb7d05cf70420ea7";
    assert_eq!(look, (11, expected.to_owned()), "raise STATE_VERSION and note the new digest here");
}

/// The names and kinds of values of a JSON text, without the values.
fn look(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}:{{{}}}", look(value))).collect()
        }
        Value::Array(values) => {
            values.iter().map(look).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        }
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => "null".into(),
    }
}

#[test]
fn a_foreign_id_is_forgotten_by_when_it_was_decided() {
    let (mut history, actor) = (life().1.history, "demo".parse().expect("an actor"));
    for number in [0, 2, 3] {
        history[number].0 = CommandId::foreign(&actor, "/erp", &number.to_string());
    }
    let mut head = Head::default();
    for (sequence, bytes) in (1..).zip(&messages(&history)) {
        head.fold(sequence, bytes).unwrap();
    }
    let decided: jiff::Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    let decided = u64::try_from(decided.as_millisecond()).unwrap();
    let known = |head: &Head| {
        history.iter().filter(|(id, _)| id.is_foreign() && head.recent.get(*id).is_some()).count()
    };
    // Neither a pause nor a frozen state makes it forgotten sooner.
    head.recent.forget_before(decided);
    assert_eq!(known(&Head::thaw(&head.freeze().unwrap()).unwrap()), 3);
    head.recent.forget_before(decided + 1);
    assert_eq!(known(&head), 0);
}
