//! What is explained is true: the examples are accepted, and every required field is needed.

use serde_json::Value;
use wanwright_commands::explain;
use wanwright_schemas::ids::Kind;

use crate::harness::*;

fn simwan() -> World {
    let vendors = concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors");
    let vendors = wanwright_vendors::Catalogue::load(vendors).expect("the vendors");
    World { vendors: Box::leak(Box::new(vendors)), ..World::default() }
}

/// The tail of the subject, the body and the version of an example: `wanwright send site create acme/a '{…}'`.
fn read(example: &str) -> (String, String, Option<String>) {
    let mut parts = example.split('\'');
    let words: Vec<&str> = parts.next().expect("words").split_whitespace().collect();
    let ["wanwright", "send", kind, verb, object] = words[..] else { panic!("{example}") };
    let id = object.strip_prefix("acme/").unwrap_or(object);
    let body = parts.next().unwrap_or_default().to_owned();
    let version = parts.next().and_then(|rest| rest.trim().strip_prefix("--schema ")).map(str::to_owned);
    (format!("{kind}.{id}.{verb}"), body, version)
}

#[test]
fn the_examples_of_every_version_are_accepted() {
    for version in ["v1", "v2"] {
        let mut world = simwan();
        for kind in [Kind::Site, Kind::Tunnel, Kind::Device] {
            let vendor = world.vendors.get("simwan").expect("simwan");
            let mut shown = vendor.schemas[kind.as_str()].versions().map(|(version, _)| version);
            let shown = shown.find(|shown| shown.to_string() == version);
            let said = explain::kind(vendor, kind, shown).expect("a kind");
            for verb in said.verbs.iter().filter(|verb| ["create", "change"].contains(&verb.verb)) {
                let (tail, body, speaks) = read(&verb.example);
                world.speaks = speaks.map(|version| version.parse().expect("a version"));
                if verb.verb == "create" {
                    let whole: Value = serde_json::from_str(&body).expect("JSON");
                    for field in said.fields.iter().filter(|field| field.required) {
                        let mut without = whole.clone();
                        without
                            .as_object_mut()
                            .expect("an object")
                            .remove(&field.path)
                            .expect("it is in the example");
                        assert!(
                            world.send("demo", &tail, &without.to_string(), None).is_err(),
                            "{}",
                            field.path
                        );
                    }
                }
                world.accept(&tail, &body);
            }
        }
        world.speaks = None;
        world.carry_out("site.oslo-01");
        world.carry_out("device.oslo-ap-01");
        let customer = explain::kind(world.vendors.get("simwan").expect("simwan"), Kind::Customer, None);
        let mut verbs = customer.expect("a kind").verbs;
        // The customer's end comes last, and the answer that leaves a request as it is comes first.
        verbs.sort_by_key(|verb| match verb.verb {
            "change" => 0,
            "reject" => 1,
            "approve" => 2,
            "decommission" => 4,
            _ => 3,
        });
        for verb in verbs {
            let (tail, body, _) = read(&verb.example);
            assert_eq!(tail, format!("customer.acme.{}", verb.verb));
            let who = if ["approve", "reject"].contains(&verb.verb) {
                world.accept("customer.acme.change", r#"{"policy":null}"#);
                "boss"
            } else {
                "demo"
            };
            let mut answered = world.clone();
            answered.send(who, &tail, &body, None).expect("an example is accepted");
            // Either answers the same request.
            if verb.verb != "reject" {
                world = answered;
            }
        }
    }
}

#[test]
fn a_vendor_without_settings_is_explained_too() {
    let vendor = VENDORS.get("barewan").expect("barewan");
    let said = explain::kind(vendor, Kind::Device, None).expect("a kind");
    assert_eq!((said.version, said.versions.len()), (None, 0));
    assert!(said.fields.iter().all(|field| !field.path.starts_with("settings")));
    assert_eq!(explain::vendor(vendor).kinds.len(), Kind::ALL.len());
}
