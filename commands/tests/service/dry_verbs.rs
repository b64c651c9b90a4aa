//! Every verb of every kind, dry and then in earnest: the dry run says what comes of it, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use wanwright_commands::service::Options;
use wanwright_nats::topology;
use wanwright_schemas::command::verbs;
use wanwright_schemas::outcome::Verdict;
use wanwright_schemas::{CommandId, Kind, Outcome};
use wanwright_vendors::Catalogue;

use crate::dry_runs::{dry, positions};
use crate::personal::canary;
use crate::vendors::copy;
use crate::world::{SITE, World, code};

/// What is wanted of a customer, step by step.
struct Play<'a> {
    world: &'a World,
    customer: &'static str,
    /// The commands that created the objects.
    uids: BTreeMap<String, CommandId>,
    /// The verbs that were accepted.
    accepted: BTreeSet<(Kind, String)>,
    /// The stream positions behind the last step.
    before: BTreeMap<String, (u64, u64)>,
}

/// What the service writes down by the way, moments after a command, is none of it: what it has seen, and snapshots.
async fn written(world: &World) -> BTreeMap<String, (u64, u64)> {
    let mut found = positions(world).await;
    found.retain(|stream, _| ![topology::INVENTORY, topology::SNAPSHOTS].contains(&stream.as_str()));
    found
}

impl<'a> Play<'a> {
    async fn new(world: &'a World, customer: &'static str) -> Self {
        let (uids, accepted) = (BTreeMap::new(), BTreeSet::new());
        Self { world, customer, uids, accepted, before: written(world).await }
    }

    /// Sends a command twice, dry and in earnest, and compares what comes of it.
    async fn send(&mut self, actor: &str, tail: &str, body: &Value) -> Outcome {
        let [kind, name, verb]: [&str; 3] =
            tail.split('.').collect::<Vec<_>>().try_into().expect("kind.id.verb");
        let subject = format!("{}.{actor}.{tail}", self.customer);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let would = dry(self.world, &subject, CommandId::mint(), &body).await;
        assert_eq!(written(self.world).await, self.before, "{subject} was a dry run and wrote: {would:?}");
        let id = CommandId::mint();
        let did = self.world.ask(&subject, id, &body).await;
        self.world.outcome(self.customer, id).await;
        self.before = written(self.world).await;
        assert_eq!(code(&would), code(&did), "{subject}: {would:?} {did:?}");
        assert!(would.dry_run || code(&would).is_some(), "{would:?}");
        assert_eq!(types(&would), types(&did), "{subject} would bring other events");
        if code(&did).is_none() {
            assert!(did.position().is_some(), "{subject} changes nothing: {did:?}");
            let kind = Kind::parse(kind).expect("a kind");
            self.accepted.insert((kind, verb.to_owned()));
            if verb == "create" {
                self.uids.insert(format!("{kind}/{name}"), id);
            }
        }
        did
    }

    /// The same for what is to be accepted.
    async fn accept(&mut self, tail: &str, body: Value) {
        self.accept_of("demo", tail, body).await;
    }

    async fn accept_of(&mut self, actor: &str, tail: &str, body: Value) {
        let did = self.send(actor, tail, &body).await;
        assert_eq!(code(&did), None, "{tail} {body}: {did:?}");
    }

    /// What an executor found of these objects, which are of one target.
    async fn report(&mut self, target: &str, objects: &[&str], finding: Value) {
        let findings = objects.iter().map(|object| {
            let (kind, id) = object.split_once('/').expect("kind/id");
            let mut found = json!({ "kind": kind, "id": id, "uid": self.uids[*object] });
            found.as_object_mut().expect("an object").extend(finding.as_object().expect("one").clone());
            found
        });
        let findings: Vec<Value> = findings.collect();
        let body = json!({ "order": "00000000-0000-8000-8000-000000000000", "findings": findings });
        self.accept_of("executor", &format!("{target}.report"), body).await;
    }
}

/// The types of an outcome's events.
fn types(outcome: &Outcome) -> &[String] {
    match &outcome.verdict {
        Verdict::Accepted { events, .. } => events,
        Verdict::Refused { .. } => &[],
    }
}

#[tokio::test]
async fn every_verb_of_every_kind_says_dry_what_comes_of_it_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let simwan = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
    copy(&simwan, &folder.path().join("simwan"));
    copy(&simwan.join("terraform"), &folder.path().join("simwan/terraform@2"));
    let vendors = Catalogue::load(folder.path()).unwrap();
    let template =
        vendors.get("simwan").and_then(|simwan| simwan.template(2)).expect("a version").digest.clone();
    let world = World::empty("").await;
    let options = Options { master_key: Some(world.master_key()), ..Options::default() };
    let service = world.serve_vendors(vendors, options).await;
    let mut accepted = BTreeSet::new();

    let mut acme = Play::new(&world, "acme").await;
    everything(&mut acme).await;
    lives(&mut acme).await;
    accepted.append(&mut acme.accepted);
    let mut beta = Play::new(&world, "beta").await;
    everything(&mut beta).await;
    troubles(&mut beta).await;
    let assigned = json!({ "version": 2, "digest": template, "from": 1, "rollout": 1, "by": "olga" });
    beta.accept_of("rollout", "site.oslo.assign-template", assigned).await;
    accepted.append(&mut beta.accepted);
    let mut gamma = Play::new(&world, "gamma").await;
    everything(&mut gamma).await;
    approvals(&mut gamma).await;
    accepted.append(&mut gamma.accepted);

    let mut acme = Play::new(&world, "acme").await;
    for kind in [Kind::Customer, Kind::Site, Kind::Device, Kind::Tunnel] {
        let missing: Vec<_> =
            verbs(kind).iter().filter(|verb| !accepted.contains(&(kind, (**verb).to_owned()))).collect();
        assert!(missing.is_empty(), "{kind}: {missing:?} were not tried");
        // And each is refused where there is no such object, or by who may not ask for it.
        for verb in verbs(kind) {
            let name = if kind == Kind::Customer { "acme" } else { "nowhere" };
            let refused =
                acme.send("demo", &format!("{kind}.{name}.{verb}"), &json!({ "no": "such field" })).await;
            assert!(code(&refused).is_some(), "{kind} {verb}: {refused:?}");
        }
    }
    service.stop().await;
    world.stop().await;
}

/// A customer with two sites, a tunnel and two devices, of which the vendor has all.
async fn everything(play: &mut Play<'_>) {
    let customer = play.customer;
    let site: Value = serde_json::from_str(SITE).unwrap();
    play.accept("site.oslo.create", site.clone()).await;
    let tunnel = json!({ "site": "oslo", "peer": { "hub": "hub-eu" }, "inside": "169.254.0.0/30" });
    play.accept("tunnel.t1.create", tunnel).await;
    for device in ["d1", "d2"] {
        let serial = format!("SN-{customer}-{device}").to_uppercase();
        let device = (
            format!("device.{device}.create"),
            json!({ "site": "oslo", "serial": serial, "model": "edge-100" }),
        );
        play.accept(&device.0, device.1).await;
    }
    let applied = json!({ "result": "applied", "generation": 1, "outputs": {} });
    play.report("site.oslo", &["site/oslo", "tunnel/t1"], applied.clone()).await;
    play.report("device.d1", &["device/d1"], applied).await;
}

const OBJECTS: [&str; 3] = ["site.oslo", "tunnel.t1", "device.d1"];

/// What is said, held, taken back and taken down.
async fn lives(play: &mut Play<'_>) {
    let reason = || json!({ "reason": "known" });
    for object in OBJECTS {
        play.accept(&format!("{object}.protect"), Value::Null).await;
        play.accept(&format!("{object}.unprotect"), Value::Null).await;
        play.accept(&format!("{object}.note"), json!({ "text": "hm" })).await;
        let change = match object {
            "site.oslo" => json!({ "lan": ["10.3.0.0/24"] }),
            "tunnel.t1" => json!({ "peer": { "hub": "hub-us" } }),
            _ => json!({ "settings": { "vlan": 7 } }),
        };
        play.accept(&format!("{object}.change"), change.clone()).await;
        play.accept(&format!("{object}.cancel"), Value::Null).await;
        play.accept(&format!("{object}.change"), change).await;
        play.accept(&format!("{object}.revert"), json!({ "to_generation": 1 })).await;
    }
    for target in ["site.oslo", "device.d1"] {
        play.accept(&format!("{target}.check-drift"), Value::Null).await;
        play.accept(&format!("{target}.suspend"), reason()).await;
        play.accept(&format!("{target}.resume"), Value::Null).await;
    }
    let me = format!("customer.{}", play.customer);
    play.accept(&format!("{me}.note"), json!({ "text": "hm" })).await;
    play.accept(&format!("{me}.check-drift"), Value::Null).await;
    play.accept(&format!("{me}.suspend"), reason()).await;
    play.accept(&format!("{me}.resume"), Value::Null).await;
    let claims = json!({ "claims": [{ "device": "d9", "serial": "SN-9" }] });
    play.accept_of("sweeper", &format!("{me}.confirm-claims"), claims).await;
    play.accept("site.oslo.change", json!({ "contact": canary(1) })).await;
    play.accept("device.d2.decommission", Value::Null).await;
    play.report("device.d2", &["device/d2"], json!({ "result": "removed" })).await;
    play.accept("tunnel.t1.decommission", Value::Null).await;
    play.accept("site.oslo.decommission", json!({ "cascade": true })).await;
    play.accept(&format!("{me}.erase"), Value::Null).await;
    play.accept(&format!("{me}.decommission"), json!({ "cascade": true })).await;
}

/// What fails, and what is said and done about it.
async fn troubles(play: &mut Play<'_>) {
    let failed = json!({ "result": "failed", "generation": 2, "code": "VendorRefused", "message": "no" });
    play.accept("site.oslo.change", json!({ "lan": ["10.3.0.0/24"] })).await;
    play.accept("tunnel.t1.change", json!({ "peer": { "hub": "hub-us" } })).await;
    play.accept("device.d1.change", json!({ "settings": { "vlan": 7 } })).await;
    play.report("site.oslo", &["site/oslo", "tunnel/t1"], failed.clone()).await;
    play.report("device.d1", &["device/d1"], failed).await;
    for object in OBJECTS {
        play.accept(&format!("{object}.acknowledge"), json!({ "reason": "known" })).await;
        play.accept(&format!("{object}.retry"), Value::Null).await;
    }
}

/// What waits for somebody else, for a window, or for the end of a freeze.
async fn approvals(play: &mut Play<'_>) {
    let me = format!("customer.{}", play.customer);
    let strict = json!({ "policy": { "site": "approve", "tunnel": "approve", "device": "approve" } });
    play.accept(&format!("{me}.change"), strict).await;
    for (generation, verb) in [(2, "approve"), (3, "reject")] {
        for object in OBJECTS {
            let change = match object {
                "site.oslo" => json!({ "lan": [format!("10.{generation}.7.0/24")] }),
                "tunnel.t1" => {
                    json!({ "peer": { "hub": if generation == 2 { "hub-us" } else { "hub-eu" } } })
                }
                _ => json!({ "settings": { "vlan": generation } }),
            };
            play.accept(&format!("{object}.change"), change).await;
            let mut body = json!({ "generation": generation });
            if verb == "reject" {
                body["reason"] = json!("no");
            }
            play.accept_of("boss", &format!("{object}.{verb}"), body).await;
        }
    }
    let loose = json!({ "policy": { "site": "apply", "tunnel": "apply", "device": "apply" } });
    play.accept(&format!("{me}.change"), loose.clone()).await;
    play.accept_of("boss", &format!("{me}.reject"), json!({ "generation": 2, "reason": "no" })).await;
    play.accept(&format!("{me}.change"), loose).await;
    play.accept_of("boss", &format!("{me}.approve"), json!({ "generation": 3 })).await;
    let freeze =
        json!({ "name": "f", "from": "2026-01-01T00:00:00Z", "to": "2046-01-02T00:00:00Z", "reason": "r" });
    play.accept(&format!("{me}.freeze"), freeze).await;
    play.accept(&format!("{me}.unfreeze"), json!({ "name": "f" })).await;
    // A window that is open for a minute once a week.
    let window = json!({ "zone": "UTC", "days": [far_day()], "from": "02:00", "to": "02:01" });
    play.accept(&format!("{me}.change"), json!({ "windows": { "w": window } })).await;
    play.accept("site.oslo.change", json!({ "lan": ["10.9.9.0/24"] })).await;
    play.accept("site.oslo.release", json!({ "reason": "now" })).await;
    play.accept("device.d1.change", json!({ "settings": { "vlan": 99 } })).await;
    play.accept("device.d1.release", json!({ "reason": "now" })).await;
}

/// The day of the week that is furthest from today.
fn far_day() -> String {
    let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(3 * 24);
    let day = far.to_zoned(jiff::tz::TimeZone::UTC).weekday();
    format!("{day:?}")[..3].to_lowercase()
}
