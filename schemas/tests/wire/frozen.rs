//! Every version ever written still reads, and is written again as it was. Lines are added here, never changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wanwright_schemas::body;
use wanwright_schemas::command::verbs;
use wanwright_schemas::envelope::{Envelope, UnreadableEnvelope};
use wanwright_schemas::event::Event;
use wanwright_schemas::order::Order;
use wanwright_schemas::report::Report;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{Kind, Reason};

use crate::json_schemas::schema;
use crate::lines::{FILES, commands, parse, says};

/// The frozen reports.
const REPORTS: [&str; 3] = [
    include_str!("../../frozen/report.v1.json"),
    include_str!("../../frozen/report.v1.plans.json"),
    include_str!("../../frozen/report.v1.state.json"),
];

#[test]
fn what_was_stored_reads_and_is_written_as_it_was() {
    for file in FILES {
        for line in file.lines() {
            let again = (file.again)(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(again, line);
        }
    }
}

#[test]
fn commands_say_what_they_said() {
    for frozen in commands() {
        let command = parse(&frozen.subject, frozen.body.as_bytes())
            .unwrap_or_else(|refusal| panic!("{refusal}: {} {}", frozen.subject, frozen.body));
        assert_eq!(says(&command), frozen.says, "{} {}", frozen.subject, frozen.body);
        let subject = CommandSubject::parse(&frozen.subject).unwrap();
        assert_eq!((command.object(), command.verb()), (subject.object, subject.verb.as_str()));
    }
}

#[test]
fn stored_reports_read_and_write_as_they_were() {
    for text in REPORTS.map(str::trim) {
        let report: Report = body::parse(text.as_bytes()).expect("a report");
        let value: Value = serde_json::to_value(&report).expect("encodes");
        assert_eq!(value.to_string(), text);
    }
}

/// A program upgrade must not issue every order anew.
#[test]
fn an_order_keeps_its_id() {
    for line in include_str!("../../frozen/order.v1.jsonl").lines() {
        let order: Order = serde_json::from_str(line).unwrap();
        let Order {
            customer,
            vendor,
            intent,
            retries,
            desired,
            position,
            account,
            applied,
            state,
            template,
            plan,
            ..
        } = order.clone();
        let again = Order::new(customer, vendor, intent, retries, desired, position);
        let again = again.under(account.as_ref()).of_applied(applied).by_template(template.as_ref());
        let again = again.of_state(state).bound(plan.as_ref());
        assert_eq!(again, order, "{line}");
    }
}

/// Executors from before there were versions of templates pass over the one that an order names: they must not take it for
/// one of theirs.
#[test]
fn an_order_by_a_version_of_the_template_is_none_for_who_knows_of_no_versions() {
    #[derive(Debug, serde::Deserialize)]
    struct Before {
        v: u64,
    }
    let (mut by_a_version, mut others) = (0, 0);
    for line in include_str!("../../frozen/order.v1.jsonl").lines() {
        let order: Order = serde_json::from_str(line).unwrap();
        match (order.template.is_some(), serde_json::from_str::<Before>(line)) {
            (true, Err(_)) => by_a_version += 1,
            (false, Ok(Before { v: 1 })) => others += 1,
            (_, read) => panic!("{read:?}: {line}"),
        }
        for unknown in [serde_json::json!(2), serde_json::json!("1"), serde_json::json!("3")] {
            let newer: serde_json::Value = serde_json::from_str(line).unwrap();
            let newer = serde_json::Value::Object(
                newer.as_object().unwrap().clone().into_iter().chain([("v".to_owned(), unknown)]).collect(),
            );
            assert!(serde_json::from_value::<Order>(newer.clone()).is_err(), "{newer}");
        }
    }
    assert!(by_a_version > 0 && others > 0);
}

#[test]
fn reasons_keep_their_numbers() {
    let mut known = BTreeMap::new();
    for line in include_str!("../../frozen/reason.v1.jsonl").lines() {
        let reason: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| reason[name].as_u64().unwrap();
        known.insert(reason["code"].as_str().unwrap().to_owned(), (number("number"), number("status")));
    }
    for reason in Reason::ALL {
        let now = (u64::from(reason.number()), u64::from(reason.status()));
        assert_eq!(known.remove(reason.code()), Some(now), "{reason} in frozen/reason.v1.jsonl");
    }
    assert!(known.is_empty(), "reasons that are gone: {known:?}");
}

#[test]
fn a_newer_event_stops_the_reader_by_name() {
    let read = |text: &str| serde_json::from_str::<Event>(text).expect_err(text).to_string();
    assert!(read(r#"{"type":"SiteCreated","v":2,"site":"a"}"#).contains("SiteCreated has version 2"));
    assert!(read(r#"{"type":"SitePainted","v":1,"site":"a"}"#).contains("SitePainted"));
    assert!(read(r#"{"type":"RouterCreated","v":1}"#).contains("RouterCreated"));
    assert!(read(r#"{"v":1}"#).contains("not an event"));
    let newer = Envelope::decode(br#"{"v":2}"#).expect_err("newer");
    assert!(matches!(newer, UnreadableEnvelope::UnknownVersion(2)));
}

/// The values that a schema gives to tags: `const` of a property.
fn tags(schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            into.extend(property["const"].as_str().map(|value| format!("{name}={value}")));
            into.insert(name.clone());
        }
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|inner| tags(inner, into)),
        Value::Array(items) => items.iter().for_each(|inner| tags(inner, into)),
        _ => {}
    }
}

/// The fields of a line, and what those say that could be tags.
fn fields(line: &Value, into: &mut BTreeSet<String>) {
    match line {
        Value::Object(fields_of) => {
            for (name, value) in fields_of {
                into.insert(name.clone());
                into.extend(value.as_str().map(|value| format!("{name}={value}")));
                fields(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| fields(inner, into)),
        _ => {}
    }
}

/// What a schema knows beside what its own lines show is shown by the lines of these schemas.
const SHOWN_ELSEWHERE: &[(&str, &[&str])] = &[("envelope", &["event"]), ("outcome", &["event", "order"])];

#[test]
fn every_variant_and_every_field_has_a_frozen_line() {
    let mut shown: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in FILES {
        for line in file.lines() {
            fields(&serde_json::from_str(line).unwrap(), shown.entry(file.schema).or_default());
        }
    }
    for file in FILES {
        let mut known = BTreeSet::new();
        tags(&schema(file.schema), &mut known);
        let elsewhere =
            SHOWN_ELSEWHERE.iter().filter(|(name, _)| *name == file.schema).flat_map(|(_, all)| *all);
        for name in elsewhere.chain([&file.schema]) {
            known.retain(|tag| !shown[name].contains(tag));
        }
        assert!(known.is_empty(), "add lines to frozen/{}.*.jsonl with {known:?}", file.schema);
    }
}

#[test]
fn every_verb_and_every_field_of_its_body_has_a_frozen_line() {
    for kind in Kind::ALL {
        for verb in verbs(kind) {
            let tail = format!(".{verb}");
            let mut shown = BTreeSet::new();
            let mut lines = 0;
            for frozen in commands() {
                let subject = CommandSubject::parse(&frozen.subject).unwrap();
                if subject.object.kind() == kind && frozen.subject.ends_with(&tail) {
                    lines += 1;
                    fields(&serde_json::from_str(&frozen.body).unwrap_or_default(), &mut shown);
                }
            }
            assert!(lines > 0, "add a line to frozen/command.v1.jsonl for {kind} {verb}");
            if *verb == "report" {
                // What a report may say is the same for every kind, and frozen in a file of its own.
                for report in REPORTS {
                    fields(&serde_json::from_str(report).unwrap(), &mut shown);
                }
                shown.insert("kind=customer".into());
            }
            let mut known = BTreeSet::new();
            tags(&schema(&format!("{kind}.{verb}")), &mut known);
            known.retain(|tag| !shown.contains(tag));
            assert!(
                known.is_empty(),
                "add a line to frozen/command.v1.jsonl for {kind} {verb} with {known:?}"
            );
        }
    }
}
