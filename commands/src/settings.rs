//! The settings of a vendor: said in the version a sender speaks, stored in the vendor's stored version, and converted
//! when they are used, because what was stored earlier stays as it was written.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_schemas::SchemaRef;
use wanwright_schemas::contact::HasContact;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::headers;
use wanwright_schemas::ids::SiteId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::{DeviceSpec, Settings, SiteSpec, TunnelSpec};
use wanwright_vendors::{FieldError, FieldErrorKind, KindSchemas, Present, SchemaVersion, Vendor};

use crate::customer::Customer;
use crate::decide::Circumstances;
use crate::object::Object;

/// A specification with settings of a vendor.
pub(crate) trait Specified: Clone + PartialEq + HasContact + Serialize + DeserializeOwned {
    /// The kind whose schema the settings have.
    const KIND: &'static str;
    /// What an event says happened to an object that has such a specification.
    fn change_in(event: &Event) -> Option<&Change<Self>>;
    /// The settings.
    fn settings(&self) -> &Settings;
    /// The same with other settings.
    fn with(self, settings: Settings) -> Self;
}

macro_rules! specified {
    ($($spec:ty => $of:ident, $kind:literal;)*) => {$(
        impl Specified for $spec {
            const KIND: &'static str = $kind;
            fn change_in(event: &Event) -> Option<&Change<Self>> {
                match event {
                    Event::$of(_, change) => Some(change),
                    _ => None,
                }
            }
            fn settings(&self) -> &Settings {
                &self.settings
            }
            fn with(self, settings: Settings) -> Self {
                Self { settings, ..self }
            }
        }
    )*};
}

specified! {
    SiteSpec => Site, "site";
    TunnelSpec => Tunnel, "tunnel";
    DeviceSpec => Device, "device";
}

/// The vendor of a site, if both are there.
pub(crate) fn vendor_at<'a>(state: &Customer, site: &SiteId, facts: Circumstances<'a>) -> Option<&'a Vendor> {
    facts.vendors.get(state.sites.get(site)?.spec.vendor.as_str())
}

/// The schema that settings are stored in from now on.
pub(crate) fn reference<S: Specified>(vendor: &Vendor) -> Option<SchemaRef> {
    let kind = vendor.schemas.get(S::KIND)?;
    let version = kind.stored();
    let digest = kind.get(version)?.digest().to_owned().try_into().ok()?;
    Some(SchemaRef { version: version.to_string(), digest })
}

/// The specification as the sender of a change sees it: with the settings in the version it speaks.
pub(crate) fn as_spoken<S: Specified>(
    object: &Object<S>,
    vendor: Option<&Vendor>,
    name: &str,
    facts: Circumstances<'_>,
) -> Result<S, Refusal> {
    let spec = object.spec.clone();
    let Some((kind, vendor)) = vendor.and_then(|vendor| Some((vendor.schemas.get(S::KIND)?, vendor))) else {
        return Ok(spec);
    };
    let speaks = spoken(kind, facts)?;
    if version_of(object) == Some(speaks) {
        return Ok(spec);
    }
    match in_version(object, kind, speaks) {
        Some(settings) => Ok(spec.with(settings)),
        None => {
            let stored = object.schema.as_ref().map_or("v1", |schema| schema.version.as_str());
            let message = format!(
                "the settings of {name} are stored as {stored}, which {} does not have now",
                vendor.title
            );
            Err(Refusal::new(Reason::UnknownSchemaVersion, message).field("settings"))
        }
    }
}

/// The specification with its settings in the stored version; nothing when they cannot be read now.
pub(crate) fn as_stored<S: Specified>(object: &Object<S>, vendor: &Vendor) -> Option<S> {
    let spec = object.spec.clone();
    match vendor.schemas.get(S::KIND) {
        None => Some(spec),
        Some(kind) if version_of(object) == Some(kind.stored()) => Some(spec),
        Some(kind) => in_version(object, kind, kind.stored()).map(|settings| spec.with(settings)),
    }
}

/// The settings that an order carries; nothing when they cannot be read now, unless the object is to go anyway.
pub(crate) fn ordered<S: Specified>(object: &Object<S>, vendor: &Vendor) -> Option<Settings> {
    match as_stored(object, vendor) {
        Some(spec) => Some(spec.settings().clone()),
        None => object.leaving.then(|| object.spec.settings().clone()),
    }
}

/// Settings as a sender said them, checked and in the stored version, defaults filled in.
pub(crate) fn read<S: Specified>(
    spec: &S,
    present: Option<&Object<S>>,
    vendor: &Vendor,
    facts: Circumstances<'_>,
) -> Result<S, Refusal> {
    let Some(kind) = vendor.schemas.get(S::KIND) else {
        if spec.settings().is_empty() {
            return Ok(spec.clone());
        }
        let message = format!("vendor {} has no settings for a {}", vendor.name, S::KIND);
        return Err(Refusal::new(Reason::UnknownField, message).field("settings"));
    };
    let speaks = spoken(kind, facts)?;
    let given = Value::Object(spec.settings().clone());
    let stored =
        present.and_then(|object| Some((version_of(object)?, Value::Object(object.spec.settings().clone()))));
    let present = stored.as_ref().map(|(version, settings)| Present { version: *version, settings });
    match kind.read(speaks, &given, present) {
        Ok(Value::Object(filled)) => Ok(spec.clone().with(filled)),
        Ok(_) => Ok(spec.clone().with(Settings::new())),
        Err(errors) => Err(refused(&errors)),
    }
}

/// The version that a sender speaks about a kind.
fn spoken(kind: &KindSchemas, facts: Circumstances<'_>) -> Result<SchemaVersion, Refusal> {
    let speaks = facts.schema.unwrap_or_else(|| kind.stored());
    kind.spoken(speaks).map_err(|unknown| {
        Refusal::new(Reason::UnknownSchemaVersion, unknown.to_string()).field(headers::SCHEMA)
    })
}

/// The version of an object's settings. Those from before versions were recorded are of the first one.
fn version_of<S>(object: &Object<S>) -> Option<SchemaVersion> {
    match &object.schema {
        None => Some(SchemaVersion::FIRST),
        Some(schema) => schema.version.parse().ok(),
    }
}

fn in_version<S: Specified>(object: &Object<S>, kind: &KindSchemas, to: SchemaVersion) -> Option<Settings> {
    let version = version_of(object)?;
    if version == to {
        return Some(object.spec.settings().clone());
    }
    let settings = Value::Object(object.spec.settings().clone());
    match kind.convert(Present { version, settings: &settings }, to).ok()? {
        Value::Object(settings) => Some(settings),
        _ => None,
    }
}

fn refused(errors: &[FieldError]) -> Refusal {
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let first = errors.first();
    let code = first.map_or(Reason::InvalidValue, |error| match error.kind {
        FieldErrorKind::Unknown => Reason::UnknownField,
        FieldErrorKind::Missing => Reason::MissingField,
        FieldErrorKind::WrongType => Reason::WrongType,
        FieldErrorKind::NotAllowed => Reason::InvalidValue,
        FieldErrorKind::RuleBroken => Reason::RuleBroken,
        FieldErrorKind::NotConvertible => Reason::NotConvertible,
    });
    let field = first.map_or_else(|| "settings".to_owned(), |error| error.path.clone());
    Refusal::new(code, message).field(field)
}
