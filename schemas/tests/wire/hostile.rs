//! Hostile texts in every place where a command has a text: each is refused by name, or comes back as it was.

use serde_json::{Map, Value};
use wanwright_schemas::command::{Ask, Command, CommandBody};
use wanwright_schemas::envelope::{Envelope, command_digest};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::report::Finding;
use wanwright_schemas::spec::{DeviceSpec, SiteSpec, TunnelSpec};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{Actor, CommandId, CustomerId, ObjectRef, OrderId};

use crate::lines::{commands, parse, says};

pub fn texts() -> Vec<String> {
    serde_json::from_str(include_str!("hostile.json")).expect("a list of texts")
}

/// Where a value has a text, and every object, in which a text may be a name.
fn places(value: &Value, place: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| places(inner, format!("{place}/{name}"), into));
            into.push(place);
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, inner)| places(inner, format!("{place}/{index}"), into));
        }
        Value::String(_) => into.push(place),
        _ => {}
    }
}

fn planted(body: &Value, place: &str, text: &str) -> Value {
    let mut body = body.clone();
    match body.pointer_mut(place) {
        Some(Value::Object(fields)) => {
            fields.insert(text.to_owned(), text.into());
        }
        Some(value) => *value = text.into(),
        None => unreachable!("the place is there"),
    }
    body
}

/// The events that follow when a command is accepted as it is.
fn events(command: &Command) -> Vec<Event> {
    match &command.body {
        CommandBody::Site(id, Ask::Create(spec)) => vec![Event::Site(id.clone(), created(spec))],
        CommandBody::Tunnel(id, Ask::Create(spec)) => vec![Event::Tunnel(id.clone(), created(spec))],
        CommandBody::Device(id, Ask::Create(spec)) => vec![Event::Device(id.clone(), created(spec))],
        CommandBody::Site(_, Ask::Report(report)) | CommandBody::Device(_, Ask::Report(report)) => report
            .findings
            .iter()
            .filter_map(|found| found_event(&found.object, &found.finding, report.order))
            .collect(),
        _ => Vec::new(),
    }
}

fn created<S: Clone>(spec: &S) -> Change<S> {
    Change::Created { generation: 1, spec: spec.clone(), schema: None }
}

fn found_event(object: &ObjectRef, finding: &Finding, order: OrderId) -> Option<Event> {
    fn change<S>(finding: &Finding, order: OrderId) -> Change<S> {
        match finding.clone() {
            Finding::Applied { generation, outputs } => Change::Applied { generation, order, outputs },
            Finding::Removed => Change::Removed { order },
            Finding::Failed { generation, code, message } => {
                Change::Failed { generation, order, code, message }
            }
            Finding::Drifted { check, fields } => Change::DriftFound { check, fields },
            Finding::InSync { check } => Change::DriftNotFound { check },
            Finding::Planned { plan } => Change::Planned {
                generation: 1,
                order,
                wish: order,
                plan,
                expires: jiff::Timestamp::UNIX_EPOCH,
                requested_by: Vec::new(),
                approvals: None,
            },
            Finding::PlanStale { plan, why } => Change::PlanStale { generation: 1, order, plan, why },
        }
    }
    Some(match object {
        ObjectRef::Customer(_) => return None,
        ObjectRef::Site(id) => Event::Site(id.clone(), change::<SiteSpec>(finding, order)),
        ObjectRef::Tunnel(id) => Event::Tunnel(id.clone(), change::<TunnelSpec>(finding, order)),
        ObjectRef::Device(id) => Event::Device(id.clone(), change::<DeviceSpec>(finding, order)),
    })
}

/// A trip through the history.
fn stored(events: Vec<Event>) -> Vec<Event> {
    let envelope = Envelope {
        v: 1,
        command: CommandId::of_message(1, 1),
        body_sha256: command_digest("site/oslo", "create", b""),
        actor: "demo".parse().unwrap(),
        cause: None,
        correlation: None,
        time: jiff::Timestamp::UNIX_EPOCH,
        prev: None,
        key: None,
        events,
    };
    Envelope::decode(&envelope.encode().unwrap()).unwrap().events
}

#[test]
fn a_hostile_text_is_refused_or_comes_back_as_it_was() {
    let (mut tried, mut kept) = (0, 0);
    for frozen in commands() {
        let body: Value = serde_json::from_str(&frozen.body).unwrap_or_else(|_| Map::new().into());
        let mut all = Vec::new();
        places(&body, String::new(), &mut all);
        for place in all {
            for text in texts() {
                tried += 1;
                let said = planted(&body, &place, &text);
                let command = match parse(&frozen.subject, said.to_string().as_bytes()) {
                    Err(refusal) => {
                        assert!(!refusal.message.is_empty(), "{said}");
                        continue;
                    }
                    Ok(command) => command,
                };
                kept += 1;
                if place.starts_with("/contact/") {
                    // It is sealed by now, whatever it says.
                    continue;
                }
                let events = events(&command);
                let again = stored(events.clone());
                assert_eq!(again, events, "{said}");
                if frozen.subject.ends_with(".report") && says(&command) != said {
                    // What a report's reader passes over is in no event either.
                    continue;
                }
                let wire = serde_json::to_value(&again).unwrap();
                let is_there = again.is_empty()
                    || place.ends_with("/uid")
                    || holds(&wire, &text)
                    || !holds(&says(&command), &text);
                assert!(is_there, "{place} {text:?} is lost: {wire}");
                assert!(
                    holds(&says(&command), &text) || frozen.subject.ends_with(".report"),
                    "{place} {text:?}: {said}"
                );
            }
        }
    }
    println!("{tried} texts were tried, {kept} kept");
    assert!(tried > 10_000 && kept > 1_000, "{tried} {kept}");
}

/// Whether a value has this text somewhere, to the byte.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(inner) => inner == text,
        Value::Array(items) => items.iter().any(|inner| holds(inner, text)),
        Value::Object(fields) => fields.iter().any(|(name, inner)| name == text || holds(inner, text)),
        _ => false,
    }
}

#[test]
fn no_hostile_text_is_a_token() {
    for text in texts() {
        let is_token = wanwright_schemas::ids::is_token(&text);
        assert_eq!(text.parse::<CustomerId>().is_ok(), is_token, "{text:?}");
        assert_eq!(text.parse::<Actor>().is_ok(), is_token, "{text:?}");
        for token in 2..7 {
            let mut tokens = ["wan", "do", "acme", "demo", "site", "oslo", "create"].map(str::to_owned);
            tokens[token].clone_from(&text);
            match CommandSubject::parse(&tokens.join(".")) {
                // A verb is looked at where the kind is known.
                Ok(read) if token == 6 => assert!(text.starts_with(&read.verb)),
                Ok(read) => {
                    assert!(is_token, "{text:?}");
                    assert_eq!(read.request(), tokens.join("."));
                }
                Err(refusal) => assert!(refusal.message.chars().count() < 400, "{}", refusal.message),
            }
        }
    }
}
