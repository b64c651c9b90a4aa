//! Every version ever written still reads, and is written again as it was. Lines are added here, never changed.

use serde_json::Value;
use wanwright_schemas::body;
use wanwright_schemas::envelope::{Envelope, UnreadableEnvelope};
use wanwright_schemas::event::Event;
use wanwright_schemas::report::Report;

#[test]
fn stored_envelopes_read_and_write_as_they_were() {
    for line in include_str!("../frozen/envelope.v1.jsonl").lines() {
        let envelope = Envelope::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let written = String::from_utf8(envelope.encode().expect("encodes")).expect("text");
        assert_eq!(written, line);
    }
}

#[test]
fn stored_reports_read_and_write_as_they_were() {
    let text = include_str!("../frozen/report.v1.json").trim();
    let report: Report = body::parse(text.as_bytes()).expect("a report");
    let value: Value = serde_json::to_value(&report).expect("encodes");
    assert_eq!(value.to_string(), text);
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
