//! CloudEvents by the NATS protocol binding. The events are written after the examples of the specification.

use std::borrow::Cow;

use serde_json::{Value, json};
use wanwright_schemas::cloudevent::{self, CloudEvent};
use wanwright_schemas::command::verbs;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{Kind, Reason, Refusal};

type Head<'a> = &'a [(&'a str, &'a str)];

fn read<'a>(head: Head<'_>, body: &'a str) -> Result<Option<CloudEvent<'a>>, Refusal> {
    let find =
        |name: &str| head.iter().find(|(typed, _)| typed.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    cloudevent::read(find, body.as_bytes())
}

#[track_caller]
fn event<'a>(head: Head<'_>, body: &'a str) -> CloudEvent<'a> {
    read(head, body).unwrap_or_else(|refusal| panic!("{refusal}")).expect("a CloudEvent")
}

#[track_caller]
fn refused(head: Head<'_>, body: &str) -> (Reason, String) {
    let refusal = read(head, body).expect_err("refused");
    (refusal.code, refusal.field.unwrap_or_default())
}

const BINARY: [(&str, &str); 6] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "com.example.someevent"),
    ("ce-time", "2018-04-05T03:56:24Z"),
    ("ce-id", "1234-1234-1234"),
    ("ce-source", "/mycontext/subcontext"),
    ("ce-datacontenttype", "application/json"),
];

/// The binary example with some headers in the place of its own.
fn binary<'a>(others: Head<'a>) -> Vec<(&'a str, &'a str)> {
    let kept = BINARY
        .into_iter()
        .filter(|(name, _)| others.iter().all(|(other, _)| !other.eq_ignore_ascii_case(name)));
    kept.chain(others.iter().copied()).filter(|(_, value)| *value != "gone").collect()
}

#[test]
fn the_binary_example_is_read() {
    let read = event(&BINARY, "{}");
    assert_eq!((&*read.id, &*read.source), ("1234-1234-1234", "/mycontext/subcontext"));
    assert_eq!(
        (&*read.kind, read.subject, read.body),
        ("com.example.someevent", None, Cow::Borrowed(&b"{}"[..]))
    );
}

#[test]
fn header_values_are_decoded_once() {
    let subject = |value: &str| event(&binary(&[("CE-Subject", value)]), "{}").subject.unwrap();
    assert_eq!(subject("Euro%20%E2%82%AC%20%F0%9F%98%80"), "Euro \u{20ac} \u{1f600}");
    assert_eq!(subject("euro%20%e2%82%ac"), "euro \u{20ac}");
    assert_eq!(subject("%2520"), "%20");
    assert_eq!(subject("%61%62c"), "abc");
    assert_eq!(subject(r#""a \"quoted\" \\ text""#), r#"a "quoted" \ text"#);
    assert_eq!(subject(r#""%22""#), r#"""#);
    assert_eq!(subject("100%"), "100%");
    assert_eq!(subject("%zz%4"), "%zz%4");
    for bad in ["%C0%A0", "%FF", "%ED%A0%80", "%00", "%0A"] {
        assert_eq!(
            refused(&binary(&[("ce-subject", bad)]), "{}"),
            (Reason::BadHeader, "ce-subject".into()),
            "{bad}"
        );
    }
}

#[test]
fn a_binary_event_is_whole_or_refused() {
    for name in ["ce-specversion", "ce-type", "ce-id", "ce-source"] {
        assert_eq!(refused(&binary(&[(name, "gone")]), "{}"), (Reason::BadHeader, name.into()));
        assert_eq!(refused(&binary(&[(name, "")]), "{}"), (Reason::BadHeader, name.into()));
    }
    assert_eq!(refused(&binary(&[("ce-specversion", "0.3")]), "{}").1, "ce-specversion");
    assert_eq!(refused(&binary(&[("ce-datacontenttype", "text/plain")]), "{}").1, "ce-datacontenttype");
    assert_eq!(
        refused(&binary(&[("ce-datacontenttype", "application/json;charset=latin1")]), "{}").1,
        "ce-datacontenttype"
    );
    let content = [("ce-datacontenttype", "gone"), ("Content-Type", "text/xml")];
    assert_eq!(refused(&binary(&content), "{}").1, "Content-Type");
    for good in ["application/json", "Application/JSON; charset=\"UTF-8\"", "application/vnd.example+json"] {
        event(&binary(&[("ce-datacontenttype", "gone"), ("content-type", good)]), "{}");
    }
    // Extensions alone make no event of a command.
    assert_eq!(read(&[("ce-traceparent", "x"), ("ce-comment", "y")], "{}"), Ok(None));
    assert_eq!(read(&[("Content-Type", "text/plain")], "{}"), Ok(None));
}

fn structured() -> Value {
    json!({
        "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null,
        "id": "C234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
        "comexampleothervalue": 5, "datacontenttype": "application/vnd.example+json", "data": {"b": [1.5], "a": "x"},
    })
}

fn with(changes: &[(&str, Value)]) -> String {
    let mut event = structured();
    for (name, value) in changes {
        if *value == json!("gone") {
            event.as_object_mut().unwrap().remove(*name);
        } else {
            event[*name] = value.clone();
        }
    }
    event.to_string()
}

const TYPED: Head<'_> = &[("Content-Type", "application/cloudevents+json; charset=UTF-8")];

#[test]
fn the_structured_example_is_read_by_content_type_and_by_shape() {
    let body = with(&[]);
    for head in
        [TYPED, &[("content-type", "Application/CloudEvents")], &[], &[("Content-Type", "application/json")]]
    {
        let read = event(head, &body);
        assert_eq!(
            (&*read.id, &*read.source, &*read.kind),
            ("C234-1234-1234", "/mycontext", "com.example.someevent")
        );
        assert_eq!(&*read.body, br#"{"a":"x","b":[1.5]}"#);
    }
    let none = with(&[("data", json!("gone"))]);
    assert_eq!(&*event(TYPED, &none).body, b"");
    assert_eq!(read(&[], &none), Ok(None), "without data it has not the shape");
    assert_eq!(&*event(&[], &with(&[("data", Value::Null)])).body, b"");
    let encoded = with(&[("data", json!("gone")), ("data_base64", json!("eyJ2ZW5kb3IiOiJzaW13YW4ifQ=="))]);
    assert_eq!(&*event(&[], &encoded).body, br#"{"vendor":"simwan"}"#);
}

#[test]
fn a_structured_event_is_whole_or_refused() {
    for name in ["specversion", "type", "id", "source"] {
        assert_eq!(refused(TYPED, &with(&[(name, json!("gone"))])), (Reason::MissingField, name.into()));
        assert_eq!(refused(TYPED, &with(&[(name, json!(7))])), (Reason::WrongType, name.into()));
    }
    for (name, value) in [
        ("specversion", json!("2.0")),
        ("datacontenttype", json!("application/xml")),
        ("id", json!("a\nb")),
        ("data_base64", json!("e30=")),
    ] {
        assert_eq!(refused(&[], &with(&[(name, value)])), (Reason::InvalidValue, name.into()));
    }
    for bad in ["e30", "e30==", "e3", "=e30", "e3!=", "e31="] {
        let body = with(&[("data", json!("gone")), ("data_base64", json!(bad))]);
        assert_eq!(refused(&[], &body), (Reason::InvalidValue, "data_base64".into()), "{bad}");
    }
    assert_eq!(refused(TYPED, "[]").0, Reason::WrongType);
    assert_eq!(refused(TYPED, "{").0, Reason::BrokenJson);
    let twice = with(&[]).replace(r#""a":"x""#, r#""a":"x","a":"y""#);
    assert_eq!(refused(&[], &twice), (Reason::InvalidValue, "data.a".into()));
    let long = with(&[]).replace("1.5", "12345678901234567890123");
    assert_eq!(refused(&[], &long).0, Reason::InvalidValue);
    for kind in [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "application/cloudevents+protobuf",
    ] {
        assert_eq!(refused(&[("Content-Type", kind)], "[]"), (Reason::BadHeader, "Content-Type".into()));
    }
}

#[test]
fn a_dataschema_names_a_version_of_a_kinds_settings_or_is_refused() {
    for good in ["urn:wanwright:device:v2", "URN:Wanwright:device:v2"] {
        for read in [
            event(&binary(&[("CE-DataSchema", good)]), "{}"),
            event(&[], &with(&[("dataschema", json!(good))])),
        ] {
            let schema = read.schema.expect(good);
            assert_eq!((schema.kind, &*schema.version), (Kind::Device, "v2"));
            assert_eq!(schema.to_string(), "urn:wanwright:device:v2");
        }
    }
    assert_eq!(event(&[], &with(&[("dataschema", Value::Null)])).schema, None);
    for bad in [
        "v2",
        "https://example.com/order.json",
        "urn:wanwright:device",
        "urn:wanwright:device:2",
        "urn:wanwright:device:v0",
        "urn:wanwright:device:v02",
        "urn:wanwright:device:v",
        "urn:wanwright:device:v123456",
        "urn:wanwright:device:v1:x",
        "urn:wanwright:customer:v1",
        "urn:wanwright:cable:v1",
        "urn:wanwrigh\u{f8}:device:v1",
    ] {
        let changed = [("ce-dataschema", bad)];
        let head = binary(&changed);
        assert_eq!(refused(&head, "{}"), (Reason::BadHeader, "ce-dataschema".into()), "{bad}");
        let body = with(&[("dataschema", json!(bad))]);
        assert_eq!(refused(&[], &body), (Reason::InvalidValue, "dataschema".into()), "{bad}");
        assert!(read(&[], &body).expect_err(bad).next.contains("urn:wanwright:<"), "{bad}");
    }
    let subject = CommandSubject::parse("wan.do.acme.demo.site.oslo.create").unwrap();
    let of = |kind: &str| {
        let named = format!("urn:wanwright:{kind}:v1");
        event(&[], &with(&[("dataschema", json!(named))])).agrees(&subject).map_err(|refusal| refusal.field)
    };
    assert_eq!((of("site"), of("device")), (Ok(()), Err(Some("dataschema".to_owned()))));
}

#[test]
fn a_command_with_fields_of_such_names_is_no_event() {
    for body in [
        "",
        "{}",
        "[]",
        "7",
        "{",
        r#"{"data":{}}"#,
        r#"{"id":"1","source":"a","type":"b","data":{}}"#,
        r#"{"specversion":"1.0","id":"1","source":"a","data":{}}"#,
        r#"{"specversion":1.0,"id":"1","source":"a","type":"b","data":{}}"#,
        r#"{"vendor":"simwan","lan":[],"settings":{"specversion":"1.0","id":"1","source":"a","type":"b","data":{}}}"#,
        r#"[{"specversion":"1.0","id":"1","source":"a","type":"b","data":{}}]"#,
    ] {
        assert_eq!(read(&[], body), Ok(None), "{body}");
    }
    // The rule is safe as long as no command has these fields.
    for kind in Kind::ALL {
        for verb in verbs(kind) {
            let schema = crate::json_schemas::schema(&format!("{kind}.{verb}"));
            let has = |name: &str| schema["properties"].get(name).is_some();
            assert_eq!(schema["additionalProperties"], false, "{kind} {verb}");
            assert!(!(has("specversion") && has("source")), "{kind} {verb}");
        }
    }
}

#[test]
fn an_event_that_speaks_of_another_command_is_refused() {
    let subject = CommandSubject::parse("wan.do.acme.demo.site.oslo.create").unwrap();
    let agrees = |kind: &str, about: &str| {
        event(&binary(&[("ce-type", kind), ("ce-subject", about)]), "{}").agrees(&subject)
    };
    for (kind, about) in [
        ("wan.site.create", "site/oslo"),
        ("com.example.site", "acme/site/oslo"),
        ("wanwright", "oslo"),
        ("x", "invoice/7"),
        ("x", "a/b/c/d"),
        ("x", "site"),
    ] {
        assert_eq!(agrees(kind, about), Ok(()), "{kind} {about}");
    }
    for (kind, about, field) in [
        ("wan.site.change", "site/oslo", "type"),
        ("wan.tunnel.create", "site/oslo", "type"),
        ("wan.", "x", "type"),
        ("x", "site/paris", "subject"),
        ("x", "tunnel/oslo", "subject"),
        ("x", "other/site/oslo", "subject"),
    ] {
        let refusal = agrees(kind, about).expect_err(about);
        assert_eq!(
            (refusal.code, refusal.field.as_deref()),
            (Reason::InvalidValue, Some(field)),
            "{kind} {about}"
        );
    }
}
