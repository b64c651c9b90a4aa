//! JSON Schemas (draft 2020-12) of everything on the wire, generated from the types.
//!
//! A command's schema says what is read, all others say what is written. They are committed under `json/`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::command::{ObjectRef, verbs};
use crate::contact::{KeyId, SealedText};
use crate::effect::Effect;
use crate::envelope::{Digest, Envelope};
use crate::event::{Change, Event};
use crate::ids::{
    Actor, CommandId, CustomerId, DeviceId, Kind, ObjectId, OrderId, SiteId, TunnelId, VendorId,
};
use crate::order::Order;
use crate::outcome::Outcome;
use crate::policy::{
    ApproveBody, ConfirmClaimsBody, CustomerChange, CustomerSpec, DecommissionBody, FreezeBody, Name,
    RejectBody, SuspendBody, UnfreezeBody,
};
use crate::remarks::{AcknowledgeBody, NoteBody, RevertBody};
use crate::report::Report;
use crate::rule::Validity;
use crate::run::{RunBatch, RunRecord};
use crate::spec::{DeviceSpec, SiteSpec, TunnelSpec};
use crate::template::AssignTemplateBody;
use crate::upcast::CHAIN;
use crate::window::{LocalTime, ReleaseBody};

macro_rules! text {
    ($($name:ty => $title:literal, $pattern:literal;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        })*
    };
}

text! {
    CustomerId => "CustomerId", "^[a-z0-9-]{1,63}$";
    Actor => "Actor", "^[a-z0-9-]{1,63}$";
    VendorId => "VendorId", "^[a-z0-9-]{1,63}$";
    SiteId => "SiteId", "^[a-z0-9-]{1,63}$";
    TunnelId => "TunnelId", "^[a-z0-9-]{1,63}$";
    DeviceId => "DeviceId", "^[a-z0-9-]{1,63}$";
    ObjectId => "ObjectId", "^[a-z0-9-]{1,63}$";
    Name => "Name", "^[a-z0-9-]{1,63}$";
    Digest => "Digest", "^sha256:[0-9a-f]{64}$";
    CommandId => "CommandId", "^[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
    OrderId => "OrderId", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
    KeyId => "KeyId", "^[0-9a-f]{32}$";
    Validity => "Validity", "^[0-9]{1,7}[smhd]$";
    LocalTime => "LocalTime", "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$";
    Prefix => "Prefix", "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$";
}

/// A sender gives the text itself; from then on it is sealed.
impl JsonSchema for SealedText {
    fn schema_name() -> Cow<'static, str> {
        "SealedText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            return json_schema!({ "type": "string" });
        }
        json_schema!({ "type": "string", "pattern": "^sealed:v1:[0-9a-f]{32}:[A-Za-z0-9_-]+$" })
    }
}

/// An IPv4 prefix in CIDR notation.
#[derive(Debug)]
pub struct Prefix;

/// An event is flat on the wire: its type joins kind and change, and the kind is the name of the field with the id.
impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut all = Vec::new();
        all.extend(flat("Site", Kind::Site, &Change::<SiteSpec>::json_schema(generator)));
        let of_tunnel = flat("Tunnel", Kind::Tunnel, &Change::<TunnelSpec>::json_schema(generator));
        // A tunnel has no contact that could change, is planned with its site, goes with its template and is in its state; a
        // device is not planned and has no template and no state.
        let never = [
            "TunnelContactChanged",
            "TunnelTemplateAssigned",
            "DeviceTemplateAssigned",
            "TunnelStateStored",
            "DeviceStateStored",
            "TunnelPlanned",
            "TunnelPlanApplied",
            "TunnelPlanStale",
            "DevicePlanRequested",
            "DevicePlanned",
            "DevicePlanApplied",
            "DevicePlanStale",
        ];
        let is_ever = |variant: &Value| !never.iter().any(|never| variant["title"] == **never);
        all.extend(of_tunnel.into_iter().filter(is_ever));
        let of_device = flat("Device", Kind::Device, &Change::<DeviceSpec>::json_schema(generator));
        all.extend(of_device.into_iter().filter(is_ever));
        all.extend(flat("Customer", Kind::Customer, &CustomerChange::json_schema(generator)));
        json_schema!({ "oneOf": all })
    }
}

/// Does nothing but fail to compile when there is a kind of event that the schema above does not have.
const _: fn(&Event) = |event| match event {
    Event::Site(..) | Event::Tunnel(..) | Event::Device(..) | Event::Customer(..) => (),
};

fn flat(prefix: &str, kind: Kind, change: &Schema) -> Vec<Value> {
    let mut variants = change.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    for variant in &mut variants {
        let change = variant["properties"]["type"]["const"].as_str().unwrap_or_default();
        let name = format!("{prefix}{change}");
        variant["properties"]["v"] = json!({ "const": CHAIN.present(&name) });
        variant["properties"][kind.as_str()] = json!({ "type": "string", "pattern": "^[a-z0-9-]{1,63}$" });
        variant["properties"]["type"]["const"] = name.clone().into();
        variant["title"] = name.into();
        if let Some(required) = variant["required"].as_array_mut() {
            required.extend(["v".into(), kind.as_str().into()]);
        }
    }
    variants
}

/// The rule that of these fields one has a text and the others have none.
pub(crate) fn one_of(names: [&str; 2]) -> Value {
    names.map(|name| json!({ "required": [name], "properties": { name: { "type": "string" } } })).into()
}

fn read<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// The schema of a change: nothing is required, and null takes a field away.
fn patch_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let settings = settings.with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    patch(&mut schema);
    schema
}

fn patch(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("required");
    schema.remove("oneOf");
    for named in ["properties", "patternProperties"] {
        if let Some(Value::Object(fields)) = schema.get_mut(named) {
            fields.values_mut().for_each(patch_field);
        }
    }
    if let Some(field) = schema.get_mut("additionalProperties").filter(|field| field.is_object()) {
        patch_field(field);
    }
}

fn patch_field(field: &mut Value) {
    patch(field);
    if field["type"].as_array().is_some_and(|types| types.contains(&"null".into())) {
        return;
    }
    let mut value = std::mem::take(field);
    let described = value.as_object_mut().and_then(|value| value.remove("description"));
    let mut either = Map::new();
    either.extend(described.map(|text| ("description".to_owned(), text)));
    either.insert("anyOf".into(), json!([value, { "type": "null" }]));
    *field = Value::Object(either);
}

/// The schema of a command's body. None: the kind has no such verb, or nobody has said here what its body is.
fn body(kind: Kind, verb: &str) -> Option<Value> {
    match (verb, kind) {
        ("create", Kind::Site) => Some(read::<SiteSpec>()),
        ("create", Kind::Tunnel) => Some(read::<TunnelSpec>()),
        ("create", Kind::Device) => Some(read::<DeviceSpec>()),
        ("change", Kind::Site) => Some(patch_of::<SiteSpec>()),
        ("change", Kind::Tunnel) => Some(patch_of::<TunnelSpec>()),
        ("change", Kind::Device) => Some(patch_of::<DeviceSpec>()),
        ("change", Kind::Customer) => Some(patch_of::<CustomerSpec>()),
        ("report", _) => Some(read::<Report>()),
        ("decommission", Kind::Site | Kind::Customer) => Some(read::<DecommissionBody>()),
        ("suspend", _) => Some(read::<SuspendBody>()),
        ("approve", _) => Some(read::<ApproveBody>()),
        ("reject", _) => Some(read::<RejectBody>()),
        ("release", _) => Some(read::<ReleaseBody>()),
        ("revert", _) => Some(read::<RevertBody>()),
        ("note", _) => Some(read::<NoteBody>()),
        ("acknowledge", _) => Some(read::<AcknowledgeBody>()),
        ("freeze", _) => Some(read::<FreezeBody>()),
        ("unfreeze", _) => Some(read::<UnfreezeBody>()),
        ("assign-template", Kind::Site) => Some(read::<AssignTemplateBody>()),
        ("confirm-claims", _) => Some(read::<ConfirmClaimsBody>()),
        (
            "decommission" | "retry" | "cancel" | "check-drift" | "resume" | "protect" | "unprotect"
            | "erase",
            _,
        ) => Some(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
        })),
        _ => None,
    }
}

/// Every schema with its name, in the order of the names.
///
/// # Panics
/// When there is a verb without a schema.
pub fn all() -> Vec<(String, Value)> {
    let mut all = vec![
        ("effect".to_owned(), written::<Effect>()),
        ("envelope".to_owned(), written::<Envelope>()),
        ("event".to_owned(), written::<Event>()),
        ("object".to_owned(), written::<ObjectRef>()),
        ("order".to_owned(), written::<Order>()),
        ("outcome".to_owned(), written::<Outcome>()),
        ("run".to_owned(), written::<RunRecord>()),
        ("run-batch".to_owned(), written::<RunBatch>()),
    ];
    for kind in Kind::ALL {
        for verb in verbs(kind) {
            let mut schema =
                body(kind, verb).unwrap_or_else(|| panic!("{kind} {verb} has no schema in json.rs"));
            schema["title"] = format!("The body of {verb} for a {kind}").into();
            all.push((format!("{kind}.{verb}"), schema));
        }
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// How to write the files again.
pub const HOW: &str = "cargo run -p wanwright-schemas --example json-schemas";

/// The text of every file under `json/`, by the schema's name.
pub fn files() -> Vec<(String, String)> {
    all().into_iter().map(|(name, schema)| (name, format!("{schema:#}\n"))).collect()
}

/// The text of `published.rs`.
pub fn index() -> String {
    let mut text = format!(
        "//! JSON Schemas of everything on the wire, as they are committed under `json/`.\n\
        //!\n\
        //! Written by `{HOW}`.\n\n\
        /// Every schema: its name and its text.\n\
        pub const ALL: &[(&str, &str)] = &[\n"
    );
    for (name, _) in all() {
        text.push_str(&format!("    (\"{name}\", include_str!(\"../json/{name}.json\")),\n"));
    }
    text.push_str("];\n");
    text
}
