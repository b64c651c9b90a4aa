//! The committed JSON Schemas are the generated ones, and they say what the readers say.

use serde_json::{Value, json};
use wanwright_schemas::json::{HOW, files, index};
use wanwright_schemas::published;
use wanwright_schemas::subjects::CommandSubject;

use crate::lines::{FILES, commands, parse};
use crate::validator::check;

/// A published schema.
pub fn schema(name: &str) -> Value {
    let found = published::ALL.iter().find(|(known, _)| *known == name);
    let (_, text) = found.unwrap_or_else(|| panic!("there is no schema {name}; write it with `{HOW}`"));
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn the_committed_schemas_are_the_generated_ones() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    let mut there: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    there.sort();
    let mut names: Vec<std::ffi::OsString> =
        files().iter().map(|(name, _)| format!("{name}.json").into()).collect();
    names.sort();
    assert_eq!(there, names, "write the schemas again with `{HOW}`");
    for (name, text) in files() {
        let committed = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        // Not assert_eq: two schemas are too long to be read side by side.
        assert!(committed == text, "{name}.json is another one; write the schemas again with `{HOW}`");
    }
    assert!(include_str!("../../src/published.rs") == index(), "write published.rs again with `{HOW}`");
}

/// Every way to spoil one place of a value: without it, or with something else there.
fn spoilt(value: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    walk(value, String::new(), &mut places);
    let mut all = Vec::new();
    for place in &places {
        for other in [json!(null), json!(true), json!(-1), json!(1.5), json!("?"), json!([]), json!({})] {
            let mut spoilt = value.clone();
            let Some(at) = spoilt.pointer_mut(place) else { continue };
            if *at != other {
                *at = other;
                all.push((place.clone(), spoilt));
            }
        }
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        let mut without = value.clone();
        if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
            fields.remove(&name.replace("~1", "/").replace("~0", "~"));
            all.push((format!("{place} is gone"), without));
        }
        let mut more = value.clone();
        if let Some(Value::Object(fields)) = more.pointer_mut(place) {
            fields.insert("odd".into(), json!(1));
            all.push((format!("{place} has more"), more));
        }
    }
    all
}

fn walk(value: &Value, place: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| {
            walk(inner, format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), into);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| walk(inner, format!("{place}/{index}"), into));
        }
        _ => {}
    }
    into.push(place);
}

#[test]
fn frozen_lines_fit_their_schemas_and_spoilt_ones_do_not() {
    let mut refused = 0;
    for file in FILES {
        let schema = schema(file.schema);
        for line in file.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            check(&schema, &line).unwrap_or_else(|why| panic!("{}: {why}: {line}", file.schema));
            for (place, spoilt) in spoilt(&line) {
                // The schema says what is written, which is stricter than what is read; what cannot be read must not fit.
                let reads = (file.again)(spoilt.to_string().as_bytes());
                let fits = check(&schema, &spoilt);
                refused += usize::from(reads.is_err());
                assert!(
                    reads.is_ok() || fits.is_err(),
                    "{} {place} fits, but: {reads:?}: {spoilt}",
                    file.schema
                );
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_command_fits_its_schema_exactly_when_it_is_read() {
    let mut refused = 0;
    for frozen in commands() {
        let subject = CommandSubject::parse(&frozen.subject).unwrap();
        let schema = schema(&format!("{}.{}", subject.object.kind(), subject.verb));
        let body: Value = serde_json::from_str(&frozen.body).unwrap_or_else(|_| json!({}));
        check(&schema, &body).unwrap_or_else(|why| panic!("{why}: {body}"));
        for (place, spoilt) in spoilt(&body) {
            let reads = parse(&frozen.subject, spoilt.to_string().as_bytes());
            let fits = check(&schema, &spoilt);
            refused += usize::from(reads.is_err());
            // A change is a patch: whether it fits is known when it has been applied.
            let is_patch = subject.verb == "change" && reads.is_ok();
            // serde passes over what else a finding without fields has.
            let is_passed_over = subject.verb == "report" && place.ends_with("more") && reads.is_ok();
            assert!(
                is_patch || is_passed_over || reads.is_ok() == fits.is_ok(),
                "{place}: {reads:?} {fits:?}: {spoilt}"
            );
        }
    }
    assert!(refused > 100, "{refused}");
}
