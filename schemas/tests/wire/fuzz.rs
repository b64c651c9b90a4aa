//! Whatever arrives, no decoder panics, hangs or makes of it what it did not say. `PROPTEST_CASES` makes it more.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_schemas::command::verbs;
use wanwright_schemas::control::{Control, ControlRequest};
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::ids::{Actor, CommandId, CustomerId, ObjectId, OrderId};
use wanwright_schemas::rollout::{self, Estimated, Rollout, RolloutRequest};
use wanwright_schemas::services::{HistoryRequest, OutcomeRequest};
use wanwright_schemas::subjects::{self, CommandSubject};
use wanwright_schemas::trace::TraceContext;
use wanwright_schemas::{Digest, Kind, body, cloudevent, services, strict};

use crate::hostile::texts;
use crate::lines::{FILES, commands, json, parse, says};

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 512 };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 1024, ..default }
}

/// One way to spoil a text: what, where (a part of its length), and with what.
type Spoil = (u8, f64, u8);

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    prop::collection::vec((0..14u8, 0.0..1.0f64, any::<u8>()), 0..5)
}

const NUMBERS: [&str; 8] = [
    "1e400",
    "-1e-400",
    "99999999999999999999999",
    "-0",
    "0.1234567890123456789",
    "18446744073709551616",
    "1E5",
    "01",
];
const PIECES: [&str; 10] = [
    r"\ud800",
    r"\u0000",
    r"\udc00\ud800",
    "\u{1b}[31m",
    "null",
    "{",
    "]",
    r#""v":1,"#,
    r#""type":"SiteCreated","#,
    r#""\u0076":2,"#,
];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a length is no longer than it"
)]
fn spoil(line: &[u8], spoils: &[Spoil]) -> Vec<u8> {
    let mut bytes = line.to_vec();
    for (what, place, with) in spoils {
        let at = (bytes.len() as f64 * place) as usize;
        let end = (at + usize::from(*with)).min(bytes.len());
        let next =
            |bytes: &[u8], found: fn(&u8) -> bool| bytes[at..].iter().position(found).map(|found| at + found);
        match what {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= with | 1,
            2 => bytes.insert(at, *with),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                if let Some(at) = next(&bytes, u8::is_ascii_digit) {
                    let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    bytes.splice(at..at + length, NUMBERS[usize::from(*with) % NUMBERS.len()].bytes());
                }
            }
            6 => drop(bytes.splice(at..at, PIECES[usize::from(*with) % PIECES.len()].bytes())),
            // A name that is there twice.
            7 | 8 => {
                if let Some(at) = next(&bytes, |byte| *byte == b'{')
                    && let Some(name) = bytes[at..].iter().position(|byte| *byte == b':')
                {
                    let twice = [&bytes[at + 1..=at + name], &b"1,"[..]].concat();
                    let place = if *what == 7 { at + 1 } else { bytes.len().saturating_sub(1) };
                    bytes.splice(place..place, twice);
                }
            }
            // Deeper than any reader goes.
            9 => {
                let (open, shut) = if with % 2 == 0 { ("[", "]") } else { (r#"{"a":"#, "}") };
                let depth = usize::from(*with) * 8;
                let deep = format!("{}1{}", open.repeat(depth), shut.repeat(depth));
                if let Some(at) = next(&bytes, |byte| *byte == b':') {
                    bytes.splice(at + 1..=at, deep.bytes());
                }
            }
            // Another text in the place of one.
            10 | 11 => {
                let texts = texts();
                let text = Value::from(&*texts[(usize::from(*with) * 7 + at) % texts.len()]).to_string();
                if let Some(at) = next(&bytes, |byte| *byte == b'"')
                    && let Some(length) = bytes[at + 1..].iter().position(|byte| *byte == b'"')
                {
                    bytes.splice(at..at + length + 2, text.bytes());
                }
            }
            _ => drop(bytes.splice(at..end, std::iter::repeat_n(*with, usize::from(*with)))),
        }
    }
    bytes
}

/// The objects of each kind, and their verbs.
fn doors() -> Vec<(Kind, &'static str)> {
    Kind::ALL.into_iter().flat_map(|kind| verbs(kind).iter().map(move |verb| (kind, *verb))).collect()
}

fn take_command(subject: &str, bytes: &[u8]) {
    match parse(subject, bytes) {
        Err(refusal) => assert!(!refusal.message.is_empty() && !refusal.next.is_empty()),
        Ok(command) => {
            // What was read, said again, is read as the same.
            let said = says(&command);
            if !said.is_null() {
                let again = parse(subject, said.to_string().as_bytes());
                assert_eq!(again.as_ref(), Ok(&command), "{}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

/// What is read is written so that it reads as the same.
fn take_stored(again: Again, bytes: &[u8]) {
    if let Ok(written) = again(bytes) {
        assert_eq!(again(written.as_bytes()).as_deref(), Ok(&*written), "{}", String::from_utf8_lossy(bytes));
    }
}

fn take_event(head: &BTreeMap<String, String>, bytes: &[u8]) {
    let find = |name: &str| {
        head.iter().find(|(typed, _)| typed.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let subject = CommandSubject::parse("wan.do.acme.demo.site.oslo.create").expect("a subject");
    if let Ok(Some(event)) = cloudevent::read(find, bytes) {
        let _ = event.agrees(&subject);
        let id = CommandId::foreign(&subject.actor, &event.source, &event.id);
        assert!(id.is_foreign() && event.body.len() <= bytes.len() * 2 + 2);
        take_command(&subject.request(), &event.body);
    }
}

/// What a reader makes of a line, written again.
type Again = fn(&[u8]) -> Result<String, String>;

/// What is asked beside the doors, read as the services read it, and records in buckets.
const ASIDE: &[(&str, Again)] = &[
    (r#"{"after":7,"limit":20,"newest":true}"#, asked::<HistoryRequest>),
    (r#"{"command":"0192f0c1-a2b3-7c4d-8e5f-60718293a4b5"}"#, asked::<OutcomeRequest>),
    (r#"{"reason":"they move","until":"2026-12-24T12:00:00Z"}"#, asked::<ControlRequest>),
    (
        r#"{"to":2,"from":1,"sample":20,"canaries":["acme"],"steps":[10,100],"max_failures":1,"max_failures_percent":5,"when_held":"wait","pause_seconds":60,"at_once":20,"reason":"why"}"#,
        asked::<RolloutRequest>,
    ),
    (
        r#"{"v":1,"scope":"customer","name":"acme","paused":true,"actor":"anna","reason":"why","until":"2026-11-21T08:00:00Z","time":"2026-11-21T07:00:00Z"}"#,
        json::<Control>,
    ),
    (
        r#"{"v":1,"vendor":"simwan","number":2,"from":1,"to":2,"digest":"5f","rolls_back":1,"waves":{"canaries":["acme"],"steps":[10,100],"max_failures":1,"max_failures_percent":5,"when_held":"wait","pause_seconds":60,"at_once":20},"state":"stopped","why":"2 stacks failed","wave":1,"wave_ended":"2026-11-21T08:00:00Z","counts":{"customers":3,"stacks":9,"waiting":1,"progressing":2,"applied":2,"failed":2,"held":1,"taken_back":1},"summary":{"sample":20,"customers":3,"stacks":9,"planned":8,"unchanged":1,"actions":{"create":1,"update":2,"delete":4,"replace":3},"failed":1,"problem":"no"},"by":"olga","began":"2026-11-21T07:00:00Z","time":"2026-11-21T08:00:00Z"}"#,
        json::<Rollout>,
    ),
    (r#"{"result":"planned","create":1,"update":2,"delete":4,"replace":3}"#, json::<Estimated>),
];

fn asked<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<String, String> {
    let read: T = strict::parse(bytes).map_err(|refusal| {
        assert!(!refusal.message.is_empty() && !refusal.next.is_empty());
        refusal.to_string()
    })?;
    serde_json::to_string(&read).map_err(|error| error.to_string())
}

/// Header values as they come, and as they should be.
fn header() -> impl Strategy<Value = (String, String)> {
    let name = prop::sample::select(vec![
        "ce-specversion",
        "CE-ID",
        "ce-source",
        "ce-type",
        "ce-subject",
        "ce-datacontenttype",
        "content-type",
        "ce-dataschema",
        "ce-traceparent",
    ]);
    let known = prop::sample::select(vec![
        "1.0",
        "application/json",
        "application/cloudevents+json",
        "a%20b",
        "%C0%A0",
        "\"a\\",
        "\"\\\"\"",
        "wan.site.create",
        "%",
        "site/oslo",
        "urn:wanwright:site:v1",
        "application/cloudevents-batch+json",
    ]);
    (name, prop_oneof![known.prop_map(str::to_owned), any::<String>()])
        .prop_map(|(name, value)| (name.to_owned(), value))
}

const WRAPPED: &str = r#"{"specversion":"1.0","id":"7","source":"erp","type":"x","datacontenttype":"application/json","data":{"vendor":"simwan","lan":["10.0.0.0/24"],"settings":{"a":[1.5,-2,"\u00e9"]}},"subject":"site/oslo"}"#;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_in_any_door(bytes in prop::collection::vec(any::<u8>(), 0..300), door in any::<prop::sample::Index>()) {
        let doors = doors();
        let (kind, verb) = doors[door.index(doors.len())];
        let id = if kind == Kind::Customer { "acme" } else { "oslo" };
        take_command(&format!("wan.do.acme.demo.{kind}.{id}.{verb}"), &bytes);
        for file in FILES {
            take_stored(file.again, &bytes);
        }
        for (_, again) in ASIDE {
            take_stored(*again, &bytes);
        }
        take_event(&BTreeMap::new(), &bytes);
    }

    #[test]
    fn spoilt_commands(line in any::<prop::sample::Index>(), spoils in spoils()) {
        let commands = commands();
        let frozen = &commands[line.index(commands.len())];
        take_command(&frozen.subject, &spoil(frozen.body.as_bytes(), &spoils));
        let subject = spoil(frozen.subject.as_bytes(), &spoils);
        take_command(&String::from_utf8_lossy(&subject), frozen.body.as_bytes());
    }

    #[test]
    fn spoilt_stored_lines(line in any::<prop::sample::Index>(), spoils in spoils()) {
        for file in FILES {
            let lines = file.lines();
            take_stored(file.again, &spoil(lines[line.index(lines.len())].as_bytes(), &spoils));
        }
    }

    #[test]
    fn spoilt_questions_and_records(line in any::<prop::sample::Index>(), spoils in spoils()) {
        let (line, again) = ASIDE[line.index(ASIDE.len())];
        prop_assert!(again(line.as_bytes()).is_ok(), "{}", line);
        take_stored(again, &spoil(line.as_bytes(), &spoils));
    }

    #[test]
    fn spoilt_cloudevents(head in prop::collection::btree_map(any::<u8>(), header(), 0..9), spoils in spoils()) {
        let head: BTreeMap<String, String> = head.into_values().collect();
        take_event(&head, &spoil(WRAPPED.as_bytes(), &spoils));
        take_event(&BTreeMap::new(), &spoil(WRAPPED.as_bytes(), &spoils));
        take_event(&head, &spoil(br#"{"vendor":"simwan","lan":[]}"#, &spoils));
    }

    #[test]
    fn any_text_as_an_id(text in prop_oneof![any::<String>(), "[a-z0-9.-]{0,70}", "[0-9a-f-]{36}", "sha256:[0-9a-f]{60,66}"]) {
        if let Ok(id) = text.parse::<ObjectId>() {
            prop_assert_eq!(id.as_str(), &text);
        }
        if let Ok(id) = text.parse::<CommandId>() {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let _ = id.unix_millis();
        }
        if let Ok(id) = text.parse::<OrderId>() {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(digest) = Digest::try_from(text.clone()) {
            prop_assert_eq!(digest.to_string(), text.to_lowercase());
        }
        if let Some(customer) = subjects::customer_of_events(&text) {
            prop_assert!(text.ends_with(customer.as_str()));
        }
        let actor: Actor = "demo".parse().expect("an actor");
        prop_assert_ne!(CommandId::foreign(&actor, &text, ""), CommandId::foreign(&actor, "", &format!("{text}x")));
        let traced = TraceContext::read(Some(&text), Some(&text));
        prop_assert!(traced.is_none_or(|trace| trace.parent == text.trim()));
        let customer: CustomerId = "acme".parse().expect("an id");
        prop_assert!(subjects::partition(&customer, 8) < 8);
    }

    #[test]
    fn any_text_as_a_subject(
        text in prop_oneof![
            "wan\\.(history|outcome)\\.[a-z0-9-]{0,3}\\.[a-zA-Z.]{0,3}",
            "wan\\.control\\.[a-z]{1,3}\\.(pause|resume|plan|start|stop|x)\\.(vendor|customer|rollout|x)\\.[a-z.]{0,3}",
            "wan\\.submit\\.[a-z]{1,3}\\.[a-z]{1,3}\\.(site|tunnel|x)\\.[a-z]{0,3}\\.[a-z.]{0,90}",
            "wan\\.key\\.(wrapped|erasing|current)\\.[a-z]{1,3}(\\.[0-9a-f-]{36})?(\\.[a-z.]{0,4})?",
            any::<String>(),
        ],
        spoils in spoils(),
    ) {
        let spoilt = String::from_utf8_lossy(&spoil(text.as_bytes(), &spoils)).into_owned();
        for text in [text, spoilt] {
            match services::asked(&text) {
                Ok((customer, actor)) => {
                    let tail = format!(".{customer}.{actor}");
                    prop_assert!(text.ends_with(&tail) && text.split('.').count() == 4, "{}", text);
                }
                Err(refusal) => prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 2048),
            }
            match services::submitted(&text) {
                // A verb that is too long is cut, and there is none of that name.
                Ok(subject) => prop_assert!(text.replacen("submit", "cmd", 1).starts_with(&subject.durable())),
                Err(refusal) => prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 2048),
            }
            match services::controlled(&text) {
                Ok((actor, paused, scope)) => prop_assert_eq!(&services::control(&actor, &scope, paused), &text),
                Err(refusal) => prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 2048),
            }
            match rollout::asked(&text) {
                Ok(Some((actor, verb, vendor))) => prop_assert_eq!(&verb.subject(&actor, &vendor), &text),
                Ok(None) => {}
                Err(refusal) => prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 2048),
            }
            if let Some((customer, key, master)) = subjects::key_of_wrapped(&text) {
                prop_assert_eq!(&subjects::wrapped_key(&customer, key, master), &text.to_lowercase());
            }
            if let Some(customer) = subjects::customer_of_erasing(&text) {
                prop_assert_eq!(&subjects::erasing_key(&customer), &text);
            }
        }
    }

    #[test]
    fn any_text_as_a_trace(
        parent in prop_oneof!["[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,9})?", any::<String>()],
        state in prop_oneof!["([a-z0-9@_]{0,6}=[ -~]{0,6},?){0,5}", any::<String>()],
    ) {
        if let Some(trace) = TraceContext::read(Some(&parent), Some(&state)) {
            let again = TraceContext::read(Some(&trace.parent), trace.state.as_deref());
            prop_assert_eq!(again, Some(trace.clone()));
            let is_header = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            prop_assert!(is_header(&trace.parent) && trace.state.is_none_or(|state| is_header(&state)));
        }
    }

    /// What the strict reader takes means one thing: the plain reader understands the same, and it is written as it was.
    #[test]
    fn strict_json_says_one_thing(line in any::<prop::sample::Index>(), spoils in spoils()) {
        let commands = commands();
        let with_bodies: Vec<_> = commands.iter().filter(|frozen| frozen.body.len() > 2).collect();
        let bytes = spoil(with_bodies[line.index(with_bodies.len())].body.as_bytes(), &spoils);
        if let Ok(value) = strict::read(&bytes) {
            let plain: Value = body::parse(&bytes).expect("plain JSON");
            prop_assert_eq!(&plain, &value);
            let written = value.to_string();
            prop_assert_eq!(strict::read(written.as_bytes()), Ok(value));
        }
    }

    #[test]
    fn a_merge_patch_ends(target in any::<prop::sample::Index>(), spoils in spoils()) {
        let commands = commands();
        let frozen = &commands[target.index(commands.len())];
        let patch = serde_json::from_slice(&spoil(frozen.body.as_bytes(), &spoils)).unwrap_or(Value::Null);
        let mut value = frozen.says.clone();
        body::merge_patch(&mut value, &patch);
        let once = value.clone();
        body::merge_patch(&mut value, &patch);
        prop_assert_eq!(&once, &value, "a patch that is applied twice changes nothing more");
        let _ = body::from_value::<wanwright_schemas::spec::TunnelSpec>(value);
    }
}

/// A drift report may have any number a vendor says, and the state it leads to is the one a replay leads to.
#[test]
fn what_a_vendor_says_reads_as_it_was_written() {
    let said = r#"{"check":"019aa4f0-0000-7000-8000-000000000004","fields":[{"desired":118446744073709551616,"field":"mtu","observed":2.638344616030823e-256}],"tunnel":"t1","type":"TunnelDriftFound","v":1}"#;
    let event = FILES.iter().find(|file| file.schema == "event").expect("events");
    take_stored(event.again, said.as_bytes());
}

/// How long this thread had a processor until now, in nanoseconds. Who else runs does not matter.
fn worked() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("a time")
}

/// Most work for all readers together: so many times what reading the largest list there may be takes. What looks at
/// everything once for each thing in it takes a hundred thousand times as much.
const LIMIT: u64 = 500;

/// As large as a message may be, and as deep and wide as fits: answered with bounded work.
#[test]
fn giants_are_answered_at_once() {
    let size = body::MAX_BODY;
    let giants = [
        "[".repeat(size),
        r#"{"a":"#.repeat(size / 5),
        format!("{{\"lan\":[{}0]}}", "0,".repeat(size / 2 - 10)),
        format!("{{\"vendor\":\"{}\"}}", "x".repeat(size - 20)),
        format!("{{\"vendor\":{}}}", "9".repeat(size - 20)),
        format!("{{\"vendor\":1e{}}}", "9".repeat(size - 20)),
        format!("{{{}\"a\":1}}", "\"a\":1,".repeat(size / 6 - 10)),
        format!("{{\"lan\":[{}\"\"]}}", "\"10.0.0.0/24\",".repeat(size / 14 - 10)),
        format!("\"{}\"", r"\ud800".repeat(size / 6 - 1)),
        format!(r#"{{"specversion":"1.0","id":"1","source":"a","type":"b","data":{}"#, "[".repeat(size - 70)),
        "x".repeat(4 * size),
    ];
    let began = worked();
    serde_json::from_str::<Value>(&giants[2]).expect("JSON");
    let unit = worked() - began;
    for giant in &giants {
        let began = worked();
        for verb in ["create", "change", "decommission", "report"] {
            take_command(&format!("wan.do.acme.demo.site.acme.{verb}"), giant.as_bytes());
        }
        FILES.iter().for_each(|file| take_stored(file.again, giant.as_bytes()));
        take_event(&BTreeMap::new(), giant.as_bytes());
        assert!(Envelope::decode(giant.as_bytes()).is_err());
        let took = (worked() - began) / unit;
        assert!(took < LIMIT, "{took} times reading a list: {}", &giant[..20]);
    }
}
