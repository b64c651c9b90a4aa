//! Settings in several versions: what a sender speaks, what is stored, and what orders carry.

use std::sync::LazyLock;

use serde_json::{Value, json};
use wanwright_commands::orders;
use wanwright_schemas::Reason::*;
use wanwright_schemas::order::Desired;
use wanwright_schemas::{Change, Event, SchemaRef};

use crate::harness::*;

/// The simulated vendor, whose devices have two versions of settings.
static SIMWAN: LazyLock<wanwright_vendors::Catalogue> = LazyLock::new(|| {
    wanwright_vendors::Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors"))
        .expect("the vendors")
});

const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;

fn device(settings: Value) -> String {
    json!({"site": "oslo", "serial": "SN-0001", "model": "edge-100", "settings": settings}).to_string()
}

fn simwan(speaks: Option<&str>) -> World {
    let speaks = speaks.map(|version| version.parse().expect("a version"));
    let mut world = World { vendors: &SIMWAN, speaks, ..World::default() };
    world.accept("site.oslo.create", SITE);
    world.carry_out("site.oslo");
    world
}

/// Oslo with a device that was created before versions were recorded, and is at the vendor.
fn long_ago(settings: Value) -> World {
    let mut world = simwan(None);
    let spec = serde_json::from_str(&device(settings)).expect("a device");
    let created = Change::Created { generation: 1, spec, schema: None };
    let event = Event::Device("d1".parse().expect("an id"), created);
    world.sent += 1;
    world.state.evolve(&event, id(world.sent));
    world.carry_out("device.d1");
    world
}

fn stored(world: &World) -> (Value, Option<SchemaRef>) {
    let device = &world.state.devices[&"d1".parse().expect("an id")];
    (Value::Object(device.spec.settings.clone()), device.schema.clone())
}

fn ordered(world: &World) -> Value {
    match world.change("device.d1").desired {
        Desired::Device(device) => Value::Object(device.settings),
        Desired::Site { .. } => panic!("not a device"),
    }
}

#[test]
fn an_event_names_the_schema_that_judged() {
    let mut world = simwan(None);
    world.accept("device.d1.create", &device(json!({"vlan": 7})));
    let (settings, schema) = stored(&world);
    assert_eq!(settings, json!({"system_name": "", "vlan": 7}));
    let schema = schema.expect("a schema");
    let kind = &SIMWAN.get("simwan").expect("simwan").schemas["device"];
    assert_eq!(schema.version, "v2");
    assert_eq!(schema.digest.to_string(), kind.get(kind.stored()).expect("v2").digest());
    let wire = serde_json::to_value(&world.history.last().expect("a command").1[0]).expect("JSON");
    assert_eq!(wire["schema"]["version"], "v2");
}

#[test]
fn a_sender_may_speak_an_older_version() {
    let mut world = simwan(Some("v1"));
    world.accept("device.d1.create", &device(json!({"hostname": "ap", "vlan": 7})));
    assert_eq!(stored(&world).0, json!({"system_name": "ap", "vlan": 7}));
    assert_eq!(ordered(&world), json!({"system_name": "ap", "vlan": 7}));
    assert_eq!(
        world.accept("device.d1.change", r#"{"settings":{"hostname":"ap2"}}"#),
        ["d1 DeviceChanged 2"]
    );
    assert_eq!(stored(&world).0, json!({"system_name": "ap2", "vlan": 7}));
    world.nothing("device.d1.change", r#"{"settings":{"hostname":"ap2"}}"#);
    world.refuse(
        "device.d1.change",
        r#"{"settings":{"system_name":"a"}}"#,
        UnknownField,
        "settings.system_name",
    );
    world.speaks = None;
    world.refuse("device.d1.change", r#"{"settings":{"hostname":"a"}}"#, UnknownField, "settings.hostname");
    world.speaks = Some("v3".parse().expect("a version"));
    let (body, field) = (r#"{"settings":{"vlan":9}}"#, "Wan-Schema");
    let refusal = world.refuse("device.d1.change", body, UnknownSchemaVersion, field);
    assert_eq!(refusal.message, "there is no version v3; there are v1, v2");
}

#[test]
fn what_was_stored_long_ago_is_converted_when_it_is_used() {
    let mut world = long_ago(json!({"hostname": "old", "vlan": 7}));
    world.idle("device.d1");
    // That it would be written otherwise today is no difference.
    world.nothing("device.d1.change", r#"{"settings":{"system_name":"old"}}"#);
    assert_eq!(stored(&world), (json!({"hostname": "old", "vlan": 7}), None));
    world.accept("device.d1.check-drift", "");
    let look = world.look("device.d1");
    let looked = serde_json::to_value(&look.desired).expect("JSON");
    assert_eq!(looked["settings"], json!({"system_name": "old", "vlan": 7}));
    world.report(&in_sync(&look));
    assert_eq!(world.accept("device.d1.change", r#"{"settings":{"vlan":8}}"#), ["d1 DeviceChanged 2"]);
    let (settings, schema) = stored(&world);
    assert_eq!(settings, json!({"system_name": "old", "vlan": 8}));
    assert_eq!(schema.map(|schema| schema.version), Some("v2".to_owned()));
    assert_eq!(world.carry_out("device.d1"), ["d1 DeviceApplied 2"]);
}

#[test]
fn a_broken_rule_is_a_refusal_that_names_field_and_rule() {
    let mut world = simwan(None);
    let body = device(json!({"vlan": 1003}));
    let refusal = world.refuse("device.d1.create", &body, RuleBroken, "settings.vlan");
    assert!(refusal.message.contains("VLANs 1002 to 1005 are reserved"), "{refusal}");
    assert!(refusal.message.contains("`self.vlan < 1002 || self.vlan > 1005`"), "{refusal}");
    world.accept("device.d1.create", &device(json!({"vlan": 1001})));
    world.refuse("device.d1.change", r#"{"settings":{"vlan":1005}}"#, RuleBroken, "settings.vlan");
    let tunnel =
        r#"{"site":"oslo","peer":{"hub":"hub-eu"},"inside":"169.254.0.0/30","settings":{"mtu":2000}}"#;
    world.refuse("tunnel.t1.create", tunnel, RuleBroken, "settings.mtu");
    let site = r#"{"vendor":"simwan","lan":["10.2.0.0/24"],"settings":{"location":" Paris"}}"#;
    world.refuse("site.paris.create", site, RuleBroken, "settings.location");
}

#[test]
fn settings_of_a_version_that_is_not_there_hold_the_object_and_nothing_else() {
    let mut world = simwan(None);
    world.accept("device.d1.create", &device(json!({"vlan": 7})));
    let d1 = "d1".parse().expect("an id");
    let digest = wanwright_schemas::Digest::of(b"");
    let later = Some(SchemaRef { version: "v9".to_owned(), digest });
    world.state.devices.get_mut(&d1).expect("a device").schema = later;
    world.idle("device.d1");
    let refusal =
        world.refuse("device.d1.change", r#"{"settings":{"vlan":8}}"#, UnknownSchemaVersion, "settings");
    assert!(refusal.message.contains("stored as v9"), "{refusal}");
    world.accept("device.d1.decommission", "");
    let order = world.change("device.d1");
    assert_eq!(order.intent, wanwright_schemas::order::Intent::Remove);
    assert!(orders::targets(&world.state).count() == 2);
}
