//! Stored events and envelopes of versions that never were, brought to the present by a chain that renames, splits and
//! drops over three versions.

use serde_json::{Value, json};
use wanwright_schemas::envelope::{Envelope, UnreadableEnvelope};
use wanwright_schemas::event::{Event, UnreadableEvent};
use wanwright_schemas::upcast::{CHAIN, Chain, EnvelopeStep, EventStep, Fields, StoredEvent};

fn stored(name: &str, version: u64, fields: Fields) -> StoredEvent {
    StoredEvent { name: name.into(), version, fields }
}

fn taken(fields: &mut Fields, name: &str) -> Result<Value, String> {
    fields.remove(name).ok_or_else(|| format!("it lacks `{name}`"))
}

/// Version 1 called a site a place, and what is behind it its net: one prefix.
fn place_made(mut fields: Fields) -> Result<Vec<StoredEvent>, String> {
    let (place, net) = (taken(&mut fields, "place")?, taken(&mut fields, "net")?);
    fields.insert("site".into(), place);
    fields.insert("spec".into(), json!({"vendor": "simwan", "lan": [net]}));
    Ok(vec![stored("SiteCreated", 2, fields)])
}

/// Version 2 created a site together with its first tunnel.
fn site_created(mut fields: Fields) -> Result<Vec<StoredEvent>, String> {
    let Some(tunnel) = fields.remove("tunnel") else { return Ok(vec![stored("SiteCreated", 3, fields)]) };
    let spec = json!({"site": fields["site"], "peer": {"hub": "hub-eu"}, "inside": "169.254.0.0/30"});
    let tunnel = json!({"tunnel": tunnel, "generation": 1, "spec": spec});
    let Value::Object(tunnel) = tunnel else { return Err("not an object".into()) };
    Ok(vec![stored("SiteCreated", 3, fields), stored("TunnelCreated", 3, tunnel)])
}

/// Version 1 noted what nobody needs any more.
fn site_painted(_: Fields) -> Result<Vec<StoredEvent>, String> {
    Ok(Vec::new())
}

/// A step that goes round in a circle.
fn circle(fields: Fields) -> Result<Vec<StoredEvent>, String> {
    Ok(vec![stored("SiteCircled", 1, fields)])
}

/// Version 1 of the envelope had the command's sender in an object.
fn sender(mut fields: Fields) -> Result<Fields, String> {
    let sender = taken(&mut fields, "sender")?;
    fields.insert("actor".into(), sender["name"].clone());
    Ok(fields)
}

/// Version 2 had no place for what a command belongs to.
fn correlation(mut fields: Fields) -> Result<Fields, String> {
    fields.insert("correlation".into(), "before version 3".into());
    Ok(fields)
}

const THREE: Chain = Chain {
    envelope: 3,
    events: &[("SiteCreated", 3), ("TunnelCreated", 3), ("SiteCircled", 2), ("DeviceRemoved", 2)],
    envelope_steps: &[EnvelopeStep { version: 1, up: sender }, EnvelopeStep { version: 2, up: correlation }],
    event_steps: &[
        EventStep { name: "PlaceMade", version: 1, up: place_made },
        EventStep { name: "SiteCreated", version: 2, up: site_created },
        EventStep { name: "SitePainted", version: 1, up: site_painted },
        EventStep { name: "SiteCircled", version: 1, up: circle },
    ],
};

fn raise(wire: Value) -> Result<Vec<Event>, UnreadableEvent> {
    let Value::Object(wire) = wire else { panic!("an event is an object") };
    let mut events = Vec::new();
    Event::from_wire(wire, &THREE, &mut events)?;
    Ok(events)
}

fn objects(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", event.object(), event.type_name())).collect()
}

#[test]
fn a_type_and_its_fields_are_renamed_and_go_on_rising() {
    let events =
        raise(json!({"type": "PlaceMade", "v": 1, "place": "oslo", "net": "10.0.0.0/24", "generation": 1}));
    let today = json!({"type": "SiteCreated", "v": 1, "site": "oslo", "generation": 1,
        "spec": {"vendor": "simwan", "lan": ["10.0.0.0/24"]}});
    let today: Event = serde_json::from_value(today).unwrap();
    assert_eq!(events.unwrap(), [today]);
}

#[test]
fn one_event_becomes_two_or_none() {
    let spec = json!({"vendor": "simwan", "lan": []});
    let both =
        json!({"type": "SiteCreated", "v": 2, "site": "oslo", "generation": 1, "tunnel": "t1", "spec": spec});
    assert_eq!(objects(&raise(both.clone()).unwrap()), ["site/oslo SiteCreated", "tunnel/t1 TunnelCreated"]);
    assert_eq!(raise(json!({"type": "SitePainted", "v": 1, "colour": "red"})).unwrap(), []);
    // What is of the present passes as it is, whatever fields it has.
    let mut present = both;
    present["v"] = 3.into();
    assert_eq!(objects(&raise(present).unwrap()), ["site/oslo SiteCreated"]);
}

#[test]
fn what_cannot_rise_stops_the_reader_by_name() {
    let error = |wire: Value| raise(wire).expect_err("unreadable").to_string();
    let newer = error(json!({"type": "SiteCreated", "v": 4, "site": "oslo"}));
    assert_eq!(newer, "event SiteCreated has version 4; this version of wanwright reads up to 3");
    let lost = error(json!({"type": "DeviceRemoved", "v": 1, "device": "ap"}));
    assert!(lost.contains("DeviceRemoved has version 1") && lost.contains("cannot bring it up"), "{lost}");
    let lacking = error(json!({"type": "PlaceMade", "v": 1, "place": "oslo"}));
    assert!(lacking.contains("PlaceMade") && lacking.contains("lacks `net`"), "{lacking}");
    let circle = error(json!({"type": "SiteCircled", "v": 1}));
    assert!(circle.contains("it ended at SiteCircled 1"), "{circle}");
    assert!(error(json!({"type": "PlaceMade", "v": 0})).contains("cannot bring it up"));
    assert!(matches!(raise(json!({"type": "SiteCreated", "v": "2"})), Err(UnreadableEvent::NoType)));
}

fn envelope(version: u64) -> Value {
    let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let mut envelope = json!({
        "v": version, "command": "019aa4f0-0000-7000-8000-000000000001", "body_sha256": digest, "actor": "demo",
        "cause": null, "time": "2026-11-21T08:00:00Z", "prev": null, "key": null,
        "events": [
            {"type": "PlaceMade", "v": 1, "place": "oslo", "net": "10.0.0.0/24", "generation": 1},
            {"type": "SitePainted", "v": 1, "colour": "red"},
            {"type": "SiteCreated", "v": 2, "site": "rome", "generation": 1, "tunnel": "t1",
                "spec": {"vendor": "simwan", "lan": []}},
            {"type": "SiteRemoved", "v": 1, "site": "bern", "order": "44136fa3-55b3-878a-9146-ad16f7e8649e"},
        ],
    });
    if version == 1 {
        envelope["actor"].take();
        envelope.as_object_mut().unwrap().remove("actor");
        envelope["sender"] = json!({"name": "demo"});
    }
    if version == 3 {
        envelope["correlation"] = "fleet".into();
    }
    envelope
}

#[test]
fn envelopes_of_every_version_read_the_same() {
    for version in 1..=3 {
        let read = Envelope::decode_with(envelope(version).to_string().as_bytes(), &THREE).unwrap();
        assert_eq!((read.v, read.actor.as_str()), (3, "demo"));
        let belongs = if version == 3 { "fleet" } else { "before version 3" };
        assert_eq!(read.correlation.as_deref(), Some(belongs));
        let events = [
            "site/oslo SiteCreated",
            "site/rome SiteCreated",
            "tunnel/t1 TunnelCreated",
            "site/bern SiteRemoved",
        ];
        assert_eq!(objects(&read.events), events);
    }
}

#[test]
fn an_envelope_that_cannot_rise_stops_the_reader_by_name() {
    let read = |envelope: Value| {
        Envelope::decode_with(envelope.to_string().as_bytes(), &THREE).expect_err("unreadable")
    };
    assert!(matches!(read(envelope(4)), UnreadableEnvelope::UnknownVersion(4)));
    assert!(matches!(read(envelope(0)), UnreadableEnvelope::UnknownVersion(0)));
    let mut lacking = envelope(1);
    lacking.as_object_mut().unwrap().remove("sender");
    assert_eq!(
        read(lacking).to_string(),
        "the envelope could not be brought up: version 1: it lacks `sender`"
    );
    let mut odd = envelope(2);
    odd["odd"] = 1.into();
    assert!(matches!(read(odd), UnreadableEnvelope::Malformed(_)));
    let mut newer = envelope(2);
    newer["events"][0]["v"] = 9.into();
    assert!(read(newer).to_string().contains("PlaceMade has version 9"));
    // What a chain of three versions brings up, the one in use does not know.
    let unknown = Envelope::decode(envelope(2).to_string().as_bytes()).expect_err("newer");
    assert!(matches!(unknown, UnreadableEnvelope::UnknownVersion(2)));
}

/// What a chain cannot bring up although it ends behind it.
fn missing(chain: &Chain) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, present) in chain.events {
        let has =
            |version| chain.event_steps.iter().any(|step| (step.name, step.version) == (*name, version));
        let first = chain.event_steps.iter().filter(|step| step.name == *name).map(|step| step.version).min();
        missing.extend(
            (first.unwrap_or(1)..*present)
                .filter(|version| !has(*version))
                .map(|version| format!("{name} {version}")),
        );
    }
    let has = |version| chain.envelope_steps.iter().any(|step| step.version == version);
    missing.extend(
        (1..chain.envelope).filter(|version| !has(*version)).map(|version| format!("envelope {version}")),
    );
    missing
}

#[test]
fn every_version_of_the_chain_in_use_has_its_step() {
    assert_eq!(missing(&CHAIN), Vec::<String>::new());
    // A type that began under another name has no first version of its own.
    assert_eq!(missing(&THREE), ["TunnelCreated 1", "TunnelCreated 2", "DeviceRemoved 1"]);
    let shorter = Chain { envelope_steps: &THREE.envelope_steps[..1], ..THREE };
    assert!(missing(&shorter).contains(&"envelope 2".to_owned()));
}
