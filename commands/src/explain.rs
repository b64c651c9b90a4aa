//! What can be said about each kind of object at each vendor: versions, fields, rules and verbs.
//!
//! The command line and the discovery endpoint show the same.

use serde::Serialize;
use serde_json::{Map, Value, json};
use wanwright_schemas::command::{INTERNAL, verbs};
use wanwright_schemas::ids::Kind;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_vendors::{Catalogue, FieldExplained, KindSchemas, SchemaVersion, Vendor};

/// A vendor in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VendorExplained {
    /// The vendor.
    pub vendor: String,
    /// Its name for people.
    pub title: String,
    /// The digest of its folder, in hexadecimal.
    pub digest: String,
    /// Device models it knows.
    pub models: Vec<String>,
    /// Named tunnel ends it has.
    pub hubs: Vec<String>,
    /// Its kinds in short.
    pub kinds: Vec<KindSummary>,
}

/// A kind in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindSummary {
    /// The kind.
    pub kind: Kind,
    /// The version settings are stored in; none when the vendor has no settings for the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<SchemaVersion>,
    /// The versions a sender may speak.
    pub served: Vec<SchemaVersion>,
    /// The verbs.
    pub verbs: Vec<&'static str>,
}

/// A kind at a vendor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindExplained {
    /// The vendor.
    pub vendor: String,
    /// The kind.
    pub kind: Kind,
    /// The version that is shown; none when the vendor has no settings for the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<SchemaVersion>,
    /// Every version there is.
    pub versions: Vec<VersionExplained>,
    /// The fields of a `create`, settings last.
    pub fields: Vec<FieldExplained>,
    /// The verbs.
    pub verbs: Vec<VerbExplained>,
}

/// One version of a kind's settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionExplained {
    /// The version.
    pub version: SchemaVersion,
    /// The digest of its schema, as events name it.
    pub digest: String,
    /// Whether a sender may speak it.
    pub served: bool,
    /// Whether settings are stored in it.
    pub stored: bool,
    /// What changed since the version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// One verb of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerbExplained {
    /// The verb.
    pub verb: &'static str,
    /// The subject that its commands travel on.
    pub subject: String,
    /// A command line that sends one.
    pub example: String,
}

/// Every vendor in short.
pub fn vendors(vendors: &Catalogue) -> Vec<VendorExplained> {
    vendors.iter().map(vendor).collect()
}

/// A vendor in short.
pub fn vendor(vendor: &Vendor) -> VendorExplained {
    let kinds = Kind::ALL.map(|kind| {
        let schemas = vendor.schemas.get(kind.as_str());
        KindSummary {
            kind,
            stored: schemas.map(KindSchemas::stored),
            served: schemas.map(|schemas| schemas.served().collect()).unwrap_or_default(),
            verbs: public_verbs(kind).collect(),
        }
    });
    VendorExplained {
        vendor: vendor.name.clone(),
        title: vendor.title.clone(),
        digest: vendor.digest.clone(),
        models: vendor.models.clone(),
        hubs: vendor.hubs.keys().cloned().collect(),
        kinds: kinds.to_vec(),
    }
}

/// The vendor of that name.
///
/// # Errors
/// The refusal that a command for it would get.
pub fn named<'a>(vendors: &'a Catalogue, name: &str) -> Result<&'a Vendor, Refusal> {
    vendors.get(name).ok_or_else(|| {
        let known: Vec<&str> = vendors.names().collect();
        let shown: String = name.chars().take(80).collect();
        Refusal::new(
            Reason::UnknownVendor,
            format!("there is no vendor `{shown}`; there are {}", known.join(", ")),
        )
    })
}

/// A kind at a vendor, in the version it is stored in or in another one.
///
/// # Errors
/// The refusal, when the version is not there.
pub fn kind(vendor: &Vendor, kind: Kind, version: Option<SchemaVersion>) -> Result<KindExplained, Refusal> {
    let schemas = vendor.schemas.get(kind.as_str());
    let shown = version.or(schemas.map(KindSchemas::stored));
    let mut fields = of_specification(kind, vendor);
    let mut settings = Map::new();
    match (schemas, shown) {
        (Some(schemas), Some(shown)) => {
            let schema = schemas.get(shown).ok_or_else(|| {
                let known: Vec<String> = schemas.versions().map(|(version, _)| version.to_string()).collect();
                unknown(shown, &format!("there are {}", known.join(", ")))
            })?;
            fields.extend(schema.fields().into_iter().map(below_settings));
            settings = example_settings(&fields);
        }
        (None, Some(shown)) => {
            return Err(unknown(shown, &format!("a {kind} has no settings at {}", vendor.title)));
        }
        (_, None) => {}
    }
    let name = vendor.name.clone();
    let speaks = shown.filter(|shown| schemas.is_some_and(|schemas| schemas.stored() != *shown));
    let verbs =
        public_verbs(kind).map(|verb| verb_explained(kind, verb, vendor, &settings, speaks)).collect();
    let versions = schemas.map(versions).unwrap_or_default();
    Ok(KindExplained { vendor: name, kind, version: shown, versions, fields, verbs })
}

fn unknown(version: SchemaVersion, why: &str) -> Refusal {
    Refusal::new(Reason::UnknownSchemaVersion, format!("there is no version {version}; {why}"))
}

fn versions(schemas: &KindSchemas) -> Vec<VersionExplained> {
    let mut change = None;
    let mut found = Vec::new();
    for (version, schema) in schemas.versions() {
        found.push(VersionExplained {
            version,
            digest: schema.digest().to_owned(),
            served: schemas.spoken(version).is_ok(),
            stored: schemas.stored() == version,
            change: change.take(),
        });
        change = schemas.change_after(version).map(str::to_owned);
    }
    found
}

/// The verbs that people send.
pub fn public_verbs(kind: Kind) -> impl Iterator<Item = &'static str> {
    verbs(kind).iter().copied().filter(|verb| !INTERNAL.contains(verb))
}

fn below_settings(field: FieldExplained) -> FieldExplained {
    let path = match field.path.as_str() {
        "" => "settings".to_owned(),
        path => format!("settings.{path}"),
    };
    FieldExplained { path, ..field }
}

/// Each field that has a default, at its default.
fn example_settings(fields: &[FieldExplained]) -> Map<String, Value> {
    let mut settings = Map::new();
    for field in fields {
        let Some(name) = field.path.strip_prefix("settings.").filter(|name| !name.contains(['.', '[']))
        else {
            continue;
        };
        if let Some(default) = &field.default {
            settings.insert(name.to_owned(), default.clone());
        }
    }
    settings
}

fn verb_explained(
    kind: Kind,
    verb: &'static str,
    vendor: &Vendor,
    settings: &Map<String, Value>,
    speaks: Option<SchemaVersion>,
) -> VerbExplained {
    let (object, subject) = match kind {
        Kind::Customer => {
            ("acme".to_owned(), format!("wan.do.<customer>.<actor>.customer.<customer>.{verb}"))
        }
        _ => (format!("acme/{}", id(kind)), format!("wan.do.<customer>.<actor>.{kind}.<id>.{verb}")),
    };
    let body = match verb {
        "create" => create(kind, vendor, settings).to_string(),
        "change" if kind == Kind::Customer => json!({ "policy": { "device": "approve" } }).to_string(),
        "change" => json!({ "settings": settings }).to_string(),
        "suspend" => json!({ "reason": "works at the site" }).to_string(),
        "approve" => json!({ "generation": 2 }).to_string(),
        "release" => json!({ "reason": "the line is down" }).to_string(),
        "revert" => json!({ "to_generation": 1 }).to_string(),
        "note" => json!({ "text": "the building opens at eight" }).to_string(),
        "acknowledge" => json!({ "reason": "ticket 4711" }).to_string(),
        "reject" => json!({ "generation": 2, "reason": "not before Monday" }).to_string(),
        "decommission" if matches!(kind, Kind::Site | Kind::Customer) => {
            json!({ "cascade": true }).to_string()
        }
        "freeze" => json!({ "name": "christmas", "from": "2026-12-20T00:00", "to": "2027-01-02T00:00",
            "zone": "Europe/Oslo", "reason": "nobody is there" })
        .to_string(),
        "unfreeze" => json!({ "name": "christmas" }).to_string(),
        _ => String::new(),
    };
    let body = match (body.is_empty(), speaks) {
        (true, _) => body,
        (false, Some(version)) if ["create", "change"].contains(&verb) => {
            format!(" '{body}' --schema {version}")
        }
        (false, _) => format!(" '{body}'"),
    };
    VerbExplained { verb, subject, example: format!("wanwright send {kind} {verb} {object}{body}") }
}

fn id(kind: Kind) -> &'static str {
    match kind {
        Kind::Customer => "acme",
        Kind::Site => "oslo-01",
        Kind::Tunnel => "oslo-01-eu",
        Kind::Device => "oslo-ap-01",
    }
}

/// The body of a command that creates an object.
fn create(kind: Kind, vendor: &Vendor, settings: &Map<String, Value>) -> Value {
    let mut body = match kind {
        Kind::Customer => json!({}),
        Kind::Site => json!({ "vendor": vendor.name, "lan": ["10.7.0.0/24"] }),
        Kind::Tunnel => {
            let peer = match vendor.hubs.keys().next() {
                Some(hub) => json!({ "hub": hub }),
                None => json!({ "site": "bergen-01" }),
            };
            json!({ "site": id(Kind::Site), "peer": peer, "inside": "169.254.10.0/30" })
        }
        Kind::Device => {
            let model = vendor.models.first().cloned().unwrap_or_default();
            json!({ "site": id(Kind::Site), "serial": "SN-0001", "model": model })
        }
    };
    if !settings.is_empty() {
        body["settings"] = Value::Object(settings.clone());
    }
    body
}

/// The fields every vendor's objects have.
fn of_specification(kind: Kind, vendor: &Vendor) -> Vec<FieldExplained> {
    let field =
        |path: &str, kind: &'static str, required: bool, allowed: String, description: &str| FieldExplained {
            path: path.to_owned(),
            kind,
            required,
            default: None,
            allowed,
            description: Some(description.to_owned()),
            rules: Vec::new(),
        };
    let one_of = |names: Vec<&str>| format!("one of {}", names.join(", "));
    match kind {
        Kind::Customer => Vec::new(),
        Kind::Site => vec![
            field(
                "vendor",
                "text",
                true,
                format!("\"{}\"", vendor.name),
                "Whose equipment the site has. Cannot be changed.",
            ),
            field(
                "lan",
                "list",
                true,
                "1 to 256 IPv4 networks in CIDR notation".to_owned(),
                "The networks at the site, disjoint within the customer.",
            ),
        ],
        Kind::Tunnel => vec![
            field(
                "site",
                "text",
                true,
                "a site of the customer".to_owned(),
                "The site the tunnel starts from. Cannot be changed.",
            ),
            field(
                "peer.hub",
                "text",
                false,
                one_of(vendor.hubs.keys().map(String::as_str).collect()),
                "The hub at the far end; or give peer.site.",
            ),
            field(
                "peer.site",
                "text",
                false,
                "another site of the customer".to_owned(),
                "The site at the far end; or give peer.hub.",
            ),
            field(
                "inside",
                "text",
                true,
                "an IPv4 network of /30 or /31".to_owned(),
                "The addresses inside the tunnel, disjoint from every other prefix of the customer.",
            ),
            field(
                "bgp.local_asn",
                "whole number",
                false,
                "an assigned AS number".to_owned(),
                "The site's autonomous system; given with bgp.peer_asn.",
            ),
            field(
                "bgp.peer_asn",
                "whole number",
                false,
                "an assigned AS number".to_owned(),
                "The far end's autonomous system; given with bgp.local_asn.",
            ),
        ],
        Kind::Device => vec![
            field(
                "site",
                "text",
                true,
                "a site of the customer".to_owned(),
                "The site the device stands at. Cannot be changed.",
            ),
            field(
                "serial",
                "text",
                true,
                "4 to 40 characters of A-Z, 0-9 and -".to_owned(),
                "The serial number, unique in the whole fleet. Cannot be changed.",
            ),
            field(
                "model",
                "text",
                true,
                one_of(vendor.models.iter().map(String::as_str).collect()),
                "The model. Cannot be changed.",
            ),
        ],
    }
}
