//! Histories to fold: every message names the one before it, as the command service writes them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};
use wanwright_nats::StoredMessage;
use wanwright_projections::{EventMessage, EventRows};
use wanwright_schemas::{CommandId, CustomerId, Digest, Envelope, Event, subjects};

pub const PARTITIONS: u16 = 2;

pub fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub fn event(wire: Value) -> Event {
    serde_json::from_value(wire).unwrap()
}

pub fn command(number: u64) -> CommandId {
    CommandId::of_message(1_795_000_000_000 + number, number)
}

pub fn order(number: u8) -> String {
    format!("44136fa3-55b3-878a-9146-ad16f7e864{number:02x}")
}

/// When all histories begin: what is old by the clock of Postgres has no outcomes.
static START: LazyLock<jiff::Timestamp> =
    LazyLock::new(|| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1));

/// Writes histories; `next` gives a message that is ready to be stored.
#[derive(Default)]
pub struct Writer {
    heads: BTreeMap<String, Digest>,
    number: u64,
}

impl Writer {
    pub fn next(&mut self, customer: &str, events: &[Value]) -> (String, Vec<u8>) {
        self.number += 1;
        let envelope = Envelope {
            v: 1,
            command: command(self.number),
            body_sha256: Digest::of(b"{}"),
            actor: id("demo"),
            cause: None,
            correlation: None,
            time: *START
                + jiff::SignedDuration::from_millis(self.number as i64)
                + jiff::SignedDuration::from_nanos(123),
            prev: self.heads.get(customer).copied(),
            key: None,
            events: events.iter().cloned().map(event).collect(),
        };
        let bytes = envelope.encode().unwrap();
        self.heads.insert(customer.to_owned(), Digest::of(&bytes));
        (subjects::events(&id::<CustomerId>(customer), PARTITIONS), bytes)
    }
}

/// Folds the messages of one customer from nothing, without any server.
pub fn fold(messages: &[Vec<Value>]) -> EventRows {
    let mut writer = Writer::default();
    let mut rows = EventRows::default();
    for (sequence, events) in (1..).zip(messages) {
        let message = stored(sequence, writer.next("acme", events));
        rows.fold(&EventMessage::read(&message).unwrap()).unwrap();
    }
    rows
}

pub fn stored(sequence: u64, (subject, payload): (String, Vec<u8>)) -> StoredMessage {
    StoredMessage {
        stream: "EVENTS-0".to_owned(),
        sequence,
        subject,
        time: jiff::Timestamp::UNIX_EPOCH,
        headers: async_nats::HeaderMap::new(),
        payload: Bytes::from(payload),
    }
}

pub fn site_created(site: &str) -> Value {
    json!({"type": "SiteCreated", "v": 1, "site": site, "generation": 1,
        "spec": {"vendor": "simwan", "lan": ["10.7.0.0/24"], "settings": {"location": "Oslo"}}})
}

pub fn site_changed(site: &str, generation: u64, lan: &str) -> Value {
    json!({"type": "SiteChanged", "v": 1, "site": site, "generation": generation,
        "spec": {"vendor": "simwan", "lan": [lan], "settings": {"location": "Oslo"}}})
}

pub fn site_applied(site: &str, generation: u64) -> Value {
    json!({"type": "SiteApplied", "v": 1, "site": site, "generation": generation, "order": order(1),
        "outputs": {"id": "st-1", "address": "203.0.113.1"}})
}

pub fn site_failed(site: &str, generation: u64) -> Value {
    json!({"type": "SiteFailed", "v": 1, "site": site, "generation": generation, "order": order(2),
        "code": "VendorRefused", "message": "no such location"})
}

pub fn site_drifted(site: &str, check: u64) -> Value {
    json!({"type": "SiteDriftFound", "v": 1, "site": site, "check": command(check),
        "fields": [{"field": "location", "desired": "Oslo", "observed": "Bergen"}]})
}

pub fn tunnel_created(tunnel: &str, site: &str) -> Value {
    json!({"type": "TunnelCreated", "v": 1, "tunnel": tunnel, "generation": 1, "spec": {"site": site,
        "peer": {"hub": "hub-eu"}, "inside": "169.254.10.0/30", "bgp": {"local_asn": 65010, "peer_asn": 65000}}})
}

pub fn device_created(device: &str, site: &str) -> Value {
    json!({"type": "DeviceCreated", "v": 1, "device": device, "generation": 1,
        "spec": {"site": site, "serial": "SN-0001", "model": "edge-100", "settings": {"hostname": "a\u{0}b"}}})
}

pub fn about(kind: &str, id: &str, change: &str, more: Value) -> Value {
    let mut wire = json!({"type": change, "v": 1, kind: id});
    wire.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    wire
}
